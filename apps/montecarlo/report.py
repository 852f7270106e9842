"""What a forecast leaves behind: a table on the terminal, and the files of its run folder."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from apps._frame.publishing import Content
from apps._frame.report import Block, Card, Cards, Facts, Figures, Picture, Report, Text, report_files
from apps._frame.tables import csv_bytes, facts_text, json_text
from apps._frame.workbook import Sheet, xlsx_bytes
from apps.montecarlo import past, tables
from apps.montecarlo.params import Params
from apps.montecarlo.result import Result
from apps.montecarlo.tables import error, name_of, percent, price, rounded

RESULTS = (
    "forecasts.csv", "forecasts.parquet", "forecasts.xlsx", "fan.png", "histogram.png", "falls.png", "volatility.png",
    "report.html", "result.json",
)  # fmt: skip
"""The pictures stand in the report too; those of prices that there are none of are left out."""


YEARS_NOTE = "From the last price of the year before; the first and the last year may not be whole."
FALLS_NOTE = "At closing prices; steps from the peak until it was reached again, or until today."
FALLS_CAPTION = "How far past prices lay below the highest so far."
VOLATILITY_CAPTION = "Black: volatility of past prices over the latest quarter of a year. Blue: the model's."


def terminal(figures: dict[str, Any]) -> str:
    """Return the text that is printed when a forecast is done."""
    timing = (
        f"{figures['wall_seconds']:.2f} s, {figures['cpu_seconds']:.2f} CPU s in {figures['tasks']} tasks "
        f"on {figures['workers']} workers"
    )
    parts = [facts_text([*tables.facts(figures), ["Took", timing]])]
    for table in (tables.fan_table(figures), tables.risk_table(figures), tables.chance_table(figures)):
        parts.append(table.text())
    parts += [textwrap.fill(f"Note: {note}", tables.NOTE_WIDTH) for note in figures["notes"]]
    return "\n\n".join(parts)


def run_files(result: Result, figures: dict[str, Any]) -> dict[str, Content]:
    """Return every result of the run by name."""
    from apps.montecarlo.plots import fan_png, histogram_png

    pictures = {"fan.png": fan_png(result), "histogram.png": histogram_png(result)}
    if figures["past"]:
        pictures |= {"falls.png": past.falls_png(result), "volatility.png": past.volatility_png(result, figures)}
    files: dict[str, Content] = {
        **pictures,
        "forecasts.csv": forecasts_csv(figures),
        "forecasts.xlsx": forecasts_xlsx(figures),
        **report_files(report(figures, result.prepared.params, pictures)),
        "result.json": (json_text(figures, indent=2) + "\n").encode(),
    }
    if find_spec("pyarrow") is not None:
        files["forecasts.parquet"] = forecasts_parquet(figures)
    return files


def forecasts_xlsx(figures: dict[str, Any]) -> bytes:
    """Return every table as a workbook, with the numbers of the fan and of the risk figures in full."""
    columns, risk = forecast_columns(figures), figures["risk"]
    sheets: dict[str, Sheet] = {
        "Forecast": (["what", "value"], tables.facts(figures)),
        "Percentiles": (list(columns), zip(*columns.values(), strict=True)),
        "Risk": (list(risk[0]), [list(row.values()) for row in risk]),
    }
    shown = {"Chances": tables.chance_table(figures)}
    if figures["past"]:
        shown |= {"Past": past.past_table(figures), "Falls": past.falls_table(figures)}
        if figures["past"]["by_year"]:
            shown["Years"] = past.years_table(figures)
    sheets |= {name: (table.header, table.rows) for name, table in shown.items()}
    return xlsx_bytes(sheets | {"Notes": (["read with care"], [[note] for note in figures["notes"]])})


def forecast_columns(figures: dict[str, Any]) -> dict[str, list[Any]]:
    """Return day, date, mean, standard deviation and one column a percentile, by name."""
    fan = figures["fan"]
    columns: dict[str, list[Any]] = {key: [row[key] for row in fan] for key in ("day", "date", "mean", "sd")}
    return columns | {f"q{q}": [row["quantiles"][q] for row in fan] for q in figures["quantiles"]}


def forecasts_csv(figures: dict[str, Any]) -> bytes:
    """Return the percentile fan as CSV."""
    columns = forecast_columns(figures)
    return csv_bytes(list(columns), zip(*columns.values(), strict=True))


def forecasts_parquet(figures: dict[str, Any]) -> bytes:
    """Return the percentile fan as Parquet; needs pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = forecast_columns(figures)
    table = pa.Table.from_arrays([_arrow_array(values) for values in columns.values()], names=list(columns))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _arrow_array(values: list[Any]) -> Any:
    # Built from buffers: to look at Python values pyarrow would import pandas, which takes longer than all the rest.
    import numpy as np
    import pyarrow as pa

    if isinstance(values[0], str):
        encoded = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
        return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
    numbers = np.asarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(values), [None, pa.py_buffer(numbers)])


