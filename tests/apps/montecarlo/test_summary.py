from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from apps.montecarlo.science.calibration import TALK_DAYS, TALK_LAST_PRICE, TALK_MODEL
from apps.montecarlo.science.histograms import BINS, UNIT, Histogram, exponential, row_sums, share_se
from apps.montecarlo.science.models import GBM, Bootstrap, FloatArray, Merton, Model, StudentT
from apps.montecarlo.science.simulation import (
    find_targets,
    observe_blocks,
    planned,
    refine,
    refine_blocks,
    simulate_blocks,
)
from apps.montecarlo.science.spec import SimulationSpec
from apps.montecarlo.science.summary import Summary, merge

SPEC = planned(SimulationSpec(GBM(1e-4, 0.012), 100.0, 60, 20_001, 3, (10, 60), engine="numpy"))


@pytest.fixture(scope="module")
def logs() -> FloatArray:
    return observe_blocks(SPEC, range(SPEC.n_blocks)).first(SPEC.forecasts).at


@pytest.fixture(scope="module")
def summary() -> Summary:
    return simulate_blocks(SPEC, 0, SPEC.n_blocks)


@pytest.mark.parametrize("q", [0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_those_of_the_simulated_prices(logs: FloatArray, summary: Summary, q: float) -> None:
    exact = 100 * math.exp(np.quantile(logs[1], q))

    assert summary.quantile(60, q) == pytest.approx(exact, rel=1e-4)


def test_median_quantile_error_is_within_five_parts_in_a_hundred_thousand(logs: FloatArray, summary: Summary) -> None:
    grid = np.linspace(0.05, 0.95, 91)

    errors = [abs(math.log(summary.quantile(60, q) / 100) - np.quantile(logs[1], q)) for q in grid]

    assert np.median(errors) < 5e-5


def test_moments_and_extremes_are_those_of_the_simulated_prices(logs: FloatArray, summary: Summary) -> None:
    prices = 100 * np.exp(logs[0])

    assert summary.mean(10) == pytest.approx(prices.mean(), rel=1e-11)
    assert summary.std(10) == pytest.approx(prices.std(ddof=1), rel=1e-8)
    assert summary.min(10) == pytest.approx(prices.min(), rel=1e-14)
    assert summary.max(10) == pytest.approx(prices.max(), rel=1e-14)
    assert summary.probability_below(10, 99.0)[0] == pytest.approx((prices < 99).mean(), abs=1e-4)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_tail_risk_is_that_of_the_simulated_losses(logs: FloatArray, summary: Summary, level: float) -> None:
    losses = 1 - np.exp(logs[1])
    var = np.quantile(losses, level)

    risk = summary.var_es(60, level)

    assert risk.var == pytest.approx(var, abs=1e-4)
    assert risk.es == pytest.approx(losses[losses >= var].mean(), abs=2e-4)
    assert risk.in_currency(100.0).es == pytest.approx(100 * risk.es)


CRASHING = Merton(1e-3, 0.006, 0.02, -0.06, 0.01)


@pytest.mark.parametrize(
    ("model", "antithetic"),
    [(SPEC.model, False), (SPEC.model, True), (CRASHING, False), (CRASHING, True)],
    ids=["gbm", "gbm-pairs", "merton", "merton-pairs"],
)
def test_standard_errors_are_the_spread_over_many_seeds(model: Model, antithetic: bool) -> None:
    spec = planned(SimulationSpec(model, 100.0, 20, 1280, 0, (20,), levels=(95.0,), antithetic=antithetic))
    figures, stated = [], []
    for seed in range(300):
        one = simulate_blocks(replace(spec, seed=seed), 0, spec.n_blocks)
        risk = one.var_es(20, 0.95)
        pairs = [
            (one.quantile(20, 0.25), one.quantile_se(20, 0.25)), (risk.var, risk.var_se), (risk.es, risk.es_se),
            (one.mean(20), one.mean_se(20)), one.probability_below(20, 100.0), one.touch_probability(95.0),
            one.drawdown_mean(),
        ]  # fmt: skip
        figures.append([value for value, _ in pairs])
        stated.append([error for _, error in pairs])

    ratio = np.sqrt(np.square(stated).mean(axis=0)) / np.std(figures, axis=0, ddof=1)

    # The spread of 300 seeds is itself known to 4%.
    np.testing.assert_allclose(ratio, 1.0, atol=0.16)


def test_what_was_never_seen_is_not_called_impossible() -> None:
    one = simulate_blocks(replace(SPEC, levels=(500.0,)), 0, SPEC.n_blocks)

    assert one.touch_probability(500.0) == (0.0, 1 / SPEC.forecasts)


def test_drawdown_figures_are_those_of_the_simulated_paths(summary: Summary) -> None:
    drawdown = observe_blocks(SPEC, range(SPEC.n_blocks)).first(SPEC.forecasts).drawdown
    assert drawdown is not None
    fraction = 1 - np.exp(-drawdown)

    mean, se = summary.drawdown_mean()

    assert mean == pytest.approx(fraction.mean(), rel=1e-10)
    assert se == pytest.approx(fraction.std(ddof=1) / math.sqrt(fraction.size), rel=1e-6)
    assert summary.drawdown_quantile(0.9) == pytest.approx(np.quantile(fraction, 0.9), rel=1e-3)


def test_a_plotted_histogram_is_numpys_own(logs: FloatArray, summary: Summary) -> None:
    prices = 100 * np.exp(logs[1])
    expected, _ = np.histogram(prices, bins="auto")

    edges, counts = summary.histogram(60)

    assert counts.sum() == SPEC.forecasts
    assert abs(counts.size - expected.size) <= 1
    assert edges[0] == pytest.approx(prices.min())
    fixed, _ = np.histogram(prices, bins=40)
    assert np.abs(summary.histogram(60, 40)[1] - fixed).max() <= 6


def test_the_talks_picture_is_repeated_by_its_drift_as_it_stands() -> None:
    peaks, tops, medians = [], [], []
    for seed in range(8):
        talk = SimulationSpec(
            TALK_MODEL, TALK_LAST_PRICE, TALK_DAYS, 100_000, seed, (540, TALK_DAYS), exact=True, drawdown=False
        )
        spec = planned(talk)
        summary = simulate_blocks(spec, 0, spec.n_blocks)
        edges, counts = summary.histogram(540)
        top = int(counts.argmax())
        peaks.append((edges[top] + edges[top + 1]) / 2)
        tops.append(counts[top])
        medians.append(summary.quantile(540, 0.5))

    # With half the variance added back to the drift the peak moves to 135 and the median to 146.9.
    assert np.mean(peaks) == pytest.approx(130.0, abs=3.5)
    assert np.mean(tops) == pytest.approx(2475, abs=50)
    assert np.mean(medians) == pytest.approx(141.19, abs=0.4)


def test_a_second_pass_gives_exact_quantiles(logs: FloatArray, summary: Summary) -> None:
    wanted = [(10, 0.01), (60, 0.5), (60, 0.975), (60, 1.0)]
    targets = [target for day, q in wanted for target in find_targets(summary, day, q)[:2]]

    prices = refine(summary, wanted, [refine_blocks(SPEC, targets, 200, 113), refine_blocks(SPEC, targets, 0, 200)])

    exact = [100 * math.exp(np.quantile(logs[SPEC.horizons.index(day)], q)) for day, q in wanted]
    np.testing.assert_allclose(prices, exact, rtol=1e-14)


def test_values_are_spread_evenly_over_their_bin() -> None:
    counts = np.zeros(BINS, dtype=np.int64)
    counts[BINS // 2] = 4

    one_bin = Histogram(counts, (-BINS / 2.0, BINS / 2.0), 0.0, 1.0)

    assert [one_bin.quantile(q) for q in (0.0, 1 / 3, 0.5, 2 / 3, 1.0)] == pytest.approx([0, 0.375, 0.5, 0.625, 1])
    assert one_bin.share_below(0.25)[0] == 0.25


def test_values_beyond_the_histogram_are_counted_and_bounded_by_the_true_extremes() -> None:
    narrow = replace(SPEC, bounds=((-0.001, 0.001), (-0.001, 0.001)))

    summary = simulate_blocks(narrow, 0, narrow.n_blocks)

    assert summary.counts.sum() == 2 * SPEC.forecasts
    assert summary.quantile(60, 0.0) == summary.min(60) < 80
    assert summary.quantile(60, 1.0) == summary.max(60) > 120


def test_a_summary_travels_without_its_empty_bins(summary: Summary) -> None:
    sent = pickle.dumps(summary)

    assert pickle.loads(sent).digest() == summary.digest()
    assert len(sent) < summary.counts.nbytes / 3


def test_summaries_of_different_jobs_do_not_merge(summary: Summary) -> None:
    other = simulate_blocks(replace(SPEC, s0=101.0), 0, 1)

    with pytest.raises(ValueError, match="different jobs"):
        merge([summary, other])


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no summary to merge"):
        merge([])


def test_figures_that_were_not_recorded_are_refused() -> None:
    bare = simulate_blocks(replace(SPEC, drawdown=False), 0, 1)

    with pytest.raises(ValueError, match="day 11 was not recorded"):
        bare.quantile(11, 0.5)
    with pytest.raises(ValueError, match="was not watched"):
        bare.touch_probability(120.0)
    with pytest.raises(ValueError, match="drawdowns were not followed"):
        bare.drawdown_mean()
    with pytest.raises(ValueError, match="between 0 and 1"):
        bare.quantile(10, 1.5)


def test_heavy_tails_keep_finite_figures() -> None:
    spec = planned(SimulationSpec(StudentT(0.0, 0.01, 2.2), 100.0, 5, 5000, 2, (1, 5)))

    summary = simulate_blocks(spec, 0, spec.n_blocks)

    assert summary.quantile(5, 0.5) == pytest.approx(100, rel=0.01)
    assert math.isfinite(summary.std(5))


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(-700, 700)))
def test_the_exponential_is_the_true_one_to_two_units_in_the_last_place(values: FloatArray) -> None:
    true = np.array([math.exp(value) for value in values.tolist()])

    assert (np.abs(exponential(values) - true) <= 2 * np.spacing(true)).all()


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    st.integers(0, 60),
    st.randoms(use_true_random=False),
)
def test_sums_do_not_depend_on_order_or_grouping(values: list[float], cut: int, order: object) -> None:
    shuffled = list(values)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [part for part in (shuffled[:cut], shuffled[cut:]) if part]

    total = sum(row_sums(np.array([part]))[0] for part in parts)

    assert total == row_sums(np.array([values]))[0]
    assert total * UNIT == pytest.approx(math.fsum(values), rel=1e-12, abs=1e-10)


