"""Profiles told from centroids, and their peaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from apps.metabolomics.imzml import open_dataset, read_spectra
from apps.metabolomics.imzml.profile import is_profile, pick_peaks
from tests.apps.metabolomics.imzml_pairs import Pair, Peaks

CENTRES = np.array([200.1234, 200.4, 350.7501, 799.02])
HEIGHTS = np.array([5.0, 80.0, 1000.0, 3.0])


def gaussians(mz: np.ndarray, width: float = 2e-5) -> np.ndarray:
    return np.sum(HEIGHTS[:, None] * np.exp(-0.5 * ((mz - CENTRES[:, None]) / (width * CENTRES[:, None])) ** 2), axis=0)


def orbitrap_axis() -> np.ndarray:
    """Return m/z at even steps of frequency, as a Fourier transform has them."""
    return np.linspace(1 / np.sqrt(150.0), 1 / np.sqrt(900.0), 700_000)[::-1] ** -2


def test_peaks_of_gaussians_are_exact_on_an_uneven_axis() -> None:
    mz = np.sort(orbitrap_axis())
    intensity = gaussians(mz)

    centre, height = pick_peaks(mz, intensity)

    tall = height > 1.0
    assert centre[tall] == pytest.approx(CENTRES, rel=1e-9)
    assert height[tall] == pytest.approx(HEIGHTS, rel=1e-6)


def test_profiles_are_told_with_and_without_their_zeros() -> None:
    mz = np.sort(orbitrap_axis())
    intensity = np.where(gaussians(mz) > 0.01, gaussians(mz), 0.0)
    there = intensity > 0

    assert is_profile(mz, intensity) is True
    assert is_profile(mz[there], intensity[there]) is True
    assert is_profile(np.arange(500.0), np.ones(500)) is True


@pytest.mark.parametrize("count", [30, 300, 30_000])
def test_centroids_are_no_profile(count: int) -> None:
    generator = np.random.default_rng(count)
    mz = np.sort(generator.uniform(100, 1000, count))

    assert is_profile(mz, generator.lognormal(size=count)) is False


def test_few_points_tell_nothing() -> None:
    assert is_profile(np.arange(20.0), np.ones(20)) is None
    assert is_profile(np.arange(900.0), np.zeros(900)) is None


def test_flat_tops_edges_and_lone_points_are_peaks_once() -> None:
    intensity = np.array([5.0, 1.0, 0.0, 2.0, 2.0, 2.0, 1.0, 0.0, 7.0, 0.0, 1.0, 3.0])
    mz = 0.01 * np.arange(12.0) + 100

    centre, height = pick_peaks(mz, intensity)

    assert centre.round(2).tolist() == [100.0, 100.03, 100.08, 100.11]
    assert height == pytest.approx([5.0, 2.0, 7.0, 3.0])


def test_points_beyond_a_gap_are_of_another_peak() -> None:
    hill = [1.0, 2.0, 4.0, 8.0, 4.0, 2.0, 1.0]
    runs = [(0, hill), (100, [5.0, 9.0]), (200, [7.0]), (300, [6.5]), (400, hill), (430, [9.0, 5.0]), (500, hill)]
    mz = np.concatenate([100 + 0.01 * (start + np.arange(len(run))) for start, run in runs])

    centre, height = pick_peaks(mz, np.concatenate([run for _, run in runs]))

    assert centre == pytest.approx([100.03, 101.01, 102.0, 103.0, 104.03, 104.3, 105.03])
    assert height == pytest.approx([8.0, 9.0, 7.0, 6.5, 8.0, 9.0, 8.0])


def test_a_profile_of_which_what_is_low_was_cut_away_has_the_peaks_of_the_whole() -> None:
    generator = np.random.default_rng(4)
    mz = 200 * np.exp(np.arange(60_000) * 5e-6)
    centres, heights = mz[100::200] * (1 + generator.uniform(-2e-6, 2e-6, 300)), generator.lognormal(5, 1.5, 300)
    near = np.exp(-0.5 * ((mz[:, None] / centres - 1) / 7e-6) ** 2)
    intensity = near @ heights
    kept = intensity > 12
    assert is_profile(mz[kept], intensity[kept])

    centre, height = pick_peaks(mz[kept], intensity[kept])

    found = np.array([intensity[np.abs(mz / each - 1) < 1e-5].max() > 12 for each in centres])
    assert len(centre) == found.sum()
    assert np.abs(centre / centres[found] - 1).max() < 5e-6
    assert (height / heights[found]).max() < 1.001


def test_points_that_lie_too_far_apart_for_one_peak_are_peaks_each() -> None:
    mz = np.array([171.15, 186.96, 188.18, 190.06, 191.11, 196.08, 201.11, 205.08, 210.13])
    isotopes = 600.3 + 1.00335 * np.arange(6)
    linear = 10_000 + 0.9 * np.arange(9)  # a time-of-flight instrument without a reflector

    assert [each.tolist() for each in pick_peaks(mz, np.arange(9.0) + 1)] == [
        mz.tolist(),
        (np.arange(9.0) + 1).tolist(),
    ]
    assert pick_peaks(isotopes, np.array([2.0, 100.0, 70.0, 30.0, 8.0, 1.0]))[0].tolist() == isotopes.tolist()
    assert len(pick_peaks(linear, np.array([1.0, 2, 4, 8, 9, 8, 4, 2, 1]))[0]) == 1


def test_a_flat_profile_and_an_empty_one_have_no_peaks() -> None:
    assert [len(each) for each in pick_peaks(np.arange(9.0), np.zeros(9))] == [0, 0]
    assert [len(each) for each in pick_peaks(np.empty(0), np.empty(0))] == [0, 0]


def test_peaks_of_a_profile_dataset_are_picked_as_it_is_read(tmp_path: Path) -> None:
    mz = np.sort(orbitrap_axis())[::20]
    intensity = gaussians(mz, width=2e-4)
    backwards = np.argsort(-mz)
    spectra = [Peaks(1, 1, mz, intensity), Peaks(2, 1, mz[backwards], intensity[backwards]), Peaks(3, 1, mz, intensity)]
    spectra[2].intensity = np.where(np.arange(len(mz)) == 5, np.nan, intensity)
    path = Pair(spectra, content="").write(tmp_path)

    found = read_spectra(open_dataset(path, centroid=True), 0, 3)

    tall = found.intensity > 1.0
    assert found.mz[tall] == pytest.approx(np.tile(CENTRES, 3), rel=1e-6)
    assert found.intensity[tall] == pytest.approx(np.tile(HEIGHTS, 3), rel=1e-3)
    assert (found.unsorted, found.not_finite) == (1, 1)
    assert np.bincount(found.pixel[tall]).tolist() == [4, 4, 4]
