"""Ladders of temperatures."""

from __future__ import annotations

from collections.abc import Callable

from apps.protein_remd.science.prediction import gaussian_acceptance

LONGEST = 512
"""Temperatures of a ladder at most."""


def geometric(lowest: float, highest: float, count: int) -> tuple[float, ...]:
    """Return `count` temperatures in K with a constant ratio; the ends are what was given, to the bit."""
    if count == 1:
        return (lowest,)
    ratio = highest / lowest
    inner = (lowest * ratio ** (step / (count - 1)) for step in range(1, count - 1))
    return (lowest, *inner, highest)


def by_acceptance(
    lowest: float,
    highest: float,
    target: float,
    mean: Callable[[float], float],
    variance: Callable[[float], float],
) -> tuple[float, ...]:
    """Return temperatures whose neighbours swap with one predicted acceptance, at least the one that is aimed at.

    Parameters
    ----------
    lowest, highest : float
        K; both are of the ladder.
    target : float
        Acceptance, between 0 and 1.
    mean, variance : callable
        Of the potential energy in kJ/mol at a temperature in K; the mean must rise.

    Raises
    ------
    ValueError
        More than `LONGEST` temperatures would be needed.
    """
    from scipy.optimize import brentq  # here, since the flags need this module and scipy takes 0.2 s

    def climb(wanted: float) -> list[float]:
        rungs = [lowest]
        while rungs[-1] < highest and len(rungs) <= LONGEST:
            rungs.append(next_above(rungs[-1], wanted))
        return rungs

    def next_above(temperature: float, wanted: float) -> float:
        def miss(above: float) -> float:
            energies = (mean(temperature), mean(above), variance(temperature), variance(above))
            return gaussian_acceptance(temperature, above, *energies) - wanted

        # Never beyond the highest: what is known of the energies ends there.
        return highest if miss(highest) >= 0.0 else float(brentq(miss, temperature, highest))

    if not lowest < highest:
        return (lowest,)
    count = len(climb(target))
    if count > LONGEST:
        raise ValueError(f"more than {LONGEST} temperatures would be needed for an acceptance of {target}")
    # The last step is shorter than the others: raise what all have until it is as long.
    least, most = target, 1.0 - 1e-9
    for _ in range(60):
        middle = 0.5 * (least + most)
        least, most = (middle, most) if len(climb(middle)) <= count else (least, middle)
    return tuple(climb(least))


def interpolated(temperatures: list[float], values: list[float]) -> Callable[[float], float]:
    """Return a function that goes through measured values: a straight line, or a parabola from three on."""
    import numpy as np  # here, like scipy above

    degree = min(2, len(temperatures) - 1)
    fitted = np.polynomial.Polynomial.fit(temperatures, values, degree)
    return lambda temperature: float(fitted(temperature))
