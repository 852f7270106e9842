"""What a backtest leaves behind: tables on the terminal, and the files of its run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from apps._frame.publishing import Content
from apps._frame.report import Block, Card, Cards, Facts, Figures, Picture, Report, Text, report_files
from apps._frame.tables import TextTable, csv_bytes, facts_text, json_text
from apps.montecarlo import tables
from apps.montecarlo.backtest_params import BacktestParams
from apps.montecarlo.tables import NOTE_WIDTH, name_of, percent, reproduction

RESULTS = ("coverage.png", "var.png", "var.csv", "report.html", "result.json")
COVERAGE_HINT = (
    "Observed above the interval's own percentage: the interval was wider than needed; below: too narrow. A p below "
    "0.05 says that the difference is hardly chance."
)
VAR_HINT = (
    "Exceptions lost more than the value at risk forecast just before. Kupiec p: are they as many as promised? "
    "Independence p (Christoffersen): do they come singly? Both p: the two at once. A p below 0.05 says no. Zone: the "
    "Basel traffic light of what came lately; too many exceptions turn it yellow or red, too few do not. The plus "
    "factor raises the multiplier of capital; it is for 250 days at 99%."
)


def facts(figures: dict[str, Any]) -> tables.Rows:
    """List model, prices, windows and seed."""
    window = figures["calibration"]
    span = f"{window['from']} to {window['to']}" if window["from"] else f"{window['prices']:,} rows"
    rows = [
        ["Model", figures["model"]],
        ["Prices", f"{figures['source']}, {span}"],
        ["Windows", f"{figures['windows']:,} disjoint ones of {figures['horizon']} {figures['step']['long']}, "
                    f"{figures['forecasts_per_window']:,} forecasts each"],
    ]  # fmt: skip
    if figures["var_tests"]:
        step = figures["step"]
        often = (
            f"every {step['name']}" if figures["refit_days"] == 1 else f"every {figures['refit_days']} {step['plural']}"
        )
        rows.append(["VaR test", f"{len(figures['var_days']):,} one-{step['name']} forecasts, calibrated {often}"])
    return [*rows, ["Seed", f"{figures['seed']}"]]


def coverage_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate how often realised prices lay inside the intervals forecast for them."""
    rows = [
        [name_of(row["nominal"]), percent(row["observed"]), percent(row["se"]), f"{row['hits']}", p(row["kupiec_p"])]
        for row in figures["coverage"]
    ]
    title = "Share of realised prices inside the central interval"
    return TextTable(title, ["interval", "observed", "± s.e.", "windows inside", "Kupiec p"], rows)


