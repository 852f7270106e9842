from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
import struct
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from apps._frame.report import page
from apps.montecarlo import plots, report, tables
from apps.montecarlo.figures import forecast_dates, result_object
from apps.montecarlo.params import Params
from apps.montecarlo.preparation import prepare
from apps.montecarlo.result import Result
from core import ConfigError

REQUIRED = (
    "model", "seed", "forecasts", "days", "path_steps", "exact_sampling", "s0", "drift", "volatility", "quantiles",
    "mean", "var", "es", "prob_touch", "wall_seconds", "cpu_seconds", "result_sha256", "calibration", "symbol",
    "engine", "versions",
)  # fmt: skip


@pytest.fixture(scope="module")
def result(forecast: Callable[..., Result]) -> Result:
    return forecast(days=60, touch="+5%,2400")


@pytest.fixture(scope="module")
def figures(result: Result) -> dict[str, object]:
    return result_object(result)


def test_the_object_has_every_documented_key_and_survives_json(figures: dict[str, object]) -> None:
    assert set(REQUIRED) <= set(figures)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_the_object_agrees_with_the_summary(result: Result, figures: dict[str, object]) -> None:
    summary, s0 = result.summary, result.summary.s0

    assert figures["path_steps"] == 2000 * 60
    assert figures["result_sha256"] == summary.digest()
    assert figures["quantiles"] == {str(q): summary.quantile(60, q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
    assert figures["var"] == pytest.approx({c: s0 - summary.quantile(60, 1 - float(c)) for c in ("0.95", "0.99")})
    assert figures["prob_touch"] == {
        "+5%": summary.touch_probability(s0 * 1.05)[0], "2400": summary.touch_probability(2400.0)[0]
    }  # fmt: skip
    assert figures["annual_volatility"] == pytest.approx(figures["volatility"] * math.sqrt(252))  # type: ignore[operator]


def test_expected_shortfall_is_never_below_value_at_risk_and_every_risk_has_its_error(
    figures: dict[str, list[dict[str, float]]],
) -> None:
    assert [(row["day"], row["confidence"]) for row in figures["risk"]] == [
        (day, confidence) for day in (1, 5, 10, 60) for confidence in (0.95, 0.99)
    ]
    for row in figures["risk"]:
        assert row["es"] >= row["var"]
        assert row["var_se"] > 0.0
        assert row["es_se"] > 0.0


def test_times_do_not_enter_the_hash(forecast: Callable[..., Result]) -> None:
    first, second = result_object(forecast()), result_object(forecast())

    assert first["wall_seconds"] != second["wall_seconds"]
    assert first["result_sha256"] == second["result_sha256"]


def test_exact_sampling_is_labelled_and_has_no_drawdown(forecast: Callable[..., Result]) -> None:
    exact = forecast(exact=True)
    figures = result_object(exact)

    assert figures["exact_sampling"] is True
    assert figures["drawdown"] is None
    assert figures["path_steps"] == 2000 * len(exact.summary.horizons)
    assert "exact draws at the recorded days" in report.terminal(figures)


def test_the_talk_preset_says_that_its_drift_is_double_counted(forecast: Callable[..., Result]) -> None:
    figures = result_object(forecast(preset="talk"))

    assert "double-counts" in report.terminal(figures)
    assert figures["calibration"] is None


def test_every_report_says_that_calibration_is_no_skill_in_prediction(figures: dict[str, object]) -> None:
    assert "no evidence of skill" in " ".join(report.terminal(figures).split())


def test_the_terminal_states_seed_model_window_steps_and_errors(figures: dict[str, object]) -> None:
    text = report.terminal(figures)

    for said in ("20181231", "gbm", "1999-01-04 to 2018-12-31, 5,031 daily prices", "120,000 daily steps", "± s.e.",
                 "VaR", "ES", "+5%", "2,400.00", "largest fall from a peak"):  # fmt: skip
        assert said in text


def test_terminal_tables_line_up(figures: dict[str, object]) -> None:
    lines = tables.risk_table(figures).text().splitlines()[1:]

    assert len({len(line) for line in lines}) == 1


def test_the_csv_holds_the_fan(result: Result) -> None:
    rows = list(csv.DictReader(io.StringIO(report.forecasts_csv(result_object(result)).decode())))

    assert [int(row["day"]) for row in rows] == list(result.summary.horizons)
    assert float(rows[-1]["q0.5"]) == result.summary.quantile(60, 0.5)
    assert rows[0]["date"] == "2019-01-01"


def test_parquet_and_csv_hold_the_same(figures: dict[str, object]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    table = parquet.read_table(io.BytesIO(report.forecasts_parquet(figures)))

    assert table.to_pydict() == report.forecast_columns(figures)


def test_dates_count_weekdays_from_the_last_price() -> None:
    history = prepare(Params(days=5)).history

    assert forecast_dates(history, (1, 4, 5)) == ["2019-01-01", "2019-01-04", "2019-01-07"]
    assert forecast_dates(None, (1, 2)) == ["", ""]


@pytest.mark.parametrize(
    ("drift", "mean", "said"),
    [
        ("sample", None, "as in the sample"),
        ("zero", 0.0, "zero by choice; the sample's was"),
        ("3%", 0.03 / 252 - 0.0120391**2 / 2, "grows by 3.00% a year, continuously compounded, by choice"),
    ],
)
def test_the_drift_is_that_of_the_sample_zero_or_a_rate(
    forecast: Callable[..., Result], drift: str, mean: float | None, said: str
) -> None:
    result = forecast(drift=drift)
    figures = result_object(result)

    used = result.prepared.model.drift  # type: ignore[union-attr]
    assert used == pytest.approx(figures["drift"] if mean is None else mean, rel=2e-3)
    assert said in report.terminal(figures)
    assert figures["drift"] == pytest.approx(0.0001418, rel=1e-3)


@pytest.mark.parametrize("model", ["bootstrap", "block-bootstrap", "student-t", "merton", "gjr-garch", "heston"])
def test_every_model_takes_a_drift_of_zero(forecast: Callable[..., Result], model: str) -> None:
    from apps.montecarlo.science.moments import mean

    assert mean(forecast(drift="zero", model=model).prepared.model) == pytest.approx(0.0, abs=1e-12)


def test_the_drifts_own_error_is_told_with_what_it_does_to_the_median(figures: dict[str, object]) -> None:
    # A volatility of 19.11% a year over 20 years is known to 19.11 / sqrt(20) = 4.3% a year.
    assert figures["annual_drift_se"] == pytest.approx(0.0428, abs=2e-4)
    assert "one standard error of it moves the median at the end by 1.02%" in str(figures["notes"])


def test_the_models_volatility_stands_beside_the_samples(forecast: Callable[..., Result]) -> None:
    figures = result_object(forecast(model="gjr-garch"))

    model = figures["model_volatility"]
    assert model["annual_long_run"] == pytest.approx(figures["annual_volatility"], rel=0.01)
    assert model["annual_first"] > 1.2 * figures["annual_volatility"]
    assert "in the first step" in report.terminal(figures)


def test_losses_are_told_for_a_position_too(forecast: Callable[..., Result]) -> None:
    figures = result_object(forecast(position=1e6))

    for row in figures["risk"]:
        assert row["var_position"] == pytest.approx(1e6 * row["var"] / figures["s0"])
        assert row["es_position"] == pytest.approx(1e6 * row["es"] / figures["s0"])
    assert "VaR of position" in report.terminal(figures)


def test_short_weights_are_simulated(forecast: Callable[..., Result]) -> None:
    result = forecast(symbol="sp500,nasdaq", weights=(1.2, -0.2), days=20)

    figures = result_object(result)

    assert [asset["weight"] for asset in figures["assets"]] == [1.2, -0.2]
    assert "120.00% sp500, -20.00% nasdaq" in report.terminal(figures)


def test_short_positions_that_would_have_ruined_the_past_are_refused(forecast: Callable[..., Result]) -> None:
    with pytest.raises(ConfigError, match="would have been worth nothing"):
        forecast(symbol="sp500,wti", weights=(-2.0, 3.0), days=20)


def test_every_model_is_explained_in_a_sentence(forecast: Callable[..., Result]) -> None:
    from apps.montecarlo.figures import EXPLAINED
    from apps.montecarlo.params import MODELS

    assert set(EXPLAINED) == set(MODELS)
    assert "Past shocks are drawn again" in report.terminal(result_object(forecast(model="gjr-garch")))


def test_the_heading_says_as_of_when_and_when_it_was_made(result: Result, figures: dict[str, object]) -> None:
    text = Page(html(figures, result.prepared.params)).text

    assert "As of 2018-12-31." in text
    assert f"Made {str(figures['created'])[:10]}" in text


def test_the_past_is_measured_and_its_deepest_falls_are_dated(figures: dict[str, dict[str, object]]) -> None:
    past = figures["past"]

    # The S&P 500 fell by 56.8% from 2007-10-09 to 2009-03-09, and was back in 2013.
    fall = past["falls"][0]  # type: ignore[index]
    assert fall["depth"] == pytest.approx(0.568, abs=5e-4)
    assert (fall["peak"], fall["trough"], str(fall["recovery"])[:4]) == ("2007-10-09", "2009-03-09", "2013")
    assert past["sharpe"] == pytest.approx(0.28, abs=0.01)
    assert past["sharpe_se"] == pytest.approx(0.2238, abs=1e-3)


def test_calendar_years_begin_at_the_last_price_of_the_year_before(figures: dict[str, dict[str, object]]) -> None:
    years = {row["year"]: row for row in figures["past"]["by_year"]}  # type: ignore[attr-defined]

    # The S&P 500 stood at 1468.36 at the end of 2007, at 903.25 at the end of 2008, at 1115.10 at the end of 2009.
    assert years["2008"]["return"] == pytest.approx(903.25 / 1468.36 - 1)
    assert years["2009"]["return"] == pytest.approx(1115.10 / 903.25 - 1)
    assert years["2008"]["volatility"] == pytest.approx(0.41, abs=0.01)
    assert len(years) == 20


def test_the_workbook_holds_every_table(figures: dict[str, object]) -> None:
    with zipfile.ZipFile(io.BytesIO(report.forecasts_xlsx(figures))) as archive:
        names = re.findall(r'<sheet name="([^"]+)"', archive.read("xl/workbook.xml").decode())
        fan = archive.read("xl/worksheets/sheet2.xml").decode()

    assert names == ["Forecast", "Percentiles", "Risk", "Chances", "Past", "Falls", "Years", "Notes"]
    assert f"<v>{figures['quantiles']['0.5']!r}</v>" in fan  # type: ignore[index]


def png_size(data: bytes) -> tuple[int, int]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_pictures_are_sharp_at_the_width_of_a_phone(result: Result) -> None:
    for picture in (plots.fan_png(result), plots.histogram_png(result)):
        width, height = png_size(picture)
        assert width >= 2 * 390
        assert height <= width


def test_pictures_do_not_depend_on_when_they_are_drawn(result: Result) -> None:
    assert plots.fan_png(result) == plots.fan_png(result)


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "talk", "days": 1},
        {"symbol": "sp500,wti", "days": 250},
        {"days": 1, "forecasts": 2},
        {"model": "student-t", "days": 300},
        {"levels": "0.1,0.9", "confidence": "0.975"},
        {"levels": "0.5"},
    ],
    ids=str,
)
def test_every_kind_of_forecast_gives_all_its_files(
    settings: dict[str, object], forecast: Callable[..., Result]
) -> None:
    result = forecast(**settings)

    files = report.run_files(result, result_object(result))

    assert {"result.json", "forecasts.csv", "forecasts.xlsx", "fan.png", "histogram.png", "report.html"} <= set(files)
    assert ("falls.png" in files) is ("preset" not in settings)
    assert all(files.values())


