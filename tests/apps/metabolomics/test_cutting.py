"""A large table is read by parts, and gives what the whole gives."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from apps.metabolomics.databases import cuts, cutting, read_database, read_part
from apps.metabolomics.formulas import about_database


@pytest.fixture(autouse=True)
def small_look(monkeypatch):
    monkeypatch.setattr(cutting, "LOOK", 4000)


def table(rows: int, *, quotes: str = "", ends: str = "\n") -> str:
    choices = random.Random(5)
    lines = ["id,name,formula"]
    for row in range(rows):
        name = f"molecule {row}"
        if quotes == "all":
            name = f'"{name}, of several"'
        elif quotes == "lines" and row % 40 == 7:
            name = '"' + "\n".join(f"line {line} of,C{line + 3}H8" for line in range(12)) + '"'
        elif quotes == "open" and row % 97 == 5:
            name = f'"{name}'
        formula = choices.choice(["", "C6H12O6", "R2", f"C{row % 90 + 1}H{row % 11 + 2}O{row % 7 + 1}"])
        lines.append(f"X{row},{name},{formula}")
    return ends.join(lines) + ends


def parts_of(path: Path, size: int):
    ranges = cuts(str(path), path.stat().st_size, size)
    return [read_part(str(path), *each) for each in ranges]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("quotes", ["", "all", "lines", "open"])
def test_parts_give_what_the_whole_gives(tmp_path: Path, quotes: str, ends: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(table(4000, quotes=quotes, ends=ends).encode())
    whole = read_database(str(path))

    found = parts_of(path, 9000)

    assert len(found) > 5
    united = list(dict.fromkeys(text for part in found for text in part.formulas.to_pylist()))
    assert united == whole.formulas.to_pylist()
    told = [
        {"rows": part.rows, "lines": part.lines, "reasons": part.reasons,
         "rejected": [{"line": one.line, "value": one.value, "reason": one.reason} for one in part.rejected]}
        for part in found
    ]  # fmt: skip
    about = about_database(str(path), "table", told)
    assert (about["rows"], about["rejected"], about["reasons"]) == (whole.rows, whole.rejected_rows, whole.reasons)
    assert [one["line"] for one in about["examples"]] == [one.line for one in whole.rejected[:20]]


def test_a_part_that_begins_late_counts_its_lines_from_the_file_s_first(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    lines = ["formula", *["C6H12O6"] * 4000, "R7", *["CH4"] * 30]
    path.write_text("\n".join(lines))

    found = parts_of(path, 9000)

    before = sum(part.lines for part in found[:-1])
    assert [before + one.line for one in found[-1].rejected] == [4002]


@pytest.mark.parametrize("kind", ["gzip", "utf-16", "never closed"])
def test_a_table_that_cannot_be_cut_stays_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "table.csv"
    text = table(3000)
    if kind == "never closed":
        text = text.replace(",molecule", ',"molecule')
    path.write_bytes(
        gzip.compress(text.encode()) if kind == "gzip" else text.encode("utf-16" if "utf" in kind else "utf-8")
    )

    assert cuts(str(path), 9_000_000 if kind == "gzip" else path.stat().st_size, 9000) == [(0, None)]
