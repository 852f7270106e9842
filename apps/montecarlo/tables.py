"""The figures of a forecast as tables for people: the same rows for the terminal and for the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from apps._frame.params import as_flags
from apps._frame.report import Table
from apps._frame.tables import TextTable

Rows = list[list[str]]
NOTE_WIDTH = 100


def price(value: float) -> str:
    """Write a price with digits to suit its size."""
    if abs(value) >= 1:
        return f"{value:,.2f}"
    return f"{value:.4g}"


def error(value: float) -> str:
    """Write a standard error with two digits that mean something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:#.2g}"


def rounded(value: float) -> str:
    """Write a price for a headline."""
    return f"{value:,.0f}" if value >= 1000 else price(value)


def percent(share: float | None, digits: int = 1) -> str:
    """Write a fraction as a percentage, a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def name_of(share: float) -> str:
    """Write a probability as a level: 0.975 is 97.5%."""
    return f"{100 * share:.6g}%"


def fan_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate percentiles and mean of the price at the risk horizons and the quarters of the forecast."""
    wanted = {row["day"] for row in figures["risk"]} | {figures["middle_day"]}
    wanted |= {-(-figures["days"] * part // 4) for part in (1, 2, 3)}
    levels = list(figures["quantiles"])
    dated = any(row["date"] for row in figures["fan"])
    header = [
        figures["step"]["name"],
        *(["date"] if dated else []),
        *(name_of(float(q)) for q in levels),
        "mean",
        "std dev",
    ]
    rows = [
        [f"{row['day']:,}", *([row["date"]] if dated else []), *(price(row["quantiles"][q]) for q in levels),
         price(row["mean"]), price(row["sd"])]
        for row in figures["fan"] if row["day"] in wanted
    ]  # fmt: skip
    errors = [error(figures["quantiles_se"][q]) for q in levels] + [error(figures["mean_se"]), ""]
    rows.append(["s.e.", *([""] if dated else []), *errors])
    return TextTable("Percentiles of the price", header, rows)


def risk_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate value at risk and expected shortfall: in price units, as a share, and of a position."""
    held = figures["position"] is not None
    header = [figures["step"]["plural"], "confidence", "VaR", "± s.e.", "VaR %", "ES", "± s.e.", "ES %"]
    rows = [
        [f"{row['day']:,}", name_of(row["confidence"]), price(row["var"]), error(row["var_se"]),
         percent(row["var_fraction"]), price(row["es"]), error(row["es_se"]), percent(row["es_fraction"]),
         *([rounded(row["var_position"]), rounded(row["es_position"])] if held else [])]
        for row in figures["risk"]
    ]  # fmt: skip
    title = f"Loss from {price(figures['s0'])} (a negative loss is a gain)"
    return TextTable(title, [*header, *(["VaR of position", "ES of position"] if held else [])], rows)


def chance_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate probabilities of a loss and of touching levels, and the drawdown distribution."""
    ahead = f"{figures['days']:,} {figures['step']['plural']}"
    close = "daily close" if figures["step"]["name"] == "day" else "close"
    rows = [[f"price below {price(figures['s0'])} after {ahead}", percent(figures["prob_loss"], 2),
             percent(figures["prob_loss_se"], 2)]]  # fmt: skip
    for name, chance in figures["prob_touch"].items():
        level = price(figures["touch_prices"][name])
        shown = f"{name} ({level})" if name.endswith("%") else level
        rows.append([f"a {close} reaches {shown} within {ahead}", percent(chance, 2),
                     percent(figures["prob_touch_se"][name], 2)])  # fmt: skip
    drawdown = figures["drawdown"]
    if drawdown:
        rows.append(["largest fall from a peak: mean", percent(drawdown["mean"], 2), percent(drawdown["mean_se"], 2)])
        rows += [[f"largest fall from a peak: {name_of(float(q))} of forecasts below", percent(value, 1), ""]
                 for q, value in drawdown["quantiles"].items()]  # fmt: skip
    return TextTable("Chances and drawdowns", [f"{close}s", "value", "± s.e."], rows)


def facts(figures: dict[str, Any]) -> Rows:
    """List what the forecast stands on: prices, model, calibration, simulation, seed."""
    window = figures["calibration"]
    rows = [["Prices", figures["source"]]]
    if len(figures["assets"]) > 1:
        rows.append(["Portfolio", ", ".join(f"{percent(a['weight'], 2)} {a['name']}" for a in figures["assets"])])
    last = window["to"] if window and window["to"] else ""
    rows.append(["Last price", price(figures["s0"]) + (f" on {last}" if last else "")])
    rows.append(
        [
            "Model",
            f"{figures['model']}{', antithetic pairs' if figures['antithetic'] else ''}. {figures['model_explained']}",
        ]
    )
    moved = "Price change" if figures["additive"] else "Log return"
    rows += [[moved, f"drift {drift(figures)}"], ["Volatility", volatilities(figures)]]
    if figures["position"] is not None:
        rows.append(["Position", f"{figures['position']:,.2f} held today"])
    rows.append(["Calibrated on", _window(figures)])
    rows.append(["Simulated", simulated(figures)])
    rows.append(["Seed", f"{figures['seed']}"])
    return rows


def drift(figures: dict[str, Any]) -> str:
    """Say the mean return of the sample with its error, and that of the forecast where it is another."""
    error = figures["annual_drift_se"]
    sample = f"{_moved(figures, 'drift', 4)} {_a_step(figures)}, {_moved(figures, 'annual_drift', 2)}"
    sample += f" ± {_moved(figures, 'annual_drift_se', 2)} (s.e.) a year" if error is not None else " a year"
    if figures["drift_choice"] == "sample":
        return f"{sample}, as in the sample"
    chosen = "zero"
    if figures["drift_choice"] != "zero":
        how = "of the last price a year" if figures["additive"] else "a year, continuously compounded"
        chosen = f"such that the expected price grows by {percent(figures['drift_choice'], 2)} {how},"
    return f"{chosen} by choice; the sample's was {sample}"


def volatilities(figures: dict[str, Any]) -> str:
    """Say the volatility of the sample beside that of the model."""
    model = figures["model_volatility"]
    sample = f"{_moved(figures, 'volatility', 3)} {_a_step(figures)}, {_moved(figures, 'annual_volatility', 2)} a year"
    first, long_run = (_moved(model | figures, key, 2) for key in ("annual_first", "annual_long_run"))
    if model["long_run"] is None:
        return f"{sample} in the sample; model {first} at first, rising without limit"
    if first == long_run:
        return f"{sample} in the sample; model {long_run}"
    return f"{sample} in the sample; model {first} in the first step, {long_run} in the long run"


def _a_step(figures: dict[str, Any]) -> str:
    step = figures["step"]["name"]
    return "a day" if step == "day" else f"per {step}"


def _moved(figures: dict[str, Any], key: str, digits: int) -> str:
    """Write a mean or deviation of returns: in percent, or in units of the price for an additive model."""
    value = figures[key]
    if value is None:
        return ""
    return price(value) if figures["additive"] else percent(value, digits)


def simulated(figures: dict[str, Any]) -> str:
    """Say how many steps were truly simulated, and how."""
    step = figures["step"]
    kind = "exact draws at the recorded days (no daily path)" if figures["exact_sampling"] else "daily steps"
    kind = kind if step["name"] == "day" else kind.replace("daily ", "").replace("days", "steps")
    return (
        f"{figures['forecasts']:,} forecasts of {figures['days']:,} {step['long']}: {figures['path_steps']:,} {kind}, "
        f"{figures['engine']} engine"
    )


def _window(figures: dict[str, Any]) -> str:
    window = figures["calibration"]
    if window is None:
        return f"not calibrated: constants of preset {figures['preset']}"
    span = f"{window['from']} to {window['to']}, " if window["from"] else ""
    return f"{span}{window['prices']:,} {figures['step']['adjective']} prices"


def with_note(table: TextTable, note: str) -> Table:
    """Return a table of the terminal for the report."""
    return Table(table.title, table.header, table.rows, note)


def reproduction(params: Any, *command: str) -> str:
    """Return the command that gives the same figures again."""
    return shlex.join(["python", "-m", "apps.montecarlo", *command, *as_flags(params)])


def footer(figures: Mapping[str, Any]) -> str:
    """Say with what it was made."""
    known = figures["versions"]
    return f"fanfold {known['fanfold']}, Python {known['python']}, numpy {known['numpy']}." + (
        f" Result SHA-256 {figures['result_sha256']}." if "result_sha256" in figures else ""
    )
