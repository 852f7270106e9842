"""The option command: one task a range of blocks, and the price and its sensitivities from their sums."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from apps.montecarlo.option_params import OptionParams
from core import ConfigError

if TYPE_CHECKING:
    from apps._frame import Session
    from apps._frame.plan import Plan
    from apps.montecarlo.mapping import Mapped

STEP_CPU_SECONDS = {"european": 30e-9, "asian": 110e-9, "barrier": 60e-9, "american": 170e-9}
"""CPU time of one simulated step with all sensitivities; enough to size tasks."""
FEWEST_TASKS = 8
"""Tasks of even the smallest job, so that a few workers share it."""
WIDEST_SPREAD = 2.5
"""Standard deviation of the log price at expiry up to which the mean price rests on paths that are simulated: half of
it on those beyond so many standard deviations, one in 160."""
DAYS_PER_YEAR = 365
"""Calendar days that theta is told by."""
PERCENT = 0.01
"""Change of volatility and of interest that vega and rho are told by, as is customary."""


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


def price_part(task: tuple[int, int], params: Any) -> list[Any]:
    """Map function: the sums of a range of blocks, for the price and for the sensitivities."""
    from apps.montecarlo.science.greeks import greek_blocks
    from apps.montecarlo.science.pricing import price_blocks

    sums = [price_blocks(params, *task), *greek_blocks(params, *task)]
    return [list(vars(each).values()) for each in sums]


def ranges_of(params: OptionParams, spec: Any) -> list[tuple[int, int]]:
    """Split the paths into ranges of blocks, the same on every machine."""
    from apps.montecarlo.stages import block_ranges

    cpu = spec.simulated_paths * params.steps * STEP_CPU_SECONDS[params.kind]
    return block_ranges(spec.n_blocks, cpu, FEWEST_TASKS)


def run(params: OptionParams, mapped: Mapped) -> dict[str, Any]:
    """Price an option; returns its figures, JSON-ready."""
    from apps.montecarlo.science.american import with_policy
    from apps.montecarlo.science.greeks import merge_greeks
    from apps.montecarlo.science.pricing import PriceSums

    spec = with_policy(option_spec(params))
    try:
        parts = list(mapped("price", price_part, ranges_of(params, spec), spec))
    except ValueError as error:
        raise ConfigError(f"this option cannot be priced: {error}") from error
    found = [[PriceSums(*sums) for sums in part] for part in parts]
    price, *greek_sums = merge_greeks(tuple(part) for part in found)
    return figures(params, spec, price, tuple(greek_sums))


def option(session: Session, params: OptionParams) -> None:
    """Run the option command."""
    from apps.montecarlo import option_report
    from apps.montecarlo.mapping import DRAWING, in_run
    from apps.montecarlo.stages import show

    with session.open_run(option_report.RESULTS) as kept:
        if not kept.finished:
            found = run(params, in_run(session, kept, ["price"], DRAWING))
            kept.publish(option_report.run_files(found, params))
        shown = kept.figures()
    show(session, shown, option_report.as_text)


def plan(session: Session, params: OptionParams) -> Plan:
    """Say what pricing would take."""
    from apps._frame.plan import Plan, StagePlan

    spec = option_spec(params)
    ranges, steps = ranges_of(params, spec), spec.simulated_paths * params.steps
    cpu = steps * STEP_CPU_SECONDS[params.kind]
    facts = [("To simulate", f"{spec.simulated_paths:,} paths, {steps:,} steps, method {params.method}")]
    return Plan([StagePlan("price", len(ranges), cpu / len(ranges))], facts, {"path_steps": steps})


def figures(params: OptionParams, spec: Any, sums: Any, greek_sums: Any) -> dict[str, Any]:
    """Return every figure of an option, JSON-ready: prices in currency, rates and volatility a year.

    Vega and rho are for a change of one percentage point, theta is for a calendar day.
    """
    from apps.montecarlo.figures import versions
    from apps.montecarlo.science.formulas import black_scholes_greeks
    from apps.montecarlo.science.greeks import greeks, ladder
    from apps.montecarlo.science.pricing import is_exercised, price

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
        "exercise_now": is_exercised(spec, params.spot, value),
        "ladder": [
            {"spot": spot, "price": each.value, "standard_error": each.se, "gain_now": gain_now(params, spot)}
            for spot, each in ladder(spec, greek_sums)
        ],
        "simulated_paths": spec.simulated_paths,
        "path_steps": sums.path_steps,
        "notes": notes(params, sums.payoff > 0),
        "versions": versions(),
        "result_sha256": sums.digest(),
    }


def _customary(greeks: Any) -> dict[str, float]:
    scales = {"delta": 1.0, "gamma": 1.0, "vega": PERCENT, "theta": 1.0 / DAYS_PER_YEAR, "rho": PERCENT}
    return {name: getattr(greeks, name) * scale for name, scale in scales.items()}


def gain_now(params: OptionParams, spot: float) -> float:
    """Return what exercise would pay at a spot: the pay-off at expiry of a plain option."""
    return max(spot - params.strike if params.right == "call" else params.strike - spot, 0.0)


def notes(params: OptionParams, pays: bool) -> list[str]:
    """Return what a reader must know to judge the figures; `pays` tells whether any path has paid anything."""
    said = [
        "Geometric Brownian motion with constant volatility and interest: no smile, no jumps, no cost of hedging. "
        "Standard errors cover the simulation alone.",
        "Greeks are central differences on the same random numbers; what the differences leave out is well below 1% of "
        "each, and is not in the standard errors.",
    ]
    if not pays:
        said.insert(
            0,
            "No simulated path pays anything: the price is too small to be seen by so few paths, and the standard "
            "error of zero says nothing. Ask for more paths.",
        )
    spread = params.volatility * math.sqrt(params.years)
    if spread > WIDEST_SPREAD:
        said.insert(
            0,
            f"The log price at expiry has a standard deviation of {spread:.2g}. So wide, the value of a call rests "
            "on paths too rare to be simulated: the price may be far off, and the standard error does not tell.",
        )
    looks = f"{params.steps:,} equal steps to expiry"
    if params.kind == "barrier":
        said.append(f"The barrier is looked at, at the end of {looks}; a path that crosses it in between is not seen.")
    if params.kind == "asian":
        said.append(f"The mean is that of the prices at the end of {looks}; the price of today is not among them.")
    if params.kind == "american":
        said.append(
            f"Exercise is possible today and at the end of {looks}. When to exercise is learned from other paths than "
            "those that are priced (Longstaff and Schwartz), so the price errs on the low side, by some tenths of a "
            "percent. Vega, rho and theta feel what the learned rule lacks more: it adds an error of a few percent to "
            "them, which is not in their standard errors."
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
