"""Swaps of neighbouring temperatures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from apps.protein_remd.science import draws, exchange
from apps.protein_remd.science.units import BOLTZMANN

TEMPERATURES = (300.0, 340.0, 400.0)


def metropolis(t_lower: float, t_upper: float, u_lower: float, u_upper: float) -> float:
    """The acceptance from the weights of both configurations before and after, each with its sign."""

    def weight(temperature: float, energy: float) -> float:
        return math.exp(-energy / (BOLTZMANN * temperature))

    before = weight(t_lower, u_lower) * weight(t_upper, u_upper)
    return min(1.0, weight(t_lower, u_upper) * weight(t_upper, u_lower) / before)


@pytest.mark.parametrize("energies", list(itertools.product([-8.0, 0.0, 3.5, 20.0], repeat=2)))
def test_the_acceptance_is_the_ratio_of_the_weights(energies):
    log_p = exchange.log_acceptance(300.0, 340.0, *energies)

    assert math.exp(min(0.0, log_p)) == pytest.approx(metropolis(300.0, 340.0, *energies), rel=1e-12)


def test_a_swap_that_brings_the_lower_energy_to_the_lower_temperature_is_always_accepted():
    assert exchange.accepts(exchange.log_acceptance(300.0, 400.0, 50.0, -50.0), 1.0 - 2.0**-53)
    assert not exchange.accepts(exchange.log_acceptance(300.0, 400.0, -5000.0, 5000.0), 2.0**-54)


def test_energies_beyond_any_exponent_overflow_nothing():
    assert exchange.accepts(exchange.log_acceptance(1.0, 1000.0, 1e300, -1e300), 0.5)


@pytest.mark.parametrize("energy", [math.nan, math.inf, -math.inf])
def test_an_energy_that_is_not_finite_is_never_swapped(energy):
    with pytest.raises(ValueError, match="both must be finite"):
        exchange.exchange([0, 1], [300.0, 310.0], [0.0, energy], seed=1, round_number=1)


def test_even_and_odd_pairs_alternate():
    made = [[(low, up) for _, low, up in exchange.pairs("even-odd", number, 5, 1)] for number in (1, 2, 3)]

    assert made == [[(0, 1), (2, 3)], [(1, 2), (3, 4)], [(0, 1), (2, 3)]]


def test_pairs_are_of_temperatures_whatever_replicas_are_there():
    _, attempts = exchange.exchange([2, 0, 1], TEMPERATURES, [1.0, 2.0, 3.0], seed=1, round_number=1)

    assert [(a.lower, a.upper, a.replica_lower, a.replica_upper) for a in attempts] == [(0, 1, 2, 0)]
    assert attempts[0].log_p == exchange.log_acceptance(300.0, 340.0, 3.0, 1.0)


def test_gibbs_attempts_all_pairs_again_and_again_from_where_the_last_one_left_it():
    after, attempts = exchange.exchange(
        [0, 1, 2], TEMPERATURES, [30.0, 20.0, 10.0], seed=3, round_number=1, scheme="gibbs", sweeps=2
    )

    assert [(a.lower, a.upper) for a in attempts] == [(0, 1), (0, 2), (1, 2)] * 2
    now = [0, 1, 2]
    for attempt in attempts:
        assert (attempt.replica_lower, attempt.replica_upper) == (now[attempt.lower], now[attempt.upper])
        if attempt.accepted:
            now[attempt.lower], now[attempt.upper] = now[attempt.upper], now[attempt.lower]
    assert now == after


@pytest.mark.parametrize("scheme", exchange.SCHEMES)
@pytest.mark.parametrize("parity", [1, 2])
def test_the_move_leaves_the_distribution_of_all_arrangements_of_three_replicas_as_it_is(scheme, parity):
    energies = [0.7, 4.0, 9.5]
    arrangements = list(itertools.permutations(range(3)))

    def weight(arrangement):
        return math.exp(-sum(energies[r] / (BOLTZMANN * t) for r, t in zip(arrangement, TEMPERATURES, strict=True)))

    total = sum(map(weight, arrangements))
    before = {each: weight(each) / total for each in arrangements}
    after = dict.fromkeys(arrangements, 0.0)
    for start, probability in before.items():
        reached = {start: probability}
        for _, lower, upper in exchange.pairs(scheme, parity, 3, 1):
            spread = dict.fromkeys(arrangements, 0.0)
            for at, share in reached.items():
                swapped = list(at)
                swapped[lower], swapped[upper] = at[upper], at[lower]
                log_p = exchange.log_acceptance(
                    TEMPERATURES[lower], TEMPERATURES[upper], energies[at[lower]], energies[at[upper]]
                )
                accepted = math.exp(min(0.0, log_p))
                # Detailed balance of this single swap, in weights.
                back = exchange.log_acceptance(
                    TEMPERATURES[lower], TEMPERATURES[upper], energies[at[upper]], energies[at[lower]]
                )
                assert before[at] * accepted == pytest.approx(
                    before[tuple(swapped)] * math.exp(min(0.0, back)), rel=1e-12
                )
                spread[tuple(swapped)] += share * accepted
                spread[at] += share * (1.0 - accepted)
            reached = spread
        for at, share in reached.items():
            after[at] += share
    assert after == pytest.approx(before, rel=1e-12)


def test_a_draw_depends_on_seed_round_and_pair_alone_and_is_uniform():
    drawn = [draws.uniform(7, number, lower, lower + 1) for number in range(1, 501) for lower in range(4)]

    assert drawn == [draws.uniform(7, number, lower, lower + 1) for number in range(1, 501) for lower in range(4)]
    assert len(set(drawn)) == 2000
    assert draws.uniform(8, 1, 0, 1) != drawn[0]
    assert draws.uniform(7, 1, 0, 1, sweep=1) != drawn[0]
    counts, _ = np.histogram(drawn, 10, (0.0, 1.0))
    assert np.abs(counts - 200).max() < 4 * math.sqrt(200 * 0.9)


def test_draws_have_not_changed_since_campaigns_were_begun_with_them():
    assert draws.uniform(1, 1, 0, 1) == 0.8771541943008765
    assert draws.segment_seed(1, 0, 1) == 1401501871


def test_seeds_of_segments_are_what_openmm_takes_and_differ():
    seeds = [draws.segment_seed(1, r, n, s, t) for r in range(8) for n in range(8) for s in range(4) for t in range(2)]

    assert all(1 <= seed <= 2**31 - 1 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_velocities_are_scaled_by_the_root_of_the_ratio():
    assert exchange.velocity_scale(300.0, 400.0) ** 2 == pytest.approx(4.0 / 3.0, rel=1e-15)
