"""Simulations whose result is known: by a closed formula, or from another program or a paper.

Each check is a function of a number of paths and a seed that returns findings; `CHECKS` has them by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from apps.montecarlo.science.american import with_policy
from apps.montecarlo.science.calibration import TALK_DAYS, TALK_LAST_PRICE, TALK_MODEL
from apps.montecarlo.science.coverage import binomial_cdf, kupiec_p, likelihood_ratio
from apps.montecarlo.science.formulas import Greeks, black_scholes, black_scholes_greeks
from apps.montecarlo.science.greeks import greek_blocks, greeks
from apps.montecarlo.science.models import GBM, Heston, Merton
from apps.montecarlo.science.options import Option, OptionSpec
from apps.montecarlo.science.pricing import price, price_blocks
from apps.montecarlo.science.simulation import planned, simulate_blocks
from apps.montecarlo.science.spec import SimulationSpec

DAYS, YEAR = 250, 252
DRIFT, VOLATILITY = 2e-4, 0.012
NORMAL = {0.05: -1.6448536269514722, 0.95: 1.6448536269514722, 0.01: -2.3263478740408408}
"""Quantiles of the standard normal law."""
SHIFT = 0.5825971579390107
"""Looking once a day moves a barrier by so many daily standard deviations: Broadie, Glasserman and Kou, Mathematical
Finance 7 (1997)."""
LIMIT = 4.0
"""Standard errors that a finding may be off; of a hundred right ones with another seed each, one in 160 sets has one
beyond."""

QUANTLIB = "QuantLib 1.44"
TALK_DIGEST = "00c4e1f5cea21133267b10a811f5da8f77d973a5be84e02b57fd2e301ca3e68d"
"""SHA-256 of 2,000 forecasts of the published talk, recorded every 30 days."""


class Finding(NamedTuple):
    """What a check has found, beside what was expected.

    Parameters
    ----------
    what, against : str
        What was computed, and where the expected value is from.
    expected, found : float
    error : float
        Standard error of `found`; 0 where it is not random.
    below, above : float
        What may be missing or too much besides `LIMIT` standard errors: what the method leaves out, or the digits to
        which the expected value is known.
    """

    what: str
    against: str
    expected: float
    found: float
    error: float
    below: float = 0.0
    above: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether both are the same as far as can be told."""
        room = LIMIT * self.error
        return -room - self.below <= self.found - self.expected <= room + self.above


def forecast_checks(paths: int, seed: int) -> list[Finding]:
    """Compare a forecast under GBM with the lognormal law."""
    model = GBM(DRIFT, VOLATILITY)
    levels = (125.0, 85.0)
    spec = planned(SimulationSpec(model, 100.0, DAYS, paths, seed, (10, DAYS), levels))
    found = simulate_blocks(spec, 0, spec.n_blocks)
    law = "lognormal law"
    centre, spread = DRIFT * DAYS, VOLATILITY * math.sqrt(DAYS)
    mean = 100.0 * math.exp(centre + spread**2 / 2)
    rows = [
        Finding("median after 250 days", law, 100 * math.exp(centre), found.quantile(DAYS, 0.5),
                found.quantile_se(DAYS, 0.5)),
        *(Finding(f"{100 * q:g}% quantile after 250 days", law, 100 * math.exp(centre + NORMAL[q] * spread),
                  found.quantile(DAYS, q), found.quantile_se(DAYS, q)) for q in (0.05, 0.95)),
        Finding("mean after 250 days", law, mean, found.mean(DAYS), found.mean_se(DAYS)),
    ]  # fmt: skip
    short, root = found.var_es(10, 0.99), VOLATILITY * math.sqrt(10)
    cut = 10 * DRIFT + NORMAL[0.01] * root
    tail = math.exp(10 * DRIFT + root**2 / 2) * _normal_cdf(NORMAL[0.01] - root) / 0.01
    rows += [
        Finding("10-day VaR at 99%, fraction", law, 1 - math.exp(cut), short.var, short.var_se),
        Finding("10-day ES at 99%, fraction", law, 1 - tail, short.es, short.es_se),
    ]
    for level in levels:
        p, se = found.touch_probability(level)
        expected = touch_probability(math.log(level / 100.0), DRIFT, VOLATILITY, DAYS)
        rows.append(Finding(f"chance to reach {level:g} in 250 days", "shifted barrier", expected, p, se, 2e-4, 2e-4))
    return rows


