"""The validate command: known results beside what the chosen backend computes, in one table."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from apps.montecarlo import tables
from apps.montecarlo.validate_params import ValidateParams

if TYPE_CHECKING:
    from apps._frame import Session
    from apps._frame.plan import Plan
    from apps._frame.publishing import Content
    from apps._frame.report import Block, Report
    from apps._frame.tables import TextTable
    from apps.montecarlo.mapping import Mapped

RESULTS = ("checks.csv", "checks.png", "report.html", "result.json")
CPU_SECONDS = 1.5
"""Of one task at the usual number of paths, measured on one core of a server; enough for a plan."""
USUAL_PATHS = 65_536
COLUMNS = ("group", "what", "against", "expected", "found", "error", "deviation", "agrees")


def check_part(task: str, params: ValidateParams) -> list[Any]:
    """Map function: the findings of one group of checks."""
    from apps.montecarlo.science.checks import CHECKS

    return CHECKS[task](params.paths, params.seed)


def run(params: ValidateParams, mapped: Mapped) -> dict[str, Any]:
    """Check everything; returns the findings, JSON-ready."""
    from apps.montecarlo.figures import versions
    from apps.montecarlo.science.checks import CHECKS, LIMIT, Finding

    rows = []
    for group, found in zip(CHECKS, mapped("check", check_part, list(CHECKS), params), strict=True):
        for finding in (Finding(*each) for each in found):
            deviation = (finding.found - finding.expected) / finding.error if finding.error else None
            values = {name: getattr(finding, name) for name in ("what", "against", "expected", "found", "error")}
            rows.append({"group": group, **values, "deviation": deviation, "agrees": finding.agrees})
    return {
        "command": "validate",
        "paths": params.paths,
        "seed": params.seed,
        "limit": LIMIT,
        "checks": rows,
        "agree": sum(row["agrees"] for row in rows),
        "versions": versions(),
    }


def validate(session: Session, params: ValidateParams) -> int:
    """Run the validate command; returns 1 if anything is off."""
    from apps.montecarlo.mapping import DRAWING, in_run
    from apps.montecarlo.stages import show

    with session.open_run(RESULTS) as kept:
        if not kept.finished:
            kept.publish(run_files(run(params, in_run(session, kept, ["check"], DRAWING)), params))
        figures = kept.figures()
    show(session, figures, as_text)
    return 0 if figures["agree"] == len(figures["checks"]) else 1


def plan(session: Session, params: ValidateParams) -> Plan:
    """Say what a validation would take."""
    from apps._frame.plan import Plan, StagePlan
    from apps.montecarlo.science.checks import CHECKS

    return Plan([StagePlan("check", len(CHECKS), CPU_SECONDS * params.paths / USUAL_PATHS)])


def check_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate what was compared with what."""
    from apps._frame.tables import TextTable

    rows = [
        [row["what"], row["against"], f"{row['expected']:.7g}", f"{row['found']:.7g}",
         f"{row['error']:.2g}" if row["error"] else "–",
         "–" if row["deviation"] is None else f"{row['deviation']:+.1f}", "yes" if row["agrees"] else "NO"]
        for row in figures["checks"]
    ]  # fmt: skip
    header = ["computed", "against", "expected", "found", "± s.e.", "off by s.e.", "agrees"]
    return TextTable("What was checked against what", header, rows, left=("against",))


def verdict(figures: dict[str, Any]) -> str:
    """Say in a sentence how it went."""
    count = len(figures["checks"])
    return (
        f"{figures['agree']} of {count} results agree with what is known, within {figures['limit']:g} standard errors "
        "and what the method or the known value leaves open."
    )


def as_text(figures: dict[str, Any]) -> str:
    """Return what is printed when everything was checked."""
    return "\n\n".join([check_table(figures).text(), textwrap.fill(verdict(figures), tables.NOTE_WIDTH)])


def run_files(figures: dict[str, Any], params: ValidateParams) -> dict[str, Content]:
    """Return every result of the run by name."""
    from apps._frame.report import report_files
    from apps._frame.tables import csv_bytes, json_text

    picture = checks_png(figures)
    rows = ([row[name] for name in COLUMNS] for row in figures["checks"])
    return {
        "checks.csv": csv_bytes(COLUMNS, rows),
        "checks.png": picture,
        **report_files(report(figures, params, picture)),
        "result.json": (json_text(figures, indent=2) + "\n").encode(),
    }


def report(figures: dict[str, Any], params: ValidateParams, picture: bytes) -> Report:
    """Return what the report says."""
    from apps._frame.report import Card, Cards, Figures, Picture, Report, Text

    count = len(figures["checks"])
    worst = max((abs(row["deviation"]) for row in figures["checks"] if row["deviation"] is not None), default=0.0)
    cards = [
        Card("Agree", f"{figures['agree']} of {count}"),
        Card("Largest deviation", f"{worst:.1f} s.e.", f"{figures['limit']:g} allowed"),
        Card("Paths of each check", f"{figures['paths']:,}", f"seed {figures['seed']}"),
    ]
    note = "A dash stands where nothing is random. What the method or the known value leaves open is allowed besides."
    caption = (
        "How far each simulated result lies from the known value, in standard errors; red: beyond what is allowed."
    )
    blocks: list[Block] = [
        Cards(cards),
        Figures([Picture(picture, caption, caption)]),
        tables.with_note(check_table(figures), note),
        Text("The same again", [tables.reproduction(params, "validate")], code=True),
    ]
    return Report("Validation of the forecasts", verdict(figures), blocks, tables.footer(figures))


def checks_png(figures: dict[str, Any]) -> bytes:
    """Draw the deviation of each random result in standard errors."""
    from apps.montecarlo.drawing import BLUE, FONT, GRID, RED, SIZE, SOFT_INK, TITLE, new_figure, png

    rows = [row for row in figures["checks"] if row["deviation"] is not None]
    figure, (axes,) = new_figure((SIZE[0], 0.7 + 0.21 * len(rows)))
    places = range(len(rows))
    axes.axvline(0, color=SOFT_INK, linewidth=0.7)
    for limit in (-figures["limit"], figures["limit"]):
        axes.axvline(limit, color=RED, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.grid(axis="y", color=GRID, linewidth=0.4)
    axes.scatter([row["deviation"] for row in rows], places, s=22,
                 c=[BLUE if row["agrees"] else RED for row in rows], zorder=3)  # fmt: skip
    axes.set_yticks(list(places), [row["what"] for row in rows], fontsize=FONT - 3)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    reach = max(figures["limit"] + 0.5, *(abs(row["deviation"]) + 0.3 for row in rows))
    axes.set_xlim(-reach, reach)
    axes.set_title("Off the known value, in s.e.", **TITLE)
    return png(figure, left=0.51, right=0.97, bottom=0.35 / figure.get_figheight())