def test_prices_that_never_change_are_forecast_to_stay(forecast: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    path.write_text("price\n" + "5\n" * 40)
    result = forecast(prices=str(path))

    figures = result_object(result)

    assert report.run_files(result, figures)["report.html"]
    assert figures["quantiles"]["0.95"] == pytest.approx(5.0)
    assert figures["var"]["0.99"] == pytest.approx(0.0, abs=1e-6)


def test_a_heavy_tail_does_not_multiply_the_bars_of_the_histogram(forecast: Callable[..., Result]) -> None:
    summary = forecast(model="student-t", days=300).summary

    edges, counts = plots.bins_shown(summary, 300)

    assert len(edges) <= plots.MOST_BINS + 1
    assert counts.sum() == pytest.approx(plots.TAIL_CUT * summary.forecasts, abs=2.0)


def test_the_talk_picture_peaks_where_the_talk_saw_it(forecast: Callable[..., Result]) -> None:
    summary = forecast(preset="talk", days=1080, forecasts=100_000, exact=True).summary

    edges, counts = plots.bins_shown(summary, 540)
    peak = int(counts.argmax())

    assert 124.0 < edges[peak] < 134.0
    assert 2300 < counts[peak] < 2600


def html(figures: dict[str, object], params: Params, *pictures: bytes) -> str:
    named = dict(zip(("fan.png", "histogram.png"), pictures, strict=False))
    return b"".join(page(report.report(figures, params, named))).decode()


class Page(HTMLParser):
    """Collects tags, addresses and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_no_network_and_no_script(result: Result, figures: dict[str, object]) -> None:
    shown = Page(html(figures, result.prepared.params, b"fan", b"histogram"))

    assert shown.tags.count("img") == 2
    assert all(address.startswith("data:image/png;base64,") for address in shown.addresses)
    assert not {"script", "link", "iframe"} & set(shown.tags)
    assert "http" not in shown.text


def test_the_page_carries_figures_seed_command_and_limits(result: Result, figures: dict[str, object]) -> None:
    text = Page(html(figures, result.prepared.params)).text

    for said in (str(figures["result_sha256"]), "20181231", "python -m apps.montecarlo --forecasts 2000 --days 60",
                 "no evidence of skill", "1999-01-04 to 2018-12-31", tables.rounded(figures["quantiles"]["0.5"])):  # type: ignore[index]  # fmt: skip
        assert said in text


def test_names_from_a_file_are_escaped_in_the_page(forecast: Callable[..., Result], tmp_path: Path) -> None:
    path = f"{tmp_path}/p.csv"
    with open(path, "w", encoding="utf-8") as file:
        file.write("<script>alert(1)</script>\n" + "\n".join(str(100 + i % 7) for i in range(40)))
    result = forecast(prices=path)

    shown = html(result_object(result), result.prepared.params)

    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize("name", [r"Cl$\bad{$", "水", "a\u202eb", "$x^2$"])
def test_a_columns_name_is_drawn_as_it_is(forecast: Callable[..., Result], tmp_path: Path, name: str) -> None:
    prices = tmp_path / "prices.csv"
    rows = [f"{date(2020, 1, 1) + timedelta(days=row)},{100 + row % 7}" for row in range(60)]
    prices.write_text("\n".join([f"Date,{name}", *rows]))

    assert plots.fan_png(forecast(prices=str(prices))).startswith(b"\x89PNG")


def test_the_reproduction_command_gives_the_same_hash(result: Result, forecast: Callable[..., Result]) -> None:
    import argparse

    from apps._frame.params import add_flags, build

    parser = argparse.ArgumentParser()
    add_flags(parser, Params)
    flags = shlex.split(tables.reproduction(result.prepared.params))[3:]
    again = build(Params, vars(parser.parse_args(flags)))

    assert again == result.prepared.params
