from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from apps.montecarlo.science.blocks import brownian_bridge, sobol_normals
from apps.montecarlo.science.formulas import black_scholes, control_mean
from apps.montecarlo.science.models import GBM, FloatArray, Heston, Merton, StudentT
from apps.montecarlo.science.options import BARRIERS, METHODS, Option, OptionSpec, payoff, risk_neutral, settled
from apps.montecarlo.science.pricing import Price, merge_prices, price, price_blocks

YEAR = 252
DAILY = GBM(0.0, 0.2 / math.sqrt(YEAR))
RATE = 0.03 / YEAR
CALL = Option("european", "call", 110.0, 1)
ASIAN = Option("asian", "call", 100.0, YEAR)
KNOCK_OUT = Option("barrier", "call", 110.0, YEAR, 130.0, "up-and-out")
YEARLY = OptionSpec(CALL, GBM(0.0, 0.2), 100.0, 0.03, 20_000, 3)
DAILY_ASIAN = OptionSpec(ASIAN, DAILY, 100.0, RATE, 4096, 3)
ASIAN_PRICE = 5.3002
"""Daily arithmetic Asian call: a million antithetic paths with the geometric control; standard error 2e-4."""


def priced(spec: OptionSpec) -> Price:
    return price(spec, price_blocks(spec, 0, spec.n_blocks))


def paid(option: Option, path: FloatArray) -> FloatArray:
    return payoff(option, settled(option, path), 1.0)


def test_the_formula_gives_the_known_call() -> None:
    assert black_scholes("call", 100.0, 110.0, 0.03, 0.2, 1.0) == pytest.approx(5.293398, abs=5e-7)


def test_calls_and_puts_keep_parity() -> None:
    call, put = (black_scholes(right, 100.0, 110.0, 0.03, 0.2, 1.0) for right in ("call", "put"))

    assert call - put == pytest.approx(100.0 - 110.0 * math.exp(-0.03))


