"""Parsing a CSV file of daily prices, and refusing one that cannot be used with the line and column at fault."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from core import InputError

MIN_ROWS = 30
"""Fewest price rows a calibration accepts: 29 returns leave a standard error of 13% on the volatility."""

DATE_NAMES = ("date", "day", "time", "timestamp", "datetime")
PRICE_NAMES = ("adj close", "adj_close", "adjclose", "adjusted close", "close", "price", "last", "settle", "value")
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, eq=False)
class PriceHistory:
    """Checked daily prices, oldest first.

    Parameters
    ----------
    names : tuple of str
        Column or series names, one per asset.
    dates : tuple of datetime.date
        One per row, strictly increasing; empty when the source has no date column.
    prices : float64 array, shape (rows, assets)
        Strictly positive prices in the unit of the source.
    source : str
        Where the prices came from, for people.
    """

    names: tuple[str, ...]
    dates: tuple[date, ...]
    prices: NDArray[np.float64]
    source: str

    @property
    def log_returns(self) -> NDArray[np.float64]:
        """Daily log returns, shape (rows - 1, assets)."""
        return np.diff(np.log(self.prices), axis=0)

    @property
    def span(self) -> str:
        """First and last date (or the number of rows where the source has no dates)."""
        return f"{self.dates[0]} to {self.dates[-1]}" if self.dates else f"{len(self.prices)} undated rows"


def parse_csv(raw: bytes, source: str, columns: Sequence[str] = (), holiday: str | None = None) -> PriceHistory:
    """Parse and check the bytes of a CSV file (comma, semicolon or tab; UTF-8; gzip or plain).

    Without `columns`, the price column is the first of the usual names present, or the only one besides the date.
    Rows whose price reads `holiday` are left out; no such mark is assumed.

    Raises
    ------
    InputError
        Empty or binary content, a missing column, a price that is not a positive number, or dates that are
        unreadable, repeated or out of order.
    """
    text = _decode(raw, source)
    first_line = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first_line.count))
    try:
        header = [name.strip() for name in next(rows)]
        body = [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except (csv.Error, StopIteration) as error:
        raise InputError(f"{source}: line {rows.line_num} is not CSV ({error}); export it as plain CSV") from error
    date_column = next((i for i, name in enumerate(header) if name.lower() in DATE_NAMES), None)
    chosen = [_column(header, name, source) for name in columns] or [_default_column(header, date_column, source)]
    if holiday is not None:
        body = [(line, row) for line, row in body if all(row[index : index + 1] != [holiday] for index in chosen)]
    values = [[_price(row, index, header[index], line, source) for index in chosen] for line, row in body]
    if len(values) < MIN_ROWS:
        raise InputError(f"{source}: {len(values)} price rows, but at least {MIN_ROWS} are needed to calibrate")
    dates = () if date_column is None else _dates(body, date_column, header[date_column], source)
    return PriceHistory(
        names=tuple(header[index] for index in chosen), dates=dates, prices=np.array(values), source=source
    )


def _decode(raw: bytes, source: str) -> str:
    if raw.startswith(GZIP_MAGIC):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise InputError(f"{source}: damaged gzip data ({error}); compress the CSV file again") from error
    if not raw.strip():
        raise InputError(f"{source}: the file is empty; it needs a header line and at least {MIN_ROWS} price rows")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not a text file (byte {error.start} is not UTF-8); export it as CSV") from error
    if "\0" in text:
        raise InputError(f"{source}: not a text file (it contains zero bytes); export it as CSV")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _column(header: Sequence[str], name: str, source: str) -> int:
    matches = [i for i, known in enumerate(header) if known.lower() == name.lower()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"{source}: column {name!r} appears {len(matches)} times; rename all but one")
    raise InputError(f"{source}: no column {name!r}; the file has {_listing(header)}")


def _default_column(header: Sequence[str], date_column: int | None, source: str) -> int:
    lowered = [name.lower() for name in header]
    usual = next((lowered.index(name) for name in PRICE_NAMES if name in lowered), None)
    if usual is not None:
        return usual
    others = [index for index in range(len(header)) if index != date_column]
    if len(others) == 1:
        return others[0]
    raise InputError(f"{source}: which column holds prices? Add ':COLUMN' to --prices; the file has {_listing(header)}")


def _listing(header: Sequence[str], most: int = 12) -> str:
    names = ", ".join(repr(name if len(name) <= 40 else name[:37] + "...") for name in header[:most])
    return f"{names} and {len(header) - most} more" if len(header) > most else names


def _price(row: Sequence[str], index: int, column: str, line: int, source: str) -> float:
    where = f"{source}: line {line}, column {column!r}"
    cell = row[index].strip() if index < len(row) else ""
    if not cell:
        raise InputError(f"{where}: the price is missing; fill it in or remove the row")
    try:
        value = float(cell)
    except ValueError:
        raise InputError(f"{where}: {cell[:40]!r} is not a number; write prices as plain decimals") from None
    if not math.isfinite(value) or value <= 0:
        raise InputError(f"{where}: price {cell} is not a positive number; correct it or remove the row")
    return value


def _dates(body: Sequence[tuple[int, Sequence[str]]], index: int, column: str, source: str) -> tuple[date, ...]:
    cells = [(line, row[index].strip() if index < len(row) else "") for line, row in body]
    order = _date_order([cell for _, cell in cells])
    dates: list[date] = []
    for line, cell in cells:
        where = f"{source}: line {line}, column {column!r}"
        try:
            day = date.fromisoformat(cell[:10]) if order is None else _slashed_date(cell, order)
        except ValueError:
            raise InputError(f"{where}: {cell[:40]!r} is not a date; write dates as YYYY-MM-DD") from None
        if dates and day == dates[-1]:
            raise InputError(f"{where}: date {day} appears twice; keep one row per day")
        if dates and day < dates[-1]:
            raise InputError(f"{where}: date {day} comes after {dates[-1]}; sort the rows by date, oldest first")
        dates.append(day)
    return tuple(dates)


def _date_order(cells: Sequence[str]) -> tuple[int, int, int] | None:
    """Return where year, month and day stand in slashed dates (None: ISO dates).

    Month comes first, as in most published price files, unless some first field exceeds 12.
    """
    if not cells or "/" not in cells[0]:
        return None
    leading = [cell.split("/", 1)[0] for cell in cells]
    if len(leading[0]) == 4:
        return 0, 1, 2
    return (2, 1, 0) if any(field.isdigit() and int(field) > 12 for field in leading) else (2, 0, 1)


def _slashed_date(cell: str, order: tuple[int, int, int]) -> date:
    fields = [int(field) for field in cell.split("/")]
    if len(fields) != 3:
        raise ValueError(cell)
    return date(*(fields[position] for position in order))
