from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from apps.montecarlo.dataset import PACKAGED, load_history, read_packaged, split_columns
from apps.montecarlo.prices.reading import parse_prices
from core import ConfigError, InputError

CsvWriter = Callable[..., Path]


def test_the_packaged_s_and_p_is_read_whole_without_importing_arch_or_pandas() -> None:
    loaded = {"arch", "pandas"} & set(sys.modules)

    history = load_history(symbols=("sp500",))

    assert history.prices.shape == (5031, 1)
    assert (history.dates[0], history.dates[-1]) == (date(1999, 1, 4), date(2018, 12, 31))
    assert history.prices[-1, 0] == 2506.850098
    assert {"arch", "pandas"} & set(sys.modules) == loaded


@pytest.mark.parametrize("symbol", PACKAGED)
def test_every_packaged_series_passes_its_own_checks(symbol: str) -> None:
    assert len(read_packaged(symbol).prices) > 5000


def test_several_symbols_are_aligned_on_the_days_they_share() -> None:
    history = load_history(symbols=("sp500", "wti"))

    sp500, wti = read_packaged("sp500"), read_packaged("wti")
    assert history.names == ("sp500", "wti")
    assert set(history.dates) == set(sp500.dates) & set(wti.dates)
    row = history.dates.index(date(2008, 10, 15))
    assert history.prices[row, 1] == wti.prices[wti.dates.index(date(2008, 10, 15)), 0]


def test_an_unknown_symbol_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="--symbol ftse: .* sp500, nasdaq, wti"):
        load_history(symbols=("ftse",))


def test_a_price_file_is_read_with_its_dates_and_log_returns(write_csv: CsvWriter) -> None:
    history = load_history(str(write_csv()))

    assert history.names == ("Close",)
    assert history.source.endswith("prices.csv (column Close)")
    assert history.dates[:2] == (date(2020, 1, 1), date(2020, 1, 2))
    np.testing.assert_allclose(history.log_returns[:2, 0], np.log([101.5 / 100.0, 103.0 / 101.5]))


def test_columns_are_chosen_after_a_colon_in_the_order_given(write_csv: CsvWriter) -> None:
    path = write_csv(header="Date,A,B", edits={3: "2020-01-02,7,9"})

    history = load_history(f"{path}:b,A")

    assert history.names == ("B", "A")
    assert history.prices[1].tolist() == [9.0, 7.0]


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("a.csv", ("a.csv", ())),
        ("dir:x/a.csv:Close", ("dir:x/a.csv", ("Close",))),
        ("file:///d/a.csv:A, B", ("file:///d/a.csv", ("A", "B"))),
        ("s3://bucket/a.csv", ("s3://bucket/a.csv", ())),
    ],
)
def test_an_address_splits_into_location_and_columns(address: str, parts: tuple[str, tuple[str, ...]]) -> None:
    assert split_columns(address) == parts


def test_a_file_whose_name_has_a_colon_is_found_as_it_stands(write_csv: CsvWriter) -> None:
    path = write_csv()
    odd = path.rename(path.with_name("12:30.csv"))

    assert load_history(str(odd)).prices.shape == (40, 1)


def test_an_object_url_reads_like_the_file(write_csv: CsvWriter) -> None:
    path = write_csv()

    assert load_history(f"file://{path}:Close").prices.tolist() == load_history(str(path)).prices.tolist()


def test_gzip_semicolons_and_a_byte_order_mark_are_recognised(write_csv: CsvWriter) -> None:
    path = write_csv()
    text = path.read_text().replace(",", ";")
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()))

    assert load_history(str(path)).prices[1, 0] == 101.5


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("1/2/2020", "1/13/2020", date(2020, 1, 2)), ("2/1/2020", "13/1/2020", date(2020, 1, 2)),
     ("2020/01/02", "2020/01/13", date(2020, 1, 2))],
)  # fmt: skip
def test_slashed_dates_are_month_first_unless_that_cannot_be(first: str, second: str, expected: date) -> None:
    later = {"1/2/2020": "2/{}/2020", "2/1/2020": "{}/2/2020", "2020/01/02": "2020/02/{:02}"}[first]
    lines = ["Date,Close", f"{first},1", f"{second},2", *(f"{later.format(day)},3" for day in range(1, 29))]

    assert parse_prices("\n".join(lines).encode(), "x").dates[0] == expected


def test_a_file_without_dates_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("price\n" + "\n".join(str(10 + i) for i in range(30)))

    history = load_history(str(path))

    assert history.dates == ()
    assert history.span == "30 undated rows"


