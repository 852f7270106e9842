"""A column of cells to numbers: decimal point or comma, thousands separators, currency signs, for the whole column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from apps.montecarlo.prices.grid import Cell, is_null, shown
from core import InputError

POINT, COMMA = ".", ","
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_SPACED = re.compile(r"(\d{1,3})((?:[ '’\u00a0\u2009\u202f]\d{3})+)(?!\d)", re.ASCII)
"""A number grouped by spaces or apostrophes, as in France and Switzerland."""
_GROUPED = {
    POINT: re.compile(r"[-+]?\d{1,3}(,\d{2,3})*,\d{3}(\.\d*)?", re.ASCII),
    COMMA: re.compile(r"[-+]?\d{1,3}(\.\d{2,3})*\.\d{3}(,\d*)?", re.ASCII),
}
"""A number grouped by the sign that is not the decimal one; groups of two are those of India."""
_CURRENCY = re.compile(r"^([-+−]?)\s*([$€£¥₹]|[A-Z]{3}(?![A-Za-z]))\s*|\s*([$€£¥₹]|(?<![A-Za-z])[A-Z]{3})$")
_LOOKS = re.compile(r"[-+−]?(\d[\d.,'’ \u00a0\u2009\u202f]*|[.,]\d+)([eE][-+]?\d{1,3})?", re.ASCII)
DECIMAL_COMMA_DELIMITERS = ";\t"
"""Where these stand between cells a comma may be the decimal sign, so that ``1.234`` may be a thousand."""


class Located(NamedTuple):
    """A cell with the line it stands in."""

    line: int
    cell: Cell


class Numbers(NamedTuple):
    """The numbers of a column, and what must be said of how they were read."""

    values: list[float]
    notes: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where a column stands, for messages: file, unit of its line numbers, column name."""

    source: str
    unit: str
    column: str

    def at(self, line: int) -> str:
        """Write the place of one cell."""
        return f"{self.source}: {self.unit} {line}, column {self.column!r}"


def looks_numeric(cell: Cell) -> bool:
    """Tell whether a cell may be a number, in whatever style."""
    if isinstance(cell, str):
        return _LOOKS.fullmatch(_bare(cell)) is not None
    return isinstance(cell, float) and not is_null(cell)


def parse_numbers(cells: Sequence[Located], place: Place, delimiter: str = "", others: Iterable[Cell] = ()) -> Numbers:
    """Parse a column without empty cells.

    Parameters
    ----------
    cells : sequence of Located
    place : Place
    delimiter : str
        What stands between the cells of the file.
    others : iterable of Cell
        Cells of the file's other columns, asked when this one leaves the decimal sign open.

    Raises
    ------
    InputError
        A cell is no number, two cells have different decimal signs, or ``1,234`` may mean a thousand or about one.
    """
    plain = _plain_numbers(cells)
    if plain is not None:
        return Numbers(plain)
    _check_currency(cells, place)
    texts = [(line, _bare(cell)) for line, cell in cells if isinstance(cell, str)]
    decimal = _decimal_sign(texts, place, delimiter, others)
    values = []
    for line, cell in cells:
        value = cell if isinstance(cell, float) else _number(_bare(cell), decimal) if isinstance(cell, str) else None
        if value is None or not math.isfinite(value):
            raise InputError(f"{place.at(line)}: {shown(cell)} is not a number; write prices as plain decimals")
        values.append(value)
    open_ones = [text for _, text in texts if _evidence(text) == "?"] if decimal == POINT else []
    if open_ones and len(open_ones) == sum(POINT in text for _, text in texts):
        return Numbers(values, (f"Prices such as {open_ones[0]} are read with a decimal point, not as thousands.",))
    return Numbers(values)


