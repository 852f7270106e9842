"""From rows of cells to a checked price history: what is no price is dropped and counted, what is unclear refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from itertools import islice

import numpy as np

from apps._frame.tables import counted
from apps.montecarlo.prices.columns import Columns, find_columns
from apps.montecarlo.prices.containers import read_grid
from apps.montecarlo.prices.dates import Dates, parse_dates, with_clock
from apps.montecarlo.prices.grid import Grid, Row, is_null
from apps.montecarlo.prices.history import MIN_ROWS, PriceHistory
from apps.montecarlo.prices.numerals import Located, Numbers, Place, parse_numbers
from core import InputError


def parse_prices(raw: bytes, source: str, columns: Sequence[str] = (), *, positive: bool = True) -> PriceHistory:
    """Parse and check the bytes of a price file, of any kind that `read_grid` knows.

    Without `columns`, the price column is the first of the usual names present, or the only one that holds numbers.
    Rows without a price are dropped and counted, as are exact repeats; rows that run newest first are turned round.

    Parameters
    ----------
    raw : bytes
    source : str
        Name of the file, for messages.
    columns : sequence of str
        Names of the price columns.
    positive : bool
        Refuse prices that are not above zero, as models of log returns must.

    Raises
    ------
    InputError
        The file cannot be used; the message names line and column.
    """
    grid = read_grid(raw, source)
    table = find_columns(grid, columns, source)
    rows, dropped = _with_prices(table, grid.unit)
    _check_count(len(rows), source)
    columns_read = [_prices(grid, table, rows, index, source, positive) for index in table.prices]
    prices = np.array([read.values for read in columns_read]).T
    lines = [row.number for row in rows]
    said_of_numbers = dict.fromkeys(note for read in columns_read for note in read.notes)
    moments, notes = None, (*grid.notes, *table.notes, *dropped, *said_of_numbers)
    if table.date is not None:
        place = Place(source, grid.unit, table.names[table.date])
        dates = parse_dates(_moments(rows, table.date, table.clock), place)
        keep, said = _in_order(dates, prices, lines, place)
        prices, lines = prices[keep], [lines[i] for i in keep]
        moments = [dates.moments[i] if dates.intraday else dates.moments[i].date() for i in keep]
        notes = (*notes, *dates.notes, *said)
    _check_count(len(prices), source)
    return PriceHistory(
        names=tuple(table.names[index] for index in table.prices),
        dates=tuple(moments or ()),
        prices=prices,
        source=source,
        lines=tuple(lines),
        unit=grid.unit,
        notes=notes,
    )


def _check_count(rows: int, source: str) -> None:
    if rows < MIN_ROWS:
        raise InputError(f"{source}: {counted(rows, 'price row')}, but at least {MIN_ROWS} are needed to calibrate")


def _with_prices(table: Columns, unit: str) -> tuple[list[Row], tuple[str, ...]]:
    """Drop rows in which a price is missing, and say how many there were."""
    held = [[not is_null(row.cell(index)) for index in table.prices] for row in table.rows]
    kept = [row for row, has in zip(table.rows, held, strict=True) if all(has)]
    missing = [row for row, has in zip(table.rows, held, strict=True) if not all(has)]
    if not missing:
        return kept, ()
    if len(table.prices) > 1:
        counts = ", ".join(
            f"{sum(has[i] for has in held):,} of {table.names[index]}" for i, index in enumerate(table.prices)
        )
        return kept, (f"Only rows in which every column has a price are used: {len(kept):,} ({counts}).",)
    count = f"{len(missing):,} rows" if len(missing) > 1 else "1 row"
    return kept, (f"Left out: {count} without a price, the first in {unit} {missing[0].number}.",)


def _prices(grid: Grid, table: Columns, rows: Sequence[Row], index: int, source: str, positive: bool) -> Numbers:
    place = Place(source, grid.unit, table.names[index])
    others = (
        cell for row in islice(table.rows, 500) for i, cell in enumerate(row.cells) if i not in (index, table.date)
    )
    read = parse_numbers([Located(row.number, row.cell(index)) for row in rows], place, grid.delimiter, others)
    for row, value in zip(rows, read.values, strict=True):
        if positive and value <= 0.0:
            raise InputError(
                f"{place.at(row.number)}: price {value:g} is not a positive number; correct it or remove the row"
                + ("; --model bachelier takes prices below zero" if value < 0.0 else "")
            )
    return read


def _moments(rows: Sequence[Row], date_: int, clock: int | None) -> list[Located]:
    if clock is None:
        return [Located(row.number, row.cell(date_)) for row in rows]
    return [Located(row.number, with_clock(row.cell(date_), row.cell(clock))) for row in rows]


def _in_order(
    dates: Dates, prices: np.ndarray, lines: Sequence[int], place: Place
) -> tuple[list[int], tuple[str, ...]]:
    """Return the rows oldest first, without exact repeats, and what to say of it."""
    moments = dates.moments
    rising = sum(b > a for a, b in zip(moments, moments[1:], strict=False))
    falling = sum(b < a for a, b in zip(moments, moments[1:], strict=False))
    newest_first = falling > rising
    kept: list[int] = []
    seen: dict[datetime, int] = {}
    for i, moment in enumerate(moments):
        day = _written(moment, dates.intraday)
        known = seen.setdefault(moment, i)
        if known != i:
            if (prices[known] == prices[i]).all():
                continue
            raise InputError(
                f"{place.at(lines[i])}: date {day} appears twice, with another price in {place.unit} {lines[known]}; "
                "keep one row per date"
            )
        if kept and (moment > moments[kept[-1]]) == newest_first:
            before = _written(moments[kept[-1]], dates.intraday)
            raise InputError(
                f"{place.at(lines[i])}: date {day} comes after {before}; sort the rows by date, oldest first"
            )
        kept.append(i)
    notes = []
    repeats = len(moments) - len(kept)
    if repeats:
        notes.append(
            f"Left out: {repeats:,} row{'s' * (repeats > 1)} that repeat{'s' * (repeats == 1)} another exactly."
        )
    if newest_first:
        notes.append("The file runs newest first; it was turned round.")
    return kept[::-1] if newest_first else kept, tuple(notes)


def _written(moment: datetime, intraday: bool) -> date:
    return moment if intraday else moment.date()
