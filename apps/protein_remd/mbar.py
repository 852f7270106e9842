"""Averages and free energies at every temperature from all samples: the multistate Bennett acceptance ratio."""

from __future__ import annotations

import logging
import math
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from apps.protein_remd.history import History
from apps.protein_remd.science import statistics
from apps.protein_remd.science.units import BOLTZMANN
from core import ConfigError, FanfoldError

LEAST_OVERLAP = 0.03
"""Of neighbours in the overlap matrix.

Source: Klimovich, Shirts and Mobley, J. Comput.-Aided Mol. Des. 29, 397 (2015).
"""

ITERATIONS = 1000
"""Of each solver: where there is a solution tens are enough, and pymbar's default of 10,000 takes minutes to find none.
Source: the "robust" protocol of pymbar 4, whose own number it overwrites."""


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
        There is no solution: the temperatures overlap too little, or the energies hardly differ.

    Notes
    -----
    Source: Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008).
    """
    # It recommends other packages whenever it is imported.
    logging.getLogger("pymbar").setLevel(logging.ERROR)
    try:
        from pymbar.utils import BoundsError, ConvergenceError, ParameterError
    except ImportError:
        raise ConfigError("analyze needs pymbar: pip install 'fanfold[remd]'") from None
    try:
        # A variance that rounding makes negative is no number, and is shown as none.
        with np.errstate(invalid="ignore"):
            return _estimated(history, begin, every)
    except (ParameterError, ConvergenceError, BoundsError, np.linalg.LinAlgError):
        raise FanfoldError(
            "MBAR finds no free energies: neighbouring temperatures overlap too little, or there are too few rounds; "
            "'ladder' proposes a closer ladder"
        ) from None


def _estimated(history: History, begin: int, every: int) -> dict[str, Any]:
    from pymbar import MBAR

    states = len(history.temperatures)
    reduced = history.reduced(begin, every)
    samples = reduced.shape[1]
    columns = reduced.transpose(0, 2, 1).reshape(states, -1)
    energies = history.potential[begin::every].T.reshape(-1)
    counts = np.full(states, samples)
    mbar = MBAR(columns, counts, solver_protocol="robust", maximum_iterations=ITERATIONS)
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
            # The estimate of a chain's error with a gap in it is no more than rounding.
            "free_energy_error": float(free["dDelta_f"][0, k])
            if min(overlap[:k], default=1.0) >= LEAST_OVERLAP
            else math.inf,
            "effective_samples": statistics.kish(log_weights[k]),
        }
        for k, t in enumerate(history.temperatures)
    ]
    return {
        "states": rows,
        # Not by max and min, which may pass over what is no number.
        "error": float(np.max([row["free_energy_error"] for row in rows])),
        "effective_samples": float(np.min([row["effective_samples"] for row in rows])),
        "overlap": overlap,
    }


def _log_mixture(mbar: Any, columns: Any, samples: int) -> Any:
    """Return the logarithm of the mixture that all samples together were drawn from."""
    parts = np.asarray(mbar.f_k)[:, None] - columns + np.log(samples)
    most = parts.max(axis=0)
    return most + np.log(np.exp(parts - most).sum(axis=0))