def report(figures: dict[str, Any], params: Params, pictures: Mapping[str, bytes]) -> Report:
    """Return what the report says."""
    end = f"{figures['days']:,}"
    dated = f" (to {figures['fan'][-1]['date']})" if figures["fan"][-1]["date"] else ""
    as_of = f"As of {figures['as_of']}. " if figures["as_of"] else ""
    lead = (
        f"{as_of}{figures['forecasts']:,} simulated price paths over {end} {figures['step']['long']}{dated}, "
        f"{figures['model']} model, starting from {price(figures['s0'])}. Source: {figures['source']}. "
        f"Made {figures['created'].replace('T', ' ').replace('+00:00', ' UTC')}."
    )
    texts = {
        "fan.png": ("Past prices and percentile fan of the forecasts", _fan_caption(list(figures["quantiles"]))),
        "histogram.png": ("Histograms of the price at the middle and at the end", _histogram_caption(params)),
        "falls.png": ("Falls of the past prices from their peaks", FALLS_CAPTION),
        "volatility.png": ("Rolling volatility of the past prices", VOLATILITY_CAPTION),
    }
    shown = [Picture(pictures[name], *text) for name, text in texts.items() if name in pictures]
    footer = f"{figures['wall_seconds']:.2f} s on {figures['workers']} workers. {tables.footer(figures)}"
    blocks = [Cards(_cards(figures)), Figures(shown), *_sections(figures, params)]
    return Report(f"Price forecast: {title(figures)}", lead, blocks, footer)


def title(figures: Mapping[str, Any]) -> str:
    """Return a short name of what was forecast."""
    if len(figures["assets"]) > 1:
        return "portfolio of " + ", ".join(asset["name"] for asset in figures["assets"])
    if figures["preset"]:
        return f"preset {figures['preset']}"
    return str(figures["source"]).split(" (packaged")[0] if figures["symbol"] else str(figures["assets"][0]["name"])


def _cards(figures: dict[str, Any]) -> list[Card]:
    levels = list(figures["quantiles"])
    low, high = levels[0], levels[-1]
    end = f"after {figures['days']:,} {figures['step']['plural']}"
    cards = []
    if "0.5" in levels:
        median, se = figures["quantiles"]["0.5"], figures["quantiles_se"]["0.5"]
        cards.append(Card(f"Median price {end}", rounded(median), f"± {error(se)} s.e."))
    if len(levels) > 1:
        span = f"{rounded(figures['quantiles'][low])}–{rounded(figures['quantiles'][high])}"
        share = name_of(round(float(high) - float(low), 10))
        between = f"{name_of(float(low))} to {name_of(float(high))} percentile"
        cards.append(Card(f"{share} of forecasts {end}", span, between))
    confidence = figures["risk"][-1]["confidence"]
    for row in figures["risk"]:
        if row["confidence"] == confidence and row["day"] in (10, figures["days"]):
            label = f"{row['day']:,}-{figures['step']['name']} VaR at {name_of(confidence)}"
            cards.append(
                Card(label, percent(row["var_fraction"]), f"{price(row['var'])} ± {error(row['var_se'])} s.e.")
            )
    chance = percent(figures["prob_loss"])
    cards.append(Card(f"Chance of a loss {end}", chance, f"± {percent(figures['prob_loss_se'], 2)} s.e."))
    if figures["drawdown"]:
        drawdown = figures["drawdown"]
        worst = percent(drawdown["quantiles"]["0.95"])
        cards.append(Card("Mean largest fall from a peak", percent(drawdown["mean"]), f"1 in 20 beyond {worst}"))
    return cards


def _sections(figures: dict[str, Any], params: Params) -> list[Block]:
    sections: list[Block] = []
    captions = (
        "Price units of the source; the last row is the standard error at the end. Dates follow the calendar "
        "of the prices, without holidays.",
        "VaR: the loss not exceeded with that confidence. ES: the mean of the losses beyond it. Price units and % of "
        "the last price; no interest, no dividends beyond those in the prices.",
        "Judged at closes. Standard errors are of the simulation.",
    )
    built = (tables.fan_table(figures), tables.risk_table(figures), tables.chance_table(figures))
    sections += [tables.with_note(each, note) for each, note in zip(built, captions, strict=True)]
    if figures["past"]:
        sections += [
            tables.with_note(past.past_table(figures), past.NO_INTEREST),
            tables.with_note(past.falls_table(figures), FALLS_NOTE),
            *([tables.with_note(past.years_table(figures), YEARS_NOTE)] if figures["past"]["by_year"] else []),
        ]
    parameters = ", ".join(f"{name} {value:.6g}" for name, value in figures["model_parameters"].items())
    rows = [*tables.facts(figures), ["Model parameters", parameters or "see the prices: drawn from their past returns"]]
    sections.append(Facts("What it stands on", rows))
    sections.append(Text("Read with care", figures["notes"]))
    sections.append(Text("The same again", [tables.reproduction(params)], code=True))
    return sections


def _fan_caption(levels: list[str]) -> str:
    return (
        f"Black: past closing prices. Blue: percentiles of the simulated price, from {name_of(float(levels[0]))} to "
        f"{name_of(float(levels[-1]))}."
    )


def _histogram_caption(params: Params) -> str:
    return (
        f"Simulated prices half-way and at the end. Red: the worst {name_of(round(1 - params.confidence[0], 10))}; "
        "VaR is the distance from today's price to each mark."
    )
