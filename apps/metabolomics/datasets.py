"""The table command: the annotations of several datasets side by side, one row an ion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from apps._frame import Session
from apps._frame.tables import TextTable, csv_bytes
from apps.metabolomics.annotated import Annotated, read_run
from apps.metabolomics.export_params import TableParams
from apps.metabolomics.exports import put, refuse_existing
from core import ConfigError

KEY = ("formula", "chemMod", "neutralLoss", "adduct")
COLUMNS = (*KEY, "ion", "mz_0", "msm", "fdr", "totalIntensity")
FIGURES = ("fdr", "msm", "meanIntensity")
"""Of each dataset; an empty FDR stands for an ion that was not accepted there, an empty MSM for one without images."""


def table(session: Session, params: TableParams) -> None:
    """Run the command.

    Raises
    ------
    ConfigError
        There are fewer than two runs, or the file exists.
    InputError
        One of them is no finished run.
    """
    if len(params.runs) < 2:
        raise ConfigError("table needs two runs at least, separated by commas")
    target = params.to or "annotations-of-datasets.csv"
    refuse_existing(target, params.overwrite)
    runs = [read_run(address, params.fdr) for address in params.runs]
    names = dataset_names(runs)
    ions = {ion for run in runs for ion in run.ions.column("ion").to_pylist()}
    put(target, _csv(runs, names, ions))
    accepted = [set(run.ions.column("ion").to_pylist()) for run in runs]
    found = {
        "file": target,
        "ions": len(ions),
        "in_all": len(set.intersection(*accepted)),
        "datasets": [{"name": name, "annotations": len(each)} for name, each in zip(names, accepted, strict=True)],
    }
    session.show(found, as_text)


def dataset_names(runs: Sequence[Annotated]) -> list[str]:
    """Return the names of datasets; equal ones are numbered."""
    taken = Counter[str]()
    names = []
    for run in runs:
        name = str(run.figures["dataset"])
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name}-{taken[name]}")
    return names


def _csv(runs: Sequence[Annotated], names: Sequence[str], ions: set[str]) -> bytes:
    values = pa.array(sorted(ions), pa.string())
    found = [_figures(run, values) for run in runs]
    header = [*KEY, "ion", "mz", "moleculeNames", *(f"{name} {figure}" for name in names for figure in FIGURES)]

    def rows() -> Iterator[list[Any]]:
        for ion in values.to_pylist():
            first = next(each[ion] for each in found if ion in each)
            known = {one.name: None for run in runs for _, one in run.molecules.get(first["formula"], ())}
            cells = (each.get(ion, {}).get(name) for each in found for name in FIGURES)
            yield [*(first[name] for name in KEY), ion, first["mz_0"], ", ".join(known), *cells]

    return csv_bytes(header, rows())


def _figures(run: Annotated, ions: pa.Array) -> dict[str, dict[str, Any]]:
    """Return what a run knows of some ions, accepted or not; an FDR above the level that was asked for is none."""
    accepted = set(run.ions.column("ion").to_pylist())
    rows = run.targets(COLUMNS, pc.field("ion").isin(ions)).to_pylist()
    spectra = max(1, run.field.pixels.size)
    return {
        row["ion"]: {
            **row,
            "fdr": row["fdr"] if row["ion"] in accepted else None,
            "meanIntensity": row["totalIntensity"] / spectra,
        }
        for row in rows
    }


def as_text(found: Mapping[str, Any]) -> str:
    """Say what was written."""
    rows = [[each["name"], f"{each['annotations']:,}"] for each in found["datasets"]]
    counts = f"{found['ions']:,} ions in {found['file']}, {found['in_all']:,} of them annotated in all datasets"
    return f"{TextTable('', ['dataset', 'annotations'], rows).text()}\n\n{counts}"
