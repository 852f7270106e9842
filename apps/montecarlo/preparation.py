"""From parameters to a forecast that is ready to run: prices, calibrated model, layout of the simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apps.montecarlo.dataset import load_history
from apps.montecarlo.params import DRIFTS, PORTFOLIO_MODELS, Params, touch_price
from apps.montecarlo.prices.calendar import DAILY, Spacing
from apps.montecarlo.prices.history import PriceHistory
from apps.montecarlo.science.calibration import TALK_LAST_PRICE, TALK_MODEL, calibrate
from apps.montecarlo.science.models import Bachelier, FloatArray, Model
from apps.montecarlo.science.moments import growing_at, with_mean
from apps.montecarlo.science.simulation import planned
from apps.montecarlo.science.spec import SimulationSpec
from core import ConfigError, InputError

RISK_DAYS = (1, 5, 10)
"""Holding periods in steps, usually trading days, that risk figures are customarily given for, besides the horizon."""
FAN_DAYS = 36
"""Days at which the fan is recorded: as many as an eye can tell apart in a picture of this size."""
PORTFOLIO_VALUE = 100.0
"""Value of a portfolio on day 0: its results read as percentages."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A forecast ready to run.

    Parameters
    ----------
    params : Params
        What was asked for.
    history : PriceHistory, optional
        The prices it is calibrated on; None for a preset.
    model : Model
        The calibrated price model.
    spec : SimulationSpec
        What the workers receive.
    touch : dict of str to float
        Each touch level as asked for, and its price.
    drift, volatility : float
        Mean and standard deviation of a step's log return (change of the price for ``bachelier``) in the calibration
        sample.
    spacing : Spacing
        What a step is, and how many there are in a year.
    drift_se : float, optional
        Standard error of the mean; None for a preset.
    """

    params: Params
    history: PriceHistory | None
    model: Model
    spec: SimulationSpec
    touch: dict[str, float]
    drift: float
    volatility: float
    spacing: Spacing
    drift_se: float | None = None


def prepare(params: Params) -> Prepared:
    """Load prices, calibrate the model, and lay out the simulation.

    Raises
    ------
    InputError, ConfigError
        Prices or parameters cannot be used.
    """
    if params.preset == "talk":
        return _laid_out(params, None, TALK_MODEL, TALK_LAST_PRICE, TALK_MODEL.drift, TALK_MODEL.volatility)
    additive = params.model == "bachelier"
    history = load_history(
        params.prices, params.symbol, params.window, split_adjust=params.split_adjust, positive=not additive
    )
    returns = history.changes if additive else history.log_returns
    if len(history.names) == 1:
        if params.weights and len(params.weights) != 1:
            raise ConfigError(f"--weights has {len(params.weights)} entries for 1 price series; give several columns")
        model = _calibrated(params, returns[:, 0], history)
        sample, s0 = returns[:, 0], float(history.prices[-1, 0])
    else:
        if params.model not in PORTFOLIO_MODELS:
            raise ConfigError(
                f"--model {params.model} is for one price series, and these are {len(history.names)}; for a portfolio "
                f"choose from {', '.join(PORTFOLIO_MODELS)}"
            )
        weights = portfolio_weights(params, history)
        model = _calibrated(params, returns, history, weights=weights)
        value = portfolio_value(history, weights)
        if value.min() <= 0.0:
            raise ConfigError(
                f"--weights {','.join(f'{weight:g}' for weight in weights)}: held like that in the past, the portfolio "
                f"would have been worth nothing ({history.place(int(value.argmin()))}); hold smaller short positions, "
                "or calibrate on later prices with --window"
            )
        sample, s0 = np.diff(np.log(value)), PORTFOLIO_VALUE
    model = _with_drift(params, model, returns, s0, params.periods_per_year or history.spacing.per_year)
    spread = float(sample.std(ddof=1))
    prepared = _laid_out(params, history, model, s0, float(sample.mean()), spread)
    return replace(prepared, drift_se=spread / math.sqrt(sample.size))


def _with_drift(params: Params, model: Model, returns: FloatArray, s0: float, per_year: float) -> Model:
    if params.drift == "sample":
        return model
    if params.drift == "zero":
        return with_mean(model, np.zeros(returns.shape[1]))
    rate = float(params.drift) / per_year
    return with_mean(model, np.array([s0 * rate])) if isinstance(model, Bachelier) else growing_at(model, rate, returns)


def portfolio_weights(params: Params, history: PriceHistory) -> FloatArray:
    """Return the share of each asset on day 0: as asked for, or equal.

    Raises
    ------
    ConfigError
        Their number is not that of the assets.
    """
    assets = len(history.names)
    if not params.weights:
        return np.full(assets, 1.0 / assets)
    if len(params.weights) != assets:
        raise ConfigError(
            f"--weights has {len(params.weights)} entries for {assets} price series ({', '.join(history.names)}); "
            "give one a series"
        )
    return np.array(params.weights)


def portfolio_value(history: PriceHistory, weights: FloatArray) -> FloatArray:
    """Return the past value of the portfolio that is worth ``PORTFOLIO_VALUE`` at `weights` on the last day."""
    value: FloatArray = PORTFOLIO_VALUE * (history.prices / history.prices[-1]) @ weights
    return value


def _calibrated(params: Params, returns: FloatArray, history: PriceHistory, **options: Any) -> Model:
    try:
        return calibrate(params.model, returns, **options)
    except ValueError as error:
        raise InputError(
            f"--model {params.model} cannot be calibrated on {history.source} ({history.span}): {error}"
        ) from error


def _laid_out(
    params: Params, history: PriceHistory | None, model: Model, s0: float, drift: float, volatility: float
) -> Prepared:
    if s0 <= 0.0:
        shares = {"position": params.position, "drift": None if params.drift in DRIFTS else params.drift}
        for name, value in shares.items():
            if value is not None:
                raise ConfigError(
                    f"--{name} {value:g}: the last price is {s0:g}, of which a share means nothing; drop --{name}"
                )
    touch = {level: touch_price(level, s0) for level in params.touch}
    for level, price in touch.items():
        if s0 <= 0.0 and level.endswith("%"):
            raise ConfigError(
                f"--touch {level}: the last price is {s0:g}, from which a percentage means nothing; give a price"
            )
        if price == s0:
            raise ConfigError(f"--touch {level} is the last price itself, which is touched already; give another level")
    try:
        unplanned = SimulationSpec(
            model=model,
            s0=s0,
            days=params.days,
            forecasts=params.forecasts,
            seed=params.seed,
            horizons=fan_days(params.days),
            levels=tuple(dict.fromkeys(touch.values())),
            drawdown=not params.exact and params.model != "bachelier",
            exact=params.exact,
            antithetic=params.antithetic,
            engine=params.engine,
        )
        spec = planned(unplanned)
    except ValueError as error:
        raise ConfigError(f"this forecast cannot be simulated: {error}") from error
    spacing = DAILY if history is None else history.spacing
    spacing = replace(spacing, per_year=params.periods_per_year or spacing.per_year)
    return Prepared(params, history, model, spec, touch, drift, volatility, spacing)


def fan_days(days: int) -> tuple[int, ...]:
    """Return the days whose distribution is kept: risk horizons, middle, end, and an even spread between."""
    even = (math.ceil(days * part / FAN_DAYS) for part in range(1, FAN_DAYS + 1))
    return tuple(sorted({day for day in (*RISK_DAYS, middle(days), *even) if day <= days}))


def middle(days: int) -> int:
    """Return the middle day of a horizon."""
    return (days + 1) // 2


def risk_days(days: int) -> tuple[int, ...]:
    """Return the days risk figures are given for."""
    return tuple(dict.fromkeys((*(day for day in RISK_DAYS if day < days), days)))
