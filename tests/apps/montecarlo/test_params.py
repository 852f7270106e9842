from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps._frame.params import add_flags, as_flags, build
from apps.montecarlo import params as module
from apps.montecarlo.backtest_params import BacktestParams
from apps.montecarlo.option_params import BARRIERS, KINDS, METHODS, RIGHTS, OptionParams
from apps.montecarlo.params import Params, touch_price
from apps.montecarlo.percent import fraction, fractions
from apps.montecarlo.science import calibration, spec
from core import ConfigError


def parse(argv: list[str]) -> Params:
    parser = argparse.ArgumentParser()
    add_flags(parser, Params)
    return build(Params, vars(parser.parse_args(argv)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("forecasts", 0), ("forecasts", 1), ("forecasts", 10**11), ("forecasts", "many"), ("forecasts", 1.5),
        ("forecasts", True),
        ("days", 0), ("days", 25_201), ("days", ""), ("seed", -1), ("seed", 2**64), ("model", "magic"),
        ("model", 3), ("engine", "fpga"), ("preset", "walk"), ("invocations", 0), ("invocations", "all"),
        ("weights", "0.5,x"), ("weights", "15"), ("touch", "+25"), ("touch", "-100%"), ("touch", "0"), ("touch", "-5"),
        ("touch", "nan"), ("touch", "+25%,+25%"), ("levels", "0"), ("levels", "0.5,1"), ("levels", "0.5,0.5"),
        ("confidence", "0.4"), ("confidence", "1"), ("antithetic", "maybe"), ("exact", 2), ("symbol", "sp500,sp500"),
        ("prices", 7), ("window", 250),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_in_one_sentence_that_names_its_flag(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^--{field} .*expected [^\n]+$"):
        Params(**{field: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"symbol": ""}, "--symbol: expected at least one"),
        ({"levels": ""}, "--levels: expected at least one"),
        ({"confidence": ""}, "--confidence: expected at least one"),
        ({"preset": "talk", "symbol": "nasdaq"}, "drop --preset or them"),
        ({"preset": "talk", "window": "250"}, "drop --preset or them"),
        ({"preset": "talk", "model": "merton"}, "drop --model merton or --preset"),
        ({"prices": "a.csv", "symbol": "nasdaq"}, "give only one of them"),
        ({"weights": "0.5,0.6"}, "must sum to 1"),
        ({"exact": True, "touch": "3000"}, "drop one of the two"),
        ({"exact": True, "model": "heston"}, "drop --exact"),
        ({"antithetic": True, "model": "bootstrap"}, "drop --antithetic"),
        ({"antithetic": True, "forecasts": 101}, "give an even number"),
        ({"preset": "talk", "split_adjust": True}, "drop --preset or them"),
        ({"model": "bachelier", "split_adjust": True}, "drop one"),
        ({"levels": "5%,0.5"}, "--levels: 5%,0.5: write the percent sign everywhere or nowhere"),
        ({"levels": "0.5,50"}, "--levels: 0.5,50: is 0.5 a fraction or a percentage"),
        ({"weights": "60%,0.4"}, "--weights: 60%,0.4: write the percent sign everywhere or nowhere"),
        ({"weights": "60,50"}, "expected shares .or percentages."),
    ],
)
def test_settings_that_exclude_each_other_are_refused_with_the_remedy(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Params(**settings)  # type: ignore[arg-type]


def test_flags_text_and_python_values_give_the_same_parameters() -> None:
    from_flags = parse(["--forecasts", "1e6", "--levels", "0.9,0.1", "--touch=-10%,3000", "--seed", "7"])

    assert from_flags == Params(forecasts=1_000_000, levels=(0.1, 0.9), touch=("-10%", "3000"), seed=7)


def test_a_switch_is_off_until_its_flag_is_given() -> None:
    assert not parse([]).exact
    assert parse(["--exact"]).exact


@given(
    forecasts=st.integers(1, 10**10).map(lambda n: 2 * (n // 2) + 2).filter(lambda n: n <= 10**10),
    days=st.integers(1, 25_200),
    seed=st.integers(0, 2**64 - 1),
    touch=st.lists(st.sampled_from(["-10%", "+25%", "3000", "2.5", "+0.5%"]), unique=True).map(tuple),
    levels=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5, unique=True).map(tuple),
    model=st.sampled_from(["gbm", "merton", "heston"]),
    antithetic=st.booleans(),
)
def test_the_reproduction_flags_give_the_same_parameters_again(**settings: object) -> None:
    params = Params(**settings)  # type: ignore[arg-type]

    assert parse(as_flags(params)) == params


def test_a_toml_file_is_checked_like_flags_and_flags_win(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('forecasts = 500\ndays = 21\nlevels = [0.9, 0.1]\nmodel = "merton"\n')

    params = build(Params, {"days": "63"}, str(path))

    assert params == Params(forecasts=500, days=63, levels=(0.1, 0.9), model="merton")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("forecast = 5\n", r"has no setting 'forecast' \(is it 'forecasts'\?\); known: forecasts"),
        ("days = -1\n", r"run\.toml: days = -1: expected a whole number"),
        ("days = \n", "not valid TOML"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_a_bad_toml_file_is_named_with_its_fault(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ConfigError, match=message):
        build(Params, {}, str(path))


def test_a_missing_toml_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read configuration file .*none\.toml: No such file"):
        build(Params, {}, str(tmp_path / "none.toml"))


@pytest.mark.parametrize(("level", "price"), [("+25%", 250.0), ("-10%", 180.0), ("199.5", 199.5)])
def test_a_touch_level_is_a_change_from_the_last_price_or_a_price(level: str, price: float) -> None:
    assert touch_price(level, 200.0) == pytest.approx(price)


def test_the_names_offered_are_those_the_science_knows() -> None:
    from apps.montecarlo.science import options

    assert module.MODELS == calibration.MODEL_NAMES
    assert set(module.MODELS) - set(module.RETURN_MODELS) == {"bachelier"}
    assert module.PORTFOLIO_MODELS == calibration.PORTFOLIO_MODEL_NAMES
    assert module.MAX_DAYS == spec.MAX_DAYS
    assert (KINDS, RIGHTS, BARRIERS, METHODS) == (
        options.KINDS, options.RIGHTS, options.BARRIERS, options.METHODS
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (BacktestParams, {"horizon": 0}, "--horizon 0: expected"),
        (BacktestParams, {"history": 5}, "--history 5: expected"),
        (BacktestParams, {"prices": "a.csv", "symbol": "wti"}, "give only one"),
        (OptionParams, {"volatility": "0%"}, "--volatility 0%: expected"),
        (OptionParams, {"rate": "three"}, "--rate three: expected"),
        (OptionParams, {"years": 0}, "--years 0: expected"),
        (OptionParams, {"kind": "barrier"}, "needs --barrier PRICE"),
        (OptionParams, {"barrier": 120}, "use --kind barrier"),
        (OptionParams, {"method": "antithetic", "paths": 11}, "give an even number"),
    ],
)
def test_the_other_commands_refuse_bad_values_alike(kind: type, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


def test_rates_are_percent_or_fractions() -> None:
    assert OptionParams(rate="3%", volatility="20%") == OptionParams(rate=0.03, volatility=0.2)  # type: ignore[arg-type]
    assert OptionParams(rate="-1%", volatility="150%").volatility == 1.5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": "3"}, "--rate: 3 would be 300% a year; write 3%, or 300% if it is meant"),
        ({"rate": 3}, "--rate: 3 would be 300% a year; write 3%, or 300% if it is meant"),
        ({"dividend": "1.5"}, "--dividend: 1.5 would be 150% a year; write 1.5%, or 150% if it is meant"),
        ({"volatility": 20}, "--volatility: 20 would be 2000% a year; write 20%, or 2000% if it is meant"),
    ],
)
def test_a_rate_without_a_percent_sign_that_would_be_a_hundred_times_as_much_is_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        OptionParams(**settings)  # type: ignore[arg-type]

    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"confidence": "99%"}, {"confidence": (0.99,)}),
        ({"confidence": "99,97.5%"}, None),
        ({"confidence": "99,97.5"}, {"confidence": (0.975, 0.99)}),
        ({"confidence": 95}, {"confidence": (0.95,)}),
        ({"levels": "5,50,95"}, {"levels": (0.05, 0.5, 0.95)}),
        ({"levels": "1,50,99.9"}, {"levels": (0.01, 0.5, 0.999)}),
        ({"levels": "0.1%, 50 %"}, {"levels": (0.001, 0.5)}),
        ({"levels": [5, 95]}, {"levels": (0.05, 0.95)}),
        ({"weights": "60%,40%"}, {"weights": (0.6, 0.4)}),
        ({"weights": "60,40"}, {"weights": (0.6, 0.4)}),
        ({"weights": "0.6,0.4"}, {"weights": (0.6, 0.4)}),
    ],
    ids=str,
)
def test_percent_signs_stand_everywhere_or_nowhere(
    settings: dict[str, object], expected: dict[str, object] | None
) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match="everywhere or nowhere"):
            Params(**settings)  # type: ignore[arg-type]
    else:
        assert Params(**settings) == Params(**expected)  # type: ignore[arg-type]


def test_backtests_take_percentages_too() -> None:
    assert BacktestParams(confidence="99%") == BacktestParams(confidence=(0.99,))  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 9999), min_size=1, max_size=6))
def test_a_percentage_is_the_same_number_as_its_fraction(hundredths: list[int]) -> None:
    signed = ",".join(f"{n / 100:.2f}%" for n in hundredths)

    assert fractions(signed) == [float(f"{n / 10_000:.4f}") for n in hundredths]
    assert [fraction(f"{n / 100:.2f}%") for n in hundredths] == fractions(signed)


def test_a_level_to_touch_below_zero_is_for_the_model_that_goes_there() -> None:
    assert Params(model="bachelier", touch="-5,-10%").touch == ("-5", "-10%")  # type: ignore[arg-type]
