from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from apps.metabolomics.science.region_statistics import region_statistics, separation
from tests.apps.metabolomics.image_sets import image_set

EVERYWHERE = np.arange(80, dtype=np.int32)
REGIONS = np.repeat([0, 3, 7, 9], [10, 30, 39, 1])


def drawn(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.lognormal(0, 1, (4, 80)) * (random.random((4, 80)) < 0.6)


def test_means_deviations_and_shares_are_over_all_pixels_of_a_region() -> None:
    dense = drawn()

    found = region_statistics(image_set(dense, EVERYWHERE), REGIONS)

    assert found.regions.tolist() == [3, 7, 9]
    assert found.n_pixels.tolist() == [30, 39, 1]
    for column, number in enumerate((3, 7)):
        part = dense[:, number == REGIONS]
        assert found.mean[:, column] == pytest.approx(part.mean(axis=1))
        assert found.deviation[:, column] == pytest.approx(part.std(axis=1, ddof=1))
        assert found.share[:, column] == pytest.approx((part > 0).mean(axis=1))
    assert np.isnan(found.deviation[:, 2]).all()


def test_a_bright_even_image_keeps_its_small_deviation() -> None:
    dense = 1e9 + np.tile([-1.0, 1.0], 40)[None, :]

    found = region_statistics(image_set(dense, EVERYWHERE), np.ones(80, dtype=np.int64))

    assert found.deviation[0, 0] == pytest.approx(np.sqrt(80 / 79), rel=1e-6)


def test_separation_is_the_chance_that_one_regions_pixel_is_brighter() -> None:
    dense = drawn(1)

    found = separation(image_set(dense, EVERYWHERE), REGIONS, 7, 3)

    expected = [mannwhitneyu(row[REGIONS == 7], row[REGIONS == 3]).statistic / (39 * 30) for row in dense]
    assert found == pytest.approx(expected)


def test_an_ion_in_one_region_alone_separates_it() -> None:
    dense = np.where(REGIONS == 3, 5.0, 0.0)[None, :]

    assert separation(image_set(dense, EVERYWHERE), REGIONS, 3, 7).tolist() == [1.0]
    assert separation(image_set(dense, EVERYWHERE), REGIONS, 7, 3).tolist() == [0.0]
    assert separation(image_set(np.zeros((1, 80)), EVERYWHERE), REGIONS, 7, 3).tolist() == [0.5]


def test_a_region_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="region 5 has no pixel"):
        separation(image_set(drawn(), EVERYWHERE), REGIONS, 3, 5)