def thin(unchanged: int = 34, tick: float = 0.01) -> Bootstrap:
    """Return a stock that stands still on `unchanged` days of a hundred, and moves a tick up or down on the others."""
    ups = (100 - unchanged) // 2
    return Bootstrap(np.array([0.0] * unchanged + [tick] * ups + [-tick] * (100 - unchanged - ups)))


def simulated(model: Model, days: int = 1, **settings: object) -> tuple[FloatArray, Summary]:
    spec = planned(SimulationSpec(model, 10.0, days, 20_000, 5, (days,), engine="numpy", **settings))  # type: ignore[arg-type]
    logs = observe_blocks(spec, range(spec.n_blocks)).first(spec.forecasts).at[0]
    return logs, simulate_blocks(spec, 0, spec.n_blocks)


@pytest.mark.parametrize("days", [1, 2, 5, 60])
def test_the_chance_of_a_loss_of_a_thin_stock_is_counted_exactly(days: int) -> None:
    logs, one = simulated(thin(), days)

    chance, error = one.probability_of_loss(days)

    ticks = np.rint(logs / 0.01)
    assert chance == (ticks < 0).mean()
    assert error == pytest.approx(math.sqrt(chance * (1 - chance) / 20_000))


def test_prices_that_never_change_have_no_chance_of_a_loss() -> None:
    for model in (Bootstrap(np.zeros(40)), GBM(0.0, 0.0)):
        assert simulated(model, 30)[1].probability_of_loss(30)[0] == 0.0


