from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.science import images as images_module
from apps.metabolomics.science.colocalisation import colocalisation
from tests.apps.metabolomics.image_sets import image_set

EVERYWHERE = np.arange(60, dtype=np.int32)


@settings(deadline=None)  # the first example loads scipy
@given(st.integers(0, 1000), st.floats(0.1, 1.0))
def test_it_is_the_cosine_of_images_at_and_above_their_medians(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    dense = random.lognormal(0, 1, (4, 60)) * (random.random((4, 60)) < share)

    found = colocalisation(image_set(dense, EVERYWHERE))

    kept = np.where(dense >= np.median(dense, axis=1, keepdims=True), dense, 0.0)
    length = np.linalg.norm(kept, axis=1)
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(kept @ kept.T / np.outer(length, length))
    assert found == pytest.approx(expected, abs=1e-12)


def test_only_pixels_that_have_a_spectrum_make_the_median() -> None:
    dense = np.zeros((1, 60))
    dense[0, :10] = np.arange(1, 11)
    sampled = EVERYWHERE[:10]
    beside = np.zeros((1, 60))
    beside[0, :5] = 1.0

    whole = colocalisation(image_set(np.vstack([dense, beside]), EVERYWHERE))
    part = colocalisation(image_set(np.vstack([dense, beside]), sampled))

    assert whole[0, 1] > 0.0
    assert part[0, 1] == 0.0


def test_an_empty_image_is_like_none() -> None:
    found = colocalisation(image_set(np.vstack([np.zeros(60), np.ones(60)]), EVERYWHERE))

    assert found == pytest.approx(np.array([[0.0, 0.0], [0.0, 1.0]]))


def test_an_image_with_a_pixel_that_has_no_spectrum_is_refused() -> None:
    with pytest.raises(ValueError, match="no spectrum"):
        colocalisation(image_set(np.ones((1, 60)), EVERYWHERE[:59]))


def test_many_pixels_are_taken_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.random.default_rng(0).random((5, 60))
    whole = image_set(dense, EVERYWHERE)
    expected = whole.products()
    monkeypatch.setattr(images_module, "BLOCK", 37)  # seven pixels of five images

    parts = [block for _, block in whole.blocks()]

    assert {part.shape[1] for part in parts} == {7, 60 % 7}
    assert np.array_equal(np.hstack(parts), dense)
    assert np.allclose(whole.products(), expected)
