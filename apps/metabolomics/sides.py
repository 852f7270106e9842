"""What is compared: the ions of a run, or of a table such as METASPACE exports, by formula, modifiers and adduct."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow.compute as pc

from apps.metabolomics.annotated import read_run
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
