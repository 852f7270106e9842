from __future__ import annotations

import math
import pickle
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.montecarlo.science.blocks import BLOCK
from apps.montecarlo.science.models import GBM, Bootstrap, Heston, Model, PortfolioGBM
from apps.montecarlo.science.simulation import observe_blocks, planned, simulate_blocks
from apps.montecarlo.science.spec import SimulationSpec, estimate_cpu_seconds, uses_numba
from apps.montecarlo.science.summary import Summary, merge

HESTON = Heston(1e-4, 0.05, 1.4e-4, 0.004, -0.7, 3e-4)
PORTFOLIO = PortfolioGBM(np.array([1e-4, 2e-4]), np.array([[1.0, 0.4], [0.4, 2.0]]) * 1e-4, np.array([0.4, 0.6]))
SPEC = planned(
    SimulationSpec(GBM(1e-4, 0.012), 100.0, 40, 64 * 12 - 5, 11, (1, 20, 40), levels=(95.0, 108.0), engine="numpy")
)
SHIFT = 0.5826
"""Broadie, Glasserman and Kou (1997): daily looking moves a barrier by this many daily standard deviations."""


def whole(spec: SimulationSpec) -> Summary:
    return simulate_blocks(spec, 0, spec.n_blocks)


@settings(max_examples=30, deadline=None)
@given(cuts=st.sets(st.integers(1, 11)), order=st.randoms(use_true_random=False), data=st.data())
def test_any_split_order_and_grouping_of_blocks_gives_the_same_bits(
    cuts: set[int], order: object, data: st.DataObject
) -> None:
    edges = [0, *sorted(cuts), 12]
    parts = [simulate_blocks(SPEC, a, b - a) for a, b in zip(edges, edges[1:], strict=False)]
    order.shuffle(parts)  # type: ignore[attr-defined]
    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        parts[at : at + 2] = [merge(parts[at : at + 2])]

    assert parts[0].digest() == whole(SPEC).digest()


@pytest.mark.parametrize("model", [HESTON, PORTFOLIO, Bootstrap(np.linspace(-0.03, 0.03, 50), 4.0)])
def test_split_work_gives_the_same_bits_for_every_kind_of_model(model: Model) -> None:
    spec = planned(replace(SPEC, model=model))

    parts = [simulate_blocks(spec, first, 4) for first in (8, 0, 4)]

    assert merge(parts).digest() == whole(spec).digest()


def test_another_seed_gives_another_result() -> None:
    assert whole(SPEC).digest() != whole(replace(SPEC, seed=12)).digest()


@pytest.mark.parametrize("model", [SPEC.model, HESTON, PORTFOLIO])
def test_a_path_does_not_depend_on_how_many_are_asked_for(model: Model) -> None:
    spec = planned(replace(SPEC, model=model))
    few = observe_blocks(replace(spec, forecasts=70), range(0, 2)).first(70)

    many = observe_blocks(spec, range(0, 12))

    assert np.array_equal(few.at, many.at[:, :70])


def test_the_last_block_counts_only_the_forecasts_asked_for() -> None:
    summary = whole(replace(SPEC, forecasts=BLOCK + 1))

    assert summary.forecasts == BLOCK + 1
    assert summary.counts.sum(axis=1).tolist() == [BLOCK + 1] * 3
    assert summary.path_steps == (BLOCK + 1) * 40


def test_median_and_mean_are_those_of_the_lognormal() -> None:
    drift, volatility, days = 3e-4, 0.012, 250
    spec = planned(SimulationSpec(GBM(drift, volatility), 100.0, days, 64 * 1000, 7, (days,), drawdown=False))

    summary = whole(spec)

    assert abs(summary.quantile(days, 0.5) - 100 * math.exp(drift * days)) < 4 * summary.quantile_se(days, 0.5)
    expected = 100 * math.exp((drift + volatility**2 / 2) * days)
    assert abs(summary.mean(days) - expected) < 4 * summary.mean_se(days)


