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
from apps.montecarlo.science.models import FloatArray
from apps.montecarlo.science.options import OptionSpec, exercised

LEARNING = 1
"""Purpose of the streams that a policy is learned from."""
LEARNING_PATHS = 1 << 16
LEARNING_VALUES = 1 << 23
"""Most prices held while a policy is learned (64 MiB); longer options learn from fewer paths."""
FEWEST_PATHS = 1 << 12
DEGREE = 4
"""Of the polynomial in price over strike that stands for the value of waiting."""
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
        With a `policy`: for every step but the last the coefficients, constant first, of the polynomial in price over
        strike that stands for the value of waiting, in units of the strike.
    """
    if spec.option.kind != "american":
        return spec
    option, steps = spec.option, spec.option.steps
    price = _learning_prices(spec) * (spec.s0 / option.strike)
    gain = exercised(replace(option, strike=1.0), price, 1.0)
    keep = math.exp(-spec.rate)
    value = gain[-1]
    policy = [NEVER] * (steps - 1)
    for step in range(steps - 2, -1, -1):
        value = value * keep
        rows = np.flatnonzero(gain[step] > 0.0)
        if rows.size < FEWEST_GAINING:
            continue
        powers = np.vander(price[step, rows], DEGREE + 1, increasing=True)
        fit, *_ = np.linalg.lstsq(powers, value[rows], rcond=None)
        stop = rows[gain[step, rows] > powers @ fit]
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
            stop &= gain * unit > _polynomial(spec.policy[step], price * unit)
        paid[stop] = gain[stop] * math.exp(spec.rate * (steps - 1 - step))
        waiting &= ~stop
    return paid


def _polynomial(coefficients: tuple[float, ...], values: FloatArray) -> FloatArray:
    result = np.full_like(values, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result *= values
        result += coefficient
    return result


def _learning_prices(spec: OptionSpec) -> FloatArray:
    """Simulate antithetic pairs of paths to learn from: price over initial price, shape (steps, paths)."""
    pairs = max(FEWEST_PATHS, min(LEARNING_PATHS, LEARNING_VALUES // spec.option.steps)) // 2 // BLOCK * BLOCK
    draws = draw(spec.model, block_stream(spec.seed, 0, LEARNING), spec.option.steps, pairs)
    other = mirror(spec.model, draws)
    paths = [evolve(spec.process, half) for half in (other, draws)]
    return exponential(np.concatenate(paths, axis=1))
