"""The numbers of a finished forecast as one JSON object: what ``--json`` prints and ``result.json`` holds."""

from __future__ import annotations

import math
import platform
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from apps.montecarlo.past import past_figures
from apps.montecarlo.preparation import middle, risk_days
from apps.montecarlo.prices.calendar import Spacing, dates_ahead
from apps.montecarlo.prices.history import PriceHistory
from apps.montecarlo.result import Result
from apps.montecarlo.science.calibration import describe
from apps.montecarlo.science.moments import volatility
from apps.montecarlo.science.summary import Summary
from core import __version__

DRAWDOWN_LEVELS = (0.5, 0.9, 0.95, 0.99)
DOUBLE_COUNTED = (
    "The preset's drift is the published one: the notebook takes half the variance off a mean of log returns, which "
    "double-counts it; it is kept to repeat the published picture. Forecasts from prices use the mean log return."
)
HEAVY_TAIL = (
    "Under Student-t log returns the mean price has no finite expectation: the mean, its standard error and the "
    "standard deviation depend on the few largest paths. Percentiles, VaR and ES are sound."
)
EXPLAINED = {
    "gbm": "Log returns are independent draws from one normal law: no fat tails, no calm and stormy times.",
    "bootstrap": "Past steps are drawn again one by one, with their fat tails but without their order.",
    "block-bootstrap": "Runs of past steps are drawn again as they came, so calm and stormy times last.",
    "student-t": "Log returns are independent draws from a law with fatter tails than the normal one.",
    "merton": "Normal log returns, and now and then a jump.",
    "gjr-garch": "Past shocks are drawn again, scaled by a volatility that rises after large moves, most after falls, "
    "and calms down.",
    "bachelier": "Changes of the price are independent draws from one normal law, so it may fall below zero.",
    "heston": "The variance itself is random, returns to a long-run level, and tends to rise when prices fall.",
}
"""Each model in a sentence."""
BELOW_ZERO = (
    "The bachelier model adds normal changes to the price, which may fall below zero: drift and volatility are in "
    "units of the price, and there is no drawdown, which is a share of the price."
)
LIMITATION = (
    "Calibrated on past prices: it shows what follows if the future behaves like that past, and is no evidence of "
    "skill in predicting prices. Standard errors cover the simulation alone, not the choice of model or period."
)


