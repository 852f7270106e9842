"""The backtest command: parameters, one task a group of held-out windows, and the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.montecarlo.params import DEFAULT_SEED, MAX_SEED, MODELS
from core import ConfigError, FunctionExecutor, InputError
from core.fields import check_fields, choice, number, optional, setting, several, text, whole

DESCRIPTION = """\
Backtest: cut the price history into disjoint windows, forecast each from what was known before it, and count how often
the realised price fell into the forecast's central intervals. Good forecasts cover as much as their intervals promise.
And day by day: forecast the value at risk of the next day, count the losses beyond it, and test their number (Kupiec),
their clustering (Christoffersen) and their zone (Basel traffic light).
"""
QUICK_MODELS = ("gbm", "bootstrap")
"""Models calibrated anew for every day of the value-at-risk test unless another interval is asked for."""
REFIT_DAYS = 21
"""Days between calibrations of the other models, whose fit takes longer; their variance follows every day."""
TASKS_PER_WORKER = 4
"""So that one slow task does not hold up the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestParams:
    """Everything that determines the result of a backtest."""

    model: str = setting(
        "gbm", choice(*MODELS), f"one of {', '.join(MODELS)}", f"price model: {', '.join(MODELS)}", "NAME"
    )
    horizon: int = setting(21, whole(1, 2520), "a whole number from 1 to 2520", "trading days of a window", "DAYS")
    history: int | None = setting(
        None, optional(whole(29, 10**6)), "a whole number of at least 29",
        "returns to calibrate on before each window; all that are known unless given", "DAYS",
    )  # fmt: skip
    min_history: int = setting(
        1000, whole(29, 10**6), "a whole number of at least 29", "returns that must be known before the first window",
        "DAYS",
    )  # fmt: skip
    confidence: tuple[float, ...] = setting(
        (0.95, 0.99), several(number(0.5, 1.0, open_ends=True), distinct=True, ordered=True),
        "distinct probabilities between 0.5 and 1",
        "confidence levels of the value at risk that is tested", "P[,..]",
    )  # fmt: skip
    var_days: int = setting(
        1000, whole(0, 10**6), "a whole number, 0 for none",
        "latest trading days whose value at risk, forecast the day before, is tested", "DAYS",
    )  # fmt: skip
    refit: int | None = setting(
        None, optional(whole(1, 2520)), "a whole number from 1 to 2520",
        f"days between calibrations in that test; 1 for {' and '.join(QUICK_MODELS)}, else {REFIT_DAYS}, unless given",
        "DAYS",
    )  # fmt: skip
    forecasts: int = setting(
        10_000, whole(100, 10**7), "a whole number from 100 to 10000000", "simulated paths a window", "N"
    )
    seed: int = setting(
        DEFAULT_SEED, whole(0, MAX_SEED), "a whole number from 0 to 2**64 - 1", "seed of all random numbers", "SEED"
    )
    symbol: str = setting("sp500", text, "the name of a packaged series", "packaged daily prices", "NAME")
    prices: str = setting("", text, "a CSV file or object URL", "your own daily prices", "FILE.csv[:COLUMN]")
    window: str = setting(
        "", text, "a number of rows, or dates FROM:TO", "part of the prices to use: ROWS or FROM:TO", "ROWS|FROM:TO"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.prices and self.symbol != "sp500":
            raise ConfigError("--prices and --symbol both name prices; give only one of them")

    @property
    def refit_days(self) -> int:
        """Days between calibrations in the test of the value at risk."""
        return self.refit or (1 if self.model in QUICK_MODELS else REFIT_DAYS)


def windows_part(starts: tuple[int, ...], prices: Any, options: dict[str, Any]) -> list[Any]:
    """Map function: the results of some windows."""
    from apps.montecarlo.science.backtest import backtest_window

    return [backtest_window(prices, start, **options) for start in starts]


def var_part(starts: range, prices: Any, options: dict[str, Any]) -> list[Any]:
    """Map function: the values at risk of some days that follow each other."""
    from apps.montecarlo.science.backtest import var_forecasts

    return var_forecasts(prices, starts, **options)


def var_groups(starts: range, refit: int, groups: int) -> list[range]:
    """Cut days into at most so many groups, each of them beginning where the model is calibrated anew."""
    calibrations = -(-len(starts) // refit)
    size = refit * max(1, -(-calibrations // groups))
    return [starts[first : first + size] for first in range(0, len(starts), size)]


def run(params: BacktestParams, executor: FunctionExecutor) -> dict[str, Any]:
    """Run a backtest; returns its figures, JSON-ready.

    Raises
    ------
    InputError
        The prices cannot be used or hold no window.
    """
    from apps.montecarlo.dataset import load_history
    from apps.montecarlo.science.backtest import summarise, var_starts, window_starts

    history = load_history(params.prices, (params.symbol,), params.window)
    if len(history.names) > 1:
        raise ConfigError("--prices: a backtest is of one price series; name one column")
    try:
        starts = window_starts(len(history.prices), params.horizon, params.min_history)
    except ValueError as error:
        raise InputError(f"{history.source}: {error}; shorten --horizon or --min-history") from error
    prices = history.prices[:, 0]
    shared = {"model": params.model, "history": params.history, "forecasts": params.forecasts, "seed": params.seed}
    groups = executor.workers * TASKS_PER_WORKER
    count = min(len(starts), groups)
    windows = executor.map(
        windows_part, [(starts[part::count],) for part in range(count)],
        extra_args=(prices, shared | {"horizon": params.horizon}), batch_size=1,
    )  # fmt: skip
    days = executor.map(
        var_part,
        [(group,) for group in var_groups(var_starts(len(prices), params.var_days, params.min_history),
                                          params.refit_days, groups)],
        extra_args=(prices, shared | {"confidence": params.confidence, "refit": params.refit_days}), batch_size=1,
    )  # fmt: skip
    try:
        report = summarise([window for part in windows.results() for window in part])
        forecasts = [day for part in days.results() for day in part]
    except ValueError as error:
        raise InputError(f"--model {params.model} cannot be calibrated on every window: {error}") from error
    return figures(params, history, report, forecasts)


def figures(params: BacktestParams, history: Any, report: Any, days: list[Any]) -> dict[str, Any]:
    """Return every figure of a backtest, JSON-ready: losses and values at risk are fractions of the price before."""
    from apps.montecarlo.figures import calibration_window, versions
    from apps.montecarlo.science.backtest import var_tests

    steps = sum(params.forecasts * (1 if params.model == "gbm" else params.horizon) for _ in report.windows)
    dates = history.dates or [None] * len(history.prices)
    return {
        "command": "backtest",
        "model": params.model,
        "source": history.source,
        "calibration": calibration_window(history),
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
        "var_tests": [_tested(test) for test in var_tests(days, params.confidence)] if days else [],
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


def _tested(test: Any) -> dict[str, Any]:
    known = {key: None if value != value else value for key, value in vars(test).items()}
    return known | {"expected": test.expected, "plus_factor": test.plus_factor}
