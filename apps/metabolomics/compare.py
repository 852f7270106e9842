"""The compare command: the annotations of a run beside those of another, or of a table such as METASPACE exports."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from apps._frame import Session
from apps._frame.tables import TextTable, csv_bytes
from apps.metabolomics.annotated import read_run
from apps.metabolomics.export_params import CompareParams
from apps.metabolomics.exports import put, refuse_existing
from apps.metabolomics.report import LEVELS
from apps.metabolomics.science.adducts import parse_adduct
from apps.metabolomics.science.formulas import FormulaError, parse_formula
from core import InputError, open_storage
from core.storage import NotFound, split_address

Key = tuple[str, str, str, str]
"""Formula, modification, loss, adduct."""

NUMBERS = {
    "mz": ("mz", "mz_0"),
    "msm": ("msm",),
    "rhoSpatial": ("rhospatial", "spatial"),
    "rhoSpectral": ("rhospectral", "spectral"),
    "rhoChaos": ("rhochaos", "chaos"),
    "massError": ("masserror",),
    "totalIntensity": ("totalintensity",),
    "fdr": ("fdr",),
}
"""What is compared, by the names, without signs and case, that tables give it."""
TEXTS = {
    "formula": ("formula",),
    "chemMod": ("chemmod",),
    "neutralLoss": ("neutralloss",),
    "adduct": ("adduct",),
}
ROUNDING = 1e-6
"""Relative difference of two rates below which they are one: tables are rounded."""
POLARITIES: tuple[Literal["+", "-"], ...] = ("+", "-")
SHOWN = 10
"""Ions that one of the two alone has, of those that people are shown."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared.

    Attributes
    ----------
    name : str
    ions : dict
        Figures by `NUMBERS`, NaN for none, of each ion.
    level : float
        False discovery rate up to which it has annotations.
    unread : int
        Rows of a table whose formula is none.
    """

    name: str
    ions: Mapping[Key, Mapping[str, float]]
    level: float
    unread: int = 0

    def accepted(self, level: float) -> set[Key]:
        """Return the ions with an FDR of at most a level."""
        return {key for key, figures in self.ions.items() if figures["fdr"] <= level * (1.0 + ROUNDING)}


def compare(session: Session, params: CompareParams) -> None:
    """Run the command."""
    if params.to:
        refuse_existing(params.to, params.overwrite)
    one, two = read_side(params.run), read_side(params.reference)
    found = compared(one, two)
    if params.to:
        put(params.to, side_by_side(one, two))
    session.show(found, as_text)


def read_side(address: str) -> Side:
    """Return what an address holds: a finished run, or a table.

    Raises
    ------
    InputError
        It is neither.
    """
    root, key = split_address(address)
    try:
        if not key or key.endswith("/"):
            return _of_run(address)
        data = open_storage(root).get(key)
    except (NotFound, IsADirectoryError):
        return _of_run(address)
    return of_table(address, data)


def _of_run(address: str) -> Side:
    run = read_run(address)
    columns = ["formula", "chemMod", "neutralLoss", "adduct", "mz_0", "msm", "spatial", "spectral", "chaos",
               "massError", "totalIntensity", "fdr"]  # fmt: skip
    table = run.targets(columns, pc.field("msm").is_valid())
    ions = {
        (row["formula"], row["chemMod"], row["neutralLoss"], row["adduct"]): {
            name: next((_number(row[each]) for each in row if each.lower() in names), math.nan)
            for name, names in NUMBERS.items()
        }
        for row in table.to_pylist()
    }
    return Side(address, ions, float(run.figures["fdr"]))


def of_table(address: str, data: bytes) -> Side:
    """Return the annotations of a CSV file; lines that begin with ``#`` before its header are remarks.

    Raises
    ------
    InputError
        It has no columns of formula, adduct and FDR.
    """
    text = data.decode("utf-8-sig", "surrogateescape")
    lines = [line for line in io.StringIO(text, newline="") if not line.startswith("#")]
    separator = max(",;\t", key=lines[0].count) if lines else ","
    reader = csv.reader(lines, delimiter=separator)
    header = [re.sub(r"[\W_]", "", name.casefold()) for name in next(reader, [])]
    places = {
        name: next((header.index(each) for each in names if each in header), None)
        for name, names in (TEXTS | NUMBERS).items()
    }
    missing = [name for name in ("formula", "adduct", "fdr") if places[name] is None]
    if missing:
        raise InputError(
            f"{address} has no column {', '.join(missing)}; give a run, or a table as METASPACE exports it"
        )
    ions: dict[Key, dict[str, float]] = {}
    unread = 0
    for row in reader:
        cells = {name: row[at] if at is not None and at < len(row) else "" for name, at in places.items()}
        try:
            formula = str(parse_formula(cells["formula"]))
        except FormulaError:
            unread += bool(row)
            continue
        # A spreadsheet's quote stands before signs, and METASPACE writes M before adducts.
        mod, loss, adduct = (cells[name].lstrip("'") for name in ("chemMod", "neutralLoss", "adduct"))
        key = (formula, mod, loss, _canonical(adduct))
        figures = {name: _number(cells[name]) for name in NUMBERS}
        if str(ions.setdefault(key, figures)) != str(figures):  # as text, in which NaN equals NaN
            raise InputError(
                f"{address} has {''.join(key)} more than once, with other figures; give a table of one dataset and "
                "one database"
            )
    rates = [figures["fdr"] for figures in ions.values() if not math.isnan(figures["fdr"])]
    return Side(address, ions, max(rates, default=0.0), unread)


def _canonical(adduct: str) -> str:
    """Return an adduct as a run names it; as it stands, if it is not understood."""
    text = adduct.removeprefix("M")
    for polarity in POLARITIES:
        try:
            return parse_adduct(text, polarity).name
        except FormulaError:
            continue
    return text


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except ValueError:
        return math.nan


def compared(one: Side, two: Side) -> dict[str, Any]:
    """Return how two sides differ, JSON-ready.

    Of the ions that both have: for each figure that both know, how many, how many are equal, and the median and largest
    difference. At each level of the false discovery rate that both reach: annotations of each, of both, and of both as
    a share of those of either.
    """
    level = min(one.level, two.level)
    both = [key for key in one.ions if key in two.ions]
    return {
        "run": one.name,
        "reference": two.name,
        "unread_rows": one.unread + two.unread,
        "ions": {"run": len(one.ions), "reference": len(two.ions), "both": len(both)},
        "differences": [each for each in _differences(one, two, both) if each["ions"]],
        "levels": [
            {
                "fdr": at,
                "run": len(here),
                "reference": len(there),
                "both": len(here & there),
                "agreement": len(here & there) / len(here | there) if here | there else None,
            }
            for at in sorted({*(each for each in LEVELS if each <= level), level})
            for here, there in [(one.accepted(at), two.accepted(at))]
        ],
        "only_run": _names(one.accepted(level) - two.accepted(level)),
        "only_reference": _names(two.accepted(level) - one.accepted(level)),
    }


def _differences(one: Side, two: Side, both: list[Key]) -> Iterator[dict[str, Any]]:
    rates = {figures["fdr"] for figures in two.ions.values() if not math.isnan(figures["fdr"])}
    for name in NUMBERS:
        if name == "fdr" and rates <= {*LEVELS}:
            continue  # METASPACE tells levels apart, not rates
        pairs = np.array([(one.ions[key][name], two.ions[key][name]) for key in both], np.float64).reshape(-1, 2)
        known = pairs[~np.isnan(pairs).any(axis=1)]
        apart: NDArray[np.float64] = np.abs(known[:, 0] - known[:, 1])
        unit = ""
        if name == "mz":
            apart, unit = apart / known[:, 1] * 1e6, "ppm"
        elif name == "totalIntensity":
            top = np.abs(known).max(axis=1, initial=0.0)
            apart, unit = np.divide(apart, top, out=np.zeros_like(apart), where=top > 0), "share"
        yield {
            "figure": name,
            "unit": unit,
            "ions": len(known),
            "equal": int((apart == 0.0).sum()),
            "median": float(np.median(apart)) if len(known) else None,
            "largest": float(apart.max()) if len(known) else None,
        }


def _names(keys: set[Key]) -> list[str]:
    return sorted("".join(key) for key in keys)


def side_by_side(one: Side, two: Side) -> bytes:
    """Return all ions of both as CSV: each figure of the run, and of the reference."""
    header = [*TEXTS, *(f"{name}_{side}" for name in NUMBERS for side in ("run", "reference"))]

    def cells(key: Key) -> Iterator[Any]:
        for name in NUMBERS:
            for side in (one, two):
                value = side.ions[key][name] if key in side.ions else math.nan
                yield None if math.isnan(value) else value

    return csv_bytes(header, ([*key, *cells(key)] for key in sorted({*one.ions, *two.ions})))


def as_text(found: Mapping[str, Any]) -> str:
    """Lay a comparison out for a terminal."""
    ions = found["ions"]
    levels = [
        [
            f"{each['fdr']:.3g}", f"{each['run']:,}", f"{each['reference']:,}", f"{each['both']:,}",
            "–" if each["agreement"] is None else f"{each['agreement']:.1%}",
        ]
        for each in found["levels"]
    ]  # fmt: skip
    differences = [
        [
            ", ".join(filter(None, [each["figure"], each["unit"]])), f"{each['ions']:,}", f"{each['equal']:,}",
            f"{each['median']:.3g}", f"{each['largest']:.3g}",
        ]
        for each in found["differences"]
    ]  # fmt: skip
    parts = [
        f"Ions: {ions['run']:,} in {found['run']}, {ions['reference']:,} in {found['reference']}, "
        f"{ions['both']:,} in both",
        TextTable("Annotations", ["up to FDR", "run", "reference", "both", "agreement"], levels).text(),
    ]
    if differences:
        parts.append(TextTable("Differences", ["", "ions", "equal", "median", "largest"], differences).text())
    for side, words in (("run", "the run"), ("reference", "the reference")):
        names = found[f"only_{side}"]
        if names:
            more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
            parts.append(f"Annotated in {words} alone: {', '.join(names[:SHOWN])}{more}")
    if found["unread_rows"]:
        parts.append(f"{found['unread_rows']:,} rows have no formula that can be read, and were left out")
    return "\n\n".join(parts)
