"""Prices to forecast from: packaged series, files, object URLs; the part of them that is asked for."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from apps.montecarlo.prices.history import MIN_ROWS, FloatArray, PriceHistory
from core import ConfigError, FanfoldError, InputError, open_storage


@dataclass(frozen=True, slots=True)
class PackagedSeries:
    """A daily price series in the data folder of the `arch` package.

    `title` names it with its unit.
    """

    path: str
    column: str
    title: str


PACKAGED = {
    "sp500": PackagedSeries("sp500/sp500.csv.gz", "Adj Close", "S&P 500 index, points"),
    "nasdaq": PackagedSeries("nasdaq/nasdaq.csv.gz", "Adj Close", "NASDAQ Composite index, points"),
    "wti": PackagedSeries("wti/wti.csv.gz", "DCOILWTICO", "WTI crude oil, USD per barrel"),
}


def load_history(
    prices: str = "",
    symbols: Sequence[str] = (),
    window: str = "",
    *,
    split_adjust: bool = False,
    positive: bool = True,
) -> PriceHistory:
    """Load prices from a file or object when `prices` is given, else the packaged `symbols`.

    Parameters
    ----------
    prices : str
        ``FILE``, ``FILE:column[,column..]`` or the same with an object URL; kinds of file are told by their content.
    symbols : sequence of str
        Names in ``PACKAGED``; several are aligned on the dates they share.
    window : str
        Rows to calibrate on: a number (the last so many prices), or ``FROM:TO`` with ISO dates, either end open.
    split_adjust : bool
        Rescale the prices before each return near a split's ratio.
    positive : bool
        Refuse prices that are not above zero.

    Raises
    ------
    InputError
        The data cannot be used; the message names file, column and row.
    ConfigError
        A symbol or the window is malformed, or the `arch` package is not installed.
    """
    history = read_prices(prices, positive=positive) if prices else _join([read_packaged(each) for each in symbols])
    history = _cut(history, window) if window else history
    if len(history.prices) < MIN_ROWS:
        raise InputError(
            f"{history.source}: {len(history.prices)} price rows{' in --window ' + window if window else ''}, but at "
            f"least {MIN_ROWS} are needed to calibrate; use a longer history or window"
        )
    if not (prices or split_adjust):
        # The packaged series are known to be right: what stands out in them happened.
        return history
    from apps.montecarlo.prices.checks import history_notes, split_adjusted

    history = split_adjusted(history) if split_adjust else history
    return replace(history, notes=(*history.notes, *history_notes(history))) if prices else history


def read_packaged(symbol: str) -> PriceHistory:
    """Read a packaged series without importing `arch` (whose import costs seconds)."""
    series = PACKAGED.get(symbol)
    if series is None:
        raise ConfigError(f"--symbol {symbol}: no such packaged series; choose from {', '.join(PACKAGED)}")
    spec = find_spec("arch")
    if spec is None or spec.origin is None:
        raise ConfigError("the packaged prices come with the arch package: pip install arch, or give --prices FILE.csv")
    path = Path(spec.origin).parent / "data" / series.path
    dates, prices = _known_columns(path.read_bytes(), series.column)
    return PriceHistory((symbol,), dates, prices, f"{series.title} (packaged series {symbol})")


def _known_columns(raw: bytes, column: str) -> tuple[tuple[date, ...], FloatArray]:
    """Read a packaged file, whose form is known: dates first, as ISO or month/day/year, a full stop for a holiday.

    The reader of files from anywhere gives the same in ten times the time.
    """
    header, *lines = gzip.decompress(raw).decode().splitlines()
    at = header.split(",").index(column)
    cells = [(row[0], row[at]) for row in (line.split(",") for line in lines) if row[at] != "."]
    dates = tuple(_known_date(day) for day, _ in cells)
    return dates, np.array([float(price) for _, price in cells])[:, None]


def _known_date(text: str) -> date:
    month, slash, rest = text.partition("/")
    if not slash:
        return date.fromisoformat(text)
    day, _, year = rest.partition("/")
    return date(int(year), int(month), int(day))


def read_prices(address: str, *, positive: bool = True) -> PriceHistory:
    """Read ``FILE[:column,..]`` from a path or an object URL."""
    from apps.montecarlo.prices.reading import parse_prices

    location, columns = split_columns(address)
    if "://" not in location:
        return _with_columns(parse_prices(_read_file(Path(location)), location, columns, positive=positive))
    parent, _, key = location.rpartition("/")
    if not key:
        raise ConfigError(f"--prices {address}: the address names a folder; name one object in it")
    try:
        raw = open_storage(parent).get(key)
    except ConfigError:
        raise
    except FanfoldError as error:
        raise InputError(f"cannot read {location}: {error}; check the address given to --prices") from error
    return _with_columns(parse_prices(raw, location, columns, positive=positive))


def _with_columns(history: PriceHistory) -> PriceHistory:
    """Name the columns in the source: which one was chosen must be seen."""
    names = ", ".join(history.names)
    # A column without a name is called by its number.
    what = names if names.startswith("column ") else f"column{'s' * (len(history.names) > 1)} {names}"
    return replace(history, source=f"{history.source} ({what})")


def split_columns(address: str) -> tuple[str, tuple[str, ...]]:
    """Split ``FILE.csv:a,b`` into the location and its column names (none given: an empty tuple)."""
    if "://" not in address and Path(address).exists():
        return address, ()
    head, slash, tail = address.rpartition("/")
    name, colon, columns = tail.partition(":")
    chosen = tuple(column.strip() for column in columns.split(",")) if colon else ()
    if any(not column for column in chosen):
        raise ConfigError(f"--prices {address}: an empty column name after ':'; write FILE.csv:COLUMN[,COLUMN]")
    return head + slash + name, chosen


def _read_file(path: Path) -> bytes:
    from apps.montecarlo.prices.containers import MAX_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; check the path given to --prices") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


def _join(histories: Sequence[PriceHistory]) -> PriceHistory:
    """Put several dated series side by side on the days they share, and say how many those are."""
    if len(histories) == 1:
        return histories[0]
    tables = [dict(zip(history.dates, history.prices[:, 0], strict=True)) for history in histories]
    shared = sorted(set(tables[0]).intersection(*tables[1:]))
    counts = ", ".join(f"{len(history.dates):,} of {history.names[0]}" for history in histories)
    return PriceHistory(
        names=tuple(history.names[0] for history in histories),
        dates=tuple(shared),
        prices=np.array([[table[day] for table in tables] for day in shared]),
        source="; ".join(history.source for history in histories),
        notes=(f"Only dates that every series has are used: {len(shared):,} ({counts}).",),
    )


def _cut(history: PriceHistory, window: str) -> PriceHistory:
    if window.isdigit():
        rows = int(window)
        if rows > len(history.prices):
            raise ConfigError(f"--window {window}: {history.source} has only {len(history.prices)} rows")
        keep = slice(len(history.prices) - rows, None)
    else:
        first, last = parse_window(window)
        if not history.dates:
            raise ConfigError(f"--window {window}: {history.source} has no date column; give a number of rows instead")
        inside = [i for i, day in enumerate(history.dates) if first <= _day(day) <= last]
        if not inside:
            raise ConfigError(f"--window {window}: no prices in it; the data runs from {history.span}")
        keep = slice(inside[0], inside[-1] + 1)
    return replace(history, dates=history.dates[keep], prices=history.prices[keep], lines=history.lines[keep])


def _day(moment: date) -> date:
    return moment.date() if isinstance(moment, datetime) else moment


def parse_window(window: str) -> tuple[date, date]:
    """Parse ``FROM:TO`` (ISO dates, either end open) into two dates.

    Raises
    ------
    ConfigError
        Neither a number of rows nor two dates in order.
    """
    first, colon, last = window.partition(":")
    try:
        start = date.fromisoformat(first) if first else date.min
        end = date.fromisoformat(last) if last else date.max
    except ValueError:
        colon = ""
    if not colon or start > end:
        raise ConfigError(f"--window {window}: give a number of rows (1260) or dates FROM:TO (2010-01-01:2015-12-31)")
    return start, end
