from __future__ import annotations

import math
from dataclasses import replace

import pytest

from apps.montecarlo.science.american import with_policy
from apps.montecarlo.science.formulas import Greeks, black_scholes, black_scholes_greeks
from apps.montecarlo.science.greeks import greek_blocks, greeks, ladder, merge_greeks
from apps.montecarlo.science.models import GBM, Heston
from apps.montecarlo.science.options import METHODS, Option, OptionSpec
from apps.montecarlo.science.pricing import Price, is_exercised, price, price_blocks

QUANTLIB_CALL = Greeks(0.4103864881996939, 0.0194417305921448, 38.88346118428961, -4.960703641286699, 35.74525076192447)
"""QuantLib 1.44, AnalyticEuropeanEngine: spot 100, strike 110, interest 3%, volatility 20%, one year."""
QUANTLIB_PUT = Greeks(-0.6028784847453383, 0.019007702131166964, 38.01540426233393, -2.2166224575076248,
                      -72.92654844903697)  # fmt: skip
"""The same of the put, with dividends of 1%."""
QUANTLIB_ASIAN = 6.927350
"""QuantLib 1.44, MCDiscreteArithmeticAPEngine with control variate on 2**18 - 1 Sobol points: call, spot and strike
100, interest 5%, volatility 25%, 73 dates in a year."""


def spec_of(option: Option, **given: float) -> OptionSpec:
    """A pricing job from figures a year."""
    market = {"spot": 100.0, "rate": 0.03, "dividend": 0.0, "volatility": 0.2, "years": 1.0, "paths": 32_768} | given
    step = market["years"] / option.steps
    return OptionSpec(
        option, GBM(0.0, market["volatility"] * math.sqrt(step)), market["spot"], market["rate"] * step,
        int(market["paths"]), 3, market["dividend"] * step, "control",
    )  # fmt: skip


def priced(spec: OptionSpec) -> Price:
    return price(spec, price_blocks(spec, 0, spec.n_blocks))


def sensed(spec: OptionSpec, years: float = 1.0) -> tuple[Greeks, Greeks]:
    return greeks(spec, greek_blocks(spec, 0, spec.n_blocks), years)


def test_closed_sensitivities_are_quantlibs() -> None:
    call = black_scholes_greeks("call", 100.0, 110.0, 0.03, 0.0, 0.2, 1.0)
    put = black_scholes_greeks("put", 100.0, 110.0, 0.03, 0.01, 0.2, 1.0)

    assert call == pytest.approx(QUANTLIB_CALL, rel=1e-9)
    assert put == pytest.approx(QUANTLIB_PUT, rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_simulated_sensitivities_are_quantlibs_by_every_method(method: str) -> None:
    spec = replace(spec_of(Option("european", "put", 110.0, 4), dividend=0.01), method=method)

    found, errors = sensed(spec)

    for value, se, expected in zip(found, errors, QUANTLIB_PUT, strict=True):
        assert abs(value - expected) < 4 * se + 2e-3 * abs(expected)
        assert 0 < se < 0.06 * abs(expected)


def test_standard_errors_of_sensitivities_are_their_spread_over_seeds() -> None:
    spec = spec_of(Option("asian", "call", 100.0, 12), paths=640)

    runs = [sensed(replace(spec, seed=seed)) for seed in range(60)]

    for field in range(5):
        values = [found[field] for found, _ in runs]
        middle = sum(values) / len(values)
        spread = math.sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1))
        stated = sum(errors[field] for _, errors in runs) / len(runs)
        # The spread of 60 seeds is itself known to 9%.
        assert stated == pytest.approx(spread, rel=0.3)


def test_split_work_gives_the_same_sensitivities() -> None:
    spec = spec_of(Option("barrier", "call", 100.0, 12, 130.0, "up-and-out"), paths=640)

    parts = [greek_blocks(spec, first, 5) for first in (5, 0)]

    assert merge_greeks(parts) == greek_blocks(spec, 0, 10)


