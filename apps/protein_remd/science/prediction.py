"""How often swaps will be accepted."""

from __future__ import annotations

import math

from apps.protein_remd.science.units import beta


def harmonic_acceptance(degrees: float, t_lower: float, t_upper: float) -> float:
    """Return the mean acceptance of a swap between two sets of harmonic oscillators, exactly.

    Parameters
    ----------
    degrees : float
        Oscillators; for a molecule about as many as it has degrees of freedom.
    t_lower, t_upper : float
        K.

    Notes
    -----
    ``2 I_{T_lower/(T_lower + T_upper)}(f/2, f/2)``: each potential energy is gamma distributed. Source: Kofke, J. Chem.
    Phys. 117, 6911 (2002), with the erratum 120, 10852 (2004).
    """
    low, high = min(t_lower, t_upper), max(t_lower, t_upper)
    from scipy.special import betainc

    return float(2.0 * betainc(degrees / 2.0, degrees / 2.0, low / (low + high)))


def effective_degrees(degrees: float, water: bool) -> float:
    """Return how many harmonic oscillators hold as much potential energy as a molecule does.

    A box of water holds about twice as much as its degrees of freedom would. Source: GROMACS reference manual, "Replica
    exchange": c is 1 for harmonic potentials and around 2 for protein and water.
    """
    return 2.0 * degrees if water else degrees


def gaussian_acceptance(
    t_lower: float, t_upper: float, mean_lower: float, mean_upper: float, var_lower: float, var_upper: float
) -> float:
    """Return the mean acceptance of a swap if both potential energies are Gaussian.

    Parameters
    ----------
    t_lower, t_upper : float
        K.
    mean_lower, mean_upper, var_lower, var_upper : float
        Mean in kJ/mol and variance in (kJ/mol)**2 of the potential energy at either temperature.

    Notes
    -----
    The mean of ``min(1, exp(x))`` over a Gaussian x of mean m and deviation s is
    ``Phi(m/s) + exp(m + s**2/2) Phi(-s - m/s)``. Source: Rathore, Chopra and de Pablo, J. Chem. Phys. 122, 024111
    (2005).
    """
    from scipy.special import log_ndtr

    difference = beta(t_lower) - beta(t_upper)
    mean = difference * (mean_lower - mean_upper)
    deviation = abs(difference) * math.sqrt(var_lower + var_upper)
    if deviation == 0.0:
        return math.exp(min(0.0, mean))
    ratio = mean / deviation
    tail = mean + 0.5 * deviation**2 + float(log_ndtr(-deviation - ratio))
    return min(1.0, math.exp(float(log_ndtr(ratio))) + math.exp(min(0.0, tail)))
