from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from apps.metabolomics.science.chaos import measure_of_chaos, measures_of_chaos
from tests.apps.metabolomics.reference import chaos_reference


def measure(image: NDArray[Any], **options: Any) -> float:
    pixels = np.flatnonzero(image).astype(np.int32)
    return measure_of_chaos(pixels, image.ravel()[pixels], image.shape[1], image.shape[0], **options)


def test_every_reference_image_has_exactly_its_measure(shared_data: Path) -> None:
    reference = np.load(shared_data / "chaos.npz")
    measures = [measure(reference[f"im{i}"]) for i in range(20)]

    # Where no object is left at any level the reference says 1, which means nothing and is 0 here.
    assert measures == [0.0 if expected == 1.0 else expected for expected in reference["moc"].tolist()]


@settings(deadline=None)
@given(
    arrays.arrays(
        np.float64,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 10.0, 29.0, 30.0, 0.1]),
    )
)
def test_the_sweep_counts_what_labelling_every_level_counts(image: NDArray[np.float64]) -> None:
    if image.any():
        assert measure(image) == chaos_reference(image)


@pytest.mark.parametrize("seed", range(30))
def test_the_sweep_counts_what_labelling_counts_on_larger_noisy_images(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 60, 2)
    image = random.random((height, width)) ** 3
    image[random.random((height, width)) < random.random()] = 0.0
    image[0, 0] = 1.0

    assert measure(image) == chaos_reference(image)
    assert measure(image.astype(np.float32)) == chaos_reference(image.astype(np.float32))


def test_pixels_may_come_in_any_order() -> None:
    random = np.random.default_rng(1)
    image = random.random((20, 30)) * (random.random((20, 30)) < 0.5)
    pixels = random.permutation(np.flatnonzero(image)).astype(np.int32)

    assert measure_of_chaos(pixels, image.ravel()[pixels], 30, 20) == measure(image)


def test_many_images_at_once_have_the_measures_of_each_alone() -> None:
    random = np.random.default_rng(2)
    images = [random.random((15, 9)) * (random.random((15, 9)) < share) for share in (0.1, 0.0, 0.9, 0.4)]
    pixels = [np.flatnonzero(image).astype(np.int32) for image in images]
    values = np.concatenate([image.ravel()[held] for image, held in zip(images, pixels, strict=True)])
    offsets = np.cumsum([0, *map(len, pixels)])

    together = measures_of_chaos(np.concatenate(pixels), values, offsets, 9, 15)

    assert together.tolist() == [measure(image) if image.any() else 0.0 for image in images]


def test_an_image_does_not_depend_on_empty_space_around_it_two_pixels_away() -> None:
    image = np.random.default_rng(3).random((10, 10))
    framed, wide = np.zeros((14, 14)), np.zeros((300, 400))
    framed[2:12, 2:12] = wide[150:160, 200:210] = image

    assert measure(framed) == measure(wide)


def test_a_row_of_the_image_has_no_neighbour_around_its_end() -> None:
    image = np.zeros((6, 6))
    image[1:3, 5] = image[2:4, 0] = 1.0

    assert measure(image) == chaos_reference(image)


@pytest.mark.parametrize("image", [np.zeros((5, 5)), np.diag([1.0, 0, 0, 0, 0])])
def test_an_image_without_an_object_has_no_measure(image: NDArray[np.float64]) -> None:
    assert measure(image) == 0.0


def test_a_large_smooth_image_of_one_object_is_not_taken_for_an_empty_one() -> None:
    image = np.ones((400, 400))

    assert measure(image) == 1.0 - 1.0 / 160_000
    assert measure(image, engine_compat=True) == 0.0


def test_the_engines_rule_changes_no_other_image() -> None:
    image = np.random.default_rng(4).random((30, 30))

    assert measure(image, engine_compat=True) == measure(image)


@pytest.mark.parametrize("levels", [1, 2, 30, 60])
def test_levels_can_be_fewer_or_more(levels: int) -> None:
    image = np.random.default_rng(5).random((25, 25))

    assert measure(image, levels=levels) == chaos_reference(image, levels)


@pytest.mark.parametrize(
    ("pixels", "values", "offsets"),
    [
        ([25], [1.0], [0, 1]),
        ([-1], [1.0], [0, 1]),
        ([3], [np.inf], [0, 1]),
        ([3], [np.nan], [0, 1]),
        ([3], [1.0], [0, 2]),
    ],
)
def test_what_is_no_image_of_the_grid_is_refused(pixels: list[int], values: list[float], offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="beyond the 5 x 5|offsets rise"):
        measures_of_chaos(np.array(pixels, np.int32), np.array(values), np.array(offsets), 5, 5)