def test_a_certain_price_pays_its_intrinsic_value() -> None:
    assert black_scholes("put", 100.0, 110.0, 0.0, 0.0, 1.0) == pytest.approx(10.0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_known_call(method: str) -> None:
    value, se = priced(replace(YEARLY, method=method))

    assert abs(value - 5.293398) < 4 * se
    assert 0 < se < 0.1


@pytest.mark.parametrize("right", ["call", "put"])
def test_daily_steps_find_the_same_price_as_one(right: str) -> None:
    spec = OptionSpec(Option("european", right, 110.0, YEAR), DAILY, 100.0, RATE, 8192, 3)

    value, se = priced(spec)

    assert abs(value - black_scholes(right, 100.0, 110.0, 0.03, 0.2, 1.0)) < 4 * se


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_same_asian_price(method: str) -> None:
    value, se = priced(replace(DAILY_ASIAN, method=method))

    assert abs(value - ASIAN_PRICE) < 4 * se + 3 * 2e-4


@pytest.mark.parametrize("method", [method for method in METHODS if method != "plain"])
def test_every_method_narrows_the_standard_error(method: str) -> None:
    assert priced(replace(DAILY_ASIAN, method=method)).se < 0.85 * priced(DAILY_ASIAN).se


def test_the_geometric_control_narrows_an_asian_price_thirtyfold() -> None:
    assert priced(replace(DAILY_ASIAN, method="control")).se < priced(DAILY_ASIAN).se / 30


def test_a_knock_out_agrees_with_the_continuous_formula_at_the_shifted_barrier() -> None:
    value, se = priced(OptionSpec(KNOCK_OUT, DAILY, 100.0, RATE, 32_768, 5))

    shifted = 130.0 * math.exp(0.5826 * 0.2 / math.sqrt(YEAR))
    assert abs(value - up_and_out_call(100.0, 110.0, shifted, 0.03, 0.2, 1.0)) < 4 * se


def up_and_out_call(s0: float, strike: float, barrier: float, rate: float, volatility: float, years: float) -> float:
    """Reiner and Rubinstein (1991), by integrating the reflected density numerically."""
    drift, deviation = (rate - volatility**2 / 2) * years, volatility * math.sqrt(years)
    top = math.log(barrier / s0)
    x = np.linspace(math.log(strike / s0), top, 200_001)
    density = np.exp(-(((x - drift) / deviation) ** 2) / 2)
    reflected = np.exp(2 * drift * top / deviation**2 - ((x - 2 * top - drift) / deviation) ** 2 / 2)
    weight = (density - reflected) / (deviation * math.sqrt(2 * math.pi))
    return float(math.exp(-rate * years) * np.trapezoid((s0 * np.exp(x) - strike) * weight, x))


@pytest.mark.parametrize("way", ["up", "down"])
def test_knock_in_and_knock_out_add_up_to_the_european(way: str) -> None:
    path = np.log(np.random.default_rng(1).uniform(0.7, 1.4, (5, 200)))
    level = 1.3 if way == "up" else 0.75

    outs, ins = (paid(Option("barrier", "put", 1.0, 5, level, f"{way}-and-{end}"), path) for end in ("out", "in"))

    assert np.array_equal(outs + ins, paid(Option("european", "put", 1.0, 5), path))
    assert outs.any()
    assert ins.any()


@pytest.mark.parametrize(
    "model", [GBM(0.1, 0.02), Merton(0.1, 0.01, 0.1, -0.02, 0.04), Heston(0.1, 0.05, 2e-4, 0.003, -0.7, 4e-4)]
)
def test_the_risk_neutral_price_grows_by_the_rate(model: GBM | Merton | Heston) -> None:
    spec = OptionSpec(Option("european", "call", 1e-9, 60), model, 100.0, 0.001, 40_000, 2)

    value, se = priced(spec)

    assert abs(value - 100.0) < 4 * se


def test_a_dividend_lowers_the_forward() -> None:
    model = risk_neutral(GBM(0.0, 0.1), 0.03 - 0.01)

    assert control_mean(Option("european", "call", 1.0, 1), GBM(model.drift, 0.1), 1.0) == pytest.approx(math.exp(0.02))


@pytest.mark.parametrize("method", METHODS)
def test_any_split_of_the_blocks_gives_the_same_bits(method: str) -> None:
    spec = replace(DAILY_ASIAN, paths=1000, method=method)
    cut = spec.n_blocks // 3

    parts = [price_blocks(spec, cut, spec.n_blocks - cut), price_blocks(spec, 0, cut)]

    assert merge_prices(parts).digest() == price_blocks(spec, 0, spec.n_blocks).digest()


def test_the_number_of_simulated_paths_and_steps_is_stated() -> None:
    sobol, plain = replace(DAILY_ASIAN, paths=1000, method="sobol"), replace(DAILY_ASIAN, paths=1000)

    assert sobol.simulated_paths == 1024
    assert price_blocks(sobol, 0, sobol.n_blocks).path_steps == 1024 * YEAR
    assert price_blocks(plain, 0, plain.n_blocks).path_steps == 1000 * YEAR


def test_the_bridge_builds_a_random_walk() -> None:
    steps = 13

    factor = brownian_bridge(np.eye(steps))

    first, second = np.meshgrid(np.arange(1, steps + 1), np.arange(1, steps + 1))
    np.testing.assert_allclose(factor @ factor.T, np.minimum(first, second), atol=1e-12)
    assert factor[-1].tolist() == [math.sqrt(steps)] + [0.0] * (steps - 1)


def test_sobol_normals_are_normal_and_differ_between_replicates() -> None:
    first, second = (np.concatenate(list(sobol_normals(3, 1024, 1, replicate))) for replicate in (0, 1))

    assert first.shape == (1024, 3)
    assert np.abs(first.mean(axis=0)).max() < 0.01
    assert first.std(axis=0) == pytest.approx(np.ones(3), abs=0.01)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "bermudan"}, "no option 'bermudan'"),
        ({"right": "straddle"}, "call or a put"),
        ({"strike": 0.0}, "strike must be positive"),
        ({"steps": 0}, "at least one step"),
        ({"barrier": 120.0}, "has no meaning for a european"),
        ({"kind": "barrier", "barrier": 120.0}, "no barrier ''"),
        ({"kind": "barrier", "barrier_type": BARRIERS[0]}, "barrier must be a positive price"),
    ],
)
def test_an_impossible_contract_says_why(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(CALL, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"s0": -1.0}, "initial price"),
        ({"paths": 1}, "paths must be at least 2"),
        ({"method": "importance"}, "no method 'importance'"),
        ({"method": "antithetic", "paths": 7}, "even number"),
        ({"method": "control", "model": Heston(0.0, 0.05, 2e-4, 0.003, -0.7, 4e-4)}, "gbm model alone"),
        ({"method": "sobol", "option": replace(CALL, steps=22_000)}, "dimensions"),
        ({"option": replace(CALL, steps=26_000)}, "at most 25200 steps"),
    ],
)
def test_an_impossible_pricing_job_says_why(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(YEARLY, **change)  # type: ignore[arg-type]


def test_a_model_without_a_risk_neutral_form_is_refused() -> None:
    with pytest.raises(ValueError, match="gbm, merton or heston"):
        replace(YEARLY, model=StudentT(0.0, 0.1, 3.0))  # type: ignore[arg-type]
