"""The documented parameter set of a forecast: the same for flags, TOML and API."""

from __future__ import annotations

import re
from dataclasses import dataclass

from apps._frame.params import check_fields, choice, number, optional, setting, several, switch, text, whole
from apps.montecarlo.percent import shares, yearly
from core import ConfigError

MODELS = ("gbm", "bootstrap", "block-bootstrap", "student-t", "merton", "gjr-garch", "heston", "bachelier")
RETURN_MODELS = MODELS[:-1]
"""Models of log returns, which need positive prices."""
PORTFOLIO_MODELS = ("gbm", "bootstrap", "block-bootstrap")
NORMAL_MODELS = ("gbm", "merton", "heston", "bachelier")
"""Models driven by normal shocks, which have a mirror image for antithetic paths."""
EXACT_MODELS = ("gbm",)
"""Models whose value at a horizon can be drawn without the days before it."""
ENGINES = ("auto", "numpy", "numba")
PRESETS = ("talk",)
DRIFTS = ("sample", "zero")

DEFAULT_SEED = 20181231
"""The last day of the default prices."""
MAX_FORECASTS = 10**10
MAX_DAYS = 25_200
"""100 years of 252 trading days, the longest path the simulation accepts."""
MAX_SEED = 2**64 - 1

_TOUCH = re.compile(r"([+-]\d+(?:\.\d+)?)%|(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)", re.IGNORECASE)

_probabilities = shares(number(0.0, 1.0, open_ends=True), sorted_once=True)


def _touch(value: object) -> str:
    level = str(value).strip()
    match = _TOUCH.fullmatch(level)
    if isinstance(value, bool) or match is None or (match[1] and float(match[1]) <= -100.0):
        raise ValueError
    return level


def _drift(value: object) -> str | float:
    if str(value).strip() in DRIFTS:
        return str(value).strip()
    rate = yearly(value)
    if not -1.0 < rate < 10.0:
        raise ValueError
    return rate