def var_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate losses beyond the value at risk, and the tests of their number and clustering."""
    rows = [
        [name_of(test["confidence"]), f"{test['exceptions']:,} of {test['days']:,}", f"{test['expected']:.4g}",
         p(test["kupiec_p"]), p(test["independence_p"]), p(test["conditional_p"]), *zone(test)]
        for test in figures["var_tests"]
    ]  # fmt: skip
    header = ["VaR", "exceptions", "expected", "Kupiec p", "independence p", "both p", "zone", "lately", "plus factor"]
    step = figures["step"]
    title = f"{step['plural'].capitalize()} that lost more than the one-{step['name']} value at risk"
    return TextTable(title, header, rows)


def p(value: float | None) -> str:
    """Write a p-value."""
    return "–" if value is None else f"{value:.3f}" if value >= 0.0005 else "<0.001"


def zone(test: dict[str, Any]) -> list[str]:
    """Write a traffic light, what it looked at, and the plus factor where Basel gives one."""
    plus = "–" if test["plus_factor"] is None else f"{test['plus_factor']:.2f}"
    return [test["zone"], f"{test['zone_exceptions']} of {test['zone_days']}", plus]


def uniformity(figures: dict[str, Any]) -> str:
    """Say how evenly realised prices fell over the forecast distributions."""
    return f"Uniformity of the forecast probabilities: Kolmogorov-Smirnov p = {figures['ks_p']:.3f}."


def as_text(figures: dict[str, Any]) -> str:
    """Return what is printed when a backtest is done."""
    parts = [
        facts_text(facts(figures)),
        coverage_table(figures).text(),
        uniformity(figures),
        textwrap.fill(COVERAGE_HINT, NOTE_WIDTH),
    ]
    if figures["var_tests"]:
        parts += [var_table(figures).text(), textwrap.fill(VAR_HINT, NOTE_WIDTH)]
    parts += [textwrap.fill(f"Note: {note}", NOTE_WIDTH) for note in figures["notes"]]
    return "\n\n".join(parts)


def run_files(figures: dict[str, Any], params: BacktestParams) -> dict[str, Content]:
    """Return every result of the run by name."""
    days = figures["var_days"]
    pictures = {"coverage.png": coverage_png(figures)} | ({"var.png": var_png(figures)} if days else {})
    columns: dict[str, list[Any]] = {key: [day[key] for day in days] for key in ("date", "row", "loss")}
    columns |= {f"var{level}": [day["var"][level] for day in days] for level in (days[0]["var"] if days else ())}
    return {
        **pictures,
        "var.csv": csv_bytes(list(columns), zip(*columns.values(), strict=True)),
        **report_files(report(figures, params, pictures)),
        "result.json": (json_text(figures, indent=2) + "\n").encode(),
    }


def report(figures: dict[str, Any], params: BacktestParams, pictures: Mapping[str, bytes]) -> Report:
    """Return what the report says."""
    window = figures["calibration"]
    dated = f", {window['from']} to {window['to']}" if window["from"] else ""
    lead = (
        f"Would {figures['model']} forecasts of {figures['source']} have kept their promises? Each is made from what "
        f"was known before, and judged by the prices that came{dated}."
    )
    cards = []
    for row in figures["coverage"]:
        if row["nominal"] in (0.5, 0.9):
            label = f"Inside the {name_of(row['nominal'])} interval"
            cards.append(Card(label, percent(row["observed"]), f"± {percent(row['se'])} s.e., p {p(row['kupiec_p'])}"))
    for test in figures["var_tests"]:
        label = f"Beyond the {name_of(test['confidence'])} VaR"
        expected = f"{test['expected']:.4g} expected, p {p(test['kupiec_p'])}"
        cards.append(Card(label, f"{test['exceptions']} {figures['step']['plural']}", expected))
    if figures["var_tests"]:
        strictest = figures["var_tests"][-1]
        label = f"Traffic light at {name_of(strictest['confidence'])}"
        remark = f"{strictest['zone_exceptions']} in {strictest['zone_days']} {figures['step']['plural']}"
        cards.append(Card(label, strictest["zone"], remark))
    hint = f"{COVERAGE_HINT} {uniformity(figures)}"
    sections: list[Block] = [tables.with_note(coverage_table(figures), hint)]
    if figures["var_tests"]:
        sections.append(tables.with_note(var_table(figures), VAR_HINT))
    sections += [
        Facts("What it stands on", facts(figures)),
        *([Text("Read with care", figures["notes"])] if figures["notes"] else []),
        Text("The same again", [reproduction(params, "backtest")], code=True),
    ]
    captions = {
        "var.png": f"Grey: the loss of each {figures['step']['name']}; red: beyond the strictest value at risk. Blue: "
        "the value at risk forecast just before.",
        "coverage.png": "Share of realised prices inside each central interval, with twice its standard error; right "
        "forecasts lie on the dashed line.",
    }
    shown = [Picture(pictures[name], text, text) for name, text in captions.items() if name in pictures]
    blocks = [Cards(cards), Figures(shown), *sections]
    return Report(f"Backtest: {figures['model']} forecasts", lead, blocks, tables.footer(figures))


def var_png(figures: dict[str, Any]) -> bytes:
    """Draw the losses of days beside the value at risk forecast for them."""
    import numpy as np

    from apps.montecarlo.drawing import BLUE, FONT, GRID, RED, SIZE, SOFT_INK, TITLE, new_figure, png

    days, tests = figures["var_days"], figures["var_tests"]
    figure, (axes,) = new_figure(SIZE)
    losses = 100 * np.array([day["loss"] for day in days])
    row = np.arange(len(days))
    strictest = 100 * np.array([day["var"][str(tests[-1]["confidence"])] for day in days])
    for test in tests:
        level = 100 * np.array([day["var"][str(test["confidence"])] for day in days])
        axes.plot(row, level, color=BLUE, linewidth=1.2, alpha=1.0 if test is tests[-1] else 0.5)
        axes.annotate(name_of(test["confidence"]), (row[-1], level[-1]), (5, 0), textcoords="offset points",
                      color=BLUE, fontsize=FONT - 1.5, va="center", annotation_clip=False)  # fmt: skip
    beyond = losses > strictest
    axes.vlines(row[~beyond], 0, losses[~beyond], color=SOFT_INK, linewidth=0.5, alpha=0.7)
    axes.vlines(row[beyond], 0, losses[beyond], color=RED, linewidth=1.1)
    axes.axhline(0, color=GRID, linewidth=0.6)
    axes.set_xlim(0, len(days))
    axes.set_title(f"Loss of each {figures['step']['name']} in %, and the value at risk", **TITLE)
    if days[0]["date"]:
        ticks = np.linspace(0.05, 0.95, 4) * (len(days) - 1)
        axes.set_xticks(ticks, [days[round(place)]["date"][:7] for place in ticks])
    return png(figure, left=0.08, right=0.89, bottom=0.07)


def coverage_png(figures: dict[str, Any]) -> bytes:
    """Draw the observed coverage of intervals over the promised one."""
    import numpy as np

    from apps.montecarlo.drawing import BLUE, INK, SIZE, TITLE, new_figure, png

    figure, (axes,) = new_figure(SIZE)
    nominal, observed, errors = (
        100 * np.array([row[key] for row in figures["coverage"]]) for key in ("nominal", "observed", "se")
    )
    low = min(float(nominal[0]), float((observed - 2 * errors).min())) - 4
    axes.plot([low, 100], [low, 100], color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.errorbar(nominal, observed, 2 * errors, fmt="o", color=BLUE, markersize=5, capsize=3, linewidth=1.2)
    axes.set_xlim(float(nominal[0]) - 4, 100)
    axes.set_ylim(low, max(102.0, float((observed + 2 * errors).max()) + 1))
    axes.set_xticks(nominal, [f"{value:.4g}%" for value in nominal])
    axes.set_title(f"Observed coverage in %, over {figures['horizon']} days", **TITLE)
    return png(figure, left=0.09, right=0.97, bottom=0.07)
