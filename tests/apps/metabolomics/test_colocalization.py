from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.metabolomics.science.colocalization import cosines, denoised, segments

MASK = np.ones((12, 12), bool)


def blob(x: float, y: float, size: float = 2.0) -> np.ndarray:
    rows, columns = np.indices((12, 12))
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))


def test_alike_images_have_a_cosine_of_one_and_those_apart_of_none() -> None:
    images = np.stack(
        [denoised(each, MASK) for each in (blob(3, 3), 7.0 * blob(3, 3), blob(9, 9, 1.0), 0.0 * blob(1, 1))]
    )

    found = cosines(images)

    assert found[0, 1] == pytest.approx(1.0)
    assert found[0, 2] < 0.1
    assert found[3].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_noise_below_the_median_and_lone_pixels_do_not_count() -> None:
    noisy = blob(6, 6) + np.where(np.indices((12, 12)).sum(axis=0) % 2, 0.0, 1e-3)
    noisy[0, 0] = 50.0

    assert denoised(noisy, MASK)[0] == 0.0
    assert cosines(np.stack([denoised(noisy, MASK), denoised(blob(6, 6), MASK)]))[0, 1] > 0.99


def test_pixels_without_a_spectrum_are_left_out() -> None:
    mask = MASK.copy()
    mask[:, 6:] = False

    assert denoised(blob(3, 3), mask).shape == (72,)


@given(st.integers(0, 2**32 - 1))
def test_cosines_are_symmetric_shares(seed: int) -> None:
    found = cosines(np.random.default_rng(seed).exponential(size=(4, 30)))

    assert np.allclose(found, found.T)
    assert np.allclose(np.diag(found), 1.0)
    assert ((found >= 0.0) & (found <= 1.0)).all()


def regions_of_two(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    kind = np.repeat([0, 1], [60, 40])
    rates = np.array([[50.0, 5.0, 20.0, 1.0], [5.0, 60.0, 20.0, 30.0]])
    return kind, rng.poisson(rates[kind]).astype(float)


def test_segments_are_the_regions_that_differ_the_largest_first() -> None:
    kind, intensities = regions_of_two(np.random.default_rng(5))

    assert (segments(intensities, 2) == kind + 1).all()


def test_segments_do_not_depend_on_the_scale_of_an_ion_and_repeat_with_their_seed() -> None:
    _, intensities = regions_of_two(np.random.default_rng(6))

    found = segments(intensities, 3, seed=4)

    assert (segments(intensities * [1.0, 1e4, 1e-3, 1.0], 3, seed=4) == found).all()
    assert (segments(intensities, 3, seed=4) == found).all()


def test_there_are_no_more_segments_than_kinds_of_pixels() -> None:
    assert segments(np.ones((10, 3)), 4).tolist() == [1] * 10
    assert segments(np.array([[1.0, 2.0]]), 5).tolist() == [1]