def touch_price(level: str, s0: float) -> float:
    """Return the price of a touch level: ``+25%`` is relative to `s0`, ``3000`` a price."""
    match = _TOUCH.fullmatch(level)
    if match is None:
        raise ConfigError(f"--touch {level}: expected a change such as +25% or -10%, or a price")
    return s0 * (1.0 + float(match[1]) / 100.0) if match[1] else float(match[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Everything that determines the result of a forecast."""

    forecasts: int = setting(
        100_000, whole(2, MAX_FORECASTS), f"a whole number from 2 to {MAX_FORECASTS:.0e}", "simulated price paths", "N"
    )
    days: int = setting(
        1080, whole(1, MAX_DAYS), f"a whole number from 1 to {MAX_DAYS}",
        "trading days to look ahead; weeks, months ... where the prices are weekly, monthly ...", "DAYS",
    )  # fmt: skip
    model: str = setting(
        "gbm", choice(*MODELS), f"one of {', '.join(MODELS)}", f"price model: {', '.join(MODELS)}", "NAME"
    )
    seed: int = setting(
        DEFAULT_SEED, whole(0, MAX_SEED), "a whole number from 0 to 2**64 - 1", "seed of all random numbers", "SEED"
    )
    symbol: tuple[str, ...] = setting(
        ("sp500",), several(text, distinct=True), "names of packaged series, each once, separated by commas",
        "packaged daily prices: sp500, nasdaq, wti; several make a portfolio", "NAME[,NAME]",
    )  # fmt: skip
    prices: str = setting(
        "", text, "a file or object URL, with :COLUMN[,COLUMN] after it if need be",
        "your own prices: CSV, .xlsx or Parquet file or object URL; several columns make a portfolio",
        "FILE[:COLUMN,..]",
    )  # fmt: skip
    weights: tuple[float, ...] = setting(
        (), shares(number(-10.0, 10.0), summing_to_one=True),
        "shares (or percentages) separated by commas, one an asset, summing to 1, short below 0",
        "share of each asset in the portfolio on day 0, as 0.6,0.4 or 60%,40%, short below 0; equal unless given",
        "W,W[,..]",
    )  # fmt: skip
    window: str = setting(
        "", text, "a number of rows, or dates FROM:TO",
        "prices to calibrate on: the last so many rows, or dates FROM:TO; all unless given", "ROWS|FROM:TO",
    )  # fmt: skip
    split_adjust: bool = setting(
        False, switch, "true or false", "rescale the prices before a jump by 2, 3, 4, 10, 20 or 100, as after a split"
    )
    periods_per_year: float | None = setting(
        None, optional(number(0.0, 10**7, open_ends=True)), "a number above 0",
        "prices in a year, for annualised figures; read from the dates unless given", "N",
    )  # fmt: skip
    preset: str = setting(
        "", choice("", *PRESETS), f"one of {', '.join(PRESETS)}",
        "constants in place of prices: talk (the published notebook's)", "NAME",
    )  # fmt: skip
    drift: str | float = setting(
        "sample", _drift, "sample, zero, or a rate a year such as 3%",
        "mean log return: the sample's, zero, or such that the expected price grows by a rate a year, "
        "continuously compounded (risk-free: 3%)",
        "sample|zero|RATE",
    )  # fmt: skip
    position: float | None = setting(
        None, optional(number(0.0, open_ends=True)), "a positive amount",
        "what is held today, in currency: losses are told for it too", "AMOUNT",
    )  # fmt: skip
    touch: tuple[str, ...] = setting(
        (), several(_touch, distinct=True), "changes such as +25% or -10% (above -100%), or prices, each once",
        "price levels, or changes from the last price, to give the probability of reaching", "LEVEL[,..]",
    )  # fmt: skip
    levels: tuple[float, ...] = setting(
        (0.05, 0.25, 0.5, 0.75, 0.95), _probabilities, "distinct probabilities between 0 and 1 (or percentages)",
        "percentiles of the fan, as 0.05,0.5,0.95 or 5,50,95", "P[,..]",
    )  # fmt: skip
    confidence: tuple[float, ...] = setting(
        (0.95, 0.99), shares(number(0.5, 1.0, open_ends=True), sorted_once=True),
        "distinct probabilities between 0.5 and 1 (or percentages)",
        "confidence levels of value at risk and expected shortfall, as 0.99 or 99%", "P[,..]",
    )  # fmt: skip
    antithetic: bool = setting(
        False, switch, "true or false", "pair each path with its mirror image (models driven by normal shocks)"
    )
    exact: bool = setting(
        False, switch, "true or false",
        "draw prices at the horizons without the days between (gbm only; no touch, no drawdown)",
    )  # fmt: skip
    refine: bool = setting(
        False, switch, "true or false",
        "simulate a second time to give the horizon's percentiles exactly (histograms: within 5e-5)",
    )  # fmt: skip
    engine: str = setting(
        "auto", choice(*ENGINES), f"one of {', '.join(ENGINES)}", f"simulation kernel: {', '.join(ENGINES)}", "NAME"
    )
    invocations: int | None = setting(
        None, optional(whole(1, 10**6)), "a whole number from 1 to 1000000",
        "tasks the forecasts are split into; sized to a second of CPU time unless given", "N",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.symbol:
            raise ConfigError("--symbol: expected at least one packaged series: sp500, nasdaq or wti")
        if not self.levels or not self.confidence:
            raise ConfigError(f"--{'confidence' if self.levels else 'levels'}: expected at least one probability")
        self._check_sources()
        self._check_methods()

    def _check_sources(self) -> None:
        given_symbol = self.symbol != ("sp500",)
        if self.preset and (self.prices or given_symbol or self.window or self.weights or self.split_adjust):
            raise ConfigError(
                "--preset uses fixed constants, so --prices, --symbol, --window, --weights and --split-adjust have no "
                "use beside it; drop --preset or them"
            )
        if self.preset and self.drift != "sample":
            raise ConfigError(f"--preset talk has a drift of its own; drop --drift {self.drift} or --preset")
        if self.preset and self.model != "gbm":
            raise ConfigError(f"--preset talk is a gbm model; drop --model {self.model} or --preset")
        if self.prices and given_symbol:
            raise ConfigError("--prices and --symbol both name prices; give only one of them")
        if self.weights and abs(sum(self.weights) - 1.0) > 1e-9:
            raise ConfigError(f"--weights sum to {sum(self.weights):g}; they must sum to 1")

    def _check_methods(self) -> None:
        if self.model != "bachelier":
            for level in self.touch:
                if touch_price(level, 1.0) <= 0.0:
                    raise ConfigError(f"--touch {level}: expected a positive price, or a change such as -10%")
        elif self.split_adjust:
            raise ConfigError("--split-adjust is for ratios of prices, --model bachelier for differences; drop one")
        if self.exact and self.touch:
            raise ConfigError("--exact skips the daily path that --touch needs; drop one of the two")
        if self.exact and self.model not in EXACT_MODELS:
            raise ConfigError(f"--exact works with --model gbm, not {self.model}; drop --exact")
        if self.antithetic and self.forecasts % 2:
            raise ConfigError(f"--forecasts {self.forecasts}: --antithetic simulates pairs; give an even number")
        if self.antithetic and self.model not in NORMAL_MODELS:
            raise ConfigError(
                f"--antithetic needs a model driven by normal shocks ({', '.join(NORMAL_MODELS)}), not {self.model}; "
                "drop --antithetic"
            )