def test_touches_at_daily_closes_agree_with_the_shifted_barrier() -> None:
    drift, volatility, days = 1e-4, 0.012, 250
    spec = planned(
        SimulationSpec(GBM(drift, volatility), 100.0, days, 64 * 1000, 8, (days,), levels=(125.0,), drawdown=False)
    )

    p, se = whole(spec).touch_probability(125.0)

    barrier, root = math.log(1.25) + SHIFT * volatility, volatility * math.sqrt(days)
    below = math.erfc((barrier - drift * days) / root / math.sqrt(2)) / 2
    reflected = (
        math.exp(2 * drift * barrier / volatility**2) * math.erfc((barrier + drift * days) / root / math.sqrt(2)) / 2
    )
    assert abs(p - (below + reflected)) < 4 * se


def test_a_level_below_the_price_is_touched_from_above() -> None:
    spec = planned(SimulationSpec(GBM(0.0, 0.012), 100.0, 250, 64 * 500, 8, (250,), levels=(80.0,), drawdown=False))

    p, se = whole(spec).touch_probability(80.0)

    barrier = -math.log(0.8) + SHIFT * 0.012
    assert abs(p - math.erfc(barrier / (0.012 * math.sqrt(250) * math.sqrt(2)))) < 4 * se


def test_the_mean_log_drawdown_of_a_driftless_walk_is_the_known_one() -> None:
    volatility, days = 0.01, 1000
    spec = planned(SimulationSpec(GBM(0.0, volatility), 100.0, days, 64 * 150, 9, (days,)))

    drawdown = observe_blocks(spec, range(150)).drawdown

    known = math.sqrt(math.pi / 2) * volatility * math.sqrt(days) - 2 * SHIFT * volatility
    assert drawdown is not None
    assert drawdown.mean() == pytest.approx(known, rel=0.015)


def test_exact_sampling_agrees_with_daily_steps_in_distribution() -> None:
    daily = planned(replace(SPEC, forecasts=64 * 500, levels=(), drawdown=False))
    exact = replace(daily, exact=True, seed=12)

    stepped, jumped = whole(daily), whole(exact)

    assert jumped.path_steps == 64 * 500 * 3
    for day in (1, 20, 40):
        for q in (0.05, 0.5, 0.95):
            gap = stepped.quantile(day, q) - jumped.quantile(day, q)
            assert abs(gap) < 4 * math.sqrt(2) * stepped.quantile_se(day, q)


def test_antithetic_pairs_narrow_the_mean_and_keep_its_value() -> None:
    pairs = replace(SPEC, antithetic=True, forecasts=64 * 200)

    summary, plain = whole(pairs), whole(replace(SPEC, forecasts=64 * 200))

    expected = 100 * math.exp((1e-4 + 0.012**2 / 2) * 40)
    assert summary.mean_se(40) < plain.mean_se(40) / 5
    assert abs(summary.mean(40) - expected) < 4 * summary.mean_se(40)


def test_the_standard_error_of_a_touch_by_antithetic_pairs_is_the_spread_over_many_seeds() -> None:
    found, stated = [], []
    for seed in range(200):
        pairs = replace(SPEC, antithetic=True, forecasts=640, seed=seed, levels=(105.0,), drawdown=False)
        p, se = whole(pairs).touch_probability(105.0)
        found.append(p)
        stated.append(se)

    ratio = np.mean(stated) / np.std(found, ddof=1)

    # The spread of 200 seeds is itself known to 5%; taking the paths as independent would give 1.6.
    assert ratio == pytest.approx(1.0, abs=0.18)


def test_asking_for_numba_where_it_is_missing_says_what_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.montecarlo.science.spec.find_spec", lambda name: None)

    with pytest.raises(ValueError, match="pip install"):
        replace(SPEC, engine="numba")
    assert not uses_numba(replace(SPEC, engine="auto", forecasts=10**9))


