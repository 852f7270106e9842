"""The report of a run: what came in, what came out, and maps to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps._frame.report import Block, Card, Cards, Facts, Figures, Link, Picture, Report, Table, Text, report_files
from apps._frame.tables import TextTable, counted, facts_text
from apps.satellite.cells import CELLS, COMPOSITE
from apps.satellite.maps import MOST_CELLS
from apps.satellite.params import Params
from apps.satellite.records import ACCEPTED, DAMAGED, REJECTED, SUPERSEDED, Cell, CellDone, Row

SHOWN = 20
"""Rows of rejected scenes on a terminal."""


def report_of(
    figures: Mapping[str, Any], params: Params, rows: Sequence[Row], cells: Sequence[Cell], done: Sequence[CellDone],
    pictures: Sequence[Picture], undrawn: Sequence[int], zonal: Sequence[Mapping[str, Any]],
) -> dict[str, Iterable[bytes]]:  # fmt: skip
    """Return the report as files by name."""
    scenes = figures["scenes"]
    cards = [
        Card("Scenes used", f"{scenes[ACCEPTED]:,}", f"of {sum(scenes.values()):,}"),
        Card("Cells", f"{figures['cells']:,}", f"{figures['empty_cells']:,} of them without a valid pixel"),
        Card("Valid pixels", f"{figures['valid_pixels']:,}", f"{figures['valid_share']:.0%} of the cells"),
    ]
    if figures["shapes"] is not None:
        cards.append(
            Card(
                figures["layer"].capitalize(),
                f"{figures['shapes']:,}",
                f"{figures['area_km2']:,.4g} km² on the ellipsoid",
            )
        )
    blocks: list[Block] = [Cards(cards)]
    if figures["warnings"]:
        blocks.append(Text("Read with care", figures["warnings"]))
    if pictures:
        blocks.append(Figures(pictures, "Maps"))
    if undrawn:
        large = ", ".join(f"EPSG:{zone}" for zone in undrawn)
        sentence = f"{large}: more than {MOST_CELLS:,} cells. Ask for an area with query, and look at what it writes."
        blocks.append(Text("Too large for a map", [sentence]))
    if zonal:
        names = [name for name in zonal[0] if name.endswith(("_mean", "_pixels")) or name in ("name", "zone")]
        table = ([_shown(row[name]) for name in names] for row in zonal)
        blocks.append(Table("Statistics of zones", [name.replace("_", " ") for name in names], table, browse=True))
    blocks += [
        Table(
            "Scenes",
            ["scene", "status", "reason or warning", "time", "zone", "edition"],
            map(_scene_row, rows),
            browse=True,
        ),
        Table("Cells", ["cell", "valid pixels", "dates", "scenes not read"], map(_cell_row, cells, done), browse=True),
        Facts("How it was made", _facts(figures, params)),
    ]
    where = f"{counted(scenes[ACCEPTED], 'scene')} of {counted(len(figures['zones']), 'zone')}"
    lead = f"{where}, {figures['first_day']} to {figures['last_day']}."
    return report_files(Report("Satellite batch", lead, blocks, f"Cells SHA-256 {figures['cells_sha256']}."))


def _scene_row(row: Row) -> list[str]:
    return [row.name, row.status, row.reason or row.warnings, row.when, row.zone, row.version]


def _cell_row(cell: Cell, done: CellDone) -> list[Any]:
    name = Link(cell.name, f"{CELLS}{cell.name}/{COMPOSITE}") if done.valid else cell.name
    return [
        name,
        f"{done.valid:,}",
        f"{len(done.dates)} of {len(cell.datatakes)}",
        "; ".join(f"{key}: {why}" for key, why in done.lost.items()),
    ]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _facts(figures: Mapping[str, Any], params: Params) -> list[tuple[str, str]]:
    return [
        ("Input", ", ".join(params.input)),
        ("Bands", ", ".join(params.bands)),
        ("Composite", params.function or f"{params.stat} of the dates that are valid in all bands"),
        ("Clouds", "by the scenes' own masks" if params.mask == "auto" else "not masked"),
        ("Later dates", f"from {figures['later']} on"),
        (
            "Grid",
            "; ".join(
                f"EPSG:{zone['epsg']}, cells of {zone['cell']} pixels of {zone['pixel']:g} m"
                for zone in figures["zones"]
            ),
        ),
        ("Off the grid", f"--resample {params.resample}"),
    ]


def terminal(figures: Mapping[str, Any]) -> str:
    """Return what a run says at its end."""
    scenes = figures["scenes"]
    others = [f"{scenes[kind]:,} {kind}" for kind in (REJECTED, SUPERSEDED, DAMAGED) if scenes[kind]]
    rows = [
        ("Scenes", f"{scenes[ACCEPTED]:,} used{', ' if others else ''}{', '.join(others)}"),
        (
            "Cells",
            f"{figures['cells']:,} in {counted(len(figures['zones']), 'zone')}, {figures['empty_cells']:,} without a "
            "valid pixel",
        ),
        ("Valid", f"{figures['valid_share']:.1%} of pixels"),
    ]
    if figures["shapes"] is not None:
        rows.append((figures["layer"].capitalize(), f"{figures['shapes']:,} shapes, {figures['area_km2']:,.4g} km²"))
    parts = [facts_text(rows)]
    if figures["refused"]:
        shown = [[row["name"], row["status"], row["reason"]] for row in figures["refused"][:SHOWN]]
        more = f" (the first {SHOWN} of {len(figures['refused'])})" if len(figures["refused"]) > SHOWN else ""
        parts.append(TextTable(f"Not used{more}", ["scene", "", "why"], shown, left=["scene", "", "why"]).text())
    return "\n\n".join([*parts, *figures["warnings"]])
