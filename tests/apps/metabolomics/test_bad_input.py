"""What cannot be annotated is refused in one sentence, with exit status 2, and as early as it can be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from apps.metabolomics.imzml.writing import Format, Pixel, write_imzml
from tests.apps.metabolomics.planted import FORMULAS, write_database, write_dataset
from tests.servers.disks import remount


def refused(annotate, dataset: object, *arguments: object) -> str:
    found = annotate(dataset, *arguments, "--output", "run", status=2)
    assert "\n" not in found["error"]
    return found["error"]


def test_a_dataset_that_is_not_there(annotate, planted):
    assert "there is no such file" in refused(annotate, "absent.imzML", "--db", planted[1])


def test_spectra_without_any_peak(annotate, planted):
    write_imzml("empty.imzML", [Pixel(x, 1, np.zeros(0), np.zeros(0)) for x in (1, 2)], Format())

    assert "none of its 2 spectra has a peak" in refused(annotate, "empty.imzML", "--db", planted[1])


def test_peaks_that_are_all_dropped(annotate, planted):
    write_imzml("zero.imzML", [Pixel(x, 1, np.array([100.0, 200.0]), np.zeros(2)) for x in (1, 2)], Format())

    assert "all of its peaks are dropped" in refused(annotate, "zero.imzML", "--db", planted[1])


@pytest.mark.parametrize(
    ("said", "given", "words"),
    [("-", "+", "was measured with polarity -"), ("", "", "does not say its polarity; add --polarity")],
)
def test_a_polarity_that_is_not_that_of_the_dataset_or_of_nothing(annotate, planted, said, given, words):
    write_dataset("other.imzML", polarity=said)
    flags = ["--polarity", given] if given else []

    assert words in refused(annotate, "other.imzML", "--db", planted[1], *flags)


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--adducts", "[M-H]-", "other polarity"),
        ("--adducts", "+Q", "'+Q' is not understood"),
        ("--neutral-losses", "H2O", "'H2O' is not understood"),
        ("--chem-mods", "-H+H", "changes nothing"),
    ],
)
def test_ions_that_are_none(annotate, planted, flag, value, words):
    error = refused(annotate, planted[0], "--db", planted[1], "--polarity", "+", flag, value)

    assert words in error
    assert flag in error
    assert not Path("metabolomics-cache").exists()


@pytest.mark.parametrize(
    "flags",
    [("--adducts", "+H,-H2O+H", "--neutral-losses", "-H2O"), ("--chem-mods", "-H2O", "--neutral-losses", "−H2O")],
)
def test_ions_of_one_name_in_two_ways_are_refused(annotate, planted, flags):
    error = refused(annotate, planted[0], "--db", planted[1], "--polarity", "+", *flags)

    assert "-H2O+H in two ways" in error


def test_a_database_that_is_not_there(annotate, planted):
    assert "absent.tsv" in refused(annotate, planted[0], "--db", "absent.tsv")


@pytest.mark.parametrize("flag", ["--db", "--mask"])
def test_a_folder_is_not_taken_for_its_first_file(annotate, planted, flag, tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("first.tsv", "second.tsv"):
        write_database(tmp_path / "folder" / name, FORMULAS)

    error = refused(annotate, planted[0], "--db", planted[1], flag, "folder")

    assert "folder is a folder; give one file in it, such as" in error
    assert "first.tsv" in error


def test_a_database_without_a_formula_that_can_be_read(annotate, planted, tmp_path):
    write_database(tmp_path / "bad.tsv", ["R2", "X", "C6H12O6n"])

    assert "there is no formula in it that can be read" in refused(annotate, planted[0], "--db", "bad.tsv")


def test_formulas_that_make_no_ion(annotate, planted, tmp_path):
    write_database(tmp_path / "few.tsv", FORMULAS[:2])

    error = refused(annotate, planted[0], "--db", "few.tsv", "--adducts", "-Cl")

    assert "makes an ion" in error


def test_a_file_of_the_users_own_is_not_replaced(annotate, planted):
    Path("run").mkdir()
    Path("run/all_ions.parquet").write_bytes(b"mine")

    assert "all_ions.parquet" in refused(annotate, planted[0], "--db", planted[1])
    assert Path("run/all_ions.parquet").read_bytes() == b"mine"


def test_a_disk_that_fills_up_loses_nothing(annotate, planted, small_disk):
    annotate(planted[0], "--db", planted[1], "--output", "whole")
    remount(small_disk, "size=300k")

    found = annotate(planted[0], "--db", planted[1], "--output", "disk/run", status=1)

    assert "No space left on device" in found["error"]
    assert "resume disk/run" in found["error"]
    remount(small_disk, "size=64m")
    annotate("resume", "disk/run")
    assert Path("disk/run/all_ions.parquet").read_bytes() == Path("whole/all_ions.parquet").read_bytes()


def test_a_bucket_that_may_not_be_written(annotate, planted, s3_server):
    error = annotate(planted[0], "--db", planted[1], "--output", "s3://readable/run?profile=reader", status=2)["error"]

    assert "s3://readable" in error
    assert "denied" in error.lower()


def test_a_database_in_a_bucket_that_may_not_be_read(annotate, planted, s3_server):
    database = "s3://fanfold/molecules.tsv?profile=stranger"

    error = annotate(planted[0], "--db", database, "--output", "run", status=1)["error"]

    assert "s3://fanfold" in error
    assert "\n" not in error
