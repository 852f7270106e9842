"""``analyze``: averages and free energies at every temperature from all samples, and whether they can be believed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from apps._frame import Session
from apps._frame.tables import TextTable, facts_text
from apps.protein_remd.history import History, read_history
from apps.protein_remd.params import AnalyzeParams
from apps.protein_remd.reading import run_params
from apps.protein_remd.result import RARE
from apps.protein_remd.science import statistics
from core import ConfigError, FanfoldError, InputError, open_storage

FEWEST = 10
"""Rounds below which there is nothing to analyse."""
LEAST_OVERLAP = 0.03
"""Of neighbours in the overlap matrix.

Source: Klimovich, Shirts and Mobley, J. Comput.-Aided Mol. Des. 29, 397 (2015).
"""
MOST_ERRORS = 3.0
"""Standard errors by which the halves of a campaign may differ."""


def analyze(session: Session, params: AnalyzeParams) -> None:
    """Estimate energies and free energies by MBAR, and say how far they can be believed."""
    run_params(params.run)
    history = read_history(open_storage(params.run))
    if history.rounds < FEWEST:
        raise InputError(f"run {params.run} has {history.rounds} rounds; at least {FEWEST} can be analysed")
    figures = analysed(history, params.discard)
    session.show(figures, text)


def analysed(history: History, discard: int | None) -> dict[str, Any]:
    """Return what MBAR makes of a history.

    Parameters
    ----------
    history : History
    discard : int, optional
        Rounds at the beginning that are left out; by default as many as leave the most independent ones.

    Raises
    ------
    ConfigError
        pymbar is missing, or nothing is left.
    FanfoldError
        The temperatures overlap too little for a solution.
    """
    states = len(history.temperatures)
    diagonal = np.stack([history.reduced[k, :, k] for k in range(states)]).sum(axis=0)
    begin, inefficiency = statistics.equilibration(diagonal)
    if discard is not None:
        begin = discard
        if begin > history.rounds - FEWEST:
            raise ConfigError(f"--discard {discard} leaves fewer than {FEWEST} of {history.rounds} rounds")
        inefficiency = statistics.statistical_inefficiency(diagonal[begin:])
    every = max(1, math.ceil(inefficiency))
    reduced = history.reduced[:, begin::every]
    samples = reduced.shape[1]
    columns = reduced.transpose(0, 2, 1).reshape(states, -1)
    energies = history.potential[begin::every].T.reshape(-1)
    mbar = _mbar(columns, np.full(states, samples))
    free = mbar.compute_free_energy_differences()
    mean = mbar.compute_expectations(energies)
    overlap = mbar.compute_overlap()["matrix"]
    log_weights = np.asarray(mbar.f_k)[:, None] - columns - _log_mixture(mbar, columns, samples)
    halves = _halves(history, begin)
    rows = [
        {
            "temperature": t,
            "potential": float(mean["mu"][k]),
            "potential_error": float(mean["sigma"][k]),
            "free_energy": float(free["Delta_f"][0, k]),
            "free_energy_error": float(free["dDelta_f"][0, k]),
            "effective_samples": statistics.kish(log_weights[k]),
            "halves_differ_by_errors": halves[k],
        }
        for k, t in enumerate(history.temperatures)
    ]
    neighbours = [float(overlap[k, k + 1]) for k in range(states - 1)]
    figures: dict[str, Any] = {
        "rounds": history.rounds,
        "discarded": begin,
        "every": every,
        "samples": samples * states,
        "states": rows,
        "overlap": neighbours,
        "round_trips": statistics.round_trips(history.state_of, states).tolist(),
        "second_eigenvalue": statistics.second_eigenvalue(statistics.transition_matrix(history.state_of, states)),
    }
    checks = _verdict(history, figures)
    return {**figures, "checks": checks, "converged": all(check["ok"] for check in checks)}


def _mbar(columns: Any, counts: Any) -> Any:
    # It recommends other packages whenever it is imported.
    logging.getLogger("pymbar").setLevel(logging.ERROR)
    try:
        from pymbar import MBAR
        from pymbar.utils import ParameterError
    except ImportError:
        raise ConfigError("analyze needs pymbar: pip install 'fanfold[remd]'") from None
    try:
        return MBAR(columns, counts, solver_protocol="robust")
    except ParameterError:
        raise FanfoldError(
            "MBAR finds no free energies: neighbouring temperatures overlap too little, or there are too few rounds; "
            "'ladder' proposes a closer ladder"
        ) from None


def _log_mixture(mbar: Any, columns: Any, samples: int) -> Any:
    """Return the logarithm of the mixture that all samples together were drawn from."""
    parts = np.asarray(mbar.f_k)[:, None] - columns + np.log(samples)
    most = parts.max(axis=0)
    return most + np.log(np.exp(parts - most).sum(axis=0))


def _halves(history: History, begin: int) -> list[float]:
    energies = history.potential[begin:]
    middle = len(energies) // 2
    found = []
    for k in range(energies.shape[1]):
        first, second = (statistics.mean_and_error(part[:, k]) for part in (energies[:middle], energies[middle:]))
        found.append(abs(first[0] - second[0]) / max(math.hypot(first[1], second[1]), 1e-300))
    return found


def _verdict(history: History, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what must hold before averages are believed, each with what was found."""
    states = len(history.temperatures)
    tried = [int(history.attempted[k, k + 1]) for k in range(states - 1)]
    parts = [int(history.accepted[k, k + 1]) / max(1, tried[k]) for k in range(states - 1)]
    trips, apart = sum(found["round_trips"]), max(row["halves_differ_by_errors"] for row in found["states"])
    checks = [("the halves of the run agree", apart <= MOST_ERRORS, f"{apart:.1f} standard errors apart at most")]
    if states > 1:
        least = min(found["overlap"])
        checks += [
            ("every pair swaps", min(parts) >= RARE, f"{min(parts):.1%} at least"),
            ("neighbours overlap", least >= LEAST_OVERLAP, f"{least:.3f} at least, of {LEAST_OVERLAP} needed"),
            ("replicas travel", trips >= states, f"{trips} round trips by {states} replicas"),
        ]
    return [{"name": name, "ok": bool(ok), "found": what} for name, ok, what in checks]


def text(found: Mapping[str, Any]) -> str:
    """Lay an analysis out for a terminal."""
    rows = [
        (
            f"{row['temperature']:.6g}",
            f"{row['potential']:,.5g} ± {row['potential_error']:.2g}",
            f"{row['free_energy']:.4g} ± {row['free_energy_error']:.2g}",
            f"{row['effective_samples']:,.0f}",
        )
        for row in found["states"]
    ]
    table = TextTable("By MBAR, from all temperatures", ("T (K)", "U (kJ/mol)", "f", "samples worth"), rows).text()
    facts = [
        ("Rounds", f"{found['rounds']:,}, the first {found['discarded']:,} left out, every {found['every']:,} used"),
        *((("holds: " if check["ok"] else "NOT YET: ") + check["name"], check["found"]) for check in found["checks"]),
    ]
    verdict = "All checks hold." if found["converged"] else "Not converged: run more rounds, or mend the ladder."
    return "\n\n".join([table, facts_text(facts), verdict])
