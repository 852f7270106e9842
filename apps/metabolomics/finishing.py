"""What a run leaves behind: the table of all ions, images, pixels, molecules, and the figures of them all."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from apps._frame.params import as_settings
from apps._frame.run import Run
from apps._frame.stages import Stage
from apps._frame.tables import counted, facts_text
from apps.metabolomics import indexing, rendering
from apps.metabolomics.annotated import MOLECULES, PIXELS, encode_pixels
from apps.metabolomics.demonstration import truth_text
from apps.metabolomics.formulas import Source
from apps.metabolomics.join import read_table
from apps.metabolomics.library import KINDS
from apps.metabolomics.molecules import encode_molecules, find_all
from apps.metabolomics.parquet_pieces import parquet_pieces
from apps.metabolomics.parts import stored
from apps.metabolomics.result import ALL_IONS, ION_IMAGES, ions_schema, read_accepted
from apps.metabolomics.science.fdr import LEVELS
from apps.metabolomics.scoring import Annotated, Work
from core import __version__

KEPT = (ALL_IONS, PIXELS, MOLECULES)
"""Written before the results that are made of them."""
ROW_GROUP = 65_536
NOTED = 160
"""Letters of the reason why a row was left out, which may quote a long cell."""
_DATASET = ("width", "height", "n_spectra", "peaks", "dropped", "quirks")


def render_all(work: Work, opened: Run, found: Annotated) -> tuple[dict[str, Any], dict[str, str]]:
    """Write the table of all ions and the images of the accepted ones; returns their counts, and the images' tags."""
    params = work.params
    common = found.rendering(work, params.fdr)
    outputs = work.stages.run(Stage("render", [*enumerate(found.scored)], rendering.render, common))
    schema = ions_schema(params.n_peaks)
    tables = (read_table(stored(work.address, each["table"])).cast(schema) for each in outputs.values())
    opened.storage.put(ALL_IONS, parquet_pieces(tables, schema, ROW_GROUP))
    images = {each["images"]: each["tag"] for each in outputs.values() if each["images"]}
    opened.storage.delete([info.key for info in opened.storage.list(ION_IMAGES) if info.key not in images])
    levels = {str(level): 0 for level in LEVELS if level <= params.fdr}
    totals = {"rows": 0, "accepted": 0}
    for each in outputs.values():
        totals = {name: total + each[name] for name, total in totals.items()}
        levels = {level: number + each["levels"][level] for level, number in levels.items()}
    return {**totals, "levels": levels}, images


def write_context(work: Work, opened: Run, mask: np.ndarray[Any, Any] | None, databases: Sequence[Source]) -> None:
    """Write which pixels have a spectrum, and the molecules of the accepted formulas.

    Parameters
    ----------
    mask : bool[pixels that have a spectrum], optional
        Those of them that count.
    databases : sequence of Source
    """
    pixels, tic = indexing.read_tic(work.dataset.address)
    kept = slice(None) if mask is None else mask
    opened.storage.put(PIXELS, encode_pixels(pixels[kept], tic[kept]))
    formulas = read_accepted(opened.storage, work.params.fdr).column("formula").unique().to_pylist()
    opened.storage.put(MOLECULES, encode_molecules(find_all(work.stages, databases, formulas)))


def figures_of(work: Work, found: Annotated, rendered: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a run that is done."""
    params, facts, library = work.params, work.dataset.facts, work.patterns.facts
    return {
        "dataset": facts["name"],
        **{name: facts[name] for name in _DATASET},
        "n_sampled": found.matching.n_sampled,
        "pixel_size_um": facts["pixel_size"],
        "formulas": library["formulas"],
        "databases": library["databases"],
        "ions": {name: library[name] for name in KINDS},
        **found.counts,
        **rendered,
        "recalibration": [list(each) for each in found.matching.shift],
        **{name: getattr(params, name) for name in ("fdr", "ppm", "norm", "images", "rgb")},
        "parameters": as_settings(params),
        "versions": versions(),
        "notes": notes_of(work, found),
        "index": work.dataset.address,
        "patterns": work.patterns.address,
    }


def notes_of(work: Work, found: Annotated) -> list[str]:
    """Return what is to be known of dataset and databases, in sentences."""
    facts = work.dataset.facts
    numbers = [
        (facts["dropped"]["not_finite"], "peaks have an m/z or intensity that is no number, and were left out"),
        (facts["dropped"]["not_positive"], "peaks have an m/z or intensity of 0 or below, and were left out"),
        (work.patterns.facts["endless"], "ions have more isotopologues than can be listed, and were not looked for"),
        (
            work.patterns.facts["single"],
            "ions (decoys among them) have a single isotope peak, and so no score, which compares images of two",
        ),
    ]
    # Its remedy was given, else it would have been refused.
    quirks = [f"{each['sentence']}; {each['remedy']}." for each in facts["quirks"] if each["code"] != "no-polarity"]
    left_out = [_left_out(each) for each in work.patterns.facts["databases"] if each["rejected"]]
    notes = [*quirks, *(f"{number:,} {what}." for number, what in numbers if number), *left_out]
    if work.params.recalibrate and not found.matching.shift:
        notes.append("The m/z scale was left as it is: too few ions are certain, or the scale has no error to be seen.")
    return notes


def _left_out(database: dict[str, Any]) -> str:
    first, rejected = database["examples"][0], database["rejected"]
    reason = first["reason"]
    reason = reason if len(reason) <= NOTED else f"{reason[: NOTED - 1]}…"
    return (
        f"{rejected:,} of {database['rows'] + rejected:,} rows of the database {database['name']} were left out, the "
        f"first: line {first['line']:,}, {reason}."
    )


def versions() -> dict[str, str]:
    """Return the releases that numbers may depend on."""
    return {"fanfold": __version__, **{name: version(name) for name in ("numba", "numpy", "pyarrow")}}


def terminal(figures: dict[str, Any]) -> str:
    """Return what a run has found, for people."""
    levels = [(f"Annotations at {float(level):.0%} FDR", f"{count:,}") for level, count in figures["levels"].items()]
    rows = [
        ("Dataset", f"{figures['dataset']}: {figures['width']:,} x {figures['height']:,} pixels, "
                    f"{figures['n_sampled']:,} with a spectrum, {figures['peaks']:,} peaks"),
        ("Looked for", f"{figures['ions']['ions']:,} ions of {counted(figures['formulas'], 'formula')}, "
                       f"{figures['ions']['decoys']:,} of them decoys"),
        *levels,
        *[("Note", note) for note in figures["notes"]],
    ]  # fmt: skip
    truth = f"\n\n{truth_text(figures['truth'])}" if figures["truth"] else ""
    return facts_text(rows) + truth
