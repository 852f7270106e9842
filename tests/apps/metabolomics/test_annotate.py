"""Annotation end to end: agreement with METASPACE's engine, what is shared by runs, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from apps.metabolomics.imzml.writing import Format, Pixel, write_imzml
from apps.metabolomics.result import IonImages
from core import open_storage
from tests.apps.metabolomics.planted import (
    FORMULAS,
    HEIGHT,
    MANY,
    OTHERS,
    PLANTED,
    WIDTH,
    write_database,
    write_dataset,
)


def all_ions(run: Path) -> Any:
    return pq.read_table(run / "all_ions.parquet").to_pandas()


def test_ions_scores_and_rates_are_those_of_the_engine(annotate, shared_data, tmp_path):
    import pandas as pd

    data = shared_data / "synth_small"
    annotate(data / "synth_small.imzML", "--db", data / "db.tsv", "--decoy-seed", "metaspace", "--fdr", "1",
             "--engine-compat", "--output", "run")  # fmt: skip
    expected = pd.read_csv(shared_data / "reference_synth_small_v3.csv")

    found = all_ions(tmp_path / "run")
    targets = found[~found.decoy & (found.msm > 0)]
    both = expected.merge(targets, on=["formula", "adduct"], suffixes=("_engine", ""))

    assert len(both) == len(expected) == len(targets)
    for name, tolerance in (("chaos", 1e-6), ("spectral", 1e-6), ("spatial", 1e-5), ("fdr", 1e-9)):
        assert (both[name] - both[f"{name}_engine"]).abs().max() < tolerance, name
    everything = pd.read_csv(shared_data / "reference_synth_small_v3_allions.csv")
    once = found[found.msm > 0].drop_duplicates(["mz_0", "mz_1"])  # a decoy is the same ion as a target
    assert np.allclose(np.sort(once.msm), np.sort(everything.msm), atol=1e-5)


def test_planted_molecules_are_found_and_the_others_are_not(annotate, planted, tmp_path):
    figures = annotate(planted[0], "--db", planted[1], "--output", "run")

    rows = list(csv.DictReader((tmp_path / "run" / "annotations.csv").open()))
    assert {row["formula"] for row in rows} == set(PLANTED)
    assert {row["adduct"] for row in rows} == {"M+H"}
    assert figures["levels"]["0.1"] == figures["accepted"] == len(rows)


def test_the_same_command_again_does_nothing(annotate, planted, tmp_path):
    annotate(planted[0], "--db", planted[1], "--output", "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}

    annotate(planted[0], "--db", planted[1], "--output", "run")

    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")} == before


def test_another_database_begins_where_the_dataset_is_indexed(annotate, planted, tmp_path):
    annotate(planted[0], "--db", planted[1], "--output", "first")
    segments = {path: path.stat().st_mtime_ns for path in tmp_path.glob("metabolomics-cache/spots-*/**/*.parquet")}
    write_database(tmp_path / "other.tsv", FORMULAS)

    annotate(planted[0], "--db", "other.tsv", "--output", "second")

    assert {path: path.stat().st_mtime_ns for path in segments} == segments
    assert {row["formula"] for row in csv.DictReader(Path("second/annotations.csv").open())} == set(PLANTED)


def test_no_result_depends_on_the_order_of_a_database(annotate, planted, tmp_path):
    formulas = [*FORMULAS, *OTHERS]
    write_database(tmp_path / "reversed.tsv", formulas[::-1])

    annotate(planted[0], "--db", planted[1], "--output", "one")
    annotate(planted[0], "--db", "reversed.tsv", "--output", "two")

    assert Path("one/all_ions.parquet").read_bytes() == Path("two/all_ions.parquet").read_bytes()


def test_bytes_are_the_same_whatever_computes(annotate, planted, tmp_path):
    annotate(planted[0], "--db", planted[1], "--output", "one")
    annotate(planted[0], "--db", planted[1], "--output", "two", "--cache", "apart", "--compute", "process",
             "--workers", "2")  # fmt: skip

    for name in ("annotations.csv", "all_ions.parquet"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes(), name


def test_in_a_bucket_it_is_the_same_as_in_a_folder(annotate, planted, tmp_path, s3_server):
    write_dataset("s3://fanfold/spots/data/spots.imzML")
    annotate(planted[0], "--db", planted[1], "--output", "one")
    storage = open_storage("s3://fanfold/spots/run")

    annotate("s3://fanfold/spots/data/spots.imzML", "--db", planted[1], "--output", "s3://fanfold/spots/run",
             "--compute", "process", "--workers", "2")  # fmt: skip

    for name in ("annotations.csv", "all_ions.parquet"):
        assert storage.get(name) == Path("one", name).read_bytes(), name


def test_a_scale_that_is_off_is_learnt_from_certain_ions(annotate, tmp_path):
    planted = [*PLANTED, *MANY[::4]]
    write_dataset(str(tmp_path / "off.imzML"), formulas=planted, ppm=2.6)
    write_database(tmp_path / "molecules.tsv", [*FORMULAS, *MANY])

    as_it_is = annotate("off.imzML", "--db", "molecules.tsv", "--output", "one", "--images", "none")
    corrected = annotate("off.imzML", "--db", "molecules.tsv", "--output", "two", "--images", "none", "--recalibrate")

    assert as_it_is["recalibration"] == []
    assert all(2.3 < ppm < 2.9 for _, ppm in corrected["recalibration"])
    assert corrected["accepted"] >= as_it_is["accepted"]
    errors = all_ions(Path("two")).query("fdr <= 0.1").massError
    assert abs(errors.median()) < 0.1


def test_a_scale_of_which_too_little_is_known_is_left_as_it_is(annotate, planted):
    figures = annotate(planted[0], "--db", planted[1], "--output", "run", "--recalibrate")

    assert figures["recalibration"] == []
    assert any("scale was left as it is" in note for note in figures["notes"])


def test_pixels_outside_the_mask_count_for_nothing(annotate, planted):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, : WIDTH // 2] = 1
    np.save("mask.npy", mask)

    figures = annotate(planted[0], "--db", planted[1], "--output", "run", "--mask", "mask.npy", "--fdr", "0.5")

    images = IonImages(open_storage("run"))
    assert figures["n_sampled"] == HEIGHT * (WIDTH // 2)
    assert len(images) > 0
    assert all((image.pixels % WIDTH < WIDTH // 2).all() for ion in images for image in images[ion])


def test_a_mask_of_another_size_is_refused(annotate, planted):
    np.save("mask.npy", np.ones((3, 3), np.uint8))

    found = annotate(planted[0], "--db", planted[1], "--output", "run", "--mask", "mask.npy", status=2)

    assert "3 x 3 pixels" in found["error"]


def test_a_tissue_of_few_pixels_has_the_scores_of_the_engine(annotate, shared_data):
    import pandas as pd

    annotate(shared_data / "untreated_tiny" / "Untreated_3_434_tiny.imzML", "--db", shared_data / "db_800.tsv",
             "--instrument", "fticr", "--resolving-power", "280000@200", "--decoy-seed", "metaspace", "--engine-compat",
             "--fdr", "1", "--polarity", "+", "--images", "none", "--output", "run")  # fmt: skip
    expected = pd.read_csv(shared_data / "reference_untreated_tiny_v3.csv")

    found = all_ions(Path("run"))
    targets = found[~found.decoy & (found.msm > 0)]
    both = expected.merge(targets, on=["formula", "adduct"], suffixes=("_engine", ""))

    assert len(both) == len(expected) == len(targets)
    for name, tolerance in (("chaos", 1e-6), ("spectral", 1e-6), ("spatial", 1e-5), ("fdr", 1e-9)):
        assert (both[name] - both[f"{name}_engine"]).abs().max() < tolerance, name


def test_profiles_in_continuous_mode_are_annotated_once_their_peaks_are_picked(annotate, shared_data):
    profile = shared_data / "imzml_example_ds" / "Example_Continuous.imzML"
    flags = ["--ppm", "100", "--resolving-power", "17000", "--images", "none", "--output", "run"]

    refused = annotate(profile, *flags, status=2)
    figures = annotate(profile, *flags, "--centroid")

    assert "--centroid picks their peaks" in refused["error"]
    assert (figures["width"], figures["height"], figures["n_sampled"]) == (3, 3, 9)
    assert figures["rows"] > 0


def test_single_precision_stays_so_in_the_index_and_is_annotated_alike(annotate, tmp_path):
    write_dataset(str(tmp_path / "single.imzML"), mz="f4")
    write_database(tmp_path / "molecules.tsv")

    annotate("single.imzML", "--db", "molecules.tsv", "--output", "run")

    segment = next(Path("metabolomics-cache").glob("single-*/segments/*.parquet"))
    assert pq.read_schema(segment).field("mz").type == "float"
    assert {row["formula"] for row in csv.DictReader(Path("run/annotations.csv").open())} == set(PLANTED)


def test_of_several_slices_each_is_indexed_and_annotated_by_itself(annotate, planted):
    rng = np.random.default_rng(3)
    spectra = [(x, z, np.sort(rng.uniform(100, 800, 50 * z))) for z in (1, 2) for x in range(1, 9)]
    write_imzml("deep.imzML", [Pixel(x, 1, mz, np.ones(len(mz)), z) for x, z, mz in spectra], Format())
    flags = ["deep.imzML", "--db", planted[1], "--images", "none"]

    refused = annotate(*flags, "--output", "both", status=2)
    figures = [annotate(*flags, "--z", z, "--output", f"z{z}") for z in (1, 2)]

    assert "--z" in refused["error"]
    assert [each["peaks"] for each in figures] == [400, 800]
    assert len(list(Path("metabolomics-cache").glob("deep-*"))) >= 2


def test_ions_of_a_single_isotope_peak_are_counted_with_the_reason_why_they_have_no_score(planted, annotate, tmp_path):
    database = write_database(tmp_path / "single.tsv", ["F2", "PF3", "C6H12O6"])

    found = annotate(
        "annotate", planted[0], "--db", database, "--adducts", "+Na", "--decoys", "1", "--images", "none",
        "--output", "run",
    )  # fmt: skip

    assert found["ions"]["single"] >= 2
    (note,) = [note for note in found["notes"] if "single isotope peak" in note]
    assert note.startswith(f"{found['ions']['single']} ions (decoys among them)")
    assert "single isotope peak" in (tmp_path / "run/report.html").read_text()


def test_rows_of_a_database_that_are_left_out_are_noted(annotate, planted, tmp_path):
    write_database(tmp_path / "some.tsv", [*FORMULAS, "C6H12O6+", "R2"])

    found = annotate(planted[0], "--db", "some.tsv", "--output", "run", "--images", "none")

    (note,) = [note for note in found["notes"] if "some" in note]
    assert note.startswith("2 of 14 rows of the database some were left out, the first: line 14, formula 'C6H12O6+'")