def result_object(result: Result) -> dict[str, Any]:
    """Return every figure of a forecast, JSON-ready.

    Prices are in the unit of the source, losses in the same unit and positive, probabilities and drawdowns fractions,
    drift and volatility of log returns (price changes where ``additive``) per step unless the name says annual.
    """
    prepared, summary = result.prepared, result.summary
    params, spec = prepared.params, prepared.spec
    end = params.days
    touches = {name: summary.touch_probability(price) for name, price in prepared.touch.items()}
    return {
        "model": params.model,
        "model_parameters": describe(prepared.model),
        "symbol": "" if params.prices or params.preset else ",".join(params.symbol),
        "preset": params.preset,
        "source": prepared.history.source if prepared.history else f"preset {params.preset}",
        "assets": assets(result),
        "calibration": calibration_window(prepared.history),
        "seed": params.seed,
        "forecasts": summary.forecasts,
        "days": end,
        "path_steps": result.path_steps,
        "exact_sampling": spec.exact,
        "antithetic": spec.antithetic,
        "s0": spec.s0,
        "drift": prepared.drift,
        "volatility": prepared.volatility,
        "additive": spec.additive,
        "drift_se": prepared.drift_se,
        "annual_drift": prepared.drift * prepared.spacing.per_year,
        "annual_drift_se": None if prepared.drift_se is None else prepared.drift_se * prepared.spacing.per_year,
        "drift_choice": params.drift,
        "annual_volatility": prepared.volatility * prepared.spacing.per_year**0.5,
        "model_volatility": model_volatility(result),
        "model_explained": EXPLAINED[params.model],
        "position": params.position,
        "step": step(prepared.spacing),
        "as_of": (calibration_window(prepared.history) or {}).get("to"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "quantiles": {str(q): result.quantile(end, q) for q in params.levels},
        "quantiles_exact": result.exact_quantiles is not None,
        "quantiles_se": {str(q): summary.quantile_se(end, q) for q in params.levels},
        "mean": summary.mean(end),
        "mean_se": summary.mean_se(end),
        "std": summary.std(end),
        "prob_loss": summary.probability_of_loss(end)[0],
        "prob_loss_se": summary.probability_of_loss(end)[1],
        "var": {str(c): spec.s0 * summary.var_es(end, c).var for c in params.confidence},
        "es": {str(c): spec.s0 * summary.var_es(end, c).es for c in params.confidence},
        "risk": [_risk(summary, day, c, params.position) for day in risk_days(end) for c in params.confidence],
        "prob_touch": {name: p for name, (p, _) in touches.items()},
        "prob_touch_se": {name: error for name, (_, error) in touches.items()},
        "touch_prices": dict(prepared.touch),
        "drawdown": _drawdown(summary),
        "past": past_figures(result),
        "fan": fan(result),
        "middle_day": middle(end),
        "notes": notes(result),
        "wall_seconds": result.wall_seconds,
        "cpu_seconds": result.cpu_seconds,
        "tasks": result.tasks,
        "workers": result.workers,
        "engine": result.engine,
        "versions": versions(),
        "result_sha256": summary.digest(),
    }


def notes(result: Result) -> list[str]:
    """Return what a reader must know to judge the figures."""
    spec = result.prepared.spec
    said = [LIMITATION]
    if result.prepared.params.preset:
        said.insert(0, DOUBLE_COUNTED)
    if result.prepared.drift_se is not None and result.prepared.params.drift == "sample":
        shift = result.prepared.drift_se * result.prepared.params.days
        moved = f"{shift:.3g}" if spec.additive else f"{100 * math.expm1(shift):.3g}%"
        said.insert(
            0,
            f"The sample's drift has an error of its own, and it outweighs the simulation's: one standard error of it "
            f"moves the median at the end by {moved}. --drift zero or a rate forecasts without it.",
        )
    if spec.exact:
        said.insert(
            0,
            f"Exact sampling: prices were drawn at {len(spec.horizons)} recorded days without the days between, so "
            "there is no drawdown.",
        )
    if spec.additive:
        said.append(BELOW_ZERO)
    if result.prepared.params.model == "student-t":
        said.append(HEAVY_TAIL)
    shared = atoms(result)
    if shared:
        places = ", ".join(
            f"{100 * q:.6g}% after {day:,} ({100 * share:.3g}% of forecasts)" for day, q, share in shared
        )
        said.append(
            f"Many forecasts share one price at these percentiles, in steps ahead: {places}. Such a percentile jumps "
            "where others shift, so its standard error, and that of a VaR there, does not mean what it does elsewhere."
        )
    history = result.prepared.history
    if history is None:
        return said
    if len(history.names) > 1:
        said.append(
            "The portfolio is bought at its weights on day 0, held, and not rebalanced; its value starts at 100."
        )
    return [*history.notes, *said]


def atoms(result: Result) -> list[tuple[int, float, float]]:
    """Return day, probability and share of each percentile that stands at a price shared by many forecasts."""
    params, summary = result.prepared.params, result.summary
    asked = [(day, 1.0 - c) for day in risk_days(params.days) for c in params.confidence]
    asked += [(params.days, q) for q in params.levels]
    found = [(day, q, summary.atom(day, q)) for day, q in dict.fromkeys(asked)]
    return [(day, q, share) for day, q, share in found if share]


def assets(result: Result) -> list[dict[str, Any]]:
    """Return name, last price, and drift and volatility a step of each asset in the calibration sample."""
    history = result.prepared.history
    if history is None:
        return []
    returns = history.changes if result.prepared.spec.additive else history.log_returns
    shares = getattr(result.prepared.model, "weights", np.ones(1))
    return [
        {
            "name": name,
            "last_price": float(history.prices[-1, i]),
            "weight": float(shares[i]),
            "drift": float(returns[:, i].mean()),
            "volatility": float(returns[:, i].std(ddof=1)),
        }
        for i, name in enumerate(history.names)
    ]


def step(spacing: Spacing) -> dict[str, Any]:
    """Return what one step is called, and how many there are in a year."""
    return {
        "name": spacing.step,
        "plural": "days" if spacing.step == "day" else spacing.steps,
        "long": spacing.steps,
        "adjective": spacing.adjective,
        "per_year": spacing.per_year,
    }


def calibration_window(history: PriceHistory | None) -> dict[str, Any] | None:
    """Return first and last date and the number of prices, None for a preset."""
    if history is None:
        return None
    first, last = (str(history.dates[0]), str(history.dates[-1])) if history.dates else (None, None)
    return {"from": first, "to": last, "prices": len(history.prices), "returns": len(history.prices) - 1}


def forecast_dates(history: PriceHistory | None, days: tuple[int, ...]) -> list[str]:
    """Return the date of each forecast step by the calendar of the prices; empty text without a last date."""
    if history is None:
        return [""] * len(days)
    return dates_ahead(history.dates, history.spacing, days)


def as_date(text: str) -> date | None:
    """Return a date of ``forecast_dates``, None for its empty text."""
    return date.fromisoformat(text) if text else None


def fan(result: Result) -> list[dict[str, Any]]:
    """Return day, date, mean, standard deviation and quantiles of every recorded day."""
    summary, params = result.summary, result.prepared.params
    dates = forecast_dates(result.prepared.history, summary.horizons)
    return [
        {
            "day": day,
            "date": when,
            "mean": summary.mean(day),
            "sd": summary.std(day),
            "quantiles": {str(q): result.quantile(day, q) for q in params.levels},
        }
        for day, when in zip(summary.horizons, dates, strict=True)
    ]


def model_volatility(result: Result) -> dict[str, float | None]:
    """Return the volatility that the model implies, a step and a year, at first and in the long run."""
    found = volatility(result.prepared.model)
    long_run = found.long_run if math.isfinite(found.long_run) else None
    year = result.prepared.spacing.per_year**0.5
    return {
        "first": found.first,
        "long_run": long_run,
        "annual_first": found.first * year,
        "annual_long_run": None if long_run is None else long_run * year,
    }


def _risk(summary: Summary, day: int, confidence: float, position: float | None) -> dict[str, Any]:
    share = summary.var_es(day, confidence)
    money = share.in_currency(summary.s0)
    return {
        "day": day,
        "confidence": confidence,
        "var": money.var,
        "var_se": money.var_se,
        "es": money.es,
        "es_se": money.es_se,
        "var_fraction": share.var if summary.s0 > 0.0 else None,
        "es_fraction": share.es if summary.s0 > 0.0 else None,
        "var_position": None if position is None else share.var * position,
        "es_position": None if position is None else share.es * position,
    }


def _drawdown(summary: Summary) -> dict[str, Any] | None:
    if not summary.drawdown_counts.size:
        return None
    mean, error = summary.drawdown_mean()
    quantiles = {str(q): summary.drawdown_quantile(q) for q in DRAWDOWN_LEVELS}
    return {"mean": mean, "mean_se": error, "quantiles": quantiles}


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {"fanfold": __version__, "python": platform.python_version(), "numpy": np.__version__}
