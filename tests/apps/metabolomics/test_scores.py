from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apps.metabolomics.science.scores import Scores, image, score_ions
from tests.apps.metabolomics.reference import images_reference, spatial_reference, spectral_reference

GRID = 24


def peaks(
    seed: int, count: int, dtype: type = np.float64
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    mz = np.sort(random.choice([100.0, 100.0001, 101.0, 102.0, 103.0], count) + random.normal(0, 2e-4, count))
    pixel = random.integers(0, GRID, count).astype(np.int32)
    return mz.astype(dtype), pixel, random.lognormal(3, 1, count).astype(np.float32)


def score(
    mz: NDArray[Any], pixel: NDArray[np.int32], intensity: NDArray[np.float32], theory: list[float], **options: Any
) -> Scores:
    centres = np.array([[100.0, 101.0, 102.0, 103.0]])[:, : len(theory)]
    low, high = centres - 3e-4, centres + 3e-4
    absent = np.array([theory]) == 0
    low[absent] = high[absent] = np.nan
    return score_ions(mz, pixel, intensity, low, high, np.array([theory]), GRID, GRID, **options)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 80), st.sampled_from([[100.0, 40.0, 9.0, 1.0], [30.0, 100.0, 5.0, 0.0]]))
def test_scores_are_those_of_dense_images(seed: int, count: int, theory: list[float]) -> None:
    mz, pixel, intensity = peaks(seed, count)
    weights = np.array(theory)
    images = np.array([images_reference(mz, pixel, intensity, c - 3e-4, c + 3e-4, GRID) for c in range(100, 104)])
    images[weights == 0] = 0.0

    found = score(mz, pixel, intensity, theory)

    pixels = (images > 0).sum(axis=1)
    usable = bool(pixels[0] and pixels[1:].any())
    assert found.usable[0] == usable
    assert found.n_pixels[0].tolist() == pixels.tolist()
    assert found.total[0] == pytest.approx(images.sum(axis=1))
    assert found.maximum[0] == pytest.approx(images.max(axis=1))
    assert found.minimum[0] == pytest.approx(
        [held[held > 0].min(initial=np.inf) if held.any() else 0 for held in images]
    )
    sampled = np.ones(GRID, dtype=bool)
    assert found.spectral[0] == pytest.approx(spectral_reference(images, weights) if usable else 0.0, abs=1e-12)
    assert found.spatial[0] == pytest.approx(spatial_reference(images, weights, sampled) if usable else 0.0, abs=1e-12)


