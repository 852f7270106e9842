"""A column of cells to dates: one order of day, month and year for the whole column, and the century of short years."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from apps.montecarlo.prices.grid import Cell, shown
from apps.montecarlo.prices.numerals import Located, Place
from core import InputError

EARLIEST = date(1900, 1, 1)
"""Earlier dates are years written with too few digits, or misread."""
EXCEL_EPOCH = datetime(1899, 12, 30)
"""Day 0 of a workbook's serial numbers, with the 29 February 1900 that Excel counts and that never was."""
SECONDS_PER_DAY = 86_400
SERIALS = (7306.0, 73051.0)
"""Numbers taken for serial days: 1920 to 2099. Smaller ones are likelier to count rows."""
COMPACT = (19000101.0, 21001231.0)
EPOCH_UNITS = ((1e8, 1e10, 1.0), (1e11, 1e13, 1e3), (1e14, 1e16, 1e6), (1e17, 1e19, 1e9))
"""Seconds, milli-, micro- and nanoseconds since 1970, by their size: from, below, units in a second."""
MIDNIGHT = " 00:00:00"
INTRADAY_ROWS = 1.1
"""Rows a day from which prices are of times of the day; below it a second row is a mistake."""

MONTHS = {name: i for i, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
)}  # fmt: skip
_SIMPLE = re.compile(r"(\d{1,4})[-/.](\d{1,2})[-/.](\d{4}|\d{1,2})", re.ASCII)
"""Three numbers without a time, as most dates are: `_TRIPLE` knows them too, at four times the cost."""
_TIME = (
    r"(?:[T ,]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.\d+)?)?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
    r"\s*(?P<zone>Z|[+-]\d{2}:?\d{2})?(?:\s*\(?[A-Z]{2,5}\)?)?)?"
)
_TRIPLE = re.compile(
    r"(?:[A-Za-z]{3,9}\.?,? )?(?P<a>\d{1,4}|[A-Za-z]{3,9})\.?[-/. ,]+(?P<b>\d{1,2}|[A-Za-z]{3,9})\.?[-/. ,]+"
    r"(?P<c>\d{4}|\d{1,2})" + _TIME,
    re.ASCII,
)
_COMPACT = re.compile(r"(?P<a>(?:19|20)\d{2})(?P<b>0[1-9]|1[0-2])(?P<c>0[1-9]|[12]\d|3[01])" + _TIME, re.ASCII)
_MONTH_NAME = f"(?:{'|'.join(MONTHS)})[a-z]*"
_PERIOD = re.compile(
    r"(?P<y1>\d{4})-(?P<m1>\d{2})|(?P<y2>\d{4})[- ]?m(?P<m2>\d{1,2})|(?P<y3>\d{4})[- ]?q(?P<q3>[1-4])"
    r"|q(?P<q4>[1-4])[- ]?(?P<y4>\d{4})"
    rf"|(?P<y5>\d{{4}})[- ](?P<m5>{_MONTH_NAME})|(?P<m6>{_MONTH_NAME})[- ](?P<y6>\d{{4}})",
    re.ASCII | re.IGNORECASE,
)
"""A month or a quarter of a year, without a day."""
_NUMBER = re.compile(r"\d+(\.\d*)?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):?(\d{2})(?::?(\d{2}))?", re.ASCII)


class Dates(NamedTuple):
    """Moments of all rows, with a time of day only where prices are of times of the day, and what must be said."""

    moments: list[datetime]
    intraday: bool
    notes: tuple[str, ...]


class _Fields(NamedTuple):
    """Three fields of a date in the order written, and the time of day."""

    fields: tuple[str, str, str]
    clock: timedelta = timedelta()
    offset: timedelta | None = None


def looks_like_date(cell: Cell, *, leading: bool) -> bool:
    """Tell whether a cell reads as a date; a bare number such as 20200102 does so in the `leading` column alone."""
    if isinstance(cell, datetime):
        return True
    if not isinstance(cell, str):
        return False
    text = cell.strip()
    if leading and _COMPACT.fullmatch(text):
        return True
    return _TRIPLE.fullmatch(text) is not None or _PERIOD.fullmatch(text) is not None


def from_serial(days: float, epoch: datetime = EXCEL_EPOCH) -> datetime:
    """Turn a workbook's serial number, in days since an epoch, into a moment.

    Serials carry the time of day in binary fractions; half a second is below their precision.
    """
    return epoch + timedelta(seconds=round(days * SECONDS_PER_DAY))


