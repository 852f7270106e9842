"""What an option leaves behind: a table on the terminal, and the files of its run."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

from apps._frame.publishing import Content
from apps._frame.report import Block, Card, Cards, Facts, Figures, Picture, Report, Text, report_files
from apps._frame.tables import TextTable, csv_bytes, facts_text, json_text
from apps.montecarlo import tables
from apps.montecarlo.option_params import OptionParams
from apps.montecarlo.tables import NOTE_WIDTH, error, percent, price, reproduction

GREEKS = {
    "delta": "for 1 more on the spot",
    "gamma": "change of delta for 1 more on the spot",
    "vega": "for one percentage point more of volatility a year",
    "theta": "for one calendar day less to expiry",
    "rho": "for one percentage point more of interest a year",
}
RESULTS = ("ladder.csv", "price.png", "expiry.png", "report.html", "result.json")
DENSITY_POINTS = 200
DENSITY_REACH = 3.2
"""Standard deviations of the log price that the picture of its distribution reaches to."""


def _years(number: float) -> str:
    return f"{number:g} year{'s' * (number != 1)}"


def facts(figures: dict[str, Any]) -> tables.Rows:
    """List contract, market, price and what was simulated."""
    barrier = f", {figures['barrier_type']} at {figures['barrier']:g}" if figures["kind"] == "barrier" else ""
    value = f"{figures['price']:.6g} ± {figures['standard_error']:.2g} (standard error)"
    rows = [
        ["Contract", f"{figures['kind']} {figures['right']}, spot {figures['spot']:g}, strike {figures['strike']:g}"
                     f"{barrier}, {_years(figures['years'])} in {figures['steps']:,} steps"],
        ["Market", f"interest {100 * figures['rate']:g}%, dividends {100 * figures['dividend']:g}%, volatility "
                   f"{100 * figures['volatility']:g}% a year; geometric Brownian motion"],
        ["Price", f"{figures['price']:.6g}: exercise today" if figures["exercise_now"] else value],
        ["Simulated", f"{figures['simulated_paths']:,} paths, {figures['path_steps']:,} steps, "
                      f"method {figures['method']}, seed {figures['seed']}"],
    ]  # fmt: skip
    if figures["black_scholes"] is not None:
        rows.append(["Black-Scholes", f"{figures['black_scholes']:.6g} (closed formula, for comparison)"])
    return rows


def greeks_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate the sensitivities with their errors, and the closed ones where they are known."""
    closed = figures["black_scholes_greeks"]
    header = ["change of the price", "value", "± s.e.", *(["closed formula"] if closed else [])]
    rows = [
        [f"{name}, {meaning}", f"{figures['greeks'][name]:.4g}", f"{figures['greeks_se'][name]:.2g}",
         *([f"{closed[name]:.4g}"] if closed else [])]
        for name, meaning in GREEKS.items()
    ]  # fmt: skip
    return TextTable("Greeks", header, rows)


