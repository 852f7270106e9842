"""A database that no task holds: read, united and named by parts, it gives what it gives as a whole."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps._frame.stages import Stages
from apps.metabolomics import formulas
from apps.metabolomics.databases import cutting, tables
from tests.apps.metabolomics.conftest import Annotate
from tests.apps.metabolomics.planted import FORMULAS, MANY, OTHERS, PLANTED

LIBRARY = ("ions", "--db", "molecules.tsv", "--polarity", "+", "--neutral-losses=-H2O", "--output")
ANNOTATE = ("annotate", "spots.imzML", "--db", "molecules.tsv,more.csv", "--images", "none", "--output")


@pytest.fixture
def database(tmp_path: Path, planted: tuple[str, str]) -> list[str]:
    """Write a database of many rows a formula, with names that are no UTF-8 and rows that are left out."""
    rows = [f"X{at}\tmol {at % 50}\t{each}" for at, each in enumerate([*FORMULAS, *OTHERS, *MANY] * 3)]
    random.Random(3).shuffle(rows)
    rows[70:70] = ["X\tbad\tR2", "X\tnone\t", f"Y\t\udcff\t{PLANTED[0]}", f"Y\t\udcff\t{PLANTED[0]}"]
    write(tmp_path / "molecules.tsv", rows)
    (tmp_path / "more.csv").write_text("".join(["formula,name\n", *(f"{each},also {each}\n" for each in PLANTED)]))
    return rows


def write(path: Path, rows: list[str]) -> None:
    path.write_bytes("\n".join(["id\tname\tformula", *rows, ""]).encode("utf-8", "surrogateescape"))


def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LOOK", 1500)
    monkeypatch.setattr(cutting.cuts, "__defaults__", (4000,))
    monkeypatch.setattr(formulas, "DEALT_BYTES", 0)
    monkeypatch.setattr(formulas, "UNITED_ROWS", 90)
    monkeypatch.setattr(tables, "REMEMBERED", 40)


def patterns(library: str) -> pa.Table:
    """Return all ions of a library, and those of equal m/z in one order."""
    parts = [pq.read_table(path) for path in Path(library, "patterns").iterdir()]
    return pa.concat_tables(parts).sort_by([("mz_0", "ascending"), ("formula", "ascending"), ("modifier", "ascending")])


def segments(library: str) -> set[str]:
    return {path.name for path in Path(library, "patterns").iterdir()}


def facts(library: str) -> Any:
    return json.loads(json.loads(Path(library, "library.json").read_text())["content"])["facts"]


def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return what will tell how many tasks each stage has."""
    tasks: dict[str, int] = {}
    real = Stages.run

    def run(self: Stages, stage: Any, **options: Any) -> Any:
        tasks[stage.name] = len(stage.tasks)
        return real(self, stage, **options)

    monkeypatch.setattr(Stages, "run", run)
    return tasks


@pytest.mark.usefixtures("database")
def test_formulas_that_many_tasks_unite_make_the_ions_of_one(
    annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate(*LIBRARY, "whole")
    in_parts(monkeypatch)
    tasks = recorded(monkeypatch)

    annotate(*LIBRARY, "parts")

    assert tasks["rows"] > 5
    assert tasks["formulas"] > 10
    assert facts("parts") == facts("whole")
    assert patterns("parts").equals(patterns("whole"))


def test_the_order_of_rows_changes_no_byte_of_what_many_tasks_unite(
    database: list[str], annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_parts(monkeypatch)
    annotate(*LIBRARY, "one")
    random.Random(8).shuffle(database)
    write(Path("molecules.tsv"), database)

    annotate(*LIBRARY, "two")

    assert segments("two") == segments("one")


def test_a_compressed_database_is_read_by_one_task_that_holds_a_part_of_it(
    database: list[str], annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_parts(monkeypatch)
    annotate(*LIBRARY, "plain")
    Path("molecules.tsv").write_bytes(gzip.compress(Path("molecules.tsv").read_bytes()))
    tasks = recorded(monkeypatch)

    annotate(*LIBRARY, "packed")

    assert tasks["rows"] == 1
    assert segments("packed") == segments("plain")


@pytest.mark.usefixtures("database")
def test_molecules_that_tasks_find_in_parts_are_those_of_the_whole(
    annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate(*ANNOTATE, "whole", "--cache", "apart")
    in_parts(monkeypatch)
    tasks = recorded(monkeypatch)

    annotate(*ANNOTATE, "parts")

    found = pq.read_table("parts/molecules.parquet")
    assert tasks["molecules"] > 5
    assert {b"molecules", b"more"} == set(found.column("database").to_pylist())
    assert b"\xff" in found.column("name").to_pylist()
    assert found.equals(pq.read_table("whole/molecules.parquet"))
    assert Path("parts/annotations.csv").read_bytes() == Path("whole/annotations.csv").read_bytes()


@pytest.mark.usefixtures("database")
def test_the_engine_s_decoys_are_drawn_in_the_order_of_a_database_that_is_read_in_parts(
    annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate(*LIBRARY, "whole", "--decoy-seed", "metaspace")
    in_parts(monkeypatch)
    monkeypatch.setattr(formulas, "UNITED_ROWS", 5000)

    annotate(*LIBRARY, "parts", "--decoy-seed", "metaspace")

    assert segments("parts") == segments("whole")


@pytest.mark.usefixtures("database")
def test_more_formulas_than_can_be_drawn_for_in_their_order_are_refused(
    annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formulas, "UNITED_ROWS", 90)

    found = annotate(*LIBRARY, "refused", "--decoy-seed", "metaspace", status=2)

    assert "--decoy-seed metaspace draws for one after the other, for 90 at most" in found["error"]


@pytest.mark.usefixtures("database")
def test_a_dry_run_tells_the_tasks_of_a_database_that_is_read_in_parts(
    annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_parts(monkeypatch)
    planned = annotate(*ANNOTATE, "run", "--dry-run")
    tasks = recorded(monkeypatch)

    annotate(*ANNOTATE, "run")

    said = {each["name"]: each["tasks"] for each in planned["stages"]}
    told = ("rows", "formulas", "centroids", "ions", "molecules")
    assert {name: said[name] for name in told} == {name: tasks[name] for name in told}
