from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apps._frame.manifest import NOTES, STAGES
from apps._frame.run import Run
from apps.montecarlo.params import Params
from apps.montecarlo.planning import plan_of
from apps.montecarlo.preparation import PORTFOLIO_VALUE, fan_days, portfolio_value, prepare, risk_days
from apps.montecarlo.result import Result
from apps.montecarlo.science.simulation import observe_blocks
from apps.montecarlo.stages import block_ranges, decode_part, encode_part, fold, layout, run, simulate
from core import ConfigError, FunctionExecutor, InputError


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
    once, twice = (prepare(Params(forecasts=3000, days=30, refine=refine)) for refine in (False, True))
    simulated = observe_blocks(once.spec, range(once.spec.n_blocks)).first(3000).at[-1]

    with FunctionExecutor("process", workers=2) as executor:
        rough, exact = run(once, executor), run(twice, executor)

    for q in once.params.levels:
        assert exact.quantile(30, q) == pytest.approx(once.spec.s0 * np.exp(np.quantile(simulated, q)), rel=1e-12)
        assert rough.quantile(30, q) != exact.quantile(30, q)
    assert exact.path_steps == 2 * rough.path_steps == 2 * 3000 * 30
    assert exact.summary.digest() == rough.summary.digest()


def test_another_seed_gives_another_result(forecast: Callable[..., Result]) -> None:
    assert forecast(seed=1).summary.digest() != forecast(seed=2).summary.digest()


@pytest.mark.parametrize(
    "settings", [{}, {"touch": "+2%"}, {"antithetic": True}, {"exact": True}, {"symbol": "sp500,wti"}], ids=str
)
def test_a_part_that_is_kept_comes_back_to_the_bit(settings: dict[str, object]) -> None:
    spec = prepare(Params(**{"forecasts": 1000, "days": 30} | settings)).spec  # type: ignore[arg-type]
    part = simulate((3, 5), spec)

    again = decode_part(encode_part(part))

    assert again.summary.digest() == part.summary.digest()
    assert again.cpu_seconds == part.cpu_seconds
    assert {type(value) for value in vars(again.summary).values()} == {
        type(value) for value in vars(part.summary).values()
    }


def test_nothing_to_fold_is_said() -> None:
    with pytest.raises(InputError, match="no tasks"):
        fold([])


@pytest.mark.parametrize("blocks", [1, 2, 3, 1563])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("cpu", [0.0, 1.4, 900.0, 1e6])
def test_ranges_cover_every_block_once_and_keep_every_worker_busy(blocks: int, workers: int, cpu: float) -> None:
    ranges = block_ranges(blocks, cpu, workers)

    assert [block for first, count in ranges for block in range(first, first + count)] == list(range(blocks))
    assert min(blocks, workers) <= len(ranges) <= 1000 + workers


def test_tasks_take_about_a_second_until_there_are_a_thousand() -> None:
    hours = layout(prepare(Params(forecasts=100_000_000, engine="numpy")).spec, 2)
    seconds = layout(prepare(Params(forecasts=4_000_000, engine="numpy")).spec, 2)

    assert 0.9 <= seconds.task_cpu_seconds <= 1.2
    assert len(hours.ranges) == 1000
    assert hours.task_cpu_seconds > 1.0


def test_the_headline_is_planned_at_any_size_without_simulating() -> None:
    plan = plan_of(prepare(Params(forecasts=100_000_000, days=1080)), FunctionExecutor(workers=2))

    figures, (stage,) = plan.figures, plan.stages
    assert figures["path_steps"] == 108_000_000_000
    assert figures["invocations"] * figures["forecasts_per_invocation"] >= 100_000_000
    assert stage.tasks * stage.cpu_seconds > 60.0
    assert stage.memory <= 150 * 2**20
    assert figures["charged_on_cloud_functions"]["cost"] > 0.0


def test_the_planned_memory_does_not_grow_with_the_forecasts() -> None:
    executor = FunctionExecutor(workers=2)
    plans = [plan_of(prepare(Params(forecasts=n, engine="numpy")), executor) for n in (1000, 10_000_000)]

    assert plans[0].stages[0].memory == plans[1].stages[0].memory


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


def split_and_stop(run: Run, output: bool) -> None:
    with run:
        run.remembered("ranges", [(0, 5), (5, 5)])
        if output:
            run.storage.put(f"{STAGES}simulate/some.out", b"")
        raise KeyboardInterrupt


def test_a_run_keeps_into_which_tasks_it_was_split(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        split_and_stop(Run(tmp_path, "app", Params()), output=True)

    with Run(tmp_path, "app", Params()) as again:
        assert again.remembered("ranges", [(0, 10)]) == [[0, 5], [5, 5]]
        again.publish({"result.json": b"{}"})

    assert not [info.key for info in again.storage.list(NOTES)]


def test_a_run_with_nothing_to_keep_leaves_no_note(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        split_and_stop(Run(tmp_path / "run", "app", Params()), output=False)

    assert not (tmp_path / "run").exists()
