from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.metabolomics.__main__ import main
from apps.metabolomics.annotated import Annotated

MakeRun = Callable[..., Annotated]


def rows(path: Path) -> dict[str, dict[str, str]]:
    return {row["ion"]: row for row in csv.DictReader(path.open())}


def test_datasets_stand_side_by_side(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fewer(found: list[dict[str, Any]]) -> None:
        found[0]["fdr"] = None

    one, two = make_run("one", count=6), make_run("two", count=6, change=fewer)
    places = ",".join(run.storage.address for run in (one, two))

    assert main(["table", places, "--to", str(tmp_path / "t.csv"), "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    found = rows(tmp_path / "t.csv")
    assert [each["annotations"] for each in said["datasets"]] == [3, 2]
    assert (said["ions"], said["in_all"]) == (3, 2)
    glucose = found["C6H12O6+H"]
    assert glucose["one fdr"] == "0.0"
    assert glucose["two fdr"] == ""
    assert float(glucose["two msm"]) == pytest.approx(0.99 * 0.98)
    assert float(glucose["one meanIntensity"]) == pytest.approx(1e5 / one.field.pixels.size)
    assert glucose["moleculeNames"] == "molecule 0, molecule 6"


def test_an_ion_without_images_in_a_dataset_has_empty_cells_there(make_run: MakeRun, tmp_path: Path) -> None:
    one, two = make_run("one", count=2), make_run("two", count=8)

    places = ",".join(run.storage.address for run in (one, two))
    assert main(["table", places, "--to", str(tmp_path / "t.csv"), "--quiet"]) == 0

    row = rows(tmp_path / "t.csv")["C9H12O6+H"]
    assert (row["one fdr"], row["one msm"], row["one meanIntensity"]) == ("", "", "")
    assert row["two fdr"] != ""


def test_a_level_decides_what_counts_as_annotated(make_run: MakeRun, tmp_path: Path) -> None:
    places = ",".join(make_run(name, count=20).storage.address for name in ("one", "two"))

    assert main(["table", places, "--fdr", "0.01", "--to", str(tmp_path / "t.csv"), "--quiet"]) == 0

    assert all(float(row["one fdr"]) <= 0.01 for row in rows(tmp_path / "t.csv").values())


def test_datasets_of_one_name_are_numbered(make_run: MakeRun, tmp_path: Path) -> None:
    places = ",".join(make_run(name, count=2, dataset="brain").storage.address for name in ("one", "two"))

    assert main(["table", places, "--to", str(tmp_path / "t.csv"), "--quiet"]) == 0

    assert {"brain msm", "brain-2 msm"} <= set(rows(tmp_path / "t.csv")["C6H12O6+H"])


def test_one_run_makes_no_table(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", make_run(count=2).storage.address]) == 2
    assert "two runs at least" in capsys.readouterr().err