def test_a_spec_survives_pickling_with_its_planned_ranges() -> None:
    copy = pickle.loads(pickle.dumps(SPEC))

    assert copy.bounds == SPEC.bounds
    assert whole(copy).digest() == whole(SPEC).digest()


def test_histogram_ranges_do_not_depend_on_the_number_of_forecasts() -> None:
    other = planned(replace(SPEC, model=HESTON, forecasts=10))

    assert other.bounds == planned(replace(other, forecasts=10**9)).bounds


def test_memory_does_not_grow_with_the_number_of_forecasts() -> None:
    def peak(forecasts: int) -> int:
        spec = replace(SPEC, forecasts=forecasts)
        tracemalloc.start()
        simulate_blocks(spec, 0, spec.n_blocks)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(64 * 6000) < 1.05 * peak(64 * 1500) < 40e6


def test_a_price_that_cannot_move_is_forecast_exactly() -> None:
    spec = planned(SimulationSpec(GBM(0.01, 0.0), 100.0, 10, 100, 1, (10,)))

    summary = whole(spec)

    assert summary.quantile(10, 0.05) == pytest.approx(100 * math.exp(0.1))
    assert summary.std(10) == pytest.approx(0.0, abs=1e-9)
    assert summary.var_es(10, 0.99).es == pytest.approx(1 - math.exp(0.1))
    assert summary.drawdown_mean()[0] == 0.0
    assert summary.histogram(10)[1].tolist() == [100]


def test_cpu_time_is_estimated_in_proportion_to_the_steps() -> None:
    assert estimate_cpu_seconds(replace(SPEC, forecasts=2000)) == pytest.approx(
        2 * estimate_cpu_seconds(replace(SPEC, forecasts=1000))
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"s0": 0.0}, "initial price must be positive"),
        ({"days": 0}, "days must be between 1"),
        ({"days": 10**6}, "days must be between 1"),
        ({"forecasts": 0}, "forecasts must be at least 1"),
        ({"seed": -1}, "seed not negative"),
        ({"horizons": (20, 1, 40)}, "ascending"),
        ({"horizons": (1, 20)}, "end with it"),
        ({"levels": (100.0,)}, "other than the initial one"),
        ({"exact": True}, "excludes drawdowns and touch levels"),
        ({"exact": True, "levels": (), "drawdown": False, "model": HESTON}, "gbm model alone"),
        ({"antithetic": True, "forecasts": 65}, "even number"),
        ({"antithetic": True, "forecasts": 64, "model": Bootstrap(np.ones(3))}, "normal shocks"),
        ({"engine": "fortran"}, "engine must be"),
        ({"engine": "numba", "model": HESTON}, "use engine auto"),
        ({"forecasts": 2**40}, "random stream of their own"),
    ],
)
def test_a_spec_that_cannot_be_simulated_says_why(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(SPEC, **change)  # type: ignore[arg-type]


def test_a_model_that_explodes_is_refused_before_any_work() -> None:
    from apps.montecarlo.science.models import GjrGarchFhs

    explosive = GjrGarchFhs(0.0, 1e-6, 5.0, 0.0, 5.0, 1e-4, np.array([-1.0, 1.0]))

    with pytest.raises(ValueError, match="explodes"):
        planned(SimulationSpec(explosive, 100.0, 1000, 100, 1, (1000,)))


@pytest.mark.parametrize(("first", "count"), [(-1, 2), (0, 13), (12, 1), (0, 0)])
def test_blocks_that_the_job_does_not_have_are_refused(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="are not among the 12"):
        simulate_blocks(SPEC, first, count)


def test_a_portfolio_too_large_for_a_workers_memory_is_refused() -> None:
    assets = 10
    wide = PortfolioGBM(np.zeros(assets), np.eye(assets) * 1e-4, np.full(assets, 0.1))

    with pytest.raises(ValueError, match="10 assets can look at most 10000 days ahead"):
        SimulationSpec(wide, 100.0, 10_001, 100, 1, (10_001,))
