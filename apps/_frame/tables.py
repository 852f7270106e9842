"""Tables and lists of facts for a terminal, and text that came from outside made fit for every place it goes to.

Names of files, columns and molecules, members of archives and answers of services may hold anything: control
characters, formulas, bytes that are no UTF-8 (kept as lone surrogates, which most writers refuse).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What ends a line, or a file, for some readers of CSV, even within quotes."""
KEPT = "\n\t\u00a0\u2009\u202f"
"""What does not print by Python's rules and still belongs into text: ends of lines, and spaces between digits."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take a cell's text for a formula by (OWASP, "CSV injection")."""


def visible(text: object) -> str:
    r"""Return text that every writer takes: bytes that were no UTF-8 show as ``\xff``, as in Python's own escapes."""
    return _SURROGATE.sub(_escaped, str(text))


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


def printable(text: object, kept: str = "") -> str:
    """Return text for a terminal: whatever does not print, and so could steer it, is escaped, but for those `kept`."""
    shown = visible(text)
    if shown.isprintable():
        return shown
    return "".join(each if each.isprintable() or each in kept else ascii(each)[1:-1] for each in shown)


def for_terminal(text: object) -> str:
    """Return whole lines for a terminal: what could steer it is escaped, line ends and thin spaces stay."""
    return printable(text, KEPT)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table as CSV in UTF-8.

    Text that a spreadsheet would take for a formula has a ``'`` before it; numbers are as ``repr`` writes them, what is
    missing (None) is empty.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(name) for name in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shown = f"'{value}" if value.startswith(_FORMULA) else value
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], visible(shown))


def json_text(figures: Any, indent: int | None = None) -> str:
    """Return JSON that every reader takes: text is visible, and what is not a finite number is null."""
    return json.dumps(_plain(figures), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        plain: dict[str, Any] = {}
        for key, each in value.items():
            name = visible(key)
            while name in plain:  # two names that show alike are still two
                name += "'"
            plain[name] = _plain(each)
        return plain
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return _plain(value.tolist()) if hasattr(value, "tolist") else value  # numpy's numbers and arrays


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table for a terminal: the first column left, the others right, unless they are named in `left`."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[str] = ()

    def text(self) -> str:
        """Lay the table out."""
        lines = [[printable(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
        lefts = [at == 0 or name in self.left for at, name in enumerate(self.header)]
        laid = ("  ".join(map(_padded, row, widths, lefts)).rstrip() for row in lines)
        return "\n".join([*([printable(self.title)] if self.title else []), *(f"  {line}" for line in laid)])


def facts_text(rows: Iterable[tuple[str, str] | Sequence[str]]) -> str:
    """Lay a list of names and values out for a terminal."""
    pairs = [(printable(name), printable(value)) for name, value in rows]
    longest = max((width(name) for name, _ in pairs), default=0)
    return "\n".join(f"{_padded(name, longest, True)}  {value}".rstrip() for name, value in pairs)


def width(text: str) -> int:
    """Return the columns that text takes on a terminal: two a wide East Asian character, none a combining one."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def _padded(text: str, columns: int, left: bool) -> str:
    space = " " * (columns - width(text))
    return text + space if left else space + text


def counted(number: int, noun: str) -> str:
    """Write a number of things: ``1,000 tasks``, ``1 task``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Write a time with a unit to suit its size."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def size_text(number: float) -> str:
    """Write bytes with a unit to suit their size, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
