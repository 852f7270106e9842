"""Whatever the bytes, a file is refused in one sentence or gives a sound history; what was put in comes out."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.montecarlo.prices.checks import history_notes, split_adjusted
from apps.montecarlo.prices.reading import parse_prices
from core import InputError

QUICK = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
LONG = settings(QUICK, max_examples=5000)

DAYS = [day for i in range(60) if (day := date(2020, 1, 1) + timedelta(days=i)).weekday() < 5]
PRICES = [round(990.0 + 1.5 * i + i % 3 * 0.25, 2) for i in range(len(DAYS))]
PLAIN = ("Date,Close\n" + "".join(f"{d},{p}\n" for d, p in zip(DAYS, PRICES, strict=True))).encode()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("prices.csv", content)
    return buffer.getvalue()


def parquet() -> bytes:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    pq.write_table(pa.table({"Date": DAYS, "Close": PRICES}), buffer)
    return buffer.getvalue()


def is_refused_or_sound(raw: bytes) -> None:
    history, refusal = None, ""
    try:
        history = parse_prices(raw, "p")
    except InputError as error:
        refusal = str(error)
    if history is None:
        assert refusal.startswith("p: ")
        assert "\n" not in refusal
        return
    assert len(history.prices) == len(history.lines) >= 30
    assert np.isfinite(history.prices).all()
    assert (history.prices > 0.0).all()
    assert all(a < b for a, b in zip(history.dates, history.dates[1:], strict=False))
    assert all("\n" not in note for note in (*history.notes, *history_notes(history)))
    assert np.isfinite(split_adjusted(history).prices).all()


CELLS = st.text("0123456789.,;-/: \t\"'eEJanQ$€%\u00a0x\n", max_size=12)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=30, max_size=45)
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 2), st.integers(0, 255)), min_size=1, max_size=6)


def changed(raw: bytes, changes: list[tuple[int, int, int]]) -> bytes:
    """Replace, insert or cut out bytes."""
    data = bytearray(raw)
    for place, kind, value in changes:
        at = place % (len(data) + 1)
        data[at : at + (kind != 1)] = b"" if kind == 2 else bytes([value])
    return bytes(data)


def table(rows: list[list[str]]) -> bytes:
    return "\n".join(",".join(row) for row in rows).encode()


def dated(rows: list[list[str]]) -> bytes:
    """Put the cells beside dates, so that they are taken for prices."""
    return table([["Date", "Close"], *([str(day), *row] for day, row in zip(DAYS * 2, rows, strict=False))])


@QUICK
@given(st.binary(max_size=2000))
def test_any_bytes(raw: bytes) -> None:
    is_refused_or_sound(raw)


@QUICK
@given(ROWS)
def test_any_cells(rows: list[list[str]]) -> None:
    is_refused_or_sound(table(rows))
    is_refused_or_sound(dated(rows))


@QUICK
@given(CHANGES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zipped], ids=["plain", "gzip", "zip"])
def test_a_damaged_file(pack: Callable[[bytes], bytes], changes: list[tuple[int, int, int]]) -> None:
    is_refused_or_sound(changed(pack(PLAIN), changes))
    is_refused_or_sound(pack(changed(PLAIN, changes)))


@QUICK
@given(changes=CHANGES)
def test_a_damaged_workbook(workbook_file: bytes, changes: list[tuple[int, int, int]]) -> None:
    is_refused_or_sound(changed(workbook_file, changes))


@QUICK
@given(changes=CHANGES, data=st.data())
def test_a_workbook_with_a_damaged_part(
    workbook_file: bytes, changes: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    with zipfile.ZipFile(io.BytesIO(workbook_file)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = data.draw(st.sampled_from(sorted(parts)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each, content in parts.items():
            archive.writestr(each, changed(content, changes) if each == name else content)

    is_refused_or_sound(buffer.getvalue())


@QUICK
@given(CHANGES)
def test_damaged_parquet(changes: list[tuple[int, int, int]]) -> None:
    is_refused_or_sound(b"PAR1" + changed(parquet(), changes)[4:])


@pytest.fixture
def workbook_file(workbook: Callable[..., bytes]) -> bytes:
    rows = [((day - date(1899, 12, 30)).days, 1) for day in DAYS]
    return workbook([["Date", "Close"], *([day, price] for day, price in zip(rows, PRICES, strict=True))])


DATE_PATTERNS = (
    "%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%b-%y", "%m/%d/%y", "%d/%m/%y", "%b %d, %Y", "%Y%m%d",
    "%Y/%m/%d", "%A, %d %B %Y", "%Y-%m-%dT00:00:00Z", "%m/%d/%Y 4:00 PM", "%d.%m.%y", "serial", "seconds",
)  # fmt: skip
STYLES = {
    "us": (",", "."), "german": (".", ","), "french": ("\u202f", ","), "swiss": ("'", "."), "plain": ("", "."),
    "comma": ("", ","),
}  # fmt: skip


@st.composite
def exports(draw: st.DrawFn) -> tuple[bytes, list[date], list[float]]:
    """Write prices as some program of some country would; gives the file, the dates and the prices."""
    step = draw(st.sampled_from([1, 7, 30]))
    start = draw(st.dates(date(1970, 1, 2), date(2019, 1, 1)))
    count = draw(st.integers(30, 60))
    days = [start + timedelta(days=step * i) for i in range(count)]
    decimals = draw(st.integers(0, 4))
    wholes = draw(st.lists(st.integers(1, 3_000_000), min_size=count, max_size=count))
    prices = [whole / 10**decimals for whole in wholes]
    pattern = draw(st.sampled_from(DATE_PATTERNS))
    group, point = STYLES[draw(st.sampled_from(sorted(STYLES)))]
    delimiter = draw(st.sampled_from(",;\t|"))
    newest_first = draw(st.booleans())
    header = draw(st.sampled_from([["Date", "Close"], ["Datum", "Kurs"], ["Day", "px", "note"], []]))
    preamble = draw(st.sampled_from([[], ["Prices of something"], ["A;B", "", "x,y|z"]]))
    tail = draw(st.sampled_from([[], ["", "Source: an exchange"]]))

    def cell(text: str) -> str:
        return f'"{text}"' if delimiter in text else text

    def row(day: date, price: float) -> str:
        if pattern == "serial":
            when = str((day - date(1899, 12, 30)).days)
        elif pattern == "seconds":
            when = str((day - date(1970, 1, 1)).days * 86_400)
        else:
            when = day.strftime(pattern)
        number = f"{price:,.{decimals}f}".replace(",", "G").replace(".", point).replace("G", group)
        return delimiter.join([cell(when), cell(number), *(["x"] if len(header) == 3 else [])])

    body = [row(day, price) for day, price in zip(days, prices, strict=True)]
    lines = [*preamble, *([delimiter.join(header)] if header else []), *(body[::-1] if newest_first else body), *tail]
    raw = "\n".join(lines).encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
    return draw(st.sampled_from([bytes, gzip.compress, zipped]))(raw), days, prices


def comes_out_or_is_refused(export: tuple[bytes, list[date], list[float]]) -> None:
    raw, days, prices = export
    try:
        history = parse_prices(raw, "p")
    except InputError:
        return
    if any("are read with a decimal point, not as thousands" in note for note in history.notes):
        return
    assert history.prices[:, 0].tolist() == prices
    assert list(history.dates) == days or not history.dates


@QUICK
@given(exports())
def test_what_a_program_exports_comes_out_as_it_was_or_is_refused(
    export: tuple[bytes, list[date], list[float]],
) -> None:
    comes_out_or_is_refused(export)


@pytest.mark.slow
@LONG
@given(exports(), CHANGES, ROWS)
def test_for_longer(
    export: tuple[bytes, list[date], list[float]], changes: list[tuple[int, int, int]], rows: list[list[str]]
) -> None:
    comes_out_or_is_refused(export)
    is_refused_or_sound(changed(export[0], changes))
    is_refused_or_sound(dated(rows))