def test_correlations_are_over_sampled_pixels_alone() -> None:
    mz, pixel, intensity = peaks(5, 60)
    pixel = (pixel // 2).astype(np.int32)
    sampled = np.arange(GRID) < GRID // 2
    centres = np.array([[100.0, 101.0, 102.0, 103.0]])
    theory = np.array([[100.0, 40.0, 9.0, 1.0]])

    found = score_ions(mz, pixel, intensity, centres - 3e-4, centres + 3e-4, theory, GRID, int(sampled.sum()))

    images = np.array([images_reference(mz, pixel, intensity, c - 3e-4, c + 3e-4, GRID) for c in range(100, 104)])
    assert found.spatial[0] == pytest.approx(spatial_reference(images, theory[0], sampled), abs=1e-12)


def test_smooth_images_keep_their_correlation_to_the_last_digits() -> None:
    pixel = np.tile(np.arange(GRID, dtype=np.int32), 2)
    mz = np.repeat([100.0, 101.0], GRID)
    wave = np.sin(np.arange(GRID))
    intensity = np.concatenate([1e6 + wave, 2e6 + 0.5 * wave]).astype(np.float32)

    found = score(mz, pixel, intensity, [100.0, 50.0])

    expected = np.corrcoef(intensity[:GRID].astype(float), intensity[GRID:].astype(float))[0, 1]
    assert found.spatial[0] == pytest.approx(expected, abs=1e-9)


def test_singles_are_compared_with_windows_as_the_numbers_they_are() -> None:
    mz, pixel, intensity = peaks(7, 80, np.float32)

    single, double = (score(held, pixel, intensity, [100.0, 40.0]) for held in (mz, mz.astype(np.float64)))

    assert (single.spatial[0], single.spectral[0]) == (double.spatial[0], double.spectral[0])
    assert (single.n_pixels == double.n_pixels).all()


def test_both_ends_of_a_window_are_inside() -> None:
    mz = np.array([99.0, 100.0, 101.0, 101.5])
    low, high = np.array([[99.0, 101.0]]), np.array([[100.0, 101.5]])

    found = score_ions(
        mz, np.arange(4, dtype=np.int32), np.ones(4, dtype=np.float32), low, high, np.array([[1.0, 1.0]]), 4, 4
    )

    assert found.n_pixels.tolist() == [[2, 2]]


def test_both_ends_of_the_window_of_an_image_are_inside() -> None:
    mz = np.array([99.0, 100.0, 101.0, 101.5])

    pixels, _ = image(mz, np.arange(4, dtype=np.int32), np.ones(4, dtype=np.float32), 100.0, 101.0)

    assert pixels.tolist() == [1, 2]


def test_a_perfect_pattern_counts_as_none_as_in_the_engine() -> None:
    found = score(np.array([100.0]), np.array([3], dtype=np.int32), np.ones(1, dtype=np.float32), [100.0, 0.0])
    assert found.usable.tolist() == [False]

    mz, pixel = np.array([100.0, 101.0]), np.array([3, 3], dtype=np.int32)
    perfect = score(mz, pixel, np.array([4.0, 4.0], dtype=np.float32), [100.0, 100.0])
    assert perfect.usable.tolist() == [True]
    assert perfect.spectral.tolist() == [0.0]


def test_an_image_of_one_pixel_has_no_spatial_score() -> None:
    mz, pixel = np.array([100.0, 101.0]), np.array([3, 3], dtype=np.int32)

    found = score(mz, pixel, np.array([4.0, 1.0], dtype=np.float32), [100.0, 40.0])

    assert found.spatial.tolist() == [0.0]
    assert found.spectral[0] > 0.8


def test_images_below_the_least_number_of_pixels_count_as_empty() -> None:
    mz = np.repeat([100.0, 101.0, 102.0], [6, 5, 2])
    pixel = np.concatenate([np.arange(6), np.arange(5), np.arange(2)]).astype(np.int32)
    intensity = np.arange(1, 14, dtype=np.float32)

    with_two, without = (
        score(mz[:size], pixel[:size], intensity[:size], [100.0, 40.0, 9.0], min_px=3) for size in (13, 11)
    )

    assert with_two.spatial == without.spatial
    assert with_two.spectral == without.spectral
    assert not score(mz, pixel, intensity, [100.0, 40.0, 9.0], min_px=7).usable[0]


def test_the_mean_mz_is_weighted_by_intensity() -> None:
    mz, pixel = np.array([99.9999, 100.0001, 101.0]), np.array([1, 2, 1], dtype=np.int32)

    found = score(mz, pixel, np.array([3.0, 1.0, 1.0], dtype=np.float32), [100.0, 40.0, 9.0])

    assert found.mean_mz[0, :2] == pytest.approx([99.99995, 101.0], abs=1e-10)
    assert np.isnan(found.mean_mz[0, 2])


def test_an_ion_does_not_depend_on_those_beside_it() -> None:
    mz, pixel, intensity = peaks(9, 80)
    centres = np.array([[100.0, 101.0], [101.0, 102.0], [100.0, 101.0], [102.0, 103.0]])
    theory = np.full((4, 2), 50.0) - [0.0, 20.0]

    found = score_ions(mz, pixel, intensity, centres - 3e-4, centres + 3e-4, theory, GRID, GRID)

    assert found.spatial[0] == found.spatial[2] != found.spatial[1]
    assert (found.n_pixels[0] == found.n_pixels[2]).all()


def test_a_peak_beyond_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="pixel 24"):
        score(np.array([100.0]), np.array([GRID], dtype=np.int32), np.ones(1, dtype=np.float32), [1.0, 1.0])


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 60))
def test_an_image_is_its_pixels_each_once_in_order(seed: int, count: int) -> None:
    mz, pixel, intensity = peaks(seed, count)

    pixels, values = image(mz, pixel, intensity, 99.9999, 100.0002)

    dense = images_reference(mz, pixel, intensity, 99.9999, 100.0002, GRID)
    assert pixels.tolist() == np.flatnonzero(dense).tolist()
    assert values == pytest.approx(dense[dense > 0])
    assert (pixels.dtype, values.dtype) == (np.int32, np.float64)


def test_peaks_that_are_not_sorted_are_refused() -> None:
    mz, pixel, intensity = peaks(1, 20)

    with pytest.raises(ValueError, match="not sorted"):
        score(mz[::-1], pixel, intensity, [100.0, 40.0])


def test_arrays_that_do_not_fit_are_refused() -> None:
    mz, pixel, intensity = peaks(1, 20)

    with pytest.raises(ValueError, match="one length"):
        score(mz, pixel[:-1], intensity, [100.0, 40.0])