def test_a_level_that_paths_reach_to_the_tick_counts_as_touched() -> None:
    level = 10.0 * math.exp(0.03)

    logs, one = simulated(thin(), 3, levels=(level,))

    assert one.touch_probability(level)[0] == (np.rint(logs / 0.01) == 3).mean()


def test_the_chance_of_a_loss_is_the_same_in_any_grouping_and_with_pairs() -> None:
    spec = planned(SimulationSpec(GBM(-1e-4, 0.012), 100.0, 20, 2000, 9, (5, 20), antithetic=True))
    at = observe_blocks(spec, range(spec.n_blocks)).first(spec.forecasts).at

    parts = merge(simulate_blocks(spec, block, 1) for block in range(spec.n_blocks))

    assert [parts.probability_of_loss(day)[0] for day in (5, 20)] == (at < 0).mean(axis=1).tolist()
    assert parts.probability_of_loss(20)[1] < share_se(parts.probability_of_loss(20)[0], 2000) / 3


def test_a_percentile_at_a_price_that_many_share_is_known_for_one() -> None:
    _, one = simulated(thin(), 1)

    assert one.atom(1, 0.5) == pytest.approx(0.34, abs=0.02)
    assert one.atom(1, 0.05) == pytest.approx(0.33, abs=0.02)
    assert simulated(Bootstrap(np.zeros(40)), 5)[1].atom(5, 0.5) == 1.0


@pytest.mark.parametrize(
    "model",
    [GBM(1e-4, 0.012), StudentT(0.0, 0.005, 2.1), Merton(0.0, 0.001, 0.01, 0.0, 0.3), GBM(0.0, 1e-9)],
    ids=["gbm", "student-t", "merton", "hardly moving"],
)
def test_smooth_distributions_have_no_shared_price(model: Model) -> None:
    _, one = simulated(model, 20)

    assert [one.atom(20, q) for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)] == [0.0] * 7


def test_shares_below_many_prices_are_those_below_each(summary: Summary) -> None:
    prices = np.array([80.0, 99.0, 100.0, 103.5, 140.0])

    found = summary.shares_below(60, prices)

    assert found.tolist() == [summary.probability_below(60, price)[0] for price in prices.tolist()]
