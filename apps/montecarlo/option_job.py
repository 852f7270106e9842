"""The option command: parameters, one task a range of blocks, and the price and its sensitivities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from apps.montecarlo.params import DEFAULT_SEED, MAX_SEED
from core import ConfigError, FunctionExecutor
from core.fields import check_fields, choice, number, setting, whole

DESCRIPTION = """\
Option: price a European, Asian (arithmetic mean), barrier or American option under geometric Brownian motion by
simulation, with its Greeks, their standard errors and the variance reduction of your choice. Rates and volatility are
per year, as 3% or 0.03.
"""
KINDS = ("european", "asian", "barrier", "american")
RIGHTS = ("call", "put")
BARRIERS = ("up-and-out", "up-and-in", "down-and-out", "down-and-in")
METHODS = ("plain", "antithetic", "control", "antithetic+control", "sobol")
STEP_CPU_SECONDS = {"european": 30e-9, "asian": 110e-9, "barrier": 60e-9, "american": 170e-9}
"""CPU time of one simulated step with all sensitivities; enough to size tasks."""
DAYS_PER_YEAR = 365
"""Calendar days that theta is told by."""
PERCENT = 0.01
"""Change of volatility and of interest that vega and rho are told by, as is customary."""
MAX_STEPS = 25_200


def parse_rate(value: Any) -> float:
    """Parse a yearly rate: ``3%`` or ``0.03``."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(number(-100.0, 1000.0)(value.strip()[:-1])) / 100.0
    return float(number(-1.0, 10.0)(value))


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


def option_spec(params: OptionParams) -> Any:
    """Return what the workers receive.

    Raises
    ------
    ConfigError
        The contract cannot be priced by this method.
    """
    from apps.montecarlo.science.models import GBM
    from apps.montecarlo.science.options import Option, OptionSpec

    step = params.years / params.steps
    try:
        contract = Option(params.kind, params.right, params.strike, params.steps, params.barrier, params.barrier_type)
        model = GBM(0.0, params.volatility * step**0.5)
        return OptionSpec(
            contract,
            model,
            params.spot,
            params.rate * step,
            params.paths,
            params.seed,
            params.dividend * step,
            params.method,
        )
    except ValueError as error:
        raise ConfigError(f"this option cannot be priced: {error}") from error


def price_part(first: int, count: int, spec: Any) -> Any:
    """Map function: the sums of a range of blocks, for the price and for the sensitivities."""
    from apps.montecarlo.science.greeks import greek_blocks
    from apps.montecarlo.science.pricing import price_blocks

    return price_blocks(spec, first, count), greek_blocks(spec, first, count)


def run(params: OptionParams, executor: FunctionExecutor) -> dict[str, Any]:
    """Price an option; returns its figures, JSON-ready."""
    from apps.montecarlo.job import block_ranges
    from apps.montecarlo.science.american import with_policy
    from apps.montecarlo.science.greeks import merge_greeks
    from apps.montecarlo.science.pricing import merge_prices

    spec = with_policy(option_spec(params))
    cpu = spec.simulated_paths * params.steps * STEP_CPU_SECONDS[params.kind]
    ranges = block_ranges(spec.n_blocks, cpu, executor.workers)
    parts = executor.map(price_part, ranges, extra_args=(spec,), batch_size=1).results()
    return figures(params, spec, merge_prices(sums for sums, _ in parts), merge_greeks(sums for _, sums in parts))


def figures(params: OptionParams, spec: Any, sums: Any, greek_sums: Any) -> dict[str, Any]:
    """Return every figure of an option, JSON-ready: prices in currency, rates and volatility a year.

    Vega and rho are for a change of one percentage point, theta is for a calendar day.
    """
    from apps.montecarlo.figures import versions
    from apps.montecarlo.science.formulas import black_scholes_greeks
    from apps.montecarlo.science.greeks import greeks, ladder
    from apps.montecarlo.science.pricing import price

    value = price(spec, sums)
    found, errors = greeks(spec, greek_sums, params.years)
    closed = None
    if params.kind == "european":
        closed = black_scholes_greeks(
            params.right, params.spot, params.strike, params.rate, params.dividend, params.volatility, params.years
        )
    return {
        "command": "option",
        "model": "gbm",
        **{name: getattr(params, name) for name in params.__dataclass_fields__},
        "price": value.value,
        "standard_error": value.se,
        "greeks": _customary(found),
        "greeks_se": _customary(errors),
        "black_scholes": black_scholes_price(params),
        "black_scholes_greeks": _customary(closed) if closed else None,
        "exercise_now": params.kind == "american" and value.se == 0.0,
        "ladder": [
            {"spot": spot, "price": each.value, "standard_error": each.se, "gain_now": gain_now(params, spot)}
            for spot, each in ladder(spec, greek_sums)
        ],
        "simulated_paths": spec.simulated_paths,
        "path_steps": sums.path_steps,
        "notes": notes(params),
        "versions": versions(),
        "result_sha256": sums.digest(),
    }


def _customary(greeks: Any) -> dict[str, float]:
    scales = {"delta": 1.0, "gamma": 1.0, "vega": PERCENT, "theta": 1.0 / DAYS_PER_YEAR, "rho": PERCENT}
    return {name: getattr(greeks, name) * scale for name, scale in scales.items()}


def gain_now(params: OptionParams, spot: float) -> float:
    """Return what exercise would pay at a spot: the pay-off at expiry of a plain option."""
    return max(spot - params.strike if params.right == "call" else params.strike - spot, 0.0)


def notes(params: OptionParams) -> list[str]:
    """Return what a reader must know to judge the figures."""
    said = [
        "Geometric Brownian motion with constant volatility and interest: no smile, no jumps, no cost of hedging. "
        "Standard errors cover the simulation alone.",
        "Greeks are central differences on the same random numbers; what the differences leave out is well below 1% of "
        "each, and is not in the standard errors.",
    ]
    looks = f"{params.steps:,} equal steps to expiry"
    if params.kind == "barrier":
        said.append(f"The barrier is looked at, at the end of {looks}; a path that crosses it in between is not seen.")
    if params.kind == "asian":
        said.append(f"The mean is that of the prices at the end of {looks}; the price of today is not among them.")
    if params.kind == "american":
        said.append(
            f"Exercise is possible today and at the end of {looks}. When to exercise is learned from other paths than "
            "those that are priced (Longstaff and Schwartz), so the price errs on the low side, by some tenths of a "
            "percent at most."
        )
    return said


def black_scholes_price(params: OptionParams) -> float | None:
    """Return the closed-form price of a European option, None for the others."""
    from apps.montecarlo.science.formulas import black_scholes

    if params.kind != "european":
        return None
    # A dividend yield is the same as a lower spot: Merton, Bell J. Economics 4 (1973).
    spot = params.spot * math.exp(-params.dividend * params.years)
    return black_scholes(params.right, spot, params.strike, params.rate, params.volatility, params.years)