def test_the_ladder_holds_the_closed_price_at_every_spot() -> None:
    spec = replace(spec_of(Option("european", "call", 110.0, 1)), method="antithetic+control")

    rungs = ladder(spec, greek_blocks(spec, 0, spec.n_blocks))

    assert [spot for spot, _ in rungs] == [70.0, 80.0, 85.0, 90.0, 95.0, 100.0, 105.0, 110.0, 115.0, 120.0, 130.0]
    for spot, (value, se) in rungs:
        assert abs(value - black_scholes("call", spot, 110.0, 0.03, 0.2, 1.0)) < 4 * se


def test_the_price_on_the_ladder_is_the_price() -> None:
    spec = spec_of(Option("barrier", "put", 100.0, 12, 80.0, "down-and-in"), paths=6400)

    here = dict(ladder(spec, greek_blocks(spec, 0, spec.n_blocks)))[100.0]

    assert here.value == pytest.approx(priced(spec).value, rel=1e-9)
    assert here.se == pytest.approx(priced(spec).se, rel=1e-9)


def test_spots_beyond_a_barrier_are_not_on_the_ladder() -> None:
    spec = spec_of(Option("barrier", "call", 100.0, 12, 110.0, "up-and-out"), paths=640)

    rungs = ladder(spec, greek_blocks(spec, 0, spec.n_blocks))

    assert [spot for spot, _ in rungs] == [70.0, 80.0, 85.0, 90.0, 95.0, 100.0, 105.0]


@pytest.mark.parametrize(("barrier", "way"), [(100.0, "up-and-out"), (90.0, "up-and-in"), (110.0, "down-and-out")])
def test_a_barrier_that_is_crossed_already_is_refused(barrier: float, way: str) -> None:
    with pytest.raises(ValueError, match="at or beyond the barrier"):
        spec_of(Option("barrier", "call", 100.0, 12, barrier, way))


def test_an_asian_price_is_quantlibs() -> None:
    spec = spec_of(Option("asian", "call", 100.0, 73), rate=0.05, volatility=0.25)

    value, se = priced(spec)

    assert abs(value - QUANTLIB_ASIAN) < 4 * se + 5e-4


@pytest.mark.parametrize(
    ("spot", "volatility", "years", "published"),
    [
        (36.0, 0.2, 1, 4.478),
        pytest.param(36.0, 0.4, 2, 8.508, marks=pytest.mark.slow),
        pytest.param(40.0, 0.2, 1, 2.314, marks=pytest.mark.slow),
        pytest.param(40.0, 0.4, 1, 5.312, marks=pytest.mark.slow),
        pytest.param(44.0, 0.2, 2, 1.690, marks=pytest.mark.slow),
        (44.0, 0.4, 2, 5.647),
    ],
)
def test_american_puts_are_those_of_longstaff_and_schwartz(
    spot: float, volatility: float, years: int, published: float
) -> None:
    # Table 1 of their paper, by finite differences: strike 40, interest 6%, 50 dates of exercise a year.
    option = Option("american", "put", 40.0, 50 * years)
    spec = with_policy(spec_of(option, spot=spot, rate=0.06, volatility=volatility, years=years))

    value, se = priced(replace(spec, method="antithetic+control"))

    # The learned policy is not quite the best one, so a little less is right and more is not.
    assert -4 * se - 0.003 * published < value - published < 4 * se


def test_an_american_call_with_dividends_is_quantlibs() -> None:
    # QuantLib 1.44, FdBlackScholesVanillaEngine on a grid of 2000 by 2000, 73 dates of exercise.
    option = Option("american", "call", 100.0, 73)
    spec = with_policy(spec_of(option, rate=0.05, dividend=0.08, volatility=0.25))

    value, se = priced(spec)

    assert -4 * se - 0.003 * 8.4010 < value - 8.4010 < 4 * se


