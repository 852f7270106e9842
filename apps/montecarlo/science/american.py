"""American exercise by simulation: when to exercise is learned from paths of their own, and priced on others.

A policy learned from some paths and applied to others can at best be the optimal one, so the price is a lower bound,
with an honest standard error; pricing on the paths it was learned from would flatter it.

Longstaff and Schwartz, "Valuing American options by simulation: a simple least-squares approach", Review of Financial
Studies 14 (2001); Broadie and Glasserman, J. Economic Dynamics and Control 21 (1997), on the bias of either side.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from apps.montecarlo.science.blocks import BLOCK, block_stream
from apps.montecarlo.science.histograms import exponential
from apps.montecarlo.science.kernels import draw, evolve, mirror
from apps.montecarlo.science.models import GBM, FloatArray
from apps.montecarlo.science.options import Option, OptionSpec, exercised

LEARNING = 1
"""Purpose of the streams that a policy is learned from."""
LEARNING_PATHS = 1 << 16
LEARNING_VALUES = 1 << 23
"""Most prices held while a policy is learned (64 MiB); longer options learn from fewer paths."""
FEWEST_PATHS = 1 << 12
DEGREE = 6
"""Of the polynomial that stands for the value of waiting."""
SPREAD = 0.5
"""How far beyond spot and strike learning paths begin, in standard deviations of the log price at expiry."""
NEVER = (math.inf, *(0.0,) * DEGREE)
"""The policy of a step at which too few paths would gain by exercise to learn from."""
FEWEST_GAINING = 10 * (DEGREE + 1)


def with_policy(spec: OptionSpec) -> OptionSpec:
    """Learn when to exercise an American option; other options are given back as they are.

    Parameters
    ----------
    spec : OptionSpec
        The job; its seed names the paths that are learned from, which are none of those that are priced.

    Returns
    -------
    OptionSpec
        With a `policy`: for every step but the last the coefficients, constant first, of the polynomial that stands for
        the value of waiting: in price over strike and units of the strike for a put, in strike over price and units of
        the price for a call.
    """
    if spec.option.kind != "american":
        return spec
    option, steps = spec.option, spec.option.steps
    price = _learning_prices(spec)
    gain = exercised(replace(option, strike=1.0), price, 1.0)
    keep = math.exp(-spec.rate)
    value = gain[-1]
    policy = [NEVER] * (steps - 1)
    for step in range(steps - 2, -1, -1):
        value = value * keep
        rows = np.flatnonzero(gain[step] > 0.0)
        if rows.size < FEWEST_GAINING:
            continue
        depth, scale = _depth(option, price[step, rows])
        powers = np.vander(depth, DEGREE + 1, increasing=True)
        fit, *_ = np.linalg.lstsq(powers, value[rows] / scale, rcond=None)
        stop = rows[1.0 - depth > powers @ fit]
        value[stop] = gain[step, stop]
        policy[step] = tuple(fit.tolist())
    return replace(spec, policy=tuple(policy))


def stopped_payoff(spec: OptionSpec, growth: FloatArray, s0: float) -> FloatArray:
    """Compute what each path pays under the policy, carried to expiry at interest, in units of `s0`.

    Parameters
    ----------
    spec : OptionSpec
        With a policy.
    growth : ndarray of float64, shape (steps, paths)
        Price over initial price.
    s0 : float
        Initial price, in currency; need not be that of `spec`.

    Returns
    -------
    ndarray of float64, shape (paths,)
    """
    if len(spec.policy) != spec.option.steps - 1:
        raise ValueError("no policy of exercise has been learned for this option; pass it through `with_policy` first")
    steps, unit = spec.option.steps, s0 / spec.option.strike
    paid, waiting = np.zeros(growth.shape[1]), np.ones(growth.shape[1], dtype=bool)
    for step, price in enumerate(growth):
        gain = exercised(spec.option, price, s0)
        stop = waiting & (gain > 0.0)
        if step < steps - 1:
            depth, _ = _depth(spec.option, price * unit)
            stop &= 1.0 - depth > _polynomial(spec.policy[step], depth)
        paid[stop] = gain[stop] * math.exp(spec.rate * (steps - 1 - step))
        waiting &= ~stop
    return paid


def _depth(option: Option, price: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return what a policy looks at, below 1 where exercise gains, and the unit in which it gains 1 less that.

    Price over strike for a put, strike over price for a call, in units of the price: a call on a price is a put on the
    strike, and a polynomial in a price without bounds would be of no use.
    """
    return (price, np.ones_like(price)) if option.right == "put" else (1.0 / price, price)


def _polynomial(coefficients: tuple[float, ...], values: FloatArray) -> FloatArray:
    result = np.full_like(values, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result *= values
        result += coefficient
    return result


def _learning_prices(spec: OptionSpec) -> FloatArray:
    """Simulate antithetic pairs of paths to learn from: price over strike, shape (steps, paths).

    They begin at prices spread evenly about spot and strike, since a policy does not depend on where a path began, and
    is to be known at early steps too.
    """
    assert isinstance(spec.model, GBM)
    pairs = max(FEWEST_PATHS, min(LEARNING_PATHS, LEARNING_VALUES // spec.option.steps)) // 2 // BLOCK * BLOCK
    draws = draw(spec.model, block_stream(spec.seed, 0, LEARNING), spec.option.steps, pairs)
    other = mirror(spec.model, draws)
    begin = math.log(spec.s0 / spec.option.strike)
    spread = SPREAD * spec.model.volatility * math.sqrt(spec.option.steps)
    begins = np.linspace(min(begin, 0.0) - spread, max(begin, 0.0) + spread, pairs)
    return exponential(np.concatenate([evolve(spec.process, half) + begins for half in (other, draws)], axis=1))
