"""A whole run, in as many tasks, segments, slices and blocks as can be, beside plain loops over all peaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from apps.metabolomics import blocks, formulas, indexing, library, segments, stages
from apps.metabolomics.annotated import read_run
from apps.metabolomics.imzml.writing import Format, Pixel, write_imzml
from apps.metabolomics.join import Block
from apps.metabolomics.runs import EDGES, bin_of
from apps.metabolomics.science.adducts import NOTHING, parse_adduct
from apps.metabolomics.science.centroids import Instrument, patterns
from apps.metabolomics.science.formulas import parse_formula
from apps.metabolomics.science.ions import ion_composition
from tests.apps.metabolomics.planted import FORMULAS, OTHERS, PLANTED, write_database
from tests.apps.metabolomics.reference import (
    chaos_reference,
    fdr_reference,
    images_reference,
    spatial_reference,
    spectral_reference,
)

WIDTH, HEIGHT, PPM = 9, 8, 3.0
Annotate = Callable[..., Any]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "TASK_BYTES", (1000, 6000))
    monkeypatch.setattr(indexing, "SEGMENT_PEAKS", (50, 300))
    monkeypatch.setattr(formulas, "TASK_IONS", (20, 100))
    monkeypatch.setattr(library, "SEGMENT_IONS", (10, 60))
    monkeypatch.setattr(segments.put_segment, "__defaults__", (37,))
    monkeypatch.setattr(blocks, "BLOCK_TOUCHES", (10_000, 10_000))


def write(path: Path, mz: str, off: float = 0.0, noise: int = 90) -> list[Pixel]:
    """Write a sample with holes, pixels measured twice, m/z in no order, and peaks on the very ends of windows.

    Where the scale is off there are none of those, whose last bits would be rounded in another order.
    """
    rng = np.random.default_rng(4)
    ions = [ion_composition(parse_formula(each), NOTHING, NOTHING, parse_adduct("+H", "+")) for each in PLANTED]
    pattern = patterns([ion for ion in ions if ion is not None], 1, Instrument("orbitrap", 140_000))
    centres = rng.uniform(0, 1, (len(PLANTED), 2)) * (WIDTH, HEIGHT)
    spectra = []
    for place in rng.permutation(WIDTH * HEIGHT)[:-9].tolist() + [0, 5, 5]:
        y, x = divmod(place, WIDTH)
        near = np.exp(-(((centres - (x, y)) ** 2).sum(axis=1)) / 12)
        signal = pattern.intensity * near[:, None] * 100 * rng.uniform(0.8, 1.2, pattern.mz.shape)
        centre, kind = pattern.mz, rng.random(pattern.mz.shape)
        jittered = centre * (1 + rng.normal(0, 0.9e-6, centre.shape))
        ends = np.where(kind < 0.06, centre - centre * PPM * 1e-6, centre + centre * PPM * 1e-6)
        near_end = ((kind < 0.06) | (kind > 0.94)) & (not off)
        seen = signal > 15
        peaks = np.where(near_end, ends, jittered)[seen]
        found = np.concatenate([peaks, rng.uniform(90, 700, noise)]) * (1 + off * 1e-6)
        intensity = np.concatenate([signal[seen], rng.exponential(30, noise)])
        order = rng.permutation(len(found)) if place % 5 == 0 else np.argsort(found)
        spectra.append(Pixel(x + 4, y + 7, found[order].astype(mz), intensity[order].astype(np.float32)))
    write_imzml(str(path), spectra, Format(mz=mz))
    return spectra


def expected(row: dict[str, Any], spectra: list[Pixel], mask: np.ndarray, shift: float = 0.0) -> dict[str, float]:
    """Score an ion by loops over all peaks."""
    mz = np.concatenate([each.mz for each in spectra]).astype(np.float64)
    pixel = np.concatenate([np.full(len(each.mz), (each.y - 7) * WIDTH + each.x - 4) for each in spectra])
    intensity = np.concatenate([each.intensity for each in spectra])
    kept = mask[pixel]
    mz, pixel, intensity = mz[kept], pixel[kept], intensity[kept]
    measured = np.zeros(WIDTH * HEIGHT, bool)
    measured[[(each.y - 7) * WIDTH + each.x - 4 for each in spectra]] = True
    centres = np.array([row[f"mz_{at}"] for at in range(4)]) * (1 + shift * 1e-6)
    images = np.array(
        [
            images_reference(mz, pixel, intensity, at - at * PPM * 1e-6, at + at * PPM * 1e-6, WIDTH * HEIGHT)
            for at in centres
        ]
    )
    theory = np.array([row[f"theory_{at}"] for at in range(4)])
    first = np.abs(mz - centres[0]) <= centres[0] * PPM * 1e-6 * (1 + 1e-9)
    return {
        "spectral": spectral_reference(images, theory),
        "spatial": spatial_reference(images, theory, measured & mask),
        "chaos": chaos_reference(images[0].reshape(HEIGHT, WIDTH)),
        "total_0": images[0].sum(), "total_3": images[3].sum(), "n_pixels_1": np.count_nonzero(images[1]),
        "minIntensity": images[0][images[0] > 0].min(), "maxIntensity": images[0].max(),
        "massError": (np.average(mz[first], weights=intensity[first]) / centres[0] - 1) * 1e6,
    }  # fmt: skip


@pytest.mark.parametrize("mz", ["f4", "f8"])
@pytest.mark.usefixtures("small_pieces")
def test_scores_images_and_rates_are_those_of_plain_loops(annotate: Annotate, tmp_path: Path, mz: str) -> None:
    spectra = write(tmp_path / "spots.imzML", mz)
    write_database(tmp_path / "molecules.tsv")
    mask = np.random.default_rng(2).random((HEIGHT, WIDTH)) < 0.8
    np.save(tmp_path / "mask.npy", mask.astype(np.uint8))

    figures = annotate(
        "spots.imzML", "--db", "molecules.tsv", "--mask", "mask.npy", "--fdr", "1", "--output", "run",
        "--images", "none",
    )  # fmt: skip

    rows = pq.read_table("run/all_ions.parquet").to_pylist()
    assert figures["blocks"] > 20
    assert len({row["formula"] for row in rows if not row["decoy"]} & set(PLANTED)) == len(PLANTED)
    assert len({row["ion"] for row in rows}) == len(rows)
    for row in rows:
        for name, value in expected(row, spectra, mask.ravel()).items():
            assert row[name] == pytest.approx(value, rel=1e-6, abs=2e-2 if name == "massError" and mz == "f4" else 1e-6)
    for adduct in ("+H", "+Na", "+K"):
        scores = {row["ion"]: row for row in rows if row["adduct"] == adduct and row["msm"] > 0}
        decoys = [row["msm"] for row in rows if row["decoy"]]
        rates = fdr_reference([row["msm"] for row in scores.values()], decoys, 20)
        assert [row["fdr"] for row in scores.values()] == pytest.approx(rates)


@pytest.mark.usefixtures("small_pieces")
def test_the_total_ion_current_of_a_pixel_is_the_sum_of_its_peaks(annotate: Annotate, tmp_path: Path) -> None:
    spectra = write(tmp_path / "spots.imzML", "f8")
    write_database(tmp_path / "molecules.tsv")

    annotate("spots.imzML", "--db", "molecules.tsv", "--output", "run", "--images", "none")

    sums = np.zeros(WIDTH * HEIGHT)
    for each in spectra:
        sums[(each.y - 7) * WIDTH + each.x - 4] += each.intensity.sum(dtype=np.float64)
    found = read_run("run")
    assert found.field.pixels.tolist() == np.flatnonzero(sums).tolist()
    assert found.tic == pytest.approx(sums[sums > 0])


def test_after_recalibration_windows_and_errors_are_about_where_peaks_are_expected(
    annotate: Annotate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spectra = write(tmp_path / "spots.imzML", "f8", off=1.5)
    write_database(tmp_path / "molecules.tsv", [*FORMULAS, *OTHERS])
    real = stages.score_all
    monkeypatch.setattr(stages, "recalibrated", lambda work, found: real(work, shifted(found.matching)))

    def shifted(matching: Any) -> Any:
        return stages.replace(matching, shift=((100.0, 1.5), (900.0, 1.5)))

    annotate("spots.imzML", "--db", "molecules.tsv", "--fdr", "1", "--output", "run", "--images", "none",
             "--recalibrate")  # fmt: skip

    rows = [row for row in pq.read_table("run/all_ions.parquet").to_pylist() if row["formula"] in PLANTED]
    assert len(rows) >= len(PLANTED)
    for row in rows:
        for name, value in expected(row, spectra, np.ones(WIDTH * HEIGHT, bool), shift=1.5).items():
            assert row[name] == pytest.approx(value, rel=1e-6, abs=1e-5)


def test_what_is_accepted_at_a_level_is_what_has_such_a_rate_among_all(annotate: Annotate, tmp_path: Path) -> None:
    write(tmp_path / "spots.imzML", "f8", noise=4000)
    write_database(tmp_path / "molecules.tsv", [*FORMULAS, *OTHERS])
    for level in ("1", "0.1"):
        annotate("spots.imzML", "--db", "molecules.tsv", "--fdr", level, "--ppm", "30", "--output", level,
                 "--images", "none")  # fmt: skip

    everything, accepted = (
        {
            row["ion"]: row["fdr"]
            for row in pq.read_table(f"{level}/all_ions.parquet").to_pylist()
            if row["fdr"] is not None
        }
        for level in ("1", "0.1")
    )

    assert accepted == {ion: rate for ion, rate in everything.items() if rate <= 0.1}
    assert 0 < len(accepted) < len(everything)


@pytest.mark.usefixtures("small_pieces")
def test_an_ion_on_the_edge_of_a_block_is_scored_once(
    annotate: Annotate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "spots.imzML", "f8")
    write_database(tmp_path / "molecules.tsv")
    annotate("spots.imzML", "--db", "molecules.tsv", "--fdr", "1", "--output", "one", "--images", "none")
    before = pq.read_table("one/all_ions.parquet")
    middle = sorted(before.column("mz_0").to_pylist())[len(before) // 2]
    monkeypatch.setattr("apps.metabolomics.scoring.blocks_of", lambda *_: [Block(0.0, middle), Block(middle, 1e9)])

    annotate("spots.imzML", "--db", "molecules.tsv", "--fdr", "1", "--output", "two", "--images", "none")

    after = pq.read_table("two/all_ions.parquet")
    assert bin_of(np.array([middle])) > 0
    assert middle not in EDGES
    assert after.sort_by("ion").equals(before.sort_by("ion"))


def test_a_database_that_changes_while_it_is_read_is_told(
    annotate: Annotate, planted: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stages.score_all

    def meanwhile(*arguments: Any) -> Any:
        with Path(planted[1]).open("a") as file:
            file.write("X99\tlater\tC6H12O6\n")
        return real(*arguments)

    monkeypatch.setattr(stages, "score_all", meanwhile)

    said = annotate(planted[0], "--db", planted[1], "--output", "run", status=2)

    assert f"{planted[1]} was changed while this run was reading it" in said["error"]
    assert not Path("run/annotations.csv").exists()