def _plain_numbers(cells: Sequence[Located]) -> list[float] | None:
    """Read numbers with a decimal point at once, as most files have them, if one of them shows that it is one."""
    texts = [cell for _, cell in cells if isinstance(cell, str)]
    if len(texts) < len(cells) or not any(_evidence(text) == POINT for text in texts):
        return None
    if not all(map(_PLAIN.fullmatch, texts)):
        return None
    values = list(map(float, texts))
    return values if all(map(math.isfinite, values)) else None


def _check_currency(cells: Sequence[Located], place: Place) -> None:
    known = ""
    for line, cell in cells:
        match = _CURRENCY.search(cell.strip()) if isinstance(cell, str) else None
        mark = (match[2] or match[3]) if match else ""
        if mark and known and mark != known:
            raise InputError(f"{place.at(line)}: {shown(cell)}, after prices in {known}; keep to one currency")
        known = mark or known


def _bare(cell: str) -> str:
    """Take off blanks, a currency's sign, and the blanks or apostrophes that group digits."""
    text = cell.strip()
    if _PLAIN.fullmatch(text):
        return text
    text = _CURRENCY.sub(r"\1", text).replace("−", "-").strip()
    return _SPACED.sub(lambda match: match[1] + re.sub(r"\D", "", match[2]), text)


def _number(text: str, decimal: str) -> float | None:
    if _PLAIN.fullmatch(text) and (decimal == POINT or POINT not in text):
        return float(text)
    if _GROUPED[decimal].fullmatch(text):
        text = text.replace(COMMA if decimal == POINT else POINT, "")
    if decimal == COMMA:
        text = text.replace(COMMA, POINT) if POINT not in text else ""
    return float(text) if _PLAIN.fullmatch(text) else None


def _decimal_sign(texts: Sequence[tuple[int, str]], place: Place, delimiter: str, others: Iterable[Cell]) -> str:
    """Decide for the whole column which sign is the decimal one."""
    found: dict[str, tuple[int, str]] = {}
    unclear: tuple[int, str] | None = None
    for line, text in texts:
        sign = _evidence(text)
        if sign in (POINT, COMMA):
            found.setdefault(sign, (line, text))
        elif sign:
            unclear = unclear or (line, text)
    if len(found) == 2:
        first, second = found[POINT], found[COMMA]
        raise InputError(
            f"{place.at(second[0])}: {second[1]!r} has a decimal comma, but {first[1]!r} in {place.unit} {first[0]} a "
            "decimal point; write all prices alike"
        )
    if found:
        return next(iter(found))
    if unclear is None:
        return POINT
    elsewhere = {_evidence(_bare(cell)) for cell in others if isinstance(cell, str) and looks_numeric(cell)}
    elsewhere &= {POINT, COMMA}
    if len(elsewhere) == 1:
        return elsewhere.pop()
    # Programs that write a decimal comma put a semicolon or a tab between cells, and those that write three decimals
    # write them in every cell.
    has_wholes = any(not _evidence(text) for _, text in texts)
    if COMMA not in unclear[1] and delimiter not in (*DECIMAL_COMMA_DELIMITERS,) and not has_wholes:
        return POINT
    small = unclear[1].replace(COMMA, POINT)
    large = re.sub(r"[.,]", "", unclear[1])
    raise InputError(
        f"{place.at(unclear[0])}: {unclear[1]!r} may be {large} or {small}, and no other price tells which; write "
        "prices without thousands separators and with a decimal point"
    )


def _evidence(text: str) -> str:
    """Return the decimal sign that a number must have, empty when it has no sign at all, ``?`` when either may be."""
    text = re.split("[eE]", text.lstrip("+-"))[0]
    points, commas = text.count(POINT), text.count(COMMA)
    if points and commas:
        return POINT if text.rfind(POINT) > text.rfind(COMMA) else COMMA
    if not points and not commas:
        return ""
    sign, other = (POINT, COMMA) if points else (COMMA, POINT)
    if points + commas > 1:
        return other
    whole, _, fraction = text.partition(sign)
    return sign if len(fraction) != 3 or not 1 <= len(whole) <= 3 or whole.startswith("0") else "?"
