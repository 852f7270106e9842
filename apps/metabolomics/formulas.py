"""The unique formulas of databases: read by parts, then united into objects that the next stage takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute

from apps._frame.stages import TaskOutput
from apps._frame.stored import Stored
from apps.metabolomics.databases import SHIPPED, Rejected, UniqueTexts, no_formulas, read_part
from apps.metabolomics.parts import put_part

TASK_IONS = (5_000, 400_000)
"""Ions whose patterns one task computes, at least and at most: a quarter of a second to twenty."""
TASKS = 32
EXAMPLES = 20
"""Rows of a database that are shown of those that were left out."""


def read_rows(task: tuple[str, int, int | None], output: TaskOutput) -> dict[str, Any]:
    """Map function of ``rows``: the unique formulas of a part of a database, as an object, and what was left out.

    Parameters
    ----------
    task : (str, int, int or None)
        Address of the database, empty for the one that comes with it, and from which byte to which.
    """
    address, start, stop = task
    found = read_part(address or str(SHIPPED), start, stop)
    data = "\n".join(found.formulas.to_pylist()).encode()
    return {
        "rows": found.rows,
        "lines": found.lines,
        "reasons": found.reasons,
        "rejected": [asdict(one) for one in found.rejected[:EXAMPLES]],
        **put_part(output, "formulas", data),
    }


def unite(task: tuple[tuple[tuple[Stored, ...], ...], str], params: int, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``formulas``: unique formulas of databases, an object for each task of ``centroids``.

    Parameters
    ----------
    task : (databases, str)
        Of each database the objects with the formulas of its parts, and how decoys are drawn.
    params : int
        Ions that a formula has.
    """
    databases, seed = task
    everything, counts = UniqueTexts(), []
    for database in databases:
        own = UniqueTexts()
        for part in database:
            if part.size:
                text = pa.array([part.read().decode()], pa.large_string())
                own.add(pa.compute.split_pattern(text, "\n").values)
        formulas = own.array()
        counts.append(len(formulas))
        everything.add(formulas)
    formulas = everything.array()
    if seed == "formula":  # no result may depend on the order of a database
        formulas = formulas.take(pa.compute.sort_indices(formulas))
    size = max(1, min(max(len(formulas) * params // TASKS, TASK_IONS[0]), TASK_IONS[1]) // params)
    parts, width = [], 1
    for first in range(0, len(formulas), size):
        lines = formulas.slice(first, size).to_pylist()
        width = max(width, *map(len, lines))
        data = "\n".join(lines).encode()
        parts.append({"first": first, **put_part(output, f"{first:09d}", data)})
    return {"parts": parts, "formulas": len(formulas), "width": width, "counts": counts}


def about_database(address: str, name: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many rows of a database were taken, and why not the others, from what ``read_rows`` returned.

    Raises
    ------
    InputError
        Not one was.
    """
    reasons, examples, before = Counter[str](), list[Rejected](), 0
    for each in parts:
        reasons.update(each["reasons"])
        examples += [Rejected(one["line"] + before, one["value"], one["reason"]) for one in each["rejected"]]
        before += each["lines"]
    rows = sum(each["rows"] for each in parts)
    if not rows:
        raise no_formulas(address, examples)
    return {
        "name": name,
        "rows": rows,
        "rejected": reasons.total(),
        "reasons": dict(reasons.most_common()),
        "examples": [asdict(one) for one in examples[:EXAMPLES]],
    }
