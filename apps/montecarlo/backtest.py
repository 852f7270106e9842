"""The backtest command: one task a group of held-out windows or of days, and the judgement over all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.montecarlo.backtest_params import BacktestParams
from core import ConfigError, InputError

if TYPE_CHECKING:
    from apps._frame import Session
    from apps._frame.plan import Plan
    from apps.montecarlo.mapping import Mapped

MOST_TASKS = 32
"""Tasks of a job: enough that one slow one does not hold up the end on a machine's workers."""
FIT_CPU_SECONDS = {"student-t": 0.01, "merton": 0.5, "gjr-garch": 0.08, "block-bootstrap": 0.02, "heston": 0.01}
QUICK_FIT_CPU_SECONDS = 0.001
STEP_CPU_SECONDS = 40e-9
"""CPU time of a calibration and of one simulated step, measured on one core of a server; enough for a plan."""


def windows_part(task: tuple[int, ...], params: tuple[Any, dict[str, Any]]) -> list[Any]:
    """Map function: the results of some windows."""
    from apps.montecarlo.science.backtest import backtest_window

    prices, options = params
    return [backtest_window(prices, start, **options) for start in task]


def var_part(task: tuple[int, int], params: tuple[Any, dict[str, Any]]) -> list[Any]:
    """Map function: the values at risk of the days from a first to before a last."""
    from apps.montecarlo.science.backtest import var_forecasts

    prices, options = params
    return var_forecasts(prices, range(*task), **options)


