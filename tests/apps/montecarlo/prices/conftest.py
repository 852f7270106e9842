from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, timedelta

import pytest

Sheet = Sequence[Sequence[object]]
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
DATE_STYLE, CUSTOM_DATE_STYLE, RED_NUMBER_STYLE = 1, 2, 3
STYLES = f"""<styleSheet xmlns="{MAIN}"><numFmts count="2"><numFmt numFmtId="164" formatCode="dd\\.mmm\\ yy"/>
<numFmt numFmtId="165" formatCode="[Red]0.00&quot; dollars&quot;"/></numFmts>
<cellStyleXfs count="1"><xf numFmtId="0"/></cellStyleXfs>
<cellXfs count="4"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="165"/></cellXfs>
</styleSheet>"""


def weekdays(count: int, start: date = date(2020, 1, 1)) -> list[date]:
    """Return so many weekdays from a start."""
    days = (start + timedelta(days=i) for i in range(3 * count))
    return [day for day in days if day.weekday() < 5][:count]


def prices(count: int) -> list[float]:
    """Return prices that rise by a small, uneven step, with two decimals."""
    return [round(100.0 + row + row % 3 * 0.25, 2) for row in range(count)]


@pytest.fixture
def workbook() -> Callable[..., bytes]:
    """Make an .xlsx of one sheet or more; a tuple is a number and its style, text is a shared string."""

    def cell(reference: str, value: object, shared: list[str]) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            shared.append(value)
            return f'<c r="{reference}" t="s"><v>{len(shared) - 1}</v></c>'
        number, style = value if isinstance(value, tuple) else (value, 0)
        return f'<c r="{reference}" s="{style}"><v>{number}</v></c>'

    def make(*sheets: Sheet, settings: str = "", parts: dict[str, str] | None = None) -> bytes:
        shared: list[str] = []
        files = {"xl/styles.xml": STYLES}
        for number, rows in enumerate(sheets, 1):
            lines = [
                f'<row r="{r}">'
                + "".join(cell(f"{chr(65 + c)}{r}", value, shared) for c, value in enumerate(row))
                + "</row>"
                for r, row in enumerate(rows, 1)
            ]
            files[f"xl/worksheets/sheet{number}.xml"] = (
                f'<worksheet xmlns="{MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>'
            )
        numbers = range(1, len(sheets) + 1)
        names = "".join(f'<sheet name="Sheet {n}" sheetId="{n}" r:id="rId{n}"/>' for n in numbers)
        files["xl/workbook.xml"] = (
            f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}"><workbookPr {settings}/>'
            f"<sheets>{names}</sheets></workbook>"
        )
        targets = "".join(f'<Relationship Id="rId{n}" Target="worksheets/sheet{n}.xml"/>' for n in numbers)
        files["xl/_rels/workbook.xml.rels"] = f"<Relationships>{targets}</Relationships>"
        strings = "".join(f"<si><t>{text}</t></si>" for text in shared)
        files["xl/sharedStrings.xml"] = f'<sst xmlns="{MAIN}">{strings}</sst>'
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (files | (parts or {})).items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return make
