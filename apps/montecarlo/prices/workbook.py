"""The first sheet of an Excel workbook (.xlsx) with rows enough for prices: values, and nothing else of it.

Office Open XML, ECMA-376 part 1: a zip archive of XML, whose cells refer to shared strings and to styles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from apps.montecarlo.prices.dates import EXCEL_EPOCH, from_serial
from apps.montecarlo.prices.grid import MAX_CELLS, Cell, Grid, Row, is_null, reason
from apps.montecarlo.prices.history import MIN_ROWS
from core import InputError

if TYPE_CHECKING:
    from zipfile import ZipFile

MAX_COLUMNS = 16_384
"""Columns of a sheet, by the format's limits."""
EPOCH_1904 = datetime(1904, 1, 1)
"""Day 0 of the other date system, that of old workbooks from a Mac."""
BUILT_IN_DATES = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
"""Number formats that show dates and times without a format code of their own (section 18.8.30)."""
_CODE_LITERALS = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_REFERENCE = re.compile(r"([A-Z]{1,3})(\d+)")
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_STRICT_RELATION = "{http://purl.oclc.org/ooxml/officeDocument/relationships}id"


def read_workbook(archive: ZipFile, source: str, most: int) -> Grid:
    """Read the first sheet that has rows enough for prices, or else the first that has any.

    Parameters
    ----------
    archive : ZipFile
    source : str
        Its name, for messages.
    most : int
        Bytes that a part may unpack to.

    Raises
    ------
    InputError
        The workbook is damaged, too large, or has no rows.
    """
    try:
        return _read(archive, source, most)
    except (ElementTree.ParseError, KeyError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: damaged workbook ({reason(error)}); save it again, or export it as CSV") from error


def _read(archive: ZipFile, source: str, most: int) -> Grid:
    book = _part(archive, "xl/workbook.xml", source, most)
    settings = next(_found(book, "workbookPr"), None)
    epoch = EPOCH_1904 if settings is not None and settings.get("date1904") in ("1", "true") else EXCEL_EPOCH
    targets = {
        relation.get("Id"): str(relation.get("Target"))
        for relation in _found(_part(archive, "xl/_rels/workbook.xml.rels", source, most), "Relationship")
    }
    strings = _shared_strings(archive, source, most)
    dated = _date_styles(archive, source, most)
    names: list[str] = []
    sheets = len(list(_found(book, "sheet")))
    fallback: Grid | None = None
    for sheet in _found(book, "sheet"):
        names.append(str(sheet.get("name")))
        target = targets.get(sheet.get(_RELATION) or sheet.get(_STRICT_RELATION), "")
        path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
        if path not in archive.namelist() or "worksheets" not in path:
            continue
        rows = list(_rows(_part(archive, path, source, most), strings, dated, epoch, source))
        if len(rows) >= MIN_ROWS or (rows and fallback is None):
            fallback = Grid(rows, "row", "", (f"Read: the sheet {names[-1]!r} of {sheets}.",) if sheets > 1 else ())
        if len(rows) >= MIN_ROWS:
            break
    if fallback is not None:
        return fallback
    raise InputError(f"{source}: no sheet of the workbook has rows; it needs a date and a price in each")


def _part(archive: ZipFile, name: str, source: str, most: int) -> ElementTree.Element:
    with archive.open(name) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise InputError(
            f"{source}: {name} unpacks to more than {most >> 20} MB; export the sheet with the prices as CSV"
        )
    if b"<!DOCTYPE" in data[:4096] or b"<!ENTITY" in data:
        raise InputError(f"{source}: {name} declares entities, as no workbook does; save it again")
    return ElementTree.fromstring(data)


def _found(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Find elements by name in either namespace of the format, transitional or strict."""
    return root.iterfind(f".//{{*}}{name}")


def _shared_strings(archive: ZipFile, source: str, most: int) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_text(item) for item in _found(_part(archive, "xl/sharedStrings.xml", source, most), "si")]


def _text(item: ElementTree.Element) -> str:
    # Phonetic guides (rPh) hold text too, which is not part of the value.
    runs = [item, *item.iterfind("{*}r")]
    return "".join(text.text or "" for run in runs for text in run.iterfind("{*}t"))


def _date_styles(archive: ZipFile, source: str, most: int) -> frozenset[int]:
    """Return the cell styles whose number format shows a date."""
    if "xl/styles.xml" not in archive.namelist():
        return frozenset()
    styles = _part(archive, "xl/styles.xml", source, most)
    codes = {int(format_.get("numFmtId", "0")): str(format_.get("formatCode")) for format_ in _found(styles, "numFmt")}
    shows = {number for number, code in codes.items() if re.search("[dyhs]", _CODE_LITERALS.sub("", code.lower()))}
    formats = [int(each.get("numFmtId", "0")) for cells in _found(styles, "cellXfs") for each in cells]
    return frozenset(i for i, number in enumerate(formats) if number in (shows if number in codes else BUILT_IN_DATES))


def _rows(
    sheet: ElementTree.Element, strings: list[str], dated: frozenset[int], epoch: datetime, source: str
) -> Iterator[Row]:
    count = 0
    number = 0
    for row in _found(sheet, "row"):
        number = int(row.get("r", number + 1))
        cells: list[Cell] = []
        for cell in row:
            column = _column(cell.get("r", ""), len(cells))
            count += 1 + max(0, column - len(cells))
            if column >= MAX_COLUMNS or count > MAX_CELLS:
                raise InputError(
                    f"{source}: row {number} goes beyond what a price file may hold; export the prices as CSV"
                )
            cells += [None] * (column + 1 - len(cells))
            cells[column] = _value(cell, strings, dated, epoch)
        if any(not is_null(cell) for cell in cells):
            yield Row(number, cells)


def _column(reference: str, following: int) -> int:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return following
    column = 0
    for letter in match[1]:
        column = column * 26 + ord(letter) - ord("A") + 1
    return column - 1


def _value(cell: ElementTree.Element, strings: list[str], dated: frozenset[int], epoch: datetime) -> Cell:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        inline = cell.find("{*}is")
        return "" if inline is None else _text(inline)
    held = cell.find("{*}v")
    text = "" if held is None or held.text is None else held.text
    if kind == "s" and text:
        return strings[int(text)] if 0 <= int(text) < len(strings) else None
    if kind == "d" and text:
        return datetime.fromisoformat(text)
    if kind != "n" or not text:
        return text or None
    value = float(text)
    if int(cell.get("s", "0")) in dated:
        return from_serial(value, epoch)
    return value
