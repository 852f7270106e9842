"""``analyze``: averages and free energies at every temperature from all samples, and whether they can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from apps._frame import Session
from apps._frame.tables import TextTable, facts_text
from apps.protein_remd import resumes
from apps.protein_remd.convergence import measured
from apps.protein_remd.history import read_history
from apps.protein_remd.params import AnalyzeParams
from apps.protein_remd.reading import run_params
from apps.protein_remd.until import FIRST
from core import InputError, open_storage


def analyze(session: Session, params: AnalyzeParams) -> None:
    """Estimate energies and free energies by MBAR, and say how far they can be believed."""
    run_params(params.run)
    storage = open_storage(params.run)
    accepted = resumes.Accepted(resumes.resumed_after(storage))
    history = read_history(storage, each=accepted.look)
    if history.rounds < FIRST:
        raise InputError(f"run {params.run} has {history.rounds} rounds; at least {FIRST} can be analysed")
    compared = accepted.comparisons()
    figures = measured(history, params.discard) | {"resumes": [asdict(each) for each in compared]}
    session.show(figures, text)
    for sentence in resumes.warnings(compared, history.temperatures):
        session.tell(sentence)


def text(found: Mapping[str, Any]) -> str:
    """Lay an analysis out for a terminal."""
    rows = [
        (
            f"{row['temperature']:.6g}",
            f"{row['potential']:,.5g} ± {row['potential_error']:.2g}",
            f"{row['heat_capacity']:.3g} ± {row['heat_capacity_error']:.2g}",
            f"{row['free_energy']:.4g} ± {row['free_energy_error']:.2g}",
            f"{row['effective_samples']:,.0f}",
        )
        for row in found["states"]
    ]
    header = ("T (K)", "U (kJ/mol)", "C (kJ/mol/K)", "f", "samples worth")
    table = TextTable("By MBAR, from all temperatures", header, rows).text()
    facts = [
        ("Rounds", f"{found['rounds']:,}, the first {found['discarded']:,} left out, every {found['every']:,} used"),
        ("Error", f"{found['error']:.3g} kT, the largest of a free energy"),
        ("Second eigenvalue", f"{found['second_eigenvalue']:.3f}"),
        *((("holds: " if check["ok"] else "NOT YET: ") + check["name"], check["found"]) for check in found["checks"]),
    ]
    blocks = [table, facts_text(facts)]
    if found["resumes"]:
        compared = [
            (f"{one['after']:,}", str(one["pair"]), _share(one["before"]), _share(one["since"]), f"{one['chance']:.2g}")
            for one in found["resumes"]
        ]
        names = ("after round", "pair", "accepted before", "since", "chance")
        blocks.append(TextTable("Swaps before and after each resume", names, compared).text())
    return "\n\n".join([*blocks, found["verdict"]])


def _share(counts: Sequence[int]) -> str:
    return f"{counts[0]:,} of {counts[1]:,}"
