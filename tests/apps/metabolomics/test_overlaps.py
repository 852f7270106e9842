from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from apps.metabolomics.science.overlaps import isobars, isomers


def pattern(first: float, peaks: int = 4) -> list[float]:
    return [first + 1.00336 * peak if peak < peaks else np.nan for peak in range(4)]


def test_ions_are_isobars_where_a_window_of_one_overlaps_one_of_the_other() -> None:
    mz = np.array([pattern(500.0), pattern(501.0034), pattern(500.02), pattern(502.5, 1), pattern(900.0)])

    assert isobars(mz, 3.0) == [(0, 1)]
    assert isobars(mz, 30.0) == [(0, 1), (0, 2), (1, 2)]


def test_windows_that_just_touch_overlap() -> None:
    low, high = 500.0 * (1 + 3e-6), 500.0 * (1 + 3e-6) / (1 - 3e-6)

    assert isobars(np.array([[500.0], [high]]), 3.0) == [(0, 1)]
    assert isobars(np.array([[500.0], [high * (1 + 1e-12)]]), 3.0) == []
    assert high * (1 - 3e-6) == low


def test_isomers_have_the_same_peaks_throughout() -> None:
    mz = np.array([pattern(500.0), pattern(500.0), pattern(500.0, 3), pattern(500.001)])

    assert isomers(mz, isobars(mz, 3.0)) == [(0, 1)]


def test_one_ion_and_none_have_no_isobars() -> None:
    assert isobars(np.array([pattern(500.0)]), 3.0) == []
    assert isobars(np.zeros((0, 4)), 3.0) == []


@given(st.lists(st.lists(st.floats(100.0, 100.01), min_size=2, max_size=2), max_size=12), st.floats(0.1, 20.0))
def test_isobars_are_those_that_every_pair_of_windows_gives(ions: list[list[float]], ppm: float) -> None:
    mz = np.array(ions).reshape(-1, 2)

    def overlap(one: float, two: float) -> bool:
        low, high = min(one, two), max(one, two)
        return low * (1.0 + ppm * 1e-6) / (1.0 - ppm * 1e-6) >= high

    expected = [
        (one, two)
        for one in range(len(mz))
        for two in range(one + 1, len(mz))
        if any(overlap(a, b) for a in mz[one] for b in mz[two])
    ]
    assert isobars(mz, ppm) == expected