def var_groups(starts: range, refit: int) -> list[tuple[int, int]]:
    """Cut days into groups, each of them beginning where the model is calibrated anew."""
    size = refit * max(1, -(-len(starts) // (refit * MOST_TASKS)))
    return [(first, min(first + size, starts.stop)) for first in range(starts.start, starts.stop, size)]


def load(params: BacktestParams) -> tuple[Any, tuple[int, ...]]:
    """Return the price history, and the rows of the last price known before each window.

    Raises
    ------
    InputError, ConfigError
        The prices cannot be used or hold no window.
    """
    from apps.montecarlo.dataset import load_history
    from apps.montecarlo.science.backtest import window_starts

    history = load_history(params.prices, (params.symbol,), params.window, split_adjust=params.split_adjust)
    if len(history.names) > 1:
        raise ConfigError("--prices: a backtest is of one price series; name one column")
    try:
        return history, window_starts(len(history.prices), params.horizon, params.min_history)
    except ValueError as error:
        raise InputError(f"{history.source}: {error}; shorten --horizon or --min-history") from error


def run(params: BacktestParams, mapped: Mapped) -> dict[str, Any]:
    """Run a backtest; returns its figures, JSON-ready.

    Raises
    ------
    InputError
        The prices cannot be used or hold no window.
    """
    return judged(params, *load(params), mapped)


def judged(params: BacktestParams, history: Any, starts: tuple[int, ...], mapped: Mapped) -> dict[str, Any]:
    """Forecast every window and every day, and judge them; returns figures, JSON-ready."""
    from apps.montecarlo.science.backtest import VarForecast, WindowResult, summarise, var_starts

    prices = history.prices[:, 0]
    shared = {"model": params.model, "history": params.history, "forecasts": params.forecasts, "seed": params.seed}
    count = min(len(starts), MOST_TASKS)
    groups = [starts[part::count] for part in range(count)]
    days = var_groups(var_starts(len(prices), params.var_days, params.min_history), params.refit_days)
    every_day = shared | {"confidence": params.confidence, "refit": params.refit_days}
    try:
        windows = [*mapped("windows", windows_part, groups, (prices, shared | {"horizon": params.horizon}))]
        forecasts = [*mapped("days", var_part, days, (prices, every_day))] if days else []
    except ValueError as error:
        raise InputError(f"--model {params.model} cannot be calibrated on every window: {error}") from error
    report = summarise([WindowResult(*window) for part in windows for window in part])
    found = [VarForecast(start, loss, tuple(var)) for part in forecasts for start, loss, var in part]
    return figures(params, history, report, found)


def backtest(session: Session, params: BacktestParams) -> None:
    """Run the backtest command."""
    from apps.montecarlo import backtest_report
    from apps.montecarlo.mapping import DRAWING, in_run
    from apps.montecarlo.stages import show, tags

    history, starts = load(params)
    with session.open_run(backtest_report.RESULTS, inputs=tags(history)) as kept:
        if not kept.finished:
            mapped = in_run(session, kept, ["windows", "days"], DRAWING)
            kept.publish(backtest_report.run_files(judged(params, history, starts, mapped), params))
        shown = kept.figures()
    show(session, shown, backtest_report.as_text)


def plan(session: Session, params: BacktestParams) -> Plan:
    """Say what a backtest would take."""
    from apps._frame.plan import Plan, StagePlan
    from apps.montecarlo.science.backtest import var_starts

    history, starts = load(params)
    days = var_starts(len(history.prices), params.var_days, params.min_history)
    steps = len(starts) * params.forecasts * (1 if params.model == "gbm" else params.horizon)
    fit = FIT_CPU_SECONDS.get(params.model, QUICK_FIT_CPU_SECONDS)
    windows = len(starts) * fit + steps * STEP_CPU_SECONDS
    daily = len(days) * (fit / params.refit_days + params.forecasts * STEP_CPU_SECONDS + QUICK_FIT_CPU_SECONDS)
    jobs = [StagePlan("windows", min(len(starts), MOST_TASKS), windows / min(len(starts), MOST_TASKS))]
    if days:
        groups = len(var_groups(days, params.refit_days))
        jobs.append(StagePlan("days", groups, daily / groups))
    facts = [("Forecasts", f"{len(starts):,} windows of {params.horizon} days, {len(days):,} single days")]
    return Plan(jobs, facts, {"windows": len(starts), "days": len(days)})


def figures(params: BacktestParams, history: Any, report: Any, days: list[Any]) -> dict[str, Any]:
    """Return every figure of a backtest, JSON-ready: losses and values at risk are fractions of the price before."""
    from apps.montecarlo.figures import calibration_window, step, versions
    from apps.montecarlo.science.backtest import var_tests

    steps = sum(params.forecasts * (1 if params.model == "gbm" else params.horizon) for _ in report.windows)
    daily = history.spacing.step == "day"
    dates = history.dates or [None] * len(history.prices)
    return {
        "command": "backtest",
        "model": params.model,
        "source": history.source,
        "calibration": calibration_window(history),
        "step": step(history.spacing),
        "notes": list(history.notes),
        "horizon": params.horizon,
        "windows": len(report.windows),
        "forecasts_per_window": params.forecasts,
        "path_steps": steps + len(days) * params.forecasts,
        "exact_sampling": params.model == "gbm",
        "seed": params.seed,
        "coverage": [
            {"nominal": c.nominal, "observed": c.share, "se": c.se, "hits": c.hits, "kupiec_p": c.kupiec_p}
            for c in report.coverages
        ],
        "ks_distance": report.ks_distance,
        "ks_p": report.ks_p,
        "pit": [window.pit for window in report.windows],
        "refit_days": params.refit_days,
        "var_tests": [_tested(test, daily) for test in var_tests(days, params.confidence)] if days else [],
        "var_days": [
            {
                "date": str(dates[day.start + 1] or ""),
                "row": day.start + 1,
                "loss": day.loss,
                "var": {str(level): value for level, value in zip(params.confidence, day.var, strict=True)},
            }
            for day in days
        ],
        "versions": versions(),
    }


def _tested(test: Any, daily: bool) -> dict[str, Any]:
    known = {key: None if value != value else value for key, value in vars(test).items()}
    return known | {"expected": test.expected, "plus_factor": test.plus_factor if daily else None}
