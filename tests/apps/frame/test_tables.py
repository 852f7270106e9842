from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps._frame.tables import (
    TextTable,
    csv_bytes,
    duration,
    facts_text,
    json_text,
    printable,
    size_text,
    visible,
    width,
)

NOT_UTF8 = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
ANY_TEXT = st.text(st.characters())  # lone surrogates too


def test_bytes_that_are_no_utf8_show_the_same_everywhere() -> None:
    shown = r"caf\xe9.jpg"

    assert visible(NOT_UTF8) == shown
    assert printable(NOT_UTF8) == shown
    assert csv_bytes(["name"], [[NOT_UTF8]]).decode() == f"name\n{shown}\n"
    assert json.loads(json_text({NOT_UTF8: [NOT_UTF8]})) == {shown: [shown]}


@given(ANY_TEXT)
def test_any_text_can_be_written(text: str) -> None:
    visible(text).encode()
    json.loads(json_text([text, {text: text}]))
    csv_bytes([text], [[text]])
    assert printable(text).isprintable()
    assert facts_text([(text, text)]).count("\n") == 0


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")'])
def test_no_spreadsheet_takes_text_for_a_formula(cell: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_bytes(["x"], [[cell]]).decode(), newline="")))

    assert rows == [["x"], ["'" + cell.replace("\r", r"\r")]]


@given(st.lists(st.lists(ANY_TEXT, min_size=2, max_size=2), min_size=1))
def test_any_text_stays_in_its_cell(rows: list[list[str]]) -> None:
    read = list(csv.reader(io.StringIO(csv_bytes(["a", "b"], rows).decode(), newline="")))

    assert [len(row) for row in read] == [2] * (len(rows) + 1)


def test_two_names_that_show_alike_are_still_two() -> None:
    assert json.loads(json_text({NOT_UTF8: 1, r"caf\xe9.jpg": 2})) == {r"caf\xe9.jpg": 1, r"caf\xe9.jpg'": 2}


def test_numbers_are_left_as_they_are() -> None:
    assert csv_bytes(["a", "b", "c"], [[-1, 0.1, None]]) == b"a,b,c\n-1,0.1,\n"


def test_what_is_not_finite_is_null() -> None:
    assert json_text({"a": float("nan"), "b": (float("-inf"), 1.5)}) == '{"a": null, "b": [null, 1.5]}'


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202egnp.exe", "\x00"])
def test_no_name_steers_a_terminal(name: str) -> None:
    said = TextTable(name, [name], [[name]]).text() + facts_text([(name, name)])

    assert all(line.isprintable() for line in said.splitlines())
    assert said.count("\n") == 2


def test_a_table_is_aligned_whatever_its_letters() -> None:
    table = TextTable("Ions", ["name", "hits", "kind"], [["水", "1,000", "a"], ["e\u0301", "7", "bcd"]], left=["kind"])

    assert table.text().splitlines() == ["Ions", "  name   hits  kind", "  水    1,000  a", "  e\u0301         7  bcd"]
    assert (width("水"), width("e\u0301")) == (2, 1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "0.012 s"), (9.5, "9.5 s"), (110, "110 s"), (150, "2.5 min"), (1e6, "277.8 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (999_600, "1 MB"), (5.25e10, "52.5 GB"), (7e15, "7e+03 TB")]
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text
