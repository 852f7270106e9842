"""Averages and free energies at every temperature from all samples: the multistate Bennett acceptance ratio."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from apps.protein_remd.history import History
from apps.protein_remd.science import statistics
from apps.protein_remd.science.units import BOLTZMANN
from core import ConfigError, FanfoldError


def installed() -> bool:
    """Whether there is pymbar."""
    return find_spec("pymbar") is not None


def estimated(history: History, begin: int, every: int) -> dict[str, Any]:
    """Return averages, free energies and their errors at each temperature, with what they rest on.

    Parameters
    ----------
    history : History
    begin, every : int
        Which rounds are taken.

    Raises
    ------
    ConfigError
        pymbar is missing.
    FanfoldError
        The temperatures overlap too little for a solution.

    Notes
    -----
    Source: Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008).
    """
    states = len(history.temperatures)
    reduced = history.reduced[:, begin::every]
    samples = reduced.shape[1]
    columns = reduced.transpose(0, 2, 1).reshape(states, -1)
    energies = history.potential[begin::every].T.reshape(-1)
    mbar = _solved(columns, np.full(states, samples))
    free = mbar.compute_free_energy_differences()
    mean = mbar.compute_expectations(energies)
    enthalpies = history.exchanged[begin::every].T.reshape(-1)
    centre = mbar.compute_expectations(enthalpies)["mu"]
    spread = mbar.compute_expectations((enthalpies - centre[:, None]) ** 2, state_dependent=True)
    log_weights = np.asarray(mbar.f_k)[:, None] - columns - _log_mixture(mbar, columns, samples)
    # Not by pymbar, which takes two states at least for this.
    overlap = [samples * float(np.exp(low + high).sum()) for low, high in pairwise(log_weights)]
    rows = [
        {
            "potential": float(mean["mu"][k]),
            "potential_error": float(mean["sigma"][k]),
            "heat_capacity": float(spread["mu"][k]) / (BOLTZMANN * t * t),
            "heat_capacity_error": float(spread["sigma"][k]) / (BOLTZMANN * t * t),
            "free_energy": float(free["Delta_f"][0, k]),
            "free_energy_error": float(free["dDelta_f"][0, k]),
            "effective_samples": statistics.kish(log_weights[k]),
        }
        for k, t in enumerate(history.temperatures)
    ]
    return {
        "states": rows,
        "error": max(row["free_energy_error"] for row in rows),
        "effective_samples": min(row["effective_samples"] for row in rows),
        "overlap": overlap,
    }


def _solved(columns: Any, counts: Any) -> Any:
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
