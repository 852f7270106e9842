"""From a file of one's own to the figures of a forecast: what a step is, what a year holds, what is said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from apps.montecarlo import report, tables
from apps.montecarlo.backtest_params import BacktestParams
from apps.montecarlo.figures import result_object
from apps.montecarlo.params import Params
from apps.montecarlo.plots import fan_png, histogram_png
from apps.montecarlo.preparation import prepare
from apps.montecarlo.result import Result
from core import ConfigError, InputError

Forecast = Callable[..., Result]


def walk(count: int, volatility: float = 0.02, seed: int = 1) -> list[float]:
    steps = np.random.default_rng(seed).normal(0.0, volatility, count)
    return [float(price) for price in np.round(100.0 * np.exp(np.cumsum(steps)), 4)]


def monthly(count: int) -> list[date]:
    firsts = [date(2000 + i // 12, i % 12 + 1, 1) for i in range(1, count + 1)]
    return [first - timedelta(days=1) for first in firsts]


def every(days: int, count: int) -> list[date]:
    return [date(2015, 1, 5) + timedelta(days=days * i) for i in range(count)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(prices: list[float], dates: list[date] | None = None) -> Path:
        path = tmp_path / "own.csv"
        days = dates or every(1, len(prices))
        path.write_text("Date,Close\n" + "".join(f"{d},{p}\n" for d, p in zip(days, prices, strict=True)))
        return path

    return write


SPACINGS = [
    ("weekly", every(7, 200), 52.0, "week", "2018-11-05"),
    ("monthly", monthly(200), 12.0, "month", "2016-09-30"),
    ("quarterly", monthly(600)[::3], 4.0, "quarter", "2050-01-31"),
    ("daily (seven days a week)", every(1, 200), 365.0, "day", "2015-07-24"),
]


@pytest.mark.parametrize(
    ("adjective", "dates", "per_year", "step", "first"), SPACINGS, ids=lambda value: str(value)[:9]
)
def test_prices_of_any_spacing_are_annualised_dated_and_named_by_it(
    write: Callable[..., Path],
    forecast: Forecast,
    adjective: str,
    dates: list[date],
    per_year: float,
    step: str,
    first: str,
) -> None:
    figures = result_object(forecast(prices=str(write(walk(200), dates)), days=10))

    volatility = float(np.diff(np.log(walk(200))).std(ddof=1))
    assert figures["annual_volatility"] == pytest.approx(volatility * per_year**0.5)
    assert figures["fan"][0]["date"] == first
    text = report.terminal(figures)
    assert f"200 {adjective} prices" in text
    assert f"10 {figures['step']['plural']}" in text
    assert f"{adjective.capitalize()} prices: one step is a {step}, with {per_year:g} steps a year" in text.replace(
        "\n", " "
    )
    assert "trading days" not in text


def test_the_periods_of_a_year_may_be_given(write: Callable[..., Path], forecast: Forecast) -> None:
    path = str(write(walk(200), every(7, 200)))

    given = result_object(forecast(prices=path, days=5, periods_per_year=50))

    assert given["annual_drift"] == pytest.approx(given["drift"] * 50)
    assert given["step"]["per_year"] == 50


def test_the_pictures_of_other_spacings_can_be_drawn(write: Callable[..., Path], forecast: Forecast) -> None:
    result = forecast(prices=str(write(walk(200), monthly(200))), days=30)

    assert fan_png(result).startswith(b"\x89PNG")
    assert histogram_png(result).startswith(b"\x89PNG")


def test_a_name_with_dollar_signs_is_no_formula_in_a_picture(
    tmp_path: Path, write: Callable[..., Path], forecast: Forecast
) -> None:
    path = write(walk(60))
    path.write_text(path.read_text().replace("Close", r"$\frac{$"))

    result = forecast(prices=str(path), days=5)

    assert fan_png(result).startswith(b"\x89PNG")
    assert histogram_png(result).startswith(b"\x89PNG")


def test_a_thin_stock_has_the_chance_of_a_loss_that_its_prices_say(
    write: Callable[..., Path], forecast: Forecast
) -> None:
    steps = np.random.default_rng(5).permutation([0] * 170 + [1] * 165 + [-1] * 165)
    prices = [float(p) for p in np.round(50.0 * 1.001 ** np.cumsum(steps), 8)]

    figures = result_object(forecast(prices=str(write(prices)), model="bootstrap", days=1, forecasts=20_000))

    share = float((np.diff(np.log(prices)) < -1e-9).mean())
    assert figures["prob_loss"] == pytest.approx(share, abs=4 * figures["prob_loss_se"])
    said = " ".join(figures["notes"])
    assert "of the prices of Close equal the one before" in said
    assert "Many forecasts share one price at these percentiles" in said
    assert "50% after 1 (3" in said


def test_constant_prices_have_no_chance_of_a_loss(write: Callable[..., Path], forecast: Forecast) -> None:
    figures = result_object(forecast(prices=str(write([5.0] * 60)), model="gbm", days=20))

    assert figures["prob_loss"] == 0.0
    assert figures["quantiles"]["0.5"] == pytest.approx(5.0)


def test_a_split_is_named_and_the_run_goes_on(write: Callable[..., Path], forecast: Forecast) -> None:
    prices = walk(200)
    halved = [price if i < 120 else price / 2 for i, price in enumerate(prices)]
    path = str(write(halved))

    asis = result_object(forecast(prices=path, days=5))
    adjusted = result_object(forecast(prices=path, days=5, split_adjust=True))

    assert any("line 122, 2015-05-05: " in note and "near a 2-for-1 split" in note for note in asis["notes"])
    assert any(
        note.startswith("Split-adjusted: earlier prices of Close by 2 before line 122") for note in adjusted["notes"]
    )
    assert adjusted["volatility"] == pytest.approx(np.diff(np.log(prices)).std(ddof=1), rel=1e-9)
    assert asis["volatility"] > 2 * adjusted["volatility"]


def oil() -> list[float]:
    """Return prices that fall below zero and come back, as oil's did in April 2020."""
    prices = [float(p) for p in np.round(20.0 + np.cumsum(np.random.default_rng(4).normal(0.0, 0.8, 120)), 2)]
    prices[60] = -37.63
    return prices