def ladder_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate the price at other spots of today."""
    rows = [
        [price(rung["spot"]), percent(rung["spot"] / figures["spot"] - 1.0, 0), price(rung["price"]),
         "exercise" if _is_exercised(figures, rung) else error(rung["standard_error"]), price(rung["gain_now"])]
        for rung in figures["ladder"]
    ]  # fmt: skip
    return TextTable("Price at other spots", ["spot", "change", "price", "± s.e.", "gain if exercised"], rows)


def as_text(figures: dict[str, Any]) -> str:
    """Return what is printed when an option is priced."""
    notes = [textwrap.fill(f"Note: {note}", NOTE_WIDTH) for note in figures["notes"]]
    built = (greeks_table(figures), ladder_table(figures))
    return "\n\n".join([facts_text(facts(figures)), *(table.text() for table in built), *notes])


def run_files(figures: dict[str, Any], params: OptionParams) -> dict[str, Content]:
    """Return every result of the run by name."""
    pictures = {"price.png": price_png(figures), "expiry.png": density_png(figures)}
    columns = {key: [rung[key] for rung in figures["ladder"]] for key in figures["ladder"][0]}
    return {
        "ladder.csv": csv_bytes(list(columns), zip(*columns.values(), strict=True)),
        **pictures,
        **report_files(report(figures, params, pictures)),
        "result.json": (json_text(figures, indent=2) + "\n").encode(),
    }


def report(figures: dict[str, Any], params: OptionParams, pictures: Mapping[str, bytes]) -> Report:
    """Return what the report says."""
    name = f"{figures['kind'].capitalize()} {figures['right']}"
    lead = (
        f"Spot {figures['spot']:g}, strike {figures['strike']:g}, {_years(figures['years'])} to expiry, volatility "
        f"{100 * figures['volatility']:g}%, interest {100 * figures['rate']:g}%: priced on "
        f"{figures['simulated_paths']:,} simulated paths."
    )
    cards = [
        Card("Price", price(figures["price"]), _remark(figures, figures["standard_error"])),
        *(
            Card(key.capitalize(), f"{figures['greeks'][key]:.4g}", _remark(figures, figures["greeks_se"][key]))
            for key in GREEKS
        ),
    ]
    captions = {
        "price.png": "Price of the option today at other spots, with twice its standard error. Dashed: what exercise "
        "would pay.",
        "expiry.png": "Distribution of the asset's price at expiry under the pricing measure, in which it grows at "
        "interest less dividends.",
    }
    shown = [Picture(pictures[name], text, text) for name, text in captions.items()]
    greeks, ladder = greeks_table(figures), ladder_table(figures)
    sections: list[Block] = [
        tables.with_note(greeks, "In units of the price. Standard errors are of the simulation."),
        tables.with_note(ladder, "All else unchanged; from the same random numbers."),
        Facts("What it stands on", facts(figures)),
        Text("Read with care", figures["notes"]),
        Text("The same again", [reproduction(params, "option")], code=True),
    ]
    return Report(name, lead, [Cards(cards), Figures(shown), *sections], tables.footer(figures))


def _is_exercised(figures: dict[str, Any], rung: dict[str, float]) -> bool:
    certain = not rung["standard_error"] and 0.0 < rung["price"] == rung["gain_now"]
    return figures["kind"] == "american" and certain


def _remark(figures: dict[str, Any], se: float) -> str:
    return "exercise today" if figures["exercise_now"] else f"± {error(se)} s.e."


def price_png(figures: dict[str, Any]) -> bytes:
    """Draw the price by spot over what exercise pays."""
    import numpy as np

    from apps.montecarlo.drawing import BAND_ALPHA, BLUE, INK, SIZE, TITLE, new_figure, png

    figure, (axes,) = new_figure(SIZE)
    spots, values, errors, gains = (
        np.array([rung[key] for rung in figures["ladder"]]) for key in ("spot", "price", "standard_error", "gain_now")
    )
    axes.fill_between(spots, values - 2 * errors, values + 2 * errors, color=BLUE, alpha=BAND_ALPHA, linewidth=0)
    axes.plot(spots, values, color=BLUE, linewidth=1.8, marker="o", markersize=3)
    axes.plot(spots, gains, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.set_title("Price today by spot; dashed: gain if exercised", **TITLE)
    axes.set_ylim(0, max(float(values.max()), float(gains[values.argmax()])) * 1.25 + 1e-12)
    axes.set_xlim(spots[0], spots[-1])
    _mark(axes, figures)
    return png(figure, left=0.1, right=0.97, bottom=0.075)


def density_png(figures: dict[str, Any]) -> bytes:
    """Draw the distribution of the price at expiry."""
    import numpy as np

    from apps.montecarlo.drawing import BAND_ALPHA, BLUE, SIZE, TITLE, new_figure, png

    figure, (axes,) = new_figure(SIZE)
    spread = figures["volatility"] * math.sqrt(figures["years"])
    drift = (figures["rate"] - figures["dividend"]) * figures["years"] - spread**2 / 2
    standard = np.linspace(-DENSITY_REACH, DENSITY_REACH, DENSITY_POINTS)
    prices = figures["spot"] * np.exp(drift + spread * standard)
    density = np.exp(-(standard**2) / 2) / prices
    axes.fill_between(prices, density, color=BLUE, alpha=2 * BAND_ALPHA, linewidth=0)
    axes.set_title(f"Price at expiry, after {_years(figures['years'])}", **TITLE)
    axes.set_ylim(0, float(density.max()) * 1.25)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    _mark(axes, figures)
    return png(figure, left=0.05, right=0.97, bottom=0.075)


def _mark(axes: Any, figures: dict[str, Any]) -> None:
    from apps.montecarlo.drawing import FONT, INK, RED, SOFT_INK

    marks = {"spot": (figures["spot"], INK), "strike": (figures["strike"], SOFT_INK)}
    if figures["kind"] == "barrier":
        marks["barrier"] = (figures["barrier"], RED)
    for number, (name, (where, colour)) in enumerate(marks.items()):
        axes.axvline(where, color=colour, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.annotate(name, (where, 0.97 - 0.06 * number), (3, 0), xycoords=("data", "axes fraction"), color=colour,
                      textcoords="offset points", fontsize=FONT - 1.5, va="top", annotation_clip=True)  # fmt: skip