def touch_probability(distance: float, drift: float, volatility: float, days: int) -> float:
    """Return the chance that a GBM looked at once a day reaches a log distance: reflection at the shifted barrier."""
    sign = 1.0 if distance > 0 else -1.0
    barrier, drift = abs(distance) + SHIFT * volatility, sign * drift
    root = volatility * math.sqrt(days)
    reflected = math.exp(2.0 * drift * barrier / volatility**2) * _normal_cdf(-(barrier + drift * days) / root)
    return _normal_cdf(-(barrier - drift * days) / root) + reflected


def talk_checks(paths: int, seed: int) -> list[Finding]:
    """Compare the bits of the published talk's forecast with those that were stored; `paths` and `seed` are its own."""
    fan = tuple(range(30, TALK_DAYS + 1, 30))
    spec = planned(SimulationSpec(TALK_MODEL, TALK_LAST_PRICE, TALK_DAYS, 2000, 20181231, fan, engine="numpy"))
    same = simulate_blocks(spec, 0, spec.n_blocks).digest() == TALK_DIGEST
    return [Finding("talk preset, 2,000 forecasts: same bits (1: yes)", "stored hash", 1.0, float(same), 0.0)]


def model_checks(paths: int, seed: int) -> list[Finding]:
    """Compare options under jumps and under stochastic variance with known prices."""
    step = 1.0 / YEAR
    merton = Merton(0.0, 0.15 * math.sqrt(step), step, -0.05, 0.1)
    heston = Heston(0.0, 2.0 * step, 0.04 * step, 0.3 * step, -0.7, 0.04 * step)
    rows = []
    # Merton's series to 40 terms: interest 3%, volatility 15%, a jump a year of -5% with deviation 10%.
    for strike, expected in ((90.0, 2.435665), (110.0, 11.299218)):
        spec = OptionSpec(Option("european", "put", strike, YEAR), merton, 100.0, 0.03 * step, paths // 2, seed)
        rows.append(Finding(f"put under jumps, strike {strike:g}", "Merton's series", expected, *_priced(spec)))
    # AnalyticHestonEngine: interest 3%, v0 = theta = 0.04, kappa 2, xi 0.3, rho -0.7; daily steps are not its limit.
    for strike, expected in ((90.0, 15.750434), (110.0, 4.583971)):
        spec = OptionSpec(Option("european", "call", strike, YEAR), heston, 100.0, 0.03 * step, paths // 2, seed)
        room = 0.003 * expected
        rows.append(Finding(f"call under stochastic variance, strike {strike:g}", QUANTLIB, expected, *_priced(spec),
                            room, room))  # fmt: skip
    return rows


def european_checks(paths: int, seed: int) -> list[Finding]:
    """Compare European options and their sensitivities with QuantLib's AnalyticEuropeanEngine."""
    rows = []
    for method in ("plain", "antithetic+control", "sobol"):
        spec = _spec(Option("european", "call", 110.0, 1), paths, seed, method)
        rows.append(Finding(f"European call, {method}", QUANTLIB, 5.293398, *_priced(spec), 5e-7, 5e-7))
    closed = black_scholes("call", 100.0, 110.0, 0.03, 0.2, 1.0)
    rows.append(Finding("European call, closed formula", QUANTLIB, 5.293398058044912, closed, 0.0, 1e-9, 1e-9))
    known = Greeks(0.4103864881996939, 0.0194417305921448, 38.88346118428961, -4.960703641286699, 35.74525076192447)
    formula = black_scholes_greeks("call", 100.0, 110.0, 0.03, 0.0, 0.2, 1.0)
    spec = _spec(Option("european", "call", 110.0, 1), paths, seed, "control")
    found, errors = greeks(spec, greek_blocks(spec, 0, spec.n_blocks), 1.0)
    for name in Greeks._fields:
        expected, room = getattr(known, name), 0.002 * abs(getattr(known, name))
        rows.append(Finding(f"{name} of the call, simulated", QUANTLIB, expected, getattr(found, name),
                            getattr(errors, name), room, room))  # fmt: skip
        tiny = 1e-9 * abs(expected)
        rows.append(
            Finding(f"{name} of the call, formula", QUANTLIB, expected, getattr(formula, name), 0.0, tiny, tiny)
        )
    return rows


def path_checks(paths: int, seed: int) -> list[Finding]:
    """Compare options that look at the whole path with QuantLib."""
    asian = _spec(Option("asian", "call", 100.0, 73), paths // 2, seed, "control", rate=0.05, volatility=0.25)
    # MCDiscreteArithmeticAPEngine with control variate on 2**18 - 1 Sobol points.
    rows = [Finding("Asian call, 73 dates", QUANTLIB, 6.927350, *_priced(asian), 5e-4, 5e-4)]
    # AnalyticBarrierEngine at the barrier shifted as Broadie, Glasserman and Kou say.
    for barrier, way, expected in ((130.0, "up-and-out", 3.566048), (85.0, "down-and-out", 10.032159),
                                   (85.0, "down-and-in", 0.418424)):  # fmt: skip
        option = Option("barrier", "call", 100.0, YEAR, barrier, way)
        spec = _spec(option, paths // 2, seed, "control", rate=0.05)
        rows.append(
            Finding(f"barrier call, {way} at {barrier:g}, daily", QUANTLIB, expected, *_priced(spec), 2e-3, 2e-3)
        )
    return rows


def american_checks(paths: int, seed: int) -> list[Finding]:
    """Compare American options with the finite differences of Longstaff and Schwartz, and of QuantLib."""
    rows = []
    table = "Longstaff-Schwartz, table 1"
    for spot, volatility, years, expected in ((36.0, 0.2, 1, 4.478), (40.0, 0.4, 1, 5.312), (44.0, 0.2, 2, 1.690)):
        option = Option("american", "put", 40.0, 50 * years)
        spec = _spec(option, paths // 2, seed, "antithetic+control", spot, 0.06, 0.0, volatility, float(years))
        what = f"American put, spot {spot:g}, volatility {volatility:.0%}, {years} y"
        rows.append(Finding(what, table, expected, *_priced(with_policy(spec)), 0.004 * expected, 5e-4))
    option = Option("american", "call", 100.0, 73)
    spec = _spec(option, paths // 2, seed, "antithetic+control", 100.0, 0.05, 0.08, 0.25)
    what = "American call, dividends 8%, 73 dates"
    rows.append(Finding(what, QUANTLIB, 8.400977, *_priced(with_policy(spec)), 0.004 * 8.4, 5e-6))
    return rows


def statistics_checks(paths: int, seed: int) -> list[Finding]:
    """Compare the tests of a backtest with published values; nothing is random here."""
    jorion = "Jorion, Value at Risk"
    return [
        Finding("Kupiec p, 17 of 250 days at 95%", "published", 0.2146, kupiec_p(233, 250, 0.95), 0.0, 5e-4, 5e-4),
        Finding("Kupiec ratio, 20 of 252 days at 95%", jorion, 3.91, likelihood_ratio(232, 20, 0.05), 0.0, 0.01, 0.01),
        Finding("at most 4 exceptions in 250 at 99%", "Basel, table 2", 0.8922, binomial_cdf(4, 250, 0.01), 0.0, 5e-5,
                5e-5),
        Finding("at most 9 exceptions in 250 at 99%", "Basel, table 2", 0.9997, binomial_cdf(9, 250, 0.01), 0.0, 5e-5,
                5e-5),
    ]  # fmt: skip


CHECKS: dict[str, Callable[[int, int], list[Finding]]] = {
    "forecasts": forecast_checks,
    "bits": talk_checks,
    "models": model_checks,
    "european options": european_checks,
    "path options": path_checks,
    "american options": american_checks,
    "backtest": statistics_checks,
}


def _spec(
    option: Option, paths: int, seed: int, method: str, spot: float = 100.0, rate: float = 0.03, dividend: float = 0.0,
    volatility: float = 0.2, years: float = 1.0,
) -> OptionSpec:  # fmt: skip
    step = years / option.steps
    model = GBM(0.0, volatility * math.sqrt(step))
    return OptionSpec(option, model, spot, rate * step, paths, seed, dividend * step, method)


def _priced(spec: OptionSpec) -> tuple[float, float]:
    found = price(spec, price_blocks(spec, 0, spec.n_blocks))
    return found.value, found.se


def _normal_cdf(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))
