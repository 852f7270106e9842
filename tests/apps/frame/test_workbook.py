"""A workbook of the standard library alone is read by those that read Excel's."""

from __future__ import annotations

import io
import math
import zipfile
from xml.etree import ElementTree

from apps._frame.workbook import xlsx_bytes

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
SHEETS = {
    "Prices": (["day", "price"], [["1", 100.5], ["=1+1", 3], ["Ångström <b>", None]]),
    "a/b: a very long name of a sheet indeed": (["x"], [[math.nan], [True], ["\x00\udcff"]]),
}


def test_every_part_is_well_formed_and_named_by_the_contents() -> None:
    with zipfile.ZipFile(io.BytesIO(xlsx_bytes(SHEETS))) as archive:
        parts = {name: ElementTree.fromstring(archive.read(name)) for name in archive.namelist()}

    overrides = [part.get("PartName", "").lstrip("/") for part in parts["[Content_Types].xml"] if part.get("PartName")]
    assert set(overrides) == {name for name in parts if name.startswith("xl/") and not name.endswith(".rels")}


def test_equal_tables_give_equal_bytes() -> None:
    assert xlsx_bytes(SHEETS) == xlsx_bytes(SHEETS)


def cells(data: bytes, number: int) -> list[list[object]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheet = ElementTree.fromstring(archive.read(f"xl/worksheets/sheet{number}.xml"))
    return [[value(cell) for cell in row] for row in sheet.iter(f"{MAIN}row")]


def value(cell: ElementTree.Element) -> object:
    text = "".join(cell.itertext())
    if cell.get("t") == "inlineStr":
        return text
    return float(text) if text else None


def test_cells_come_back_as_numbers_and_text() -> None:
    data = xlsx_bytes(SHEETS)

    assert cells(data, 1) == [["day", "price"], ["1", 100.5], ["=1+1", 3.0], ["Ångström <b>", None]]
    assert cells(data, 2) == [["x"], ["nan"], ["True"], ["\\x00\\xff"]]


def test_sheets_have_names_that_excel_takes() -> None:
    with zipfile.ZipFile(io.BytesIO(xlsx_bytes(SHEETS))) as archive:
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))

    assert [sheet.get("name") for sheet in book.iter(f"{MAIN}sheet")] == ["Prices", "a b  a very long name of a shee"]


def test_header_is_bold_and_stays_in_sight() -> None:
    with zipfile.ZipFile(io.BytesIO(xlsx_bytes(SHEETS))) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()

    assert 'state="frozen"' in sheet
    assert sheet.count('s="1"') == 2