@pytest.mark.parametrize(
    ("right", "strike", "rate", "dividend", "volatility", "years", "quantlib"),
    [
        ("call", 100.0, 0.03, 0.08, 0.9, 5.0, 52.2932),
        ("call", 80.0, 0.02, 0.10, 0.3, 2.0, 21.2774),
        ("call", 100.0, 0.05, 0.30, 0.4, 1.0, 8.2252),
        ("put", 100.0, 0.05, 0.0, 0.9, 5.0, 56.1339),
        ("put", 110.0, 0.03, 0.06, 0.6, 3.0, 46.2672),
    ],
)
def test_american_options_of_every_kind_are_quantlibs(
    right: str, strike: float, rate: float, dividend: float, volatility: float, years: float, quantlib: float
) -> None:
    # QuantLib 1.44, FdBlackScholesVanillaEngine on a grid of 2000 by 2000, spot 100, 73 dates of exercise.
    market = {"rate": rate, "dividend": dividend, "volatility": volatility, "years": years, "paths": 65_536}
    spec = with_policy(spec_of(Option("american", right, strike, 73), **market))

    value, se = priced(spec)

    assert -4 * se - 0.005 * quantlib < value - quantlib < 4 * se


def test_american_delta_and_gamma_are_quantlibs() -> None:
    # QuantLib 1.44, FdBlackScholesVanillaEngine, 73 dates of exercise: price 4.480596, delta -0.696158, gamma 0.086684.
    option = Option("american", "put", 40.0, 73)
    spec = with_policy(spec_of(option, spot=36.0, rate=0.06, paths=65_536))

    found, errors = sensed(spec)

    assert abs(found.delta + 0.696158) < 4 * errors.delta + 0.01
    assert abs(found.gamma - 0.086684) < 4 * errors.gamma
    assert errors.gamma < 0.01


def test_other_american_sensitivities_are_quantlibs_within_what_the_learned_rule_lacks() -> None:
    # Differences of prices by QuantLib 1.44, FdBlackScholesVanillaEngine, 73 dates: vega 10.9440, rho -10.4421.
    option = Option("american", "put", 40.0, 73)
    spec = with_policy(spec_of(option, spot=36.0, rate=0.06, paths=65_536))

    found, errors = sensed(spec)

    assert abs(found.vega - 10.9440) < 4 * errors.vega + 0.05 * 10.9440
    assert abs(found.rho + 10.4421) < 4 * errors.rho + 0.05 * 10.4421


def test_an_american_call_without_dividends_is_worth_the_european_one() -> None:
    spec = with_policy(spec_of(Option("american", "call", 100.0, 12)))

    value, se = priced(spec)

    assert abs(value - black_scholes("call", 100.0, 100.0, 0.03, 0.2, 1.0)) < 4 * se + 0.003 * value


def test_where_exercise_today_is_best_the_gain_is_the_price() -> None:
    spec = with_policy(spec_of(Option("american", "put", 200.0, 12), paths=6400))

    assert priced(spec) == (100.0, 0.0)
    assert sensed(spec) == (Greeks(-1.0, 0.0, 0.0, 0.0, 0.0), Greeks(*[0.0] * 5))


def test_an_american_option_that_no_path_exercises_is_not_exercised_today() -> None:
    spec = with_policy(spec_of(Option("american", "put", 10.0, 12), paths=256))

    price, (sensitivities, _) = priced(spec), sensed(spec)

    assert price == Price(0.0, 0.0)
    assert not is_exercised(spec, spec.s0, price)
    assert tuple(sensitivities) == (0.0, 0.0, 0.0, 0.0, 0.0)


def test_a_policy_is_learned_from_other_paths_than_those_priced() -> None:
    spec = spec_of(Option("american", "put", 100.0, 12), paths=6400)

    assert with_policy(spec).policy == with_policy(replace(spec, paths=64)).policy
    assert with_policy(spec).policy != with_policy(replace(spec, seed=4)).policy


def test_american_exercise_without_a_policy_is_refused() -> None:
    spec = spec_of(Option("american", "put", 100.0, 12), paths=64)

    with pytest.raises(ValueError, match="no policy of exercise"):
        price_blocks(spec, 0, 1)


def test_sobol_points_for_american_exercise_are_refused() -> None:
    with pytest.raises(ValueError, match="not for American exercise"):
        replace(spec_of(Option("american", "put", 100.0, 12)), method="sobol")


def test_sensitivities_of_other_models_are_refused() -> None:
    spec = OptionSpec(
        Option("european", "put", 100.0, 12), Heston(0.0, 0.05, 1e-4, 0.002, -0.5, 1e-4), 100.0, 0.0, 64, 1
    )

    with pytest.raises(ValueError, match="gbm model alone"):
        greek_blocks(spec, 0, 1)
