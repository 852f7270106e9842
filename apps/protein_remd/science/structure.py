"""Secondary structure of peptides by their backbone angles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PHI = (-100.0, -30.0)
PSI = (-67.0, -7.0)
"""Degrees of an alpha helix."""
IN_A_ROW = 3
"""Residues that are a helix only together."""


def helix_fraction(phi: FloatArray, psi: FloatArray) -> FloatArray:
    """Return the part of the residues that are in an alpha helix, shape (frames,).

    Parameters
    ----------
    phi, psi : array, shape (frames, residues)
        Degrees.

    Notes
    -----
    Source: Best and Hummer, J. Phys. Chem. B 113, 9004 (2009): three in a row within bounds of phi and psi.
    """
    inside = (phi > PHI[0]) & (phi < PHI[1]) & (psi > PSI[0]) & (psi < PSI[1])
    if inside.shape[1] < IN_A_ROW:
        return np.zeros(len(inside))
    runs = np.lib.stride_tricks.sliding_window_view(inside, IN_A_ROW, axis=1).all(axis=2)
    helical = np.zeros_like(inside)
    for at in range(IN_A_ROW):
        helical[:, at : at + runs.shape[1]] |= runs
    fraction: FloatArray = helical.mean(axis=1)
    return fraction
