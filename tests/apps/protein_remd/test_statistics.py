"""Ladders, predictions, oscillators and statistics, against scalar references and known results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaincc, gammainccinv
from scipy.stats import norm

from apps.protein_remd.science import harmonic, ladder, statistics, structure
from apps.protein_remd.science.prediction import gaussian_acceptance, harmonic_acceptance
from apps.protein_remd.science.units import BOLTZMANN, beta


def test_a_geometric_ladder_has_a_constant_ratio_and_the_ends_that_were_given():
    rungs = ladder.geometric(300.1, 599.7, 7)

    assert (rungs[0], rungs[-1], len(rungs)) == (300.1, 599.7, 7)
    ratios = [above / below for below, above in zip(rungs, rungs[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * 6, rel=1e-12)


def test_a_ladder_by_acceptance_has_one_acceptance_that_is_at_least_the_target():
    def mean(temperature):
        return 0.5 * 60 * BOLTZMANN * temperature

    def variance(temperature):
        return 0.5 * 60 * (BOLTZMANN * temperature) ** 2

    rungs = ladder.by_acceptance(300.0, 600.0, 0.3, mean, variance)

    predicted = [
        gaussian_acceptance(low, high, mean(low), mean(high), variance(low), variance(high))
        for low, high in zip(rungs, rungs[1:], strict=False)
    ]
    assert (rungs[0], rungs[-1]) == (300.0, 600.0)
    assert min(predicted) >= 0.3
    assert max(predicted) - min(predicted) < 1e-6
    assert max(predicted) < 0.5


def test_a_ladder_that_would_never_end_is_refused():
    with pytest.raises(ValueError, match="more than 512"):
        ladder.by_acceptance(300.0, 600.0, 0.3, lambda t: 1e9 * t, lambda t: 1.0)


@pytest.mark.parametrize(("degrees", "t_lower", "t_upper"), [(3, 300.0, 400.0), (24, 280.0, 310.0)])
def test_the_harmonic_prediction_is_the_integral_over_both_energies(degrees, t_lower, t_upper):
    shape, difference = degrees / 2, beta(t_lower) - beta(t_upper)

    def density(energy, temperature):
        reduced = beta(temperature) * energy
        return beta(temperature) * reduced ** (shape - 1) * math.exp(-reduced) / math.gamma(shape)

    def accepted(upper_energy):
        above = gammaincc(shape, beta(t_lower) * upper_energy)
        below, _ = quad(lambda u: density(u, t_lower) * math.exp(difference * (u - upper_energy)), 0, upper_energy)
        return density(upper_energy, t_upper) * (above + below)

    expected, _ = quad(accepted, 0, gammainccinv(shape, 1e-12) / beta(t_upper), limit=200)
    assert harmonic_acceptance(degrees, t_lower, t_upper) == pytest.approx(expected, rel=1e-5)


def test_the_gaussian_prediction_is_the_integral_over_the_difference():
    mean = (beta(300.0) - beta(330.0)) * (-40.0 - 12.0)
    deviation = (beta(300.0) - beta(330.0)) * math.sqrt(700.0 + 900.0)
    expected, _ = quad(lambda x: min(1.0, math.exp(x)) * norm.pdf(x, mean, deviation), mean - 12, mean + 12)

    assert gaussian_acceptance(300.0, 330.0, -40.0, 12.0, 700.0, 900.0) == pytest.approx(expected, rel=1e-6)
    assert gaussian_acceptance(300.0, 330.0, 0.0, 0.0, 0.0, 0.0) == 1.0
    assert 0.0 <= gaussian_acceptance(300.0, 301.0, -1e6, 1e6, 1.0, 1.0) < 1e-300


@pytest.mark.parametrize("time", [1e-3, 0.3, 5.0])
def test_a_langevin_step_of_any_length_keeps_the_canonical_distribution(time):
    rng = np.random.default_rng(1)
    x, v = harmonic.boltzmann(200_000, 300.0, rng)

    x, v = harmonic.langevin(x, v, 300.0, 1.0, time, rng)

    thermal = BOLTZMANN * 300.0
    assert np.mean(v * v) == pytest.approx(thermal, rel=0.015)
    assert harmonic.FREQUENCY**2 * np.mean(x * x) == pytest.approx(thermal, rel=0.015)
    assert abs(np.mean(x * v)) < 0.015 * thermal / harmonic.FREQUENCY


def test_two_langevin_steps_are_one_of_their_sum_without_noise():
    x, v = np.array([1.0]), np.array([0.0])
    rng = np.random.default_rng(1)

    once = harmonic.langevin(x, v, 1e-12, 0.5, 0.7, rng)
    twice = harmonic.langevin(*harmonic.langevin(x, v, 1e-12, 0.5, 0.3, rng), 1e-12, 0.5, 0.4, rng)

    assert np.concatenate(once) == pytest.approx(np.concatenate(twice), abs=1e-5)


def test_round_trips_are_from_the_bottom_to_the_top_and_back():
    paths = np.array([[0, 1, 2, 1, 0, 0, 1, 2, 2, 1, 0], [2, 1, 0, 1, 2, 1, 0, 1, 1, 1, 1], [1] * 11]).T

    assert statistics.round_trips(paths, 3).tolist() == [2, 1, 0]
    assert statistics.round_trips(np.array([[0, 2, 0, 2], [0, 0, 2, 2]]).T, 3).tolist() == [1, 0]


def test_the_transition_matrix_counts_both_directions_and_its_rows_sum_to_one():
    matrix = statistics.transition_matrix(np.array([[0, 1], [1, 0], [1, 0], [0, 1]]), 2)

    assert matrix == pytest.approx(np.array([[1 / 3, 2 / 3], [2 / 3, 1 / 3]]))
    assert statistics.second_eigenvalue(matrix) == pytest.approx(-1 / 3)


def test_the_transition_matrix_is_symmetrised_in_counts_where_a_path_is_not():
    matrix = statistics.transition_matrix(np.array([[0], [1], [1], [1]]), 2)

    # Of three steps one led from 0 to 1: half of it counts in either direction.
    assert matrix == pytest.approx(np.array([[0.0, 1.0], [0.2, 0.8]]))


def test_the_error_of_the_mean_of_a_correlated_series_is_that_of_its_process():
    rng, keep = np.random.default_rng(6), 0.9
    means, errors = [], []
    for _ in range(100):
        series = np.empty(2000)
        series[0] = rng.standard_normal() / math.sqrt(1 - keep**2)
        for at in range(1, len(series)):
            series[at] = keep * series[at - 1] + rng.standard_normal()
        mean, error = statistics.mean_and_error(series)
        means.append(mean)
        errors.append(error)

    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.25)


def test_temperatures_that_never_mix_have_a_second_eigenvalue_of_one():
    matrix = statistics.transition_matrix(np.array([[0, 1, 2]] * 5), 3)

    assert statistics.second_eigenvalue(matrix) == pytest.approx(1.0)


def test_the_statistical_inefficiency_of_a_correlated_series_is_that_of_its_process():
    rng, keep = np.random.default_rng(2), 0.8
    series = np.empty(50_000)
    series[0] = 0.0
    for at in range(1, len(series)):
        series[at] = keep * series[at - 1] + rng.standard_normal()

    assert statistics.statistical_inefficiency(series) == pytest.approx((1 + keep) / (1 - keep), rel=0.1)
    assert statistics.statistical_inefficiency(rng.standard_normal(5000)) == pytest.approx(1.0, abs=0.1)
    assert statistics.statistical_inefficiency(np.ones(100)) == 1.0


def test_the_effective_sample_size_is_that_of_kish():
    weights = np.array([1.0, 2.0, 5.0])

    assert statistics.kish(np.log(weights) + 800.0) == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_samples_of_two_temperatures_have_the_slope_that_these_demand():
    rng = np.random.default_rng(3)
    low, high = (rng.gamma(20, BOLTZMANN * t, 20_000) for t in (300.0, 330.0))

    right = statistics.ensemble_slope(low, high, 300.0, 330.0)
    wrong = statistics.ensemble_slope(low, high, 300.0, 350.0)

    assert abs(right.ratio - 1.0) < 4 * right.error < 0.2
    assert abs(wrong.ratio - 1.0) > 4 * wrong.error


def test_samples_that_do_not_overlap_have_no_slope():
    found = statistics.ensemble_slope(np.arange(10.0), np.arange(100.0, 110.0), 300.0, 330.0)

    assert math.isnan(found.ratio)
    assert math.isinf(found.error)


def test_histograms_overlap_fully_or_not_at_all():
    sample = np.random.default_rng(4).standard_normal(1000)

    assert statistics.histogram_overlap(sample, sample) == pytest.approx(1.0)
    assert statistics.histogram_overlap(sample, sample + 100.0) == 0.0


def test_residues_are_a_helix_from_three_in_a_row_on():
    phi = np.full((3, 6), -65.0)
    psi = np.array([[-40.0] * 6, [-40, -40, 140, -40, -40, -40], [-40, -40, 140, -40, -40, 140.0]])

    assert structure.helix_fraction(phi, psi).tolist() == [1.0, 0.5, 0.0]
    assert structure.helix_fraction(phi[:, :2], psi[:, :2]).tolist() == [0.0, 0.0, 0.0]


def test_a_series_begins_where_its_drift_has_ended():
    series = np.random.default_rng(5).standard_normal(2000)
    series[:300] += np.linspace(40.0, 0.0, 300)

    begin, inefficiency = statistics.equilibration(series)

    assert 200 <= begin <= 400
    assert inefficiency < 2.0


def test_a_ladder_from_measured_energies_never_looks_beyond_them():
    mean = ladder.interpolated([300.0, 400.0, 440.0], [249.0, 333.5, 364.0])
    variance = ladder.interpolated([300.0, 400.0, 440.0], [620.0, 1100.0, 1290.0])

    rungs = ladder.by_acceptance(300.0, 440.0, 0.3, mean, variance)

    # The energies are those of 200 oscillators, of which the acceptances are known.
    exact = [harmonic_acceptance(200, low, high) for low, high in zip(rungs, rungs[1:], strict=False)]
    assert (rungs[0], rungs[-1], len(rungs)) == (300.0, 440.0, 4)
    assert all(0.3 < each < 0.45 for each in exact)
    assert harmonic_acceptance(200, 300.0, (300.0 * 440.0) ** 0.5) < 0.3


def test_the_chance_of_so_few_successes_is_the_binomial_one():
    from scipy.stats import binom

    for successes, trials, share in ((0, 1, 0.05), (0, 59, 0.05), (3, 200, 0.05), (40, 50, 0.5), (7, 7, 0.3)):
        assert statistics.at_most(successes, trials, share) == pytest.approx(binom.cdf(successes, trials, share))
