from __future__ import annotations

import numpy as np
import pytest

from apps.metabolomics.science.segmentation import principal_components, scaled, segment
from tests.apps.metabolomics.image_sets import image_set

SIZES = (50, 90, 160)
TRUTH = np.repeat([0, 1, 2], SIZES)
EVERYWHERE = np.arange(300, dtype=np.int32)


def tissue(seed: int = 0) -> np.ndarray:
    """Draw images of twelve ions, four in each of three parts."""
    random = np.random.default_rng(seed)
    level = np.where(np.arange(12)[:, None] % 3 == TRUTH, 20.0, 2.0)
    return np.asarray(level * random.lognormal(0, 0.3, (12, 300)))


def test_parts_with_ions_of_their_own_are_found_the_largest_first() -> None:
    labels = segment(image_set(tissue(), EVERYWHERE), 3)

    assert labels.tolist() == np.repeat([3, 2, 1], SIZES).tolist()


def test_the_same_seed_gives_the_same_segments() -> None:
    images = image_set(tissue(1) * np.random.default_rng(2).lognormal(0, 1, (12, 300)), EVERYWHERE)

    assert (segment(images, 5, seed=4) == segment(images, 5, seed=4)).all()


def test_one_hot_pixel_does_not_make_a_segment_of_its_own() -> None:
    dense = tissue(3)
    dense[0, 7] = 1e9

    assert np.bincount(segment(image_set(dense, EVERYWHERE), 3))[1:].tolist() == [160, 90, 50]


def test_pixels_that_do_not_differ_are_one_segment() -> None:
    assert set(segment(image_set(np.ones((2, 300)), EVERYWHERE), 4)) == {1}


@pytest.mark.parametrize("segments", [0, 301])
def test_segments_that_cannot_be_made_are_refused(segments: int) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        segment(image_set(tissue(), EVERYWHERE), segments)


def test_no_images_make_no_segments() -> None:
    with pytest.raises(ValueError, match="0 ion images"):
        segment(image_set(np.zeros((1, 300)), EVERYWHERE).__class__(*_nothing()), 2)


def _nothing() -> tuple[np.ndarray, ...]:
    return np.zeros(0, np.int32), np.zeros(0), np.zeros(1, np.int64), EVERYWHERE


def test_components_keep_distances_between_pixels() -> None:
    dense = tissue(5)
    images = image_set(dense, EVERYWHERE)

    projected = principal_components(images, most=12)

    centred = dense.T - dense.mean(axis=1)
    assert projected @ projected.T == pytest.approx(centred @ centred.T, abs=1e-6)


def test_images_are_scaled_to_their_99th_percentile() -> None:
    dense = tissue(6)

    values = scaled(image_set(dense, EVERYWHERE)).image(3)

    assert values.max() == 1.0
    assert values == pytest.approx(np.sqrt(np.minimum(dense[3] / np.quantile(dense[3], 0.99), 1.0)))
