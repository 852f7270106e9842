"""The parameters of the backtest command: the same for flags, TOML and API."""

from __future__ import annotations

from dataclasses import dataclass

from apps._frame.params import check_fields, choice, number, optional, setting, switch, text, whole
from apps.montecarlo.params import DEFAULT_SEED, MAX_SEED, RETURN_MODELS
from apps.montecarlo.percent import shares
from core import ConfigError

ABOUT = """\
Cut the price history into disjoint windows, forecast each from what was known before it, and count how often
the realised price fell into the forecast's central intervals. Good forecasts cover as much as their intervals promise.
And day by day: forecast the value at risk of the next day, count the losses beyond it, and test their number (Kupiec),
their clustering (Christoffersen) and their zone (Basel traffic light).
"""
QUICK_MODELS = ("gbm", "bootstrap")
"""Models calibrated anew for every day of the value-at-risk test unless another interval is asked for."""
REFIT_DAYS = 21
"""Days between calibrations of the other models, whose fit takes longer; their variance follows every day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestParams:
    """Everything that determines the result of a backtest."""

    model: str = setting(
        "gbm", choice(*RETURN_MODELS), f"one of {', '.join(RETURN_MODELS)}",
        f"price model: {', '.join(RETURN_MODELS)}", "NAME",
    )  # fmt: skip
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
        (0.95, 0.99), shares(number(0.5, 1.0, open_ends=True), sorted_once=True),
        "distinct probabilities between 0.5 and 1 (or percentages)",
        "confidence levels of the value at risk that is tested, as 0.99 or 99%", "P[,..]",
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
    prices: str = setting("", text, "a file or object URL", "your own prices: CSV, .xlsx or Parquet", "FILE[:COLUMN]")
    window: str = setting(
        "", text, "a number of rows, or dates FROM:TO", "part of the prices to use: ROWS or FROM:TO", "ROWS|FROM:TO"
    )

    split_adjust: bool = setting(
        False, switch, "true or false", "rescale the prices before a jump by 2, 3, 4, 10, 20 or 100, as after a split"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.prices and self.symbol != "sp500":
            raise ConfigError("--prices and --symbol both name prices; give only one of them")

    @property
    def refit_days(self) -> int:
        """Days between calibrations in the test of the value at risk."""
        return self.refit or (1 if self.model in QUICK_MODELS else REFIT_DAYS)
