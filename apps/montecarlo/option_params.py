"""The parameters of the option command: the same for flags, TOML and API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps._frame.params import check_fields, choice, number, setting, whole
from apps.montecarlo.params import DEFAULT_SEED, MAX_SEED
from apps.montecarlo.percent import yearly
from core import ConfigError

ABOUT = """\
Price a European, Asian (arithmetic mean), barrier or American option under geometric Brownian motion by
simulation, with its Greeks, their standard errors and the variance reduction of your choice. Rates and volatility are
per year, as 3% or 0.03.
"""
KINDS = ("european", "asian", "barrier", "american")
RIGHTS = ("call", "put")
BARRIERS = ("up-and-out", "up-and-in", "down-and-out", "down-and-in")
METHODS = ("plain", "antithetic", "control", "antithetic+control", "sobol")
MAX_STEPS = 25_200


def parse_rate(value: Any) -> float:
    """Parse a yearly rate: ``3%`` or ``0.03``, but not ``3``."""
    return float(number(-1.0, 10.0)(yearly(value)))


def parse_volatility(value: Any) -> float:
    """Parse a yearly volatility above zero: ``20%`` or ``0.2``."""
    result = parse_rate(value)
    if result <= 0.0:
        raise ValueError
    return result


_positive = number(0.0, open_ends=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionParams:
    """Everything that determines the price of an option."""

    kind: str = setting("european", choice(*KINDS), f"one of {', '.join(KINDS)}", ", ".join(KINDS), "NAME")
    right: str = setting("call", choice(*RIGHTS), "call or put", "call or put", "NAME")
    spot: float = setting(100.0, _positive, "a positive number", "price of the asset today, in currency", "PRICE")
    strike: float = setting(110.0, _positive, "a positive number", "strike price, in currency", "PRICE")
    rate: float = setting(
        0.03, parse_rate, "a rate a year such as 3% or 0.03", "interest a year, continuously compounded", "RATE"
    )
    dividend: float = setting(
        0.0, parse_rate, "a rate a year such as 1% or 0.01", "dividend yield a year, likewise", "RATE"
    )
    volatility: float = setting(
        0.2, parse_volatility, "a positive volatility a year such as 20% or 0.2", "volatility a year", "VOL"
    )
    years: float = setting(1.0, number(0.0, 100.0, open_ends=True), "a number above 0, below 100", "expiry", "YEARS")
    steps: int = setting(
        252, whole(1, MAX_STEPS), f"a whole number from 1 to {MAX_STEPS}",
        "equal steps to expiry: dates of an Asian mean, looks at a barrier, dates of American exercise", "N",
    )  # fmt: skip
    barrier: float = setting(0.0, number(0.0), "a positive number", "barrier price, for kind barrier", "PRICE")
    barrier_type: str = setting("", choice("", *BARRIERS), f"one of {', '.join(BARRIERS)}", ", ".join(BARRIERS), "NAME")
    method: str = setting(
        "control", choice(*METHODS), f"one of {', '.join(METHODS)}", f"variance reduction: {', '.join(METHODS)}", "NAME"
    )
    paths: int = setting(100_000, whole(2, 10**10), "a whole number from 2 to 1e10", "simulated paths", "N")
    seed: int = setting(
        DEFAULT_SEED, whole(0, MAX_SEED), "a whole number from 0 to 2**64 - 1", "seed of all random numbers", "SEED"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.kind == "barrier" and not (self.barrier and self.barrier_type):
            raise ConfigError("--kind barrier needs --barrier PRICE and --barrier-type, such as up-and-out")
        if self.kind != "barrier" and (self.barrier or self.barrier_type):
            raise ConfigError(
                f"--barrier and --barrier-type have no meaning for --kind {self.kind}; use --kind barrier"
            )
        if self.kind == "american" and self.method == "sobol":
            raise ConfigError("--method sobol is not for --kind american; use --method antithetic+control")
        if self.method.startswith("antithetic") and self.paths % 2:
            raise ConfigError(f"--paths {self.paths}: antithetic paths come in pairs; give an even number")
