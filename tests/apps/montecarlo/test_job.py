from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apps.montecarlo.job import Result, block_ranges, collect, fold, plan, refined, run
from apps.montecarlo.params import Params
from apps.montecarlo.planning import dry_run
from apps.montecarlo.preparation import PORTFOLIO_VALUE, fan_days, portfolio_value, prepare, risk_days
from apps.montecarlo.science.simulation import observe_blocks
from core import ConfigError, FunctionExecutor, Future, InputError

SMALL = Params(forecasts=3000, days=30, touch="+2%")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"compute": "serial"},
        {"compute": "process", "workers": 1},
        {"compute": "process", "workers": 2},
        {"compute": "process", "workers": 5},
        {"compute": "process", "workers": 2, "durable": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("invocations", [None, 1, 7, 47])
def test_the_result_is_the_same_to_the_bit_on_every_backend_and_split(
    settings: dict[str, object], invocations: int | None, tmp_path: Path, forecast: Callable[..., Result]
) -> None:
    reference = forecast(forecasts=3000, days=30, touch="+2%").summary.digest()
    params = Params(forecasts=3000, days=30, touch="+2%", invocations=invocations)  # type: ignore[arg-type]

    with FunctionExecutor(storage=f"file://{tmp_path}", **settings) as executor:  # type: ignore[arg-type]
        result = run(prepare(params), executor)

    assert result.summary.digest() == reference
    assert result.tasks == (invocations or executor.workers)


def test_a_second_pass_gives_the_quantiles_of_the_simulated_prices_exactly() -> None:
    prepared = prepare(Params(forecasts=3000, days=30, refine=True))
    spec = prepared.spec
    simulated = observe_blocks(spec, range(spec.n_blocks)).first(3000).at[-1]

    with FunctionExecutor("process", workers=2) as executor:
        rough = run(prepared, executor)
        exact = refined(rough, executor, 0.0)

    for q in prepared.params.levels:
        assert exact.quantile(30, q) == pytest.approx(spec.s0 * np.exp(np.quantile(simulated, q)), rel=1e-12)
        assert rough.quantile(30, q) != exact.quantile(30, q)
    assert exact.path_steps == 2 * rough.path_steps == 2 * 3000 * 30
    assert exact.summary.digest() == rough.summary.digest()


def test_another_seed_gives_another_result(forecast: Callable[..., Result]) -> None:
    assert forecast(seed=1).summary.digest() != forecast(seed=2).summary.digest()


def test_a_durable_job_is_collected_by_another_executor(tmp_path: Path) -> None:
    prepared = prepare(SMALL)
    jobs: list[str] = []
    note = [lambda event: jobs.append(event.job_id)]
    with FunctionExecutor("process", f"file://{tmp_path}", workers=1, durable=True, listeners=note) as first:
        expected = run(prepared, first).summary.digest()
        with FunctionExecutor.attach(jobs[0], f"file://{tmp_path}", workers=1) as second:
            done, rest = second.wait(return_when="ALWAYS")
            again = collect(prepared, [*done, *rest], second.workers, 0.0)

    assert again.summary.digest() == expected


@pytest.mark.parametrize("other", [{"seed": 5}, {"forecasts": 3001}, {"days": 31}, {"touch": "+3%"}])
def test_a_job_of_other_parameters_is_not_taken_for_this_one(other: dict[str, object]) -> None:
    settings: dict[str, object] = {"forecasts": 3000, "days": 30, "touch": "+2%", "exact": False} | other
    with FunctionExecutor("serial") as executor:
        futures = [executor.call_async(_task, SMALL)]
        with pytest.raises(ConfigError, match="--resume: the job was started with other parameters"):
            collect(prepare(Params(**settings)), futures, 1, 0.0)  # type: ignore[arg-type]


def test_a_job_of_another_seed_is_told_apart_without_any_daily_path() -> None:
    with FunctionExecutor("serial") as executor:
        futures = [executor.call_async(_task, Params(forecasts=64, days=5, exact=True, seed=1))]
        with pytest.raises(ConfigError, match="other parameters"):
            collect(prepare(Params(forecasts=64, days=5, exact=True, seed=2)), futures, 1, 0.0)


def _task(params: Params) -> object:
    from apps.montecarlo.job import simulate

    spec = prepare(params).spec
    return simulate(0, spec.n_blocks, spec)


def test_nothing_to_fold_is_said() -> None:
    with pytest.raises(InputError, match="no tasks"):
        fold([])


def test_folding_lets_each_part_go_once_it_is_merged() -> None:
    prepared = prepare(SMALL)
    with FunctionExecutor("serial") as executor:
        from apps.montecarlo.job import simulate

        futures = executor.map(simulate, [(0, 20), (20, 27)], extra_args=(prepared.spec,))
        fold(futures)

    assert [future.result() for future in futures] == [None, None]


def test_a_failing_task_is_raised() -> None:
    future = Future()
    future.set_exception(ValueError("broken"))

    with pytest.raises(ValueError, match="broken"):
        fold([future])


@pytest.mark.parametrize("blocks", [1, 2, 3, 1563])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("cpu", [0.0, 1.4, 900.0, 1e6])
def test_ranges_cover_every_block_once_and_keep_every_worker_busy(blocks: int, workers: int, cpu: float) -> None:
    ranges = block_ranges(blocks, cpu, workers)

    assert [block for first, count in ranges for block in range(first, first + count)] == list(range(blocks))
    assert min(blocks, workers) <= len(ranges) <= 1000 + workers


def test_tasks_take_about_a_second_until_there_are_a_thousand() -> None:
    hours = plan(prepare(Params(forecasts=100_000_000, engine="numpy")).spec, 2)
    seconds = plan(prepare(Params(forecasts=4_000_000, engine="numpy")).spec, 2)

    assert 0.9 <= seconds.task_cpu_seconds <= 1.2
    assert len(hours.ranges) == 1000
    assert hours.task_cpu_seconds > 1.0


def test_the_headline_is_planned_at_any_size_without_simulating() -> None:
    figures = dry_run(prepare(Params(forecasts=100_000_000, days=1080)), FunctionExecutor(workers=2))

    assert figures["path_steps"] == 108_000_000_000
    assert figures["invocations"] * figures["forecasts_per_invocation"] >= 100_000_000
    assert figures["cpu_seconds"] > 60.0
    assert figures["worker_memory_bytes"] <= 150 * 2**20
    assert figures["charged"]["cost"] == 0.0
    assert figures["charged_on_cloud_functions"]["cost"] > 0.0


def test_the_planned_memory_does_not_grow_with_the_forecasts() -> None:
    small, large = (
        dry_run(prepare(Params(forecasts=n, engine="numpy")), FunctionExecutor(workers=2))["worker_memory_bytes"]
        for n in (1000, 10_000_000)
    )

    assert small == large


@pytest.mark.parametrize("days", [1, 2, 7, 36, 37, 1080, 25_200])
def test_the_fan_holds_risk_horizons_the_middle_and_the_end(days: int) -> None:
    recorded = fan_days(days)

    assert list(recorded) == sorted(set(recorded))
    assert recorded[0] == 1
    assert recorded[-1] == days
    assert set(risk_days(days)) <= set(recorded)
    assert risk_days(days)[-1] == days


def test_the_talk_preset_starts_from_the_published_constants() -> None:
    prepared = prepare(Params(preset="talk"))

    assert (prepared.spec.s0, prepared.spec.days) == (159.44, 1080)
    assert prepared.spec.path_steps == 108_000_000
    assert prepared.drift == -0.00022513546014255100
    assert prepared.volatility == 0.0121678341323272


def test_calibration_takes_the_mean_log_return_as_the_drift_of_the_exponent() -> None:
    prepared = prepare(Params())
    assert prepared.history is not None
    returns = np.diff(np.log(prepared.history.prices[:, 0]))

    assert prepared.model.drift == pytest.approx(returns.mean(), rel=1e-12)  # type: ignore[union-attr]
    assert prepared.spec.s0 == 2506.850098


def test_a_portfolio_starts_at_one_hundred_with_equal_shares_unless_given() -> None:
    equal = prepare(Params(symbol="sp500,nasdaq", days=5))  # type: ignore[arg-type]
    tilted = prepare(Params(symbol="sp500,nasdaq", weights="0.9,0.1", days=5))  # type: ignore[arg-type]

    assert equal.spec.s0 == PORTFOLIO_VALUE
    assert equal.model.weights.tolist() == [0.5, 0.5]  # type: ignore[union-attr]
    assert tilted.model.weights.tolist() == [0.9, 0.1]  # type: ignore[union-attr]
    assert equal.history is not None
    assert portfolio_value(equal.history, np.array([0.5, 0.5]))[-1] == PORTFOLIO_VALUE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"symbol": "sp500,nasdaq", "weights": "1"}, "--weights has 1 entries for 2 price series"),
        ({"weights": "0.5,0.5"}, "--weights has 2 entries for 1 price series"),
        ({"symbol": "sp500,nasdaq", "model": "heston"}, "--model heston is for one price series"),
        ({"touch": "2506.850098"}, "--touch 2506.850098 is the last price itself"),
    ],
)
def test_parameters_that_do_not_fit_the_prices_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(Params(**settings))  # type: ignore[arg-type]


def test_prices_a_model_cannot_be_fitted_to_are_named(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    path.write_text("price\n" + "5\n" * 40)

    with pytest.raises(InputError, match=r"--model student-t cannot be calibrated on .*flat\.csv"):
        prepare(Params(prices=str(path), model="student-t"))