def with_clock(day: Cell, clock: Cell) -> Cell:
    """Join a date and the time of day of another column, written ``16:30``, ``16:30:00``, ``163000`` or typed."""
    if isinstance(clock, float) and 0.0 <= clock < 1.0:
        clock = from_serial(clock)
    if isinstance(clock, datetime):
        clock = str(clock.time())
    match = _CLOCK.fullmatch(clock) if isinstance(clock, str) else None
    if match is None:
        return day
    text = str(day.date()) if isinstance(day, datetime) else day
    return f"{text} {match[1]}:{match[2]}:{match[3] or '00'}" if isinstance(text, str) else day


def parse_dates(cells: Sequence[Located], place: Place, latest: date | None = None) -> Dates:
    """Parse the dates of a table's rows.

    Parameters
    ----------
    cells : sequence of Located
    place : Place
    latest : date, optional
        No price is later; decides the century of years of two digits. Today unless given.

    Raises
    ------
    InputError
        A cell is no date, or its date is before 1900.
    """
    plain = _plain_dates(cells)
    if plain is not None:
        return Dates(plain, False, ())
    latest = latest or date.today()
    parsed = [_fields(cell) if isinstance(cell, str) else None for _, cell in cells]
    order, notes = _order([fields for fields in parsed if fields is not None], latest)
    found: list[tuple[datetime, timedelta | None]] = []
    short: list[int] = []
    for (line, cell), fields in zip(cells, parsed, strict=True):
        try:
            if fields is None:
                moment, offset = _read(cell)
            else:
                day, is_short = _day(fields, order, latest)
                moment, offset = day + fields.clock, fields.offset
                short += [day.year] if is_short else []
        except (ValueError, OverflowError):
            raise InputError(f"{place.at(line)}: {shown(cell)} is not a date; write dates as YYYY-MM-DD") from None
        if moment.date() < EARLIEST:
            raise InputError(f"{place.at(line)}: date {moment.date()} is before 1900; write years with four digits")
        found.append((moment, offset))
    if short:
        notes += (f"Years of two digits are read as {min(short)} to {max(short)}.",)
    notes += _numbers_as_dates(cells[0].cell, found[0][0]) if cells else ()
    days = {moment.date() for moment, _ in found}
    if len(found) < INTRADAY_ROWS * len(days) or all(moment.time() == datetime.min.time() for moment, _ in found):
        return Dates([datetime.combine(moment, datetime.min.time()) for moment, _ in found], False, notes)
    moments = [moment for moment, _ in found]
    if len(set(moments)) < len(moments) and all(offset is not None for _, offset in found):
        # Hours that a clock repeats in autumn are apart in universal time.
        return Dates([m - o for m, o in found if o is not None], True, (*notes, "Times are in UTC."))
    return Dates(moments, True, notes)


def _numbers_as_dates(cell: Cell, moment: datetime) -> tuple[str, ...]:
    """Say what a number was taken for, unless it shows its date."""
    text = f"{cell:.15g}" if isinstance(cell, float) else cell
    if not isinstance(text, str) or not _NUMBER.fullmatch(text) or _COMPACT.fullmatch(text):
        return ()
    what = "a workbook's day" if float(text) < SERIALS[1] else "seconds or parts of them since 1970"
    return (f"Dates such as {text} are read as {what}: {moment.date()}.",)


def _plain_dates(cells: Sequence[Located]) -> list[datetime] | None:
    """Read YYYY-MM-DD, or that with zeros for the time, at once, as most files have it: the long way is slower."""
    texts = [cell.removesuffix(MIDNIGHT) for _, cell in cells if isinstance(cell, str)]
    if len(texts) < len(cells) or any(len(text) != len("YYYY-MM-DD") or text[4] != "-" for text in texts):
        return None
    try:
        moments = list(map(datetime.fromisoformat, texts))
    except ValueError:
        return None
    return moments if all(moment.year >= EARLIEST.year for moment in moments) else None


def _read(cell: Cell) -> tuple[datetime, timedelta | None]:
    """Read a cell that is not three fields: a typed date, a number, a month or quarter."""
    if isinstance(cell, datetime):
        return cell.replace(tzinfo=None), cell.utcoffset()
    if isinstance(cell, float):
        return _from_number(cell), None
    text = cell or ""
    if _NUMBER.fullmatch(text):
        return _from_number(float(text)), None
    period = _PERIOD.fullmatch(text)
    if period is None:
        raise ValueError(text)
    return _period_end(period), None


