"""Whether the averages of a campaign can be believed: what is measured, and a verdict with what would help."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from apps._frame.tables import counted
from apps.protein_remd import mbar
from apps.protein_remd.history import FloatArray, History, predicted_acceptances
from apps.protein_remd.science import statistics
from apps.protein_remd.science.units import BOLTZMANN, beta
from apps.protein_remd.until import FIRST
from core import ConfigError, FanfoldError

RARE = 0.05
"""Acceptance below which a pair is a bottleneck."""
UNLIKELY = 0.05
"""Chance of as few swaps at that acceptance, below which a pair is one although its energies do not say so."""
FALSE_ALARMS = 0.01
"""Of campaigns whose halves differ by chance alone, how many are to be told so."""
LEAST_SAMPLES = 50
"""Independent samples that an average at any temperature should be worth: its error is then a seventh of the spread."""
RELAXATIONS = 10.0
"""Relaxation times of the walk over temperatures that a campaign should last."""
TO_RUN = 2.0
"""Times as many rounds are advised where nothing says how many it takes, and at least."""
MOST_ENERGIES, LEAST_ROUNDS = 2_000_000, 200
"""Reduced potentials that MBAR gets, of rounds that are evenly spaced, and rounds all the same: 16 MB, of which pymbar
makes some 250 MB of its own."""
FAR = 100.0
"""Times the rounds so far beyond which no number is advised: it would rest on too little."""


def measured(history: History, discard: int | None = None, *, by_mbar: bool = True) -> dict[str, Any]:
    """Return the measures of a history's convergence, see ``until.MEASURES``, with averages and checks.

    Parameters
    ----------
    history : History
        Of at least ``until.FIRST`` rounds.
    discard : int, optional
        Rounds at the beginning that are left out; by default as many as leave the most independent ones.
    by_mbar : bool
        Estimate by MBAR too.

    Raises
    ------
    ConfigError
        pymbar is missing, or nothing is left.
    FanfoldError
        The temperatures overlap too little for a solution.
    """
    states = len(history.temperatures)
    diagonal = history.exchanged @ np.array([beta(t) for t in history.temperatures])
    begin, inefficiency = statistics.equilibration(diagonal)
    if discard is not None:
        begin = discard
        if begin > history.rounds - FIRST:
            raise ConfigError(f"--discard {discard} leaves fewer than {FIRST} of {history.rounds} rounds")
        inefficiency = statistics.statistical_inefficiency(diagonal[begin:])
    most = max(LEAST_ROUNDS, MOST_ENERGIES // states**2)
    every = max(1, math.ceil(inefficiency), math.ceil((history.rounds - begin) / most))
    halves = _halves(history, begin)
    matrix = statistics.transition_matrix(history.state_of, states)
    found: dict[str, Any] = {
        "rounds": history.rounds,
        "discarded": begin,
        "every": every,
        "samples": len(range(begin, history.rounds, every)) * states,
        "states": [{"temperature": t, **halves[k]} for k, t in enumerate(history.temperatures)],
        "round_trips": int(statistics.round_trips(history.state_of, states).sum()),
        "second_eigenvalue": statistics.second_eigenvalue(matrix),
        "halves": float(np.max([row["halves_differ_by_errors"] for row in halves])),
    }
    if by_mbar:
        estimates = mbar.estimated(history, begin, every)
        found |= {name: estimates[name] for name in ("error", "effective_samples", "overlap")}
        for row, more in zip(found["states"], estimates["states"], strict=True):
            row |= more
    return found | assessed(history, found)


def _halves(history: History, begin: int) -> list[dict[str, Any]]:
    """Return mean energy and heat capacity of each half at each temperature, and how many errors they are apart."""
    rows = []
    for k, t in enumerate(history.temperatures):
        energy = [statistics.mean_and_error(part) for part in _halved(history.potential[begin:, k])]
        # Of each half about its own mean: what a drift adds to the spread is no heat capacity.
        spreads = [(part - part.mean()) ** 2 / (BOLTZMANN * t * t) for part in _halved(history.exchanged[begin:, k])]
        capacity = [statistics.mean_and_error(spread) for spread in spreads]
        rows.append(
            {
                "halves_potential": [value for value, _ in energy],
                "halves_heat_capacity": [value for value, _ in capacity],
                "halves_differ_by_errors": max(_apart(*energy), _apart(*capacity)),
            }
        )
    return rows


def _halved(series: FloatArray) -> tuple[FloatArray, FloatArray]:
    return series[: len(series) // 2], series[len(series) // 2 :]


def _apart(first: tuple[float, float], second: tuple[float, float]) -> float:
    return abs(first[0] - second[0]) / max(math.hypot(first[1], second[1]), 1e-300)


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold before averages are believed, what was found, and how many rounds it takes, if that helps."""

    name: str
    ok: bool
    found: str
    rounds: float | None


