"""What can be done with a run that annotated a real pair of files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from apps.metabolomics.__main__ import main
from apps.metabolomics.annotated import read_run
from core import open_storage
from tests.apps.metabolomics.planted import PLANTED, write_database, write_dataset


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_dataset(str(folder / "planted.imzML"))
    database = write_database(folder / "molecules.tsv")
    flags = ["--db", str(database), "--fdr", "0.5", "--compute", "serial", "--quiet"]
    assert main(["annotate", str(folder / "planted.imzML"), *flags, "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_planted_molecules_are_annotated_by_name(finished: Path) -> None:
    rows = list(csv.DictReader((finished / "annotations.csv").open()))

    assert {row["formula"] for row in rows if row["adduct"] == "M+H"} >= set(PLANTED)
    assert all(row["moleculeNames"].startswith("mol ") for row in rows)
    assert all(row["datasetName"] == "planted" for row in rows)


def test_a_report_made_again_has_the_bytes_of_the_first(finished: Path, own: Path) -> None:
    for name in ("report.html", "annotations.csv", "intensities.parquet", "diagnostics.json"):
        (own / name).unlink()

    assert main(["report", str(own), "--quiet"]) == 0

    assert contents(own) == contents(finished)


def test_the_total_ion_current_is_at_least_what_its_ions_have(finished: Path) -> None:
    run = read_run(str(finished))

    total = sum(run.image(ion).dense(run.field.width, run.field.height).ravel() for ion in run.images)

    assert np.all(total <= run.dense_tic + 1e-6)


def test_a_run_agrees_with_its_own_table(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(finished), str(finished / "annotations.csv"), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert {level["agreement"] for level in found["levels"]} == {1.0}
    assert all(each["equal"] == each["ions"] for each in found["differences"])


def test_a_run_in_an_object_store_is_reported_exported_and_compared_alike(finished: Path, tmp_path: Path) -> None:
    store = open_storage("memory://finished-run")
    for name, content in contents(finished).items():
        store.put(name, content)
    store.delete(["report.html"])
    target = tmp_path / "out.csv"

    assert main(["report", "memory://finished-run", "--quiet"]) == 0
    assert main(["export", "memory://finished-run", "--to", str(target), "--quiet"]) == 0
    assert main(["compare", "memory://finished-run", str(finished), "--quiet"]) == 0

    assert store.get("report.html") == (finished / "report.html").read_bytes()
    assert target.read_bytes() == (finished / "annotations.csv").read_bytes()
