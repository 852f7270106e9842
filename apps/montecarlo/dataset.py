"""Reading and checking daily prices: packaged series, CSV files, object URLs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from apps.montecarlo.pricefile import MIN_ROWS, PriceHistory, parse_csv
from core import ConfigError, FanfoldError, InputError, open_storage


@dataclass(frozen=True, slots=True)
class PackagedSeries:
    """A daily price series in the data folder of the `arch` package.

    `title` names it with its unit; `holiday` is what stands for the price on a day without trading.
    """

    path: str
    column: str
    title: str
    holiday: str | None = None


PACKAGED = {
    "sp500": PackagedSeries("sp500/sp500.csv.gz", "Adj Close", "S&P 500 index, points"),
    "nasdaq": PackagedSeries("nasdaq/nasdaq.csv.gz", "Adj Close", "NASDAQ Composite index, points"),
    "wti": PackagedSeries("wti/wti.csv.gz", "DCOILWTICO", "WTI crude oil, USD per barrel", "."),
}


def load_history(prices: str = "", symbols: Sequence[str] = (), window: str = "") -> PriceHistory:
    """Load prices from a CSV file or object when `prices` is given, else the packaged `symbols`.

    Parameters
    ----------
    prices : str
        ``FILE.csv``, ``FILE.csv:column[,column..]`` or the same with an object URL; gzip is recognised.
    symbols : sequence of str
        Names in ``PACKAGED``; several are aligned on the dates they share.
    window : str
        Rows to calibrate on: a number (the last so many prices), or ``FROM:TO`` with ISO dates, either end open.

    Raises
    ------
    InputError
        The data cannot be used; the message names file, column and row.
    ConfigError
        A symbol or the window is malformed, or the `arch` package is not installed.
    """
    history = read_prices(prices) if prices else _join([read_packaged(symbol) for symbol in symbols])
    history = _cut(history, window) if window else history
    if len(history.prices) < MIN_ROWS:
        raise InputError(
            f"{history.source}: {len(history.prices)} price rows{' in --window ' + window if window else ''}, but at "
            f"least {MIN_ROWS} are needed to calibrate; use a longer history or window"
        )
    return history


def read_packaged(symbol: str) -> PriceHistory:
    """Read a packaged series without importing `arch` (whose import costs seconds)."""
    series = PACKAGED.get(symbol)
    if series is None:
        raise ConfigError(f"--symbol {symbol}: no such packaged series; choose from {', '.join(PACKAGED)}")
    spec = find_spec("arch")
    if spec is None or spec.origin is None:
        raise ConfigError("the packaged prices come with the arch package: pip install arch, or give --prices FILE.csv")
    path = Path(spec.origin).parent / "data" / series.path
    history = parse_csv(_read_file(path), str(path), (series.column,), series.holiday)
    return replace(history, names=(symbol,), source=f"{series.title} (packaged series {symbol})")


def read_prices(address: str) -> PriceHistory:
    """Read ``FILE.csv[:column,..]`` from a path or an object URL."""
    location, columns = split_columns(address)
    if "://" not in location:
        return parse_csv(_read_file(Path(location)), location, columns)
    parent, _, key = location.rpartition("/")
    if not key:
        raise ConfigError(f"--prices {address}: the address names a folder; name one CSV object in it")
    try:
        raw = open_storage(parent).get(key)
    except ConfigError:
        raise
    except FanfoldError as error:
        raise InputError(f"cannot read {location}: {error}; check the address given to --prices") from error
    return parse_csv(raw, location, columns)


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
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; check the path given to --prices") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


def _join(histories: Sequence[PriceHistory]) -> PriceHistory:
    """Put several dated series side by side on the days they share."""
    if len(histories) == 1:
        return histories[0]
    tables = [dict(zip(history.dates, history.prices[:, 0], strict=True)) for history in histories]
    shared = sorted(set(tables[0]).intersection(*tables[1:]))
    return PriceHistory(
        names=tuple(history.names[0] for history in histories),
        dates=tuple(shared),
        prices=np.array([[table[day] for table in tables] for day in shared]),
        source="; ".join(history.source for history in histories),
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
        inside = [i for i, day in enumerate(history.dates) if first <= day <= last]
        if not inside:
            raise ConfigError(f"--window {window}: no prices in it; the data runs from {history.span}")
        keep = slice(inside[0], inside[-1] + 1)
    return replace(history, dates=history.dates[keep], prices=history.prices[keep])


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
