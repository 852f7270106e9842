"""The report of a campaign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from apps._frame.report import Block, Card, Cards, Facts, Figures, Picture, Report, Table, Text, report_files
from apps.protein_remd import plots
from apps.protein_remd.costs import spent_rows
from apps.protein_remd.history import History
from apps.protein_remd.params import Params
from apps.protein_remd.result import verdict, warnings


def report_files_of(
    history: History, found: Mapping[str, Any], params: Params, spent: Mapping[str, Any]
) -> dict[str, Iterable[bytes]]:
    """Return the report of a campaign as files by name; `spent` is what it has taken, see ``costs.spent_figures``."""
    trips, pairs = found["round_trips"], found["pairs"]
    tried = sum(pair["attempted"] for pair in pairs)
    accepted = sum(round(pair["attempted"] * pair["acceptance"]) for pair in pairs if pair["attempted"])
    cards = [
        Card("Rounds", f"{found['rounds']:,}", f"of {found['rounds_asked']:,}"),
        Card("Swaps accepted", f"{accepted / tried:.0%}" if tried else "none", f"of {tried:,} between neighbours"),
        Card("Round trips", f"{sum(trips):,}", f"by {sum(map(bool, trips))} of {len(trips)} replicas"),
        Card("Second eigenvalue", f"{found['second_eigenvalue']:.3f}", "1 means that temperatures do not mix"),
    ]
    pictures = [
        Picture(
            plots.acceptance(found), "Acceptance of each pair", "Measured, and predicted by the energies' moments."
        ),
        Picture(plots.energies(history), "Histograms of energies", "Neighbours must overlap for swaps to be accepted."),
        Picture(plots.paths(history), "Temperature of each replica", "Each replica should visit all temperatures."),
        Picture(plots.transitions(history), "Transition matrix", "Chance of going from row to column in a round."),
        Picture(plots.trips(found), "Round trips", "From the lowest temperature to the highest and back, by replica."),
        Picture(plots.kinetic(found), "Kinetic temperature", "Must be the temperature asked for, within its error."),
        Picture(plots.slopes(found), "Slope of the ensembles", "1 is right, whatever the system; bars are one error."),
    ]
    if found.get("helix"):
        caption = "Part of the residues in an alpha helix, without the first fifth of the rounds."
        pictures.insert(0, Picture(plots.helix(found), "Helix at each temperature", caption))
    system = f"{params.system.dof} harmonic oscillators"
    if params.system.engine != "harmonic":
        system = f"{found['facts']['system']}, by {found['version']},"
    lead = f"{system} at {len(found['states'])} temperatures."
    blocks: list[Block] = [
        Cards(cards),
        *([Text("Read with care", warnings(found))] if warnings(found) else []),
        *_verdict(found),
        Figures(pictures, "How it went"),
        Table("Temperatures", *_state_table(found)),
        *_halves(found),
        Facts("How it was made", [*_facts(found, params)]),
        *([Facts("Time and cost", taken)] if (taken := spent_rows(spent, found["rounds"])) else []),
    ]
    footer = f"History SHA-256 {found['history_sha256']}."
    return report_files(Report("Replica exchange", lead, blocks, footer))


def _verdict(found: Mapping[str, Any]) -> list[Block]:
    """Return whether the averages can be believed, and by which checks."""
    measured = found.get("convergence")
    if measured is None:
        return []
    checks = [[check["name"], "yes" if check["ok"] else "not yet", check["found"]] for check in measured["checks"]]
    said = Text("Can it be believed?", verdict(found))
    table = Table("What must hold", ["", "holds", "found"], checks)
    return [said, table]


def _halves(found: Mapping[str, Any]) -> list[Block]:
    measured = found.get("convergence")
    if measured is None:
        return []
    header = ["T (K)", "first half U", "second half U", "first half C", "second half C", "errors apart"]
    rows = [
        [
            f"{row['temperature']:.6g}", *(f"{value:.5g}" for value in row["halves_potential"]),
            *(f"{value:.3g}" for value in row["halves_heat_capacity"]), f"{row['halves_differ_by_errors']:.2g}",
        ]
        for row in measured["states"]
    ]  # fmt: skip
    note = "U is the mean potential energy in kJ/mol, C the heat capacity by its fluctuations in kJ/mol/K."
    return [Table("Halves of the run", header, rows, note)]


def _state_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    shown = {"potential": "U (kJ/mol)", "kinetic_temperature": "kinetic T (K)", "volume": "V (nm³)"}
    names = [name for name in shown if name in found["states"][0]]
    header = ["T (K)", *(cell for name in names for cell in (shown[name], "± error"))]
    values = [
        [f"{one['temperature']:.6g}", *(f"{one[part]:.4g}" for name in names for part in (name, f"{name}_error"))]
        for one in found["states"]
    ]
    return header, values


def _facts(found: Mapping[str, Any], params: Params) -> list[tuple[str, str]]:
    steps = params.md.steps * params.md.segments
    return [
        ("Engine", f"{found['engine']}, {found['version']}"),
        ("Between exchanges", f"{steps:,} steps of {params.md.timestep:g} fs, friction {params.md.friction:g}/ps"),
        ("Exchange", params.exchange.scheme),
        ("Seed", str(params.md.seed)),
        ("Processors", ", ".join(found["canaries"])),
        *((str(name).capitalize(), str(value)) for name, value in found["facts"].items()),
    ]
