"""The compare command: the annotations of a run beside those of another, or of a table such as METASPACE exports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps._frame import Session
from apps._frame.tables import TextTable, csv_bytes
from apps.metabolomics.export_params import CompareParams
from apps.metabolomics.exports import put, refuse_existing
from apps.metabolomics.report import LEVELS
from apps.metabolomics.sides import NUMBERS, TEXTS, Key, Side, read_side

SHOWN = 10
"""Ions that one of the two alone has, of those that people are shown."""


def compare(session: Session, params: CompareParams) -> None:
    """Run the command."""
    if params.to:
        refuse_existing(params.to, params.overwrite)
    one, two = read_side(params.run), read_side(params.reference)
    found = compared(one, two)
    if params.to:
        put(params.to, side_by_side(one, two))
    session.show(found, as_text)


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
