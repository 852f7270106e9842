"""Arithmetic whose result does not depend on grouping or on the processor.

Sums are kept as integers in units of 2**-40, so adding them is associative; the exponential uses only IEEE additions
and multiplications, where numpy's own picks one of several routines by processor.
"""

from __future__ import annotations

import numpy as np

from apps.montecarlo.models import FloatArray

UNIT_BITS = 40
"""Sums are integers in units of 2**-40 (1e-12): far below one standard error of any forecast."""
UNIT = 2.0**-UNIT_BITS
ROWS_PER_SUM = 4096
"""Longest row added in one go: its integer parts stay below 2**53 while values stay below `LARGEST`."""
LARGEST = 2.0**41

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693145751953125
"""ln 2 to 20 bits, so that its product with an exponent is exact."""
_LN2_LOW = 1.42860682030941723212e-6
_TAYLOR = tuple(1.0 / f for f in (6227020800.0, 479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0, 720.0))
_TAYLOR_LOW = (1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0)
"""1/13! ... 1/0!: on |r| <= ln(2)/2 the remainder is below 1e-17."""


def exponential(values: FloatArray) -> FloatArray:
    """Compute ``exp(values)`` to about one unit in the last place, with the same bits on every processor.

    Parameters
    ----------
    values : ndarray of float64, any shape

    Returns
    -------
    ndarray of float64, same shape
    """
    power = np.rint(values * _LOG2_E)
    rest = values - power * _LN2_HIGH
    rest -= power * _LN2_LOW
    result = np.full_like(rest, _TAYLOR[0])
    for coefficient in _TAYLOR[1:] + _TAYLOR_LOW:
        np.multiply(result, rest, out=result)
        np.add(result, coefficient, out=result)
    return np.ldexp(result, power.astype(np.int32))


def row_sums(values: FloatArray) -> list[int]:
    """Add each row of non-negative `values`, exactly, as integers in units of 2**-40.

    Parameters
    ----------
    values : ndarray of float64, shape (rows, n)
        Not negative; larger ones than `LARGEST` count as `LARGEST`.

    Returns
    -------
    list of int
        Each value is rounded to the unit once; the sums themselves are exact, so they may be added in any order.
    """
    totals = [0] * values.shape[0]
    for start in range(0, values.shape[1], ROWS_PER_SUM):
        part = np.minimum(values[:, start : start + ROWS_PER_SUM], LARGEST)
        whole = np.floor(part)
        part -= whole
        np.multiply(part, 2.0**UNIT_BITS, out=part)
        np.rint(part, out=part)
        # Both are sums of integers below 2**53: exact in float64 whatever the order numpy adds in.
        high, low = whole.sum(axis=1).tolist(), part.sum(axis=1).tolist()
        for row, (units, fraction) in enumerate(zip(high, low, strict=True)):
            totals[row] += (int(units) << UNIT_BITS) + int(fraction)
    return totals
