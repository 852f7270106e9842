"""Tables as an Excel workbook, with nothing but the standard library.

Office Open XML, ECMA-376. Text is written as inline strings, which no spreadsheet takes for formulas.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from apps._frame.tables import printable

Sheet = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""Header and rows; numbers stay numbers, None is an empty cell, all else is text."""

LONGEST_NAME = 31
"""Letters that Excel takes for the name of a sheet."""
WIDEST, NARROWEST = 60, 9
"""Characters of a column."""

_NAMESPACE = "http://schemas.openxmlformats.org"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_NOT_IN_A_NAME = re.compile(r"[\\/?*\[\]:']")
_STYLES = (
    f'{_HEAD}<styleSheet xmlns="{_NAMESPACE}/spreadsheetml/2006/main">'
    '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '</fills><borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>'
    '<cellXfs count="2"><xf fontId="0"/><xf fontId="1" applyFont="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)


def xlsx_bytes(sheets: Mapping[str, Sheet]) -> bytes:
    """Return a workbook with a sheet for each table, its header bold and in sight while rows scroll.

    Equal tables give equal bytes, whenever they are written.

    Parameters
    ----------
    sheets : mapping
        Tables by the name of their sheet.
    """
    names = [_NOT_IN_A_NAME.sub(" ", printable(name))[:LONGEST_NAME] for name in sheets]
    parts = {
        "[Content_Types].xml": _content_types(len(names)),
        "_rels/.rels": _relationships(["officeDocument xl/workbook.xml"]),
        "xl/workbook.xml": _workbook(names),
        "xl/_rels/workbook.xml.rels": _relationships(
            [*(f"worksheet worksheets/sheet{n}.xml" for n in range(1, len(names) + 1)), "styles styles.xml"]
        ),
        "xl/styles.xml": _STYLES,
    }
    for number, (header, rows) in enumerate(sheets.values(), 1):
        parts[f"xl/worksheets/sheet{number}.xml"] = _sheet(header, rows)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _content_types(count: int) -> str:
    kinds = {"/xl/workbook.xml": "sheet.main", "/xl/styles.xml": "styles"}
    kinds |= {f"/xl/worksheets/sheet{number}.xml": "worksheet" for number in range(1, count + 1)}
    return (
        f'{_HEAD}<Types xmlns="{_NAMESPACE}/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        + "".join(
            f'<Override PartName="{part}" ContentType='
            f'"application/vnd.openxmlformats-officedocument.spreadsheetml.{kind}+xml"/>'
            for part, kind in kinds.items()
        )
        + "</Types>"
    )


def _relationships(targets: Sequence[str]) -> str:
    kind = f"{_NAMESPACE}/officeDocument/2006/relationships"
    entries = (
        f'<Relationship Id="rId{number}" Type="{kind}/{name}" Target="{target}"/>'
        for number, (name, target) in enumerate((each.split(" ") for each in targets), 1)
    )
    return f'{_HEAD}<Relationships xmlns="{_NAMESPACE}/package/2006/relationships">{"".join(entries)}</Relationships>'


def _workbook(names: Sequence[str]) -> str:
    entries = (
        f'<sheet name="{escape(name)}" sheetId="{number}" r:id="rId{number}"/>' for number, name in enumerate(names, 1)
    )
    return (
        f'{_HEAD}<workbook xmlns="{_NAMESPACE}/spreadsheetml/2006/main" '
        f'xmlns:r="{_NAMESPACE}/officeDocument/2006/relationships"><sheets>{"".join(entries)}</sheets></workbook>'
    )


def _sheet(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    table = [list(header), *map(list, rows)]
    widths = [max(len(f"{cell}") for cell in column if cell is not None) for column in zip(*table, strict=True)]
    columns = (
        f'<col min="{n}" max="{n}" width="{min(WIDEST, max(NARROWEST, width + 2))}" customWidth="1"/>'
        for n, width in enumerate(widths, 1)
    )
    body = (f"<row>{''.join(_cell(cell, number == 0) for cell in row)}</row>" for number, row in enumerate(table))
    return (
        f'{_HEAD}<worksheet xmlns="{_NAMESPACE}/spreadsheetml/2006/main">'
        '<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" '
        f'state="frozen"/></sheetView></sheetViews><cols>{"".join(columns)}</cols>'
        f"<sheetData>{''.join(body)}</sheetData></worksheet>"
    )


def _cell(value: Any, bold: bool) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value in _INFINITE:
        style = ' s="1"' if bold else ""
        return f'<c t="inlineStr"{style}><is><t xml:space="preserve">{escape(printable(value))}</t></is></c>'
    return f"<c><v>{value!r}</v></c>"


_INFINITE = (float("inf"), float("-inf"))