def assessed(history: History, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checks of a history by its measures, whether all hold, and the verdict in a sentence."""
    checks = _checks(history, found)
    failed = [check for check in checks if not check.ok]
    return {
        "checks": [{"name": check.name, "ok": check.ok, "found": check.found} for check in checks],
        "converged": not failed,
        "verdict": _sentence(history.rounds, failed, "overlap" in found or "unsolved" in found),
    }


def is_bottleneck(accepted: int, attempted: int, predicted: float, rounds: int) -> bool:
    """Whether a pair swaps too rarely, by its energies or beyond chance; a few attempts without a swap say nothing."""
    if not attempted or accepted >= RARE * attempted:
        return False
    by_energies = rounds >= FIRST and predicted < RARE
    return by_energies or statistics.at_most(accepted, attempted, RARE) < UNLIKELY


def _swap_check(history: History) -> Check:
    """Return whether every pair swaps; where too few attempts are the reason, how many rounds would tell."""
    predicted = predicted_acceptances(history, history.temperatures)
    pairs = [
        (int(history.accepted[k, k + 1]), int(history.attempted[k, k + 1]), predicted[k]) for k in range(len(predicted))
    ]
    accepted, attempted, _ = min(pairs, key=lambda pair: pair[0] / max(1, pair[1]))
    least = accepted / max(1, attempted)
    found = f"{least:.1%} of {counted(attempted, 'attempt')} at least"
    stuck = any(is_bottleneck(*pair, history.rounds) for pair in pairs)
    telling = math.log(UNLIKELY) / math.log1p(-RARE) * history.rounds / max(1, attempted)
    return Check("every pair swaps", least >= RARE, found, None if stuck else telling)


def _checks(history: History, found: Mapping[str, Any]) -> list[Check]:
    states, rounds = len(history.temperatures), history.rounds
    apart, most = found["halves"], most_errors(2 * states)
    checks = [
        Check("the halves of the run agree", apart <= most, f"{apart:.1f} standard errors apart at most", 2 * rounds)
    ]
    if "effective_samples" in found:
        worth = found["effective_samples"]
        enough = f"{worth:,.0f} independent samples at least, of {LEAST_SAMPLES} needed"
        needed = rounds * LEAST_SAMPLES / max(worth, 1.0)
        checks.append(Check("there are enough samples", worth >= LEAST_SAMPLES, enough, needed))
    if found.get("unsolved"):
        checks.append(Check("MBAR has a solution", False, "none for these energies", None))
    if states == 1:
        return checks
    checks.append(_swap_check(history))
    if "overlap" in found:
        overlap = min(found["overlap"])
        shown = f"{overlap:.3f} at least, of {mbar.LEAST_OVERLAP} needed"
        checks.append(Check("neighbours overlap", overlap >= mbar.LEAST_OVERLAP, shown, None))
    trips = found["round_trips"]
    needed = rounds * states / trips if trips else 2 * TO_RUN * rounds
    checks.append(Check("replicas travel", trips >= states, f"{trips} round trips by {states} replicas", needed))
    relaxation = statistics.relaxation(found["second_eigenvalue"])
    mixed = f"{relaxation:,.3g} rounds to relax, and {rounds:,} were run"
    checks.append(Check("temperatures mix", rounds >= RELAXATIONS * relaxation, mixed, RELAXATIONS * relaxation))
    return checks


def most_errors(comparisons: int) -> float:
    """Return the standard errors by which some values may differ by chance; the more are compared, the more."""
    return NormalDist().inv_cdf(1.0 - FALSE_ALARMS / (2 * comparisons))


def _sentence(rounds: int, failed: list[Check], by_mbar: bool) -> str:
    how = "" if by_mbar else ", as far as can be told without MBAR"
    if not failed:
        return f"Converged by every check after {counted(rounds, 'round')}{how}."
    names = ", ".join(f"'{check.name}' does not hold ({check.found})" for check in failed)
    if any(check.rounds is None for check in failed):
        helps = "more temperatures, or a lower highest one, would help: 'ladder' proposes a ladder"
    else:
        needed = max(TO_RUN * rounds, *(check.rounds or 0.0 for check in failed))
        helps = "more rounds would help"
        if needed < FAR * rounds:
            helps += f", about {_rounded_up(needed):,} in all"
    return f"Not converged after {counted(rounds, 'round')}{how}: {names}; {helps}."


def _rounded_up(number: float) -> int:
    """Return the next number with at most two digits that are not 0."""
    unit: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit


def final(history: History) -> dict[str, Any] | None:
    """Return the measures of a history, as far as they can be had; None of one that is too short."""
    if history.rounds < FIRST:
        return None
    try:
        return measured(history, by_mbar=mbar.installed())
    except FanfoldError:
        found = measured(history, by_mbar=False) | {"unsolved": True}
        return found | assessed(history, found)