def test_prices_below_zero_are_forecast_by_the_bachelier_model(write: Callable[..., Path], forecast: Forecast) -> None:
    path = str(write(oil()))

    result = forecast(prices=path, model="bachelier", days=40, touch="-5,+50%", refine=False)
    figures = result_object(result)

    changes = np.diff(oil())
    assert (figures["drift"], figures["volatility"]) == (
        pytest.approx(changes.mean()),
        pytest.approx(changes.std(ddof=1)),
    )
    assert figures["quantiles"]["0.05"] < 0.0 < figures["prob_touch"]["-5"]
    assert figures["drawdown"] is None
    assert any("bachelier model adds normal changes" in note for note in figures["notes"])
    assert ["Price change", tables.facts(figures)[3][1]] == tables.facts(figures)[3]
    assert "%" not in tables.facts(figures)[3][1]
    assert fan_png(result).startswith(b"\x89PNG")
    assert histogram_png(result).startswith(b"\x89PNG")


def test_a_last_price_below_zero_has_losses_but_no_percentages(write: Callable[..., Path], forecast: Forecast) -> None:
    prices = [*oil()[:61]]

    result = forecast(prices=str(write(prices)), model="bachelier", days=10)
    figures = result_object(result)

    assert figures["s0"] == -37.63
    assert figures["risk"][-1]["var"] > 0.0
    assert figures["risk"][-1]["var_fraction"] is None
    assert "–" in tables.risk_table(figures).text()
    assert histogram_png(result).startswith(b"\x89PNG")
    with pytest.raises(
        ConfigError, match=r"--touch \+5%: the last price is -37.63, from which a percentage means nothing"
    ):
        prepare(Params(prices=str(write(prices)), model="bachelier", touch="+5%"))  # type: ignore[arg-type]


def test_models_of_returns_refuse_prices_below_zero_and_name_the_one_that_takes_them(
    write: Callable[..., Path],
) -> None:
    with pytest.raises(
        InputError, match=r"line 62, column 'Close': price -37.63 is not a positive number; .*bachelier"
    ):
        prepare(Params(prices=str(write(oil()))))


def test_backtests_are_of_models_of_returns() -> None:
    with pytest.raises(ConfigError, match="--model bachelier: expected one of gbm"):
        BacktestParams(model="bachelier")


def test_backtests_say_what_they_read(write: Callable[..., Path]) -> None:
    from apps.montecarlo.backtest import load

    history, _ = load(BacktestParams(prices=str(write(walk(400), every(7, 400))), min_history=100, horizon=4))

    assert history.notes[0].startswith("Weekly prices: one step is a week")


@pytest.mark.parametrize(("option", "value"), [("position", 10_000.0), ("drift", 0.03)])
def test_a_share_of_a_last_price_below_zero_is_refused(write: Callable[..., Path], option: str, value: float) -> None:
    prices = [*walk(60), -37.63]

    with pytest.raises(ConfigError, match=f"--{option} .*: the last price is -37.63, .*drop --{option}"):
        prepare(Params(prices=str(write(prices)), model="bachelier", **{option: value}))  # type: ignore[arg-type]


def test_a_rate_of_growth_is_one_of_the_last_price_where_changes_add_up(
    write: Callable[..., Path], forecast: Forecast
) -> None:
    result = forecast(prices=str(write(walk(60))), model="bachelier", days=10, drift=0.03)

    assert result.prepared.model.drift == pytest.approx(walk(60)[-1] * 0.03 / 365)  # type: ignore[union-attr]
    assert "grows by 3.00% of the last price a year, by choice" in tables.drift(result_object(result))
