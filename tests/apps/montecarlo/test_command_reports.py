"""Reports of the commands beside the forecast: option and backtest."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps._frame.report import page
from apps.montecarlo import backtest, backtest_report, option, option_report
from apps.montecarlo.backtest_params import BacktestParams
from apps.montecarlo.mapping import on_executor
from apps.montecarlo.option_params import OptionParams
from core import ConfigError, FunctionExecutor

Main = Callable[[Sequence[str]], tuple[int, str, str]]

OPTIONS: list[dict[str, object]] = [
    {"kind": "european"},
    {"kind": "asian", "right": "put", "method": "antithetic"},
    {"kind": "barrier", "barrier": 130, "barrier_type": "up-and-out"},
    {"kind": "american", "right": "put"},
    {"kind": "american", "right": "put", "strike": 200},
    {"kind": "european", "method": "sobol"},
]


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a fresh folder, where runs without an output go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def option_figures(**given_settings: object) -> tuple[OptionParams, dict[str, object]]:
    params = OptionParams(**{"paths": 2000, "steps": 12} | given_settings)  # type: ignore[arg-type]
    with FunctionExecutor("serial") as executor:
        return params, option.run(params, on_executor(executor))


@pytest.fixture(scope="module")
def tested() -> tuple[BacktestParams, dict[str, object]]:
    params = BacktestParams(forecasts=200, var_days=300, window="1800")
    with FunctionExecutor("serial") as executor:
        return params, backtest.run(params, on_executor(executor))


@pytest.mark.parametrize("contract", OPTIONS, ids=str)
def test_every_kind_of_option_gives_all_its_files(contract: dict[str, object]) -> None:
    params, figures = option_figures(**contract)

    files = option_report.run_files(figures, params)

    assert set(files) == {"ladder.csv", "price.png", "expiry.png", "report.html", "result.json"}
    assert json.loads(files["result.json"]) == figures


def test_vega_and_rho_are_told_by_the_percentage_point_and_theta_by_the_day() -> None:
    _, figures = option_figures(method="antithetic+control", paths=20_000)

    closed, found, errors = (figures[key] for key in ("black_scholes_greeks", "greeks", "greeks_se"))
    # QuantLib 1.44 says 38.88346 a unit of volatility, 35.74525 a unit of interest, -4.960704 a year.
    assert closed["vega"] == pytest.approx(0.3888346)  # type: ignore[index]
    assert closed["rho"] == pytest.approx(0.3574525)  # type: ignore[index]
    assert closed["theta"] == pytest.approx(-4.960704 / 365)  # type: ignore[index]
    for name, value in found.items():  # type: ignore[attr-defined]
        assert abs(value - closed[name]) < 4 * errors[name] + 2e-3 * abs(closed[name])  # type: ignore[index]


def test_exercise_that_is_best_today_is_said() -> None:
    params, figures = option_figures(kind="american", right="put", strike=200)

    assert figures["price"] == 100.0
    assert "100: exercise today" in option_report.as_text(figures)
    said = b"".join(page(option_report.report(figures, params, {"price.png": b"", "expiry.png": b""}))).decode()
    assert "exercise today" in said


@pytest.mark.parametrize("kind", ["american", "european"])
def test_an_option_that_no_path_exercises_is_not_said_to_be_exercised(kind: str) -> None:
    params, figures = option_figures(kind=kind, right="put", strike=10, paths=256)

    assert not figures["exercise_now"]
    assert figures["greeks"]["delta"] == 0.0  # type: ignore[index]
    assert "exercise today" not in option_report.as_text(figures)
    assert {row[3] for row in option_report.ladder_table(figures).rows} == {"0.0"}
    said = b"".join(page(option_report.report(figures, params, {"price.png": b"", "expiry.png": b""}))).decode()
    assert "exercise today" not in said


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        ({"strike": 900.0, "method": "plain"}, "No simulated path pays anything"),
        ({"years": 30.0, "volatility": "100%"}, "too rare to be simulated"),
    ],
    ids=str,
)
def test_an_error_that_says_nothing_is_said(contract: dict[str, object], said: str) -> None:
    assert said in " ".join(option_report.as_text(option_figures(**contract)[1]).split())


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ({"years": 30.0, "rate": "90%"}, "more than a million times the spot"),
        ({"kind": "barrier", "barrier": 90, "barrier_type": "up-and-out"}, "at or beyond the barrier"),
        ({"paths": 2, "method": "antithetic"}, "one antithetic pair has no standard error"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_priced_says_why(contract: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        option_figures(**contract)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["european", "asian", "american"]),
    right=st.sampled_from(["call", "put"]),
    spot=st.sampled_from([1e-3, 100.0, 1e6]),
    moneyness=st.floats(0.2, 5.0),
    rate=st.floats(-0.1, 0.3),
    dividend=st.floats(0.0, 0.1),
    volatility=st.floats(0.001, 0.9),
    years=st.floats(0.002, 5.0),
    steps=st.integers(1, 12),
    method=st.sampled_from(["plain", "antithetic", "control", "antithetic+control"]),
)
def test_any_contract_has_finite_figures(moneyness: float, **contract: object) -> None:
    _, figures = option_figures(**contract, strike=moneyness * contract["spot"], paths=64)  # type: ignore[operator]

    numbers = [figures["price"], figures["standard_error"], *figures["greeks"].values(), *figures["greeks_se"].values()]  # type: ignore[attr-defined]
    assert all(math.isfinite(number) for number in numbers)
    assert figures["price"] >= -4 * figures["standard_error"] - 1e-6 * contract["spot"]  # type: ignore[operator]


@pytest.mark.parametrize("command", ["forecast", "option", "backtest", "validate"])
def test_every_command_tells_what_it_would_take(main: Main, command: str, in_tmp: Path) -> None:
    figures = json.loads(main([command, "--dry-run", "--json"])[1])

    assert figures["cpu_seconds"] > 0.0
    assert all(stage["tasks"] > 0 for stage in figures["stages"])
    assert list(in_tmp.iterdir()) == []


def test_the_ladder_is_written_as_csv() -> None:
    params, figures = option_figures()

    rows = list(csv.DictReader(io.StringIO(option_report.run_files(figures, params)["ladder.csv"].decode())))

    assert [float(row["spot"]) for row in rows] == [rung["spot"] for rung in figures["ladder"]]  # type: ignore[attr-defined]
    assert float(rows[5]["price"]) == pytest.approx(figures["price"])


def test_a_backtest_gives_all_its_files(tested: tuple[BacktestParams, dict[str, object]]) -> None:
    params, figures = tested

    files = backtest_report.run_files(figures, params)

    assert set(files) == {"coverage.png", "var.png", "var.csv", "report.html", "result.json"}
    rows = list(csv.DictReader(io.StringIO(files["var.csv"].decode())))
    assert (len(rows), rows[-1]["date"]) == (300, "2018-12-31")
    assert float(rows[-1]["loss"]) == pytest.approx(-0.00849, abs=1e-5)


def test_a_backtest_without_days_has_no_test_of_the_value_at_risk() -> None:
    params = BacktestParams(forecasts=200, var_days=0, window="1200")
    with FunctionExecutor("serial") as executor:
        figures = backtest.run(params, on_executor(executor))

    assert "var.png" not in backtest_report.run_files(figures, params)
    assert "value at risk" not in backtest_report.as_text(figures)


def test_a_backtest_says_exceptions_tests_and_zone(
    tested: tuple[BacktestParams, dict[str, object]],
) -> None:
    text = backtest_report.as_text(tested[1])

    for said in ("exceptions", "Kupiec p", "independence p", " of 250", "plus factor"):
        assert said in text


@pytest.mark.parametrize("refit", [1, 21, 400])
def test_days_are_grouped_at_calibrations_so_that_grouping_changes_nothing(refit: int) -> None:
    starts = range(700, 1700)

    found = backtest.var_groups(starts, refit)

    assert [start for group in found for start in range(*group)] == list(starts)
    assert all((first - starts[0]) % refit == 0 for first, _ in found)
    assert len(found) <= backtest.MOST_TASKS


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_backtest_does_not_depend_on_the_workers(
    main: Main, workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [
        "backtest",
        "--forecasts",
        "200",
        "--var-days",
        "60",
        "--window",
        "1300",
        "--refit",
        "7",
        "--json",
        "--quiet",
    ]
    serial = json.loads(main([*flags, "--compute", "serial"])[1])

    assert json.loads(main([*flags, "--workers", workers])[1]) == serial


@pytest.mark.parametrize("command", ["option", "backtest"])
def test_output_is_written_where_it_is_asked_for(main: Main, command: str, tmp_path: Path) -> None:
    small = ["--paths", "640", "--steps", "4"] if command == "option" else ["--forecasts", "100", "--window", "1100"]

    status, _, err = main([command, *small, "--compute", "serial", "--output", f"{tmp_path}/run"])

    assert status == 0, err
    assert (tmp_path / "run" / "report.html").exists()


def test_weekly_prices_are_tested_week_by_week_and_have_no_plus_factor(tmp_path: Path) -> None:
    days = [date(2005, 1, 7) + timedelta(days=7 * week) for week in range(700)]
    prices = 50 * np.exp(np.cumsum(np.random.default_rng(1).normal(0.001, 0.03, 700)))
    path = tmp_path / "weekly.csv"
    path.write_text("Date,Close\n" + "".join(f"{day},{price:.4f}\n" for day, price in zip(days, prices, strict=True)))
    params = BacktestParams(prices=str(path), min_history=200, var_days=300, forecasts=200, horizon=4)

    with FunctionExecutor("serial") as executor:
        figures = backtest.run(params, on_executor(executor))

    assert "Weeks that lost more than the one-week value at risk" in backtest_report.as_text(figures)
    assert [test["plus_factor"] for test in figures["var_tests"]] == [None, None]
    assert figures["var_tests"][1]["zone_days"] == 250
