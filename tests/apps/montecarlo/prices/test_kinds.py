"""Files as people have them: each kind is made by code, and read to the numbers that were put in, or refused."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from apps.montecarlo.prices import containers
from apps.montecarlo.prices.history import PriceHistory
from apps.montecarlo.prices.reading import parse_prices
from core import ConfigError, InputError

COUNT = 40
DAYS = [day for i in range(3 * COUNT) if (day := date(2020, 1, 1) + timedelta(days=i)).weekday() < 5][:COUNT]
PRICES = [round(990.0 + 1.5 * row + row % 3 * 0.25, 2) for row in range(COUNT)]
"""Prices on both sides of a thousand, so that separators come and go."""
ROWS = list(zip(DAYS, PRICES, strict=True))


def lines(
    *head: str, row: Callable[[date, float], str], tail: tuple[str, ...] = (), newest_first: bool = False
) -> bytes:
    body = [row(day, price) for day, price in ROWS]
    return "\n".join([*head, *(body[::-1] if newest_first else body), *tail, ""]).encode()


def german(price: float) -> str:
    return f"{price:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


PLAIN = lines("Date,Close", row=lambda d, p: f"{d},{p}")
KINDS = {
    "plain": PLAIN,
    "no header": lines(row=lambda d, p: f"{d},{p}"),
    "Yahoo": lines("Date,Open,High,Low,Close,Adj Close,Volume", row=lambda d, p: f"{d},1,2,0.5,{p + 5},{p},7"),
    "Yahoo's null row": lines(
        "Date,Open,High,Low,Close,Adj Close,Volume", row=lambda d, p: f"{d},1,2,0.5,{p + 5},{p},7",
        tail=("2020-02-26,null,null,null,null,null,null",),
    ),
    "yfinance": lines(
        "Price,Close,High,Low,Open,Volume", "Ticker,AAPL,AAPL,AAPL,AAPL,AAPL", "Date,,,,,",
        row=lambda d, p: f"{d},{p},2.5,0.5,1.5,1200300",
    ),
    "yfinance, older": lines(
        ",Adj Close,Close,High", ",AAPL,AAPL,AAPL", "Date,,,", row=lambda d, p: f"{d},{p},{p + 5},2.5"
    ),
    "yfinance, by ticker": lines(
        "Ticker,AAPL,AAPL,AAPL", "Price,Open,High,Close", "Date,,,", row=lambda d, p: f"{d} 00:00:00-05:00,1.5,2.5,{p}"
    ),
    "newest first": lines("Date,Close", row=lambda d, p: f"{d},{p}", newest_first=True),
    "Investing.com": lines(
        '"Date","Price","Open","High","Low","Vol.","Change %"', newest_first=True,
        row=lambda d, p: f'"{d:%m/%d/%Y}","{p:,.2f}","1,001.00","1,002.00","999.00","1.2M","0.10%"',
    ),
    "Nasdaq": lines(
        "Date,Close/Last,Volume,Open,High,Low", newest_first=True,
        row=lambda d, p: f"{d:%m/%d/%Y},${p},1200300,$1.5,$2.5,$0.5",
    ),
    "Stooq": lines(
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<CLOSE>,<VOL>", row=lambda d, p: f"X.US,D,{d:%Y%m%d},000000,1.5,{p},7"
    ),
    "two columns of dates": lines("Expiry,Date,Settle", row=lambda d, p: f"{d + timedelta(days=9)},{d},{p}"),
    "quantmod": lines('"","AAPL.Open","AAPL.Adjusted","AAPL.Close"', row=lambda d, p: f'"{d}",1.5,{p},{p + 5}'),
    "Bloomberg": lines(
        "Security,SPX Index", "Start Date,1/1/2020", "Period,D", "", "Date,PX_LAST",
        row=lambda d, p: f"{d:%m/%d/%Y},{p}",
    ),
    "MSCI": lines(
        "Index Name,World", "Data as of,31 Jan 2020", "", "Date,WORLD Standard (Large+Mid Cap)",
        row=lambda d, p: f'"{d:%b %d, %Y}","{p:,.2f}"', tail=("", "Copyright"),
    ),
    "CryptoDataDownload": lines(
        "https://www.CryptoDataDownload.com", "unix,date,symbol,open,close,Volume BTC", newest_first=True,
        row=lambda d, p: f"{(d - date(1970, 1, 1)).days * 86_400},{d} 00:00:00,BTC/USD,1.5,{p},7.5",
    ),
    "German": lines("Datum;Erster;Schlusskurs", row=lambda d, p: f"{d:%d.%m.%Y};1,5;{german(p)}"),
    "French": lines("Date;Clôture", row=lambda d, p: f"{d:%d/%m/%Y};{german(p).replace('.', chr(0x202F))}"),
    "Swiss": lines("Date;Close", row=lambda d, p: f"{d:%d.%m.%Y};{p:,.2f}".replace(",", "'")),
    "tabs": lines("Date\tClose", row=lambda d, p: f"{d}\t{p}"),
    "bars": lines("Date|Close", row=lambda d, p: f"{d}|{p}"),
    "quoted thousands": lines("Date,Close", row=lambda d, p: f'{d},"{p:,.2f}"'),
    "spaces around": lines(" Date , Close ", row=lambda d, p: f" {d} , {p} "),
    "a preamble": lines(
        "Security,SPX Index", "Start Date,1/2/2020", 'Note,"prices, in points"', "", "Date,PX_LAST",
        row=lambda d, p: f"{d},{p}",
    ),
    "a row of units": lines("Date,Close", ",USD", row=lambda d, p: f"{d},{p}"),
    "a footer": lines("Date,Close", row=lambda d, p: f"{d},{p}", tail=("", "Source: exchange,", "All rights reserved")),
    "empty rows": lines("Date,Close", ",", "", row=lambda d, p: f"{d},{p}\n\n,"),
    "null words": lines(
        "Date,Close", row=lambda d, p: f"{d},{p}",
        tail=tuple(f"2020-03-{10 + i},{word}" for i, word in enumerate([".", "null", "N/A", "NaN", "-", "", "#N/A"])),
    ),
    "exact repeats": lines("Date,Close", row=lambda d, p: f"{d},{p}\n{d},{p}"),
    "the file twice": PLAIN + PLAIN.split(b"\n", 1)[1],
    "04-Jan-21": lines("Date,Close", row=lambda d, p: f"{d:%d-%b-%y},{p}"),
    "Jan 04, 2021": lines("Date,Close", row=lambda d, p: f'"{d:%b %d, %Y}",{p}'),
    "serial days": lines("Date,Close", row=lambda d, p: f"{(d - date(1899, 12, 30)).days},{p}"),
    "seconds": lines("timestamp,close", row=lambda d, p: f"{(d - date(1970, 1, 1)).days * 86_400},{p}"),
    "a data frame's index": lines(",Date,px,place", row=lambda d, p: f"{PRICES.index(p)},{d},{p},x"),
    "an unnamed index": lines("Unnamed: 0,Date,px", row=lambda d, p: f"{PRICES.index(p)},{d},{p}"),
    "other columns of text": lines("Symbol,Date,px,Currency", row=lambda d, p: f"ABC,{d},{p},USD"),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + PLAIN,
    "UTF-16": PLAIN.decode().encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + PLAIN.decode().encode("utf-16-be"),
    "UTF-16 without a mark": PLAIN.decode().encode("utf-16-le"),
    "Latin-1": lines("Date;Clôture", row=lambda d, p: f"{d};{german(p)}").decode().encode("latin-1"),
    "carriage returns": PLAIN.replace(b"\n", b"\r\n"),
    "old Mac": PLAIN.replace(b"\n", b"\r"),
    "gzip": gzip.compress(PLAIN),
    "zip": zipped({"prices.csv": PLAIN}),
    "zip from a Mac": zipped({"folder/prices.csv": PLAIN, "__MACOSX/x": b"\0\1"}),
    "gzip in zip": zipped({"x": gzip.compress(PLAIN)}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_any_kind_gives_the_prices_that_were_put_in(kind: str) -> None:
    history = parse_prices(KINDS[kind], "p")

    assert history.prices[:, 0].tolist() == PRICES
    assert list(history.dates) == DAYS


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("Yahoo's null row", "Left out: 1 row without a price, the first in line 42."),
        ("newest first", "The file runs newest first; it was turned round."),
        ("a footer", r"Left out: 2 lines after the last price, from line 43 on \('Source: exchange'\)."),
        ("null words", "Left out: 7 rows without a price, the first in line 42."),
        ("exact repeats", "Left out: 40 rows that repeat another exactly."),
        ("the file twice", "Left out: 40 rows that repeat another exactly."),
        ("04-Jan-21", "Years of two digits are read as 2020 to 2020."),
        ("serial days", "Dates such as 43831 are read as a workbook's day: 2020-01-01."),
        ("seconds", "Dates such as 1577836800 are read as seconds or parts of them since 1970: 2020-01-01."),
    ],
)
def test_what_was_left_out_or_turned_round_is_said(kind: str, note: str) -> None:
    import re

    assert [said for said in parse_prices(KINDS[kind], "p").notes if re.fullmatch(note, said)]


def test_a_plain_file_needs_no_note() -> None:
    assert parse_prices(PLAIN, "p").notes == ()


@pytest.mark.parametrize(
    ("day", "clock"), [("%Y.%m.%d", "%H:%M"), ("%Y%m%d", "%H%M%S"), ("%m/%d/%Y", "%H:%M:%S")], ids=str
)
def test_a_time_of_day_in_a_column_of_its_own_is_put_to_its_date(day: str, clock: str) -> None:
    moments = [datetime(2020, 1, 6, 9, 30) + timedelta(days=i // 8, hours=i % 8) for i in range(40)]
    rows = [f"{at:{day}},{at:{clock}},{price}" for at, price in zip(moments, PRICES, strict=True)]

    history = parse_prices("\n".join(["<DATE>,<TIME>,<CLOSE>", *rows]).encode(), "p")

    assert list(history.dates) == moments
    assert history.spacing.adjective == "intraday (hour)"


def two_assets() -> bytes:
    """Make a file in which each of two assets misses some dates."""
    rows = [f"{d},{p if i % 10 else ''},{p * 2 if i % 8 else '.'}" for i, (d, p) in enumerate(ROWS * 1)]
    return "\n".join(["Date,A,B", *rows]).encode()


def test_two_assets_are_used_on_the_dates_that_both_have_and_the_numbers_are_said() -> None:
    history = parse_prices(two_assets(), "p", ("A", "B"))

    kept = [i for i in range(COUNT) if i % 10 and i % 8]
    assert list(history.dates) == [DAYS[i] for i in kept]
    assert history.prices.tolist() == [[PRICES[i], 2 * PRICES[i]] for i in kept]
    assert history.notes == ("Only rows in which every column has a price are used: 32 (36 of A, 35 of B).",)


def test_stacked_names_of_several_tickers_are_joined() -> None:
    raw = lines("Price,Close,Close", "Ticker,AAPL,MSFT", "Date,,", row=lambda d, p: f"{d},{p},{p * 2}")

    with pytest.raises(InputError, match="the file has 'Date', 'AAPL', 'MSFT'"):
        parse_prices(raw, "p")
    assert parse_prices(raw, "p", ("msft",)).prices[0, 0] == 2 * PRICES[0]


def serial(day: date) -> int:
    return (day - date(1899, 12, 30)).days


@pytest.mark.parametrize("style", [0, 1, 2], ids=["plain numbers", "a built-in date format", "a custom date format"])
def test_a_workbook_is_read_with_its_dates(workbook: Callable[..., bytes], style: int) -> None:
    rows = [["A title"], [], ["Date", "Close"], *([(serial(d), style), (p, 3)] for d, p in ROWS)]

    history = parse_prices(workbook(rows), "p.xlsx")

    assert history.prices[:, 0].tolist() == PRICES
    assert list(history.dates) == DAYS
    assert (history.unit, history.lines[0]) == ("row", 4)


def test_a_workbook_of_the_1904_system_has_the_same_dates(workbook: Callable[..., bytes]) -> None:
    rows = [["Date", "Close"], *([((d - date(1904, 1, 1)).days, 1), p] for d, p in ROWS)]

    assert list(parse_prices(workbook(rows, settings='date1904="1"'), "p").dates) == DAYS


def test_the_first_sheet_with_enough_rows_is_read_and_named(workbook: Callable[..., bytes]) -> None:
    rows = [["Date", "Close"], *([str(d), p] for d, p in ROWS)]

    history = parse_prices(workbook([], [["A cover"]], rows, [["other"]]), "p")

    assert history.notes == ("Read: the sheet 'Sheet 3' of 4.",)
    with pytest.raises(InputError, match="p: 1 price row, but at least 30"):
        parse_prices(workbook(rows[:2]), "p")


def test_a_bad_cell_of_a_workbook_is_named_by_its_row(workbook: Callable[..., bytes]) -> None:
    rows = [["Date", "Close"], *([str(d), p if i != 5 else "soon"] for i, (d, p) in enumerate(ROWS))]

    with pytest.raises(InputError, match=r"p: row 7, column 'Close': 'soon' is not a number"):
        parse_prices(workbook(rows), "p")


@pytest.mark.parametrize(
    "parts",
    [
        {"xl/worksheets/sheet1.xml": "<worksheet><row"},
        {"xl/worksheets/sheet1.xml": '<!DOCTYPE x [<!ENTITY a "b">]><worksheet/>'},
        {"xl/worksheets/sheet1.xml": "<worksheet><row r='1'><c r='ZZZ1'><v>1</v></c></row></worksheet>"},
        {"xl/worksheets/sheet1.xml": "<worksheet><row r='1'><c><v>one</v></c></row></worksheet>"},
        {"xl/_rels/workbook.xml.rels": "<Relationships/>"},
        {"xl/workbook.xml": "nothing"},
    ],
    ids=["cut off", "entities", "too wide", "no number", "no relation", "no XML"],
)
def test_a_damaged_or_hostile_workbook_is_refused(workbook: Callable[..., bytes], parts: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"^p: "):
        parse_prices(workbook([["Date", "Close"]], parts=parts), "p")


def parquet(columns: dict[str, object]) -> bytes:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["date32", "timestamp[ns]", "timestamp[us, tz=Asia/Tokyo]", "string", "int64"])
def test_parquet_is_read_with_dates_of_any_type(kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    types = {
        "date32": lambda: pa.array(DAYS),
        "timestamp[ns]": lambda: pa.array([datetime(d.year, d.month, d.day) for d in DAYS], pa.timestamp("ns")),
        "timestamp[us, tz=Asia/Tokyo]": lambda: pa.array(
            [datetime(d.year, d.month, d.day) - timedelta(hours=9) for d in DAYS], pa.timestamp("us", "Asia/Tokyo")
        ),
        "string": lambda: pa.array(list(map(str, DAYS))),
        "int64": lambda: pa.array([int(f"{d:%Y%m%d}") for d in DAYS]),
    }

    history = parse_prices(parquet({"Close": PRICES, "Date": types[kind](), "n": [None] * COUNT}), "p.parquet")

    assert history.prices[:, 0].tolist() == PRICES
    assert list(history.dates) == DAYS


def test_stacked_names_are_found_in_workbooks_and_parquet_too(workbook: Callable[..., bytes]) -> None:
    rows = [["Price", "Close", None, "Open"], ["Ticker", "A", "B", "A"], ["Date"]]
    sheet = workbook([*rows, *([str(d), p, 2 * p, 1.5] for d, p in ROWS)])
    table = {"('Close', 'A')": PRICES, "('Open', 'A')": [1.5] * COUNT, "Date": list(map(str, DAYS))}

    assert parse_prices(sheet, "p", ("Close A",)).prices[:, 0].tolist() == PRICES
    assert parse_prices(parquet(table), "p").prices[:, 0].tolist() == PRICES


def test_damaged_parquet_is_refused() -> None:
    raw = parquet({"Date": list(map(str, DAYS)), "Close": PRICES})

    with pytest.raises(InputError, match=r"^p: damaged Parquet data"):
        parse_prices(raw[:200] + raw[260:], "p")


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigError, match=r"pip install 'fanfold\[parquet\]', or export CSV"):
        parse_prices(b"PAR1....", "p")


REFUSED = {
    "an old workbook": (b"\xd0\xcf\x11\xe0" + b"\0" * 99, r"old Excel workbook \(.xls\); save it as .xlsx or CSV"),
    "a PDF": (b"%PDF-1.7", "this is a PDF"),
    "a web page": (b"\n<!DOCTYPE html><html>", "this is a web page"),
    "JSON": (b'{"chart": {"result": []}}', "this is JSON"),
    "xz": (b"\xfd7zXZ\0\0", "an xz archive; unpack it first"),
    "zero bytes": (b"Date,Close\n2020\0", "not a text file"),
    "control characters": (b"\x89PNG\r\n\x1a\n", "not a text file"),
    "half of UTF-16": (b"\xff\xfeD\0a", "not a text file"),
    "gzip cut off": (gzip.compress(PLAIN)[:-30], "damaged gzip data"),
    "zip cut off": (zipped({"x": PLAIN})[:-30], "damaged zip archive"),
    "two files": (
        zipped({"a.csv": PLAIN, "b.csv": PLAIN}), r"holds 2 files \('a.csv', 'b.csv'\); unpack the one with the prices"
    ),
    "an empty archive": (zipped({}), "the archive is empty|not a text file"),
    "an archive too deep": (zipped({"x": zipped({"x": zipped({"x": PLAIN})})}), "an archive in an archive in an"),
    "OpenDocument": (zipped({"mimetype": b"x", "content.xml": b"x"}), "OpenDocument"),
    "a decimal comma parting cells": (
        lines("Date,Close", row=lambda d, p: f"{d},{german(p)}"), "line 2 has more cells than the table has columns"
    ),
    "a quote not closed": (PLAIN.replace(b"2020-01-09,", b'"2020-01-09,'), "is not CSV"),
    "a quote over rows": (
        PLAIN.replace(b"2020-01-09", b'"x').replace(b"2020-01-16", b'x"'), "line 8 begins a cell of 6 lines; close its"
    ),
    "mixed decimal signs": (
        lines("Date;Close", row=lambda d, p: f"{d};{german(p) if d.day > 15 else p}"), "line .* a decimal comma, but"
    ),
    "ambiguous thousands": (
        lines("Date,Close", row=lambda d, p: f'{d},"{p:,.0f}"'), "line .*'1,001' may be 1001 or 1.001"
    ),
    "a total": (PLAIN + b"Total,123.5\n", "line 42, column 'Date': 'Total' is not a date"),
    "a bad first date": (
        PLAIN.replace(b"2020-01-01", b"2020-13-01"), "line 2, column 'Date': '2020-13-01' is not a date"
    ),
    "the same date, another price": (
        PLAIN + b"2020-01-09,5\n", "line 42, column 'Date': date 2020-01-09 appears twice, with another price in line 8"
    ),
    "not sorted": (PLAIN.replace(b"2020-01-09", b"2020-01-01"), "appears twice"),
    "a row out of order": (PLAIN.replace(b"2020-01-09", b"2019-01-01"), "line 8, .* comes after .*; sort the rows"),
    "a negative price": (PLAIN.replace(b",996.25\n", b",-3\n"), "price -3 is not a positive number"),
    "no price at all": (lines("Date,Close", row=lambda d, _: f"{d},n/a"), "0 price rows, but at least 30"),
    "two number columns": (lines("Date,a,b", row=lambda d, p: f"{d},{p},{p}"), "which column holds prices"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_or_is_unclear_is_refused_in_one_sentence(kind: str) -> None:
    raw, message = REFUSED[kind]

    with pytest.raises(InputError, match=rf"^p: [^\n]*({message})[^\n]*$"):
        parse_prices(raw, "p")


@pytest.mark.parametrize(
    "pack", [gzip.compress, lambda raw: zipped({"x": raw}), lambda raw: raw], ids=["gzip", "zip", "plain"]
)
def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]) -> None:
    monkeypatch.setattr(containers, "MAX_BYTES", 1 << 20)

    with pytest.raises(InputError, match=r"p: more than 1 MB \(unpacked\), too large for a price file"):
        parse_prices(pack(PLAIN + b"\n" * (2 << 20)), "p")


def test_a_workbook_that_unpacks_to_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch, workbook: Callable[..., bytes]
) -> None:
    raw = workbook([["Date", "Close"]], parts={"xl/sharedStrings.xml": "<sst>" + " " * (2 << 20) + "</sst>"})
    monkeypatch.setattr(containers, "MAX_BYTES", 1 << 20)

    with pytest.raises(InputError, match="sharedStrings.xml unpacks to more than 1 MB"):
        parse_prices(raw, "p")


def test_negative_prices_are_taken_for_a_model_that_takes_them() -> None:
    history: PriceHistory = parse_prices(PLAIN.replace(b",996.25\n", b",-37.63\n"), "p", positive=False)

    assert history.prices.min() == -37.63
    np.testing.assert_array_equal(history.changes[:, 0], np.diff(history.prices[:, 0]))