def _day(parsed: _Fields, order: str, latest: date) -> tuple[datetime, bool]:
    """Return the day, and whether its year has two digits."""
    by_letter = dict(zip(_order_of(parsed.fields, order), parsed.fields, strict=True))
    year = by_letter["Y"]
    return datetime(_year(year, latest), _month(by_letter["M"]), int(by_letter["D"])), len(year) <= 2


def _fields(text: str) -> _Fields | None:
    simple = _SIMPLE.fullmatch(text)
    if simple is not None:
        return _Fields((simple[1], simple[2], simple[3]))
    match = _TRIPLE.fullmatch(text) or _COMPACT.fullmatch(text)
    if match is None:
        return None
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    if match["half"]:
        hour = hour % 12 + (12 if match["half"][0] in "pP" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    zone = match["zone"]
    offset = None
    if zone:
        digits = "0000" if zone == "Z" else zone[1:].replace(":", "")
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    clock = timedelta(hours=hour, minutes=minute, seconds=second)
    return _Fields((match["a"], match["b"], match["c"]), clock, offset)


def _order_of(fields: tuple[str, str, str], order: str) -> str:
    """Return where day, month and year stand in one date: what it shows by itself, else the column's `order`."""
    a, b, _ = fields
    if len(a) >= 3 and a.isdecimal():
        return "YMD"
    if a.isalpha():
        return "MDY"
    if b.isalpha():
        return "YMD" if order == "YMD" else "DMY"
    return order


def _order(parsed: Sequence[_Fields], latest: date) -> tuple[str, tuple[str, ...]]:
    """Choose the order of day, month and year for dates of numbers that do not begin with a year."""
    triples = [each.fields for each in parsed]
    open_ones = [fields for fields in triples if len(fields[0]) < 3]
    if not open_ones:
        return "YMD", ()
    if any(int(a) > 31 for a, _, _ in open_ones if a.isdecimal()):
        return "YMD", ()
    numeric = [fields for fields in open_ones if all(field.isdecimal() for field in fields)]
    if not numeric:
        return "DMY", ()
    days_first = sum(int(a) > 12 for a, _, _ in numeric)
    months_first = sum(int(b) > 12 for _, b, _ in numeric)
    if days_first or months_first:
        return ("DMY" if days_first > months_first else "MDY"), ()
    order = min(("MDY", "DMY"), key=lambda each: _unevenness(numeric, each, latest))
    words = {"DMY": "day first", "MDY": "month first"}
    return order, (f"Dates such as {'/'.join(numeric[0])} are read {words[order]}, which spaces the rows evenly.",)


def _unevenness(fields: Sequence[tuple[str, str, str]], order: str, latest: date) -> float:
    """Measure how far the days between rows are from being alike, infinite where the dates run both ways."""
    keys = [dict(zip(order, each, strict=True)) for each in fields]
    try:
        days = [date(_year(key["Y"], latest), int(key["M"]), int(key["D"])) for key in keys]
    except ValueError:
        return float("inf")
    gaps = [(b - a).days for a, b in pairwise(days)]
    if not gaps or min(gaps) < 0 < max(gaps):
        return float("inf")
    sizes = sorted(map(abs, gaps))
    return sizes[-1] / max(sizes[len(sizes) // 2], 1)


def _month(field: str) -> int:
    if field.isdecimal():
        return int(field)
    month = MONTHS.get(field[:3].lower())
    if month is None:
        raise ValueError(field)
    return month


def _year(field: str, latest: date) -> int:
    year = int(field)
    if len(field) > 2:
        return year
    century = latest.year // 100 * 100
    return century + year if century + year <= latest.year else century - 100 + year


def _from_number(value: float) -> datetime:
    if SERIALS[0] <= value < SERIALS[1]:
        return from_serial(value)
    if COMPACT[0] <= value <= COMPACT[1] and value.is_integer():
        return datetime.strptime(str(int(value)), "%Y%m%d")
    for least, below, units in EPOCH_UNITS:
        if least <= value < below:
            return datetime.fromtimestamp(value / units, UTC).replace(tzinfo=None)
    raise ValueError(value)


def _period_end(match: re.Match[str]) -> datetime:
    """Return the last day of a month or quarter."""
    found = {name[0]: value for name, value in match.groupdict().items() if value is not None}
    year, month = int(found["y"]), 3 * int(found["q"]) if "q" in found else _month(found["m"])
    first = date(year, month, 1)
    following = date(year + month // 12, month % 12 + 1, 1)
    return datetime.combine(first, datetime.min.time()) + (following - first) - timedelta(days=1)
