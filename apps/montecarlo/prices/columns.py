"""Which columns of a table are dates and prices, and where its rows begin and end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.montecarlo.prices.dates import looks_like_date
from apps.montecarlo.prices.grid import Cell, Grid, Row, is_null, shown
from apps.montecarlo.prices.numerals import looks_numeric
from core import InputError

DATE_NAMES = frozenset(
    {"date", "day", "time", "timestamp", "datetime", "date/time", "trade date", "trade_date", "trading day",
     "observation_date", "unix", "unix timestamp", "open time", "open_time", "datum", "fecha"}
)  # fmt: skip
TIME_NAMES = frozenset({"time", "hour", "time of day"})
PRICE_NAMES = (
    "adj close", "adj_close", "adjclose", "adj. close", "adjusted close", "adjusted_close", "adjusted", "close",
    "close*", "adj close**", "close/last", "close price", "closing price", "price", "last", "last price", "px_last",
    "settle", "settlement price", "value", "nav", "kurs", "schlusskurs", "schluss", "cierre", "clôture", "chiusura",
)  # fmt: skip
"""Usual names of the price column, the likelier before; adjusted closes first, as they have no splits."""
SAMPLE_ROWS = 60
"""Rows in the middle of a file that tell which column is what: preambles and footers are elsewhere."""
MAX_PREAMBLE = 200
"""Rows that may stand above the table."""
MAX_LEVELS = 3
"""Rows of stacked column names, as yfinance writes them: price, ticker, and the name of the index."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A table whose columns are known.

    Parameters
    ----------
    names : tuple of str
        One a column.
    date : int, optional
        Column of the dates.
    prices : tuple of int
        Columns of the prices.
    rows : list of Row
        From the first to the last row with a date or price.
    notes : tuple of str
        What was left out.
    clock : int, optional
        Column of the time of day, where it stands apart from the date.
    """

    names: tuple[str, ...]
    date: int | None
    prices: tuple[int, ...]
    rows: list[Row]
    notes: tuple[str, ...]
    clock: int | None = None


def find_columns(grid: Grid, chosen: Sequence[str], source: str) -> Columns:
    """Find the date column, the price columns (`chosen` by name, or the usual one), and the rows of the table.

    Raises
    ------
    InputError
        A chosen column is missing or there twice, no or several columns may hold the price, or a row has more cells
        than the table has columns.
    """
    middle = len(grid.rows) // 2
    sample = grid.rows[max(0, middle - SAMPLE_ROWS // 2) : middle + SAMPLE_ROWS // 2]
    width = max((len(row.cells) for row in sample), default=0)
    dated = [i for i in range(width) if _mostly_dates(sample, i)]
    header = _header_row(grid.rows, dated[0] if dated else None, width)
    words = [] if header is None else [_word(cell) for cell in grid.rows[header].cells]
    # Serial days and such are dates by their name alone; of several dates the one that is called so counts.
    called = [i for i, word in enumerate(words) if word in DATE_NAMES and (i in dated or not dated)]
    date = next(iter(called + dated), None)
    names = _names(grid.rows, header, date, width)
    clock = next((i for i, word in enumerate(words) if word in TIME_NAMES and i != date), None)
    rows = grid.rows[0 if header is None else header + 1 :]
    prices = tuple(_named(names, name, source) for name in chosen) or (_usual(names, sample, date, source),)
    rows, notes = _between(rows, date, prices, grid.unit)
    for row in rows:
        if len(row.cells) <= len(names):
            continue
        extra = next((cell for cell in row.cells[len(names) :] if not is_null(cell)), None)
        if extra is not None:
            raise InputError(
                f"{source}: {grid.unit} {row.number} has more cells than the table has columns ({len(names)}), from "
                f"{shown(extra)} on; put text and numbers with a {grid.delimiter or 'comma'!r} in them in quotes"
            )
    return Columns(names, date, prices, rows, notes, clock)


def _mostly_dates(sample: Sequence[Row], index: int) -> bool:
    cells = [cell for row in sample if not is_null(cell := row.cell(index))]
    return bool(cells) and 2 * sum(looks_like_date(cell, leading=index == 0) for cell in cells) > len(cells)


def _mostly_numbers(sample: Sequence[Row], index: int) -> bool:
    cells = [cell for row in sample if not is_null(cell := row.cell(index))]
    return bool(cells) and 2 * sum(map(looks_numeric, cells)) > len(cells)


def _word(cell: Cell) -> str:
    return re.sub(r"\s+", " ", cell).strip(" <>").lower() if isinstance(cell, str) else ""


def _header_row(rows: Sequence[Row], date: int | None, width: int) -> int | None:
    """Find the row of the column names: the last before the data with a usual name in it, else the last with text."""
    first = next((i for i, row in enumerate(rows) if _is_data(row, date)), len(rows))
    above = range(min(first, MAX_PREAMBLE) - 1, -1, -1)
    for i in above:
        words = {_word(cell) for cell in rows[i].cells}
        if words & DATE_NAMES or words.intersection(PRICE_NAMES):
            return i
    for i in above:
        filled = [cell for cell in rows[i].cells if not is_null(cell)]
        if len(filled) >= max(1, width - 1) and not any(_is_value(cell) for cell in filled):
            return i
    return None


def _is_value(cell: Cell) -> bool:
    return isinstance(cell, datetime) or looks_numeric(cell) or looks_like_date(cell, leading=False)


def _is_data(row: Row, date: int | None) -> bool:
    if date is None:
        filled = [cell for cell in row.cells if not is_null(cell)]
        return bool(filled) and all(map(looks_numeric, filled))
    others = (cell for i, cell in enumerate(row.cells) if i != date)
    return looks_like_date(row.cell(date), leading=date == 0) and any(map(looks_numeric, others))


def _names(rows: Sequence[Row], header: int | None, date: int | None, width: int) -> tuple[str, ...]:
    if header is None:
        return tuple(f"column {i + 1}" for i in range(width))
    top = rows[header]
    count = max(len(top.cells), 1)
    while count > 1 and is_null(top.cell(count - 1)) and count > width:
        count -= 1
    if date is None or any(not is_null(top.cell(i)) for i in range(count) if i != date):
        return tuple(_name(top.cell(i)) for i in range(count))
    above = rows[max(0, header - MAX_LEVELS + 1) : header]
    levels = [_filled([row.cell(i) for i in range(width)]) for row in above if sum(map(bool, row.cells)) > 1]
    telling = [level for level in levels if len({*level[:date], *level[date + 1 :]}) > 1] or levels[:1]
    joined = [" ".join(filter(None, parts)) for parts in zip(*telling, strict=True)]
    return tuple(_name(top.cell(i)) if i == date else name for i, name in enumerate(joined))


def _filled(cells: Sequence[Cell]) -> list[str]:
    """Give each empty cell of a row of names the one before it: a workbook joins those that are alike."""
    names: list[str] = []
    for cell in cells:
        names.append(_name(cell) or (names[-1] if len(names) > 1 else ""))
    return names


def _name(cell: Cell) -> str:
    return "".join(c if c.isprintable() else " " for c in str("" if cell is None else cell)).strip()


def _named(names: Sequence[str], name: str, source: str) -> int:
    matches = [i for i, known in enumerate(names) if known.lower() == name.lower()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"{source}: column {name!r} appears {len(matches)} times; rename all but one")
    raise InputError(f"{source}: no column {name!r}; the file has {_listing(names)}")


def _usual(names: Sequence[str], sample: Sequence[Row], date: int | None, source: str) -> int:
    """Choose the price column: the first of the usual names, else the only one that holds numbers."""
    words = [_word(name) for name in names]
    # Some programs put the ticker first: AAPL.Close.
    for known in (words, [word.rpartition(".")[2] for word in words]):
        found = next((name for name in PRICE_NAMES if name in known), "")
        if found and known.count(found) == 1:
            return known.index(found)
    others = [i for i in range(len(names)) if i != date]
    numeric = [i for i in others if _mostly_numbers(sample, i) and not _counts_rows(sample, i, names[i])]
    if len(numeric) == 1:
        return numeric[0]
    if not numeric and len(others) == 1:
        return others[0]
    raise InputError(f"{source}: which column holds prices? Add ':COLUMN' to --prices; the file has {_listing(names)}")


def _counts_rows(sample: Sequence[Row], index: int, name: str) -> bool:
    """Tell whether a nameless column merely numbers the rows, as data frames are written."""
    if name and not name.lower().startswith("unnamed"):
        return False
    texts = [str(row.cell(index)).removesuffix(".0") for row in sample[1:]]
    return all(text.isdecimal() for text in texts) and all(
        int(b) == int(a) + 1 for a, b in zip(texts, texts[1:], strict=False)
    )


def _listing(names: Sequence[str], most: int = 12) -> str:
    listed = ", ".join(shown(name) for name in names[:most])
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed


def _between(rows: list[Row], date: int | None, prices: Sequence[int], unit: str) -> tuple[list[Row], tuple[str, ...]]:
    """Cut off what stands above the first and below the last row that has a date or a price."""
    first = next((i for i, row in enumerate(rows) if _counts(row, date, prices)), len(rows))
    end = len(rows)
    while end > first and not _counts(rows[end - 1], date, prices):
        end -= 1
    tail = rows[end:]
    if first == end or not tail:
        return rows[first:end], ()
    text = " ".join(str(cell) for cell in tail[0].cells if not is_null(cell))
    number = f"{len(tail)} {unit}s" if len(tail) > 1 else f"1 {unit}"
    note = f"Left out: {number} after the last price, from {unit} {tail[0].number} on ({shown(text)})."
    return rows[first:end], (note,)


def _counts(row: Row, date: int | None, prices: Sequence[int]) -> bool:
    dated = date is not None and looks_like_date(row.cell(date), leading=True)
    return dated or any(looks_numeric(row.cell(i)) for i in prices)
