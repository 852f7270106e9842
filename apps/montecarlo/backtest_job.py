"""The backtest command: parameters, one task a group of held-out windows, and the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.montecarlo.params import DEFAULT_SEED, MAX_SEED, MODELS
from core import ConfigError, FunctionExecutor, InputError
from core.fields import check_fields, choice, optional, setting, text, whole

DESCRIPTION = """\
Backtest: cut the price history into disjoint windows, forecast each from what was known before it, and count how often
the realised price fell into the forecast's central intervals. Good forecasts cover as much as their intervals promise.
"""
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


def windows_part(starts: tuple[int, ...], prices: Any, options: dict[str, Any]) -> list[Any]:
    """Map function: the results of some windows."""
    from apps.montecarlo.science.backtest import backtest_window

    return [backtest_window(prices, start, **options) for start in starts]


def run(params: BacktestParams, executor: FunctionExecutor) -> dict[str, Any]:
    """Run a backtest; returns its figures, JSON-ready.

    Raises
    ------
    InputError
        The prices cannot be used or hold no window.
    """
    from apps.montecarlo.dataset import load_history
    from apps.montecarlo.figures import calibration_window, versions
    from apps.montecarlo.science.backtest import summarise, window_starts

    history = load_history(params.prices, (params.symbol,), params.window)
    if len(history.names) > 1:
        raise ConfigError("--prices: a backtest is of one price series; name one column")
    try:
        starts = window_starts(len(history.prices), params.horizon, params.min_history)
    except ValueError as error:
        raise InputError(f"{history.source}: {error}; shorten --horizon or --min-history") from error
    options = {"horizon": params.horizon, "model": params.model, "history": params.history,
               "forecasts": params.forecasts, "seed": params.seed}  # fmt: skip
    groups = min(len(starts), executor.workers * TASKS_PER_WORKER)
    parts = [(starts[part::groups],) for part in range(groups)]
    futures = executor.map(windows_part, parts, extra_args=(history.prices[:, 0], options), batch_size=1)
    try:
        report = summarise([window for future in futures for window in future.result()])
    except ValueError as error:
        raise InputError(f"--model {params.model} cannot be calibrated on every window: {error}") from error
    return {
        "command": "backtest",
        "model": params.model,
        "source": history.source,
        "calibration": calibration_window(history),
        "horizon": params.horizon,
        "windows": len(report.windows),
        "forecasts_per_window": params.forecasts,
        "path_steps": len(starts) * params.forecasts * (1 if params.model == "gbm" else params.horizon),
        "exact_sampling": params.model == "gbm",
        "seed": params.seed,
        "coverage": [
            {"nominal": c.nominal, "observed": c.share, "se": c.se, "hits": c.hits, "kupiec_p": c.kupiec_p}
            for c in report.coverages
        ],
        "ks_distance": report.ks_distance,
        "ks_p": report.ks_p,
        "pit": [window.pit for window in report.windows],
        "versions": versions(),
    }


def as_text(figures: dict[str, Any]) -> str:
    """Return the backtest's table for people."""
    from apps.montecarlo.tables import name_of, percent, render

    window = figures["calibration"]
    span = f"{window['from']} to {window['to']}" if window["from"] else f"{window['prices']:,} rows"
    rows = [
        [
            name_of(row["nominal"]),
            percent(row["observed"]),
            percent(row["se"]),
            f"{row['hits']}",
            f"{row['kupiec_p']:.3f}",
        ]
        for row in figures["coverage"]
    ]
    head = (
        f"Backtest of {figures['model']} on {figures['source']}, {span}\n"
        f"{figures['windows']:,} disjoint windows of {figures['horizon']} trading days, "
        f"{figures['forecasts_per_window']:,} forecasts each, seed {figures['seed']}"
    )
    title = "Share of realised prices inside the central interval"
    table = render((title, ["interval", "observed", "± s.e.", "windows inside", "Kupiec p"], rows))
    ks = f"Uniformity of the forecast probabilities: Kolmogorov-Smirnov p = {figures['ks_p']:.3f}."
    hint = (
        "Observed above the interval's own percentage: the interval was wider than needed; below: too narrow. A p "
        "below 0.05 says that the difference is hardly chance."
    )
    return "\n\n".join([head, table, ks, hint])