BAD_ROWS = [
    ({11: "2020-01-10,soon"}, r"line 11, column 'Close': 'soon' is not a number"),
    ({11: "2020-01-10,inf"}, r"line 11, column 'Close': 'inf' is not a number"),
    ({11: "2020-01-10,0"}, r"line 11, column 'Close': price 0 is not a positive number"),
    ({11: "2020-01-10,-3"}, r"line 11, column 'Close': price -3 is not a positive number"),
    ({11: "2020-01-09,5"}, r"line 11, column 'Date': date 2020-01-09 appears twice"),
    ({11: "2019-01-09,5"}, r"line 11, column 'Date': date 2019-01-09 comes after 2020-01-09; sort"),
    ({11: "yesterday,5"}, r"line 11, column 'Date': 'yesterday' is not a date"),
    ({11: ",5"}, r"line 11, column 'Date': '' is not a date"),
]


@pytest.mark.parametrize(("edits", "message"), BAD_ROWS)
def test_a_bad_row_is_named_by_line_and_column(write_csv: CsvWriter, edits: dict[int, str], message: str) -> None:
    with pytest.raises(InputError, match=r"prices\.csv: " + message):
        load_history(str(write_csv(edits=edits)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"  \n \n", "the file is empty"),
        (b"Date,Close\n", "0 price rows, but at least 30"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a text file"),
        (b"Date,Close\n\x00\x00", "zero bytes"),
        (b"\x1f\x8b\x08garbage", "damaged gzip"),
        (b'Date,"Close\n' + b"x" * 200_000, "is not CSV"),
    ],
)
def test_a_file_that_is_no_price_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"p\.csv: .*" + message):
        load_history(str(path))


@pytest.mark.parametrize(("rows", "message"), [(1, ": 1 price row, but"), (29, ": 29 price rows, but at least 30")])
def test_fewer_than_thirty_rows_are_refused(write_csv: CsvWriter, rows: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_history(str(write_csv(rows)))


def test_thirty_rows_are_enough(write_csv: CsvWriter) -> None:
    assert load_history(str(write_csv(30))).prices.shape == (30, 1)


def test_a_missing_column_lists_those_there_are(write_csv: CsvWriter) -> None:
    with pytest.raises(InputError, match=r"no column 'Open'; the file has 'Date', 'Close'"):
        load_history(f"{write_csv()}:Open")


def test_a_column_that_appears_twice_is_refused(write_csv: CsvWriter) -> None:
    with pytest.raises(InputError, match="column 'A' appears 2 times"):
        load_history(f"{write_csv(header='Date,A,A')}:A")


def test_an_unclear_price_column_is_asked_for(write_csv: CsvWriter) -> None:
    with pytest.raises(InputError, match="Add ':COLUMN' to --prices; the file has 'Date', 'A', 'B'"):
        load_history(str(write_csv(header="Date,A,B")))


def test_a_missing_file_a_folder_and_a_missing_object_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: there is no such file"):
        load_history(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="is a directory"):
        load_history(str(tmp_path))
    with pytest.raises(InputError, match=r"cannot read file://.*none\.csv"):
        load_history(f"file://{tmp_path}/none.csv")


def test_a_window_of_rows_keeps_the_last_ones() -> None:
    history = load_history(symbols=("sp500",), window="250")

    assert len(history.prices) == len(history.dates) == 250
    assert history.dates[-1] == date(2018, 12, 31)


def test_a_window_of_dates_includes_both_ends() -> None:
    history = load_history(symbols=("sp500",), window="2010-01-04:2010-12-31")

    assert (history.dates[0], history.dates[-1]) == (date(2010, 1, 4), date(2010, 12, 31))
    assert load_history(symbols=("sp500",), window="2018-01-02:").dates[0] == date(2018, 1, 2)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("9999", "has only 5031 rows"),
        ("soon", "give a number of rows"),
        ("2015-01-01", "give a number of rows"),
        ("2016-01-01:2015-01-01", "give a number of rows"),
        ("2030-01-01:", "no prices in it"),
    ],
)
def test_a_window_that_cannot_be_is_refused(window: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^--window {window}: .*{message}"):
        load_history(symbols=("sp500",), window=window)


def test_a_window_with_too_few_rows_says_so() -> None:
    with pytest.raises(InputError, match="20 price rows in --window 20, but at least 30"):
        load_history(symbols=("sp500",), window="20")


def test_dates_in_a_window_need_a_date_column(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("price\n" + "\n".join(str(10 + i) for i in range(40)))

    with pytest.raises(ConfigError, match="has no date column; give a number of rows"):
        load_history(str(path), window="2010-01-01:")


@pytest.mark.parametrize("symbol", ["sp500", "nasdaq", "wti"])
def test_a_packaged_series_is_what_the_reader_of_any_file_makes_of_it(symbol: str) -> None:
    import arch

    series = PACKAGED[symbol]
    path = Path(arch.__file__).parent / "data" / series.path
    expected = parse_prices(path.read_bytes(), str(path), (series.column,))

    found = read_packaged(symbol)

    assert found.dates == expected.dates
    assert np.array_equal(found.prices, expected.prices)
