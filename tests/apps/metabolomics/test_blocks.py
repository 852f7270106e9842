"""Blocks of ions of equal work, from counts by m/z alone."""

from __future__ import annotations

import numpy as np

from apps.metabolomics import blocks, runs


def counts(mz: np.ndarray) -> np.ndarray:
    return np.bincount(runs.bin_of(mz), minlength=runs.BINS)


def test_touches_are_foretold_from_the_bins():
    rng = np.random.default_rng(1)
    peaks, ions = rng.uniform(100, 900, 400_000), rng.uniform(150, 700, 300)

    touches, _ = blocks.expected_touches(counts(peaks), ppm=20.0, n_peaks=4, charge=1)

    windows = (ions[:, None] + np.arange(4) * blocks.STEP).ravel()
    met = np.searchsorted(np.sort(peaks), windows * (1 + 20e-6)) - np.searchsorted(
        np.sort(peaks), windows * (1 - 20e-6)
    )
    assert abs(touches[runs.bin_of(ions)].sum() / met.sum() - 1) < 0.05


def test_every_ion_is_in_one_block():
    rng = np.random.default_rng(2)
    peaks, ions = rng.uniform(100, 900, 200_000), np.append(rng.uniform(150, 700, 50_000), [3.0, 1e6])

    found = blocks.blocks_of(counts(peaks), counts(ions), 3.0, 4, 1)

    inside = sum(((ions >= block.low) & (ions < block.high)).astype(int) for block in found)
    assert len(found) > 4
    assert (inside == 1).all()


def test_blocks_are_narrow_where_the_dataset_is_dense():
    peaks = np.zeros(runs.BINS, np.int64)
    ions = np.zeros(runs.BINS, np.int64)
    where = runs.bin_of(np.linspace(200, 210, 2000))
    peaks[where], ions[where] = 4_000_000, 50

    found = blocks.blocks_of(peaks, ions, 3.0, 4, 1)

    _, strips = blocks.expected_touches(peaks, 3.0, 4, 1)
    assert len(found) > 100
    for block in found:
        first, last = runs.bin_of(np.array([block.low, np.nextafter(block.high, 0)]))
        assert first == last or strips[first : last + 1][ions[first : last + 1] > 0].sum() <= blocks.BLOCK_PEAKS


def test_no_ion_is_no_block():
    assert blocks.blocks_of(np.ones(runs.BINS, np.int64), np.zeros(runs.BINS, np.int64), 3.0, 4, 1) == []
