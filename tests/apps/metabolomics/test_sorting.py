from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from apps.metabolomics.science.sorting import BINS, bin_edges, bin_offsets, sort_peaks

near = st.floats(499.9999999999, 500.0000000001)
wide = st.floats(0.0, 1e300)


@settings(deadline=None)
@given(arrays.arrays(np.float64, st.integers(0, 60), elements=st.one_of(near, wide, st.sampled_from([0.0, 500.0]))))
def test_doubles_come_in_the_stable_order(mz: NDArray[np.float64]) -> None:
    assert sort_peaks(mz).tolist() == np.argsort(mz, kind="stable").tolist()


@settings(deadline=None)
@given(arrays.arrays(np.float32, st.integers(0, 60), elements=st.floats(0.0, 2**100, width=32)))
def test_singles_come_in_the_stable_order(mz: NDArray[np.float32]) -> None:
    assert sort_peaks(mz).tolist() == np.argsort(mz, kind="stable").tolist()


def test_a_million_peaks_of_many_equal_mz_come_in_the_stable_order() -> None:
    random = np.random.default_rng(0)
    mz = random.choice(random.uniform(50, 2000, 300_000), 1_000_000)
    mz[::7] = np.nextafter(mz[::7], np.inf)

    assert (sort_peaks(mz) == np.argsort(mz, kind="stable")).all()


def test_peaks_that_differ_beyond_the_bits_of_a_key_are_told_apart() -> None:
    mz = np.array([1e-300, 500.0, np.nextafter(500.0, 0), 500.0, 1e300])

    assert sort_peaks(mz).tolist() == [0, 2, 1, 3, 4]


def test_a_view_with_strides_is_sorted_as_its_copy() -> None:
    mz = np.random.default_rng(1).uniform(50, 2000, 1000)

    assert (sort_peaks(mz[::3]) == sort_peaks(mz[::3].copy())).all()


@pytest.mark.parametrize("value", [-1.0, -0.0, np.nan, np.inf])
def test_what_is_no_mz_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="negative or not a number"):
        sort_peaks(np.array([100.0, value]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_peak_is_in_the_bin_that_holds_its_mz(dtype: type) -> None:
    edges = bin_edges()
    mz = np.sort(np.concatenate([np.random.default_rng(2).uniform(0, 30_000, 500), edges[1:-1:50]]).astype(dtype))

    offsets = bin_offsets(mz, edges)

    assert (len(offsets), offsets[0], offsets[-1]) == (BINS + 1, 0, mz.size)
    for i in range(BINS):
        inside = mz[offsets[i] : offsets[i + 1]].astype(float)
        assert ((inside >= edges[i]) & (inside < edges[i + 1])).all()
