"""The unique formulas of databases: read by parts, then united into objects that the next stage takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from apps._frame.stages import Stage, Stages, TaskOutput
from apps._frame.stored import Stored
from apps.metabolomics import runs
from apps.metabolomics.databases import SHIPPED, Rejected, UniqueTexts, no_formulas, read_part
from apps.metabolomics.parts import put_part, stored
from apps.metabolomics.shards import SHARDS, pack_shards, read_shards
from core import InputError

TASK_IONS = (5_000, 400_000)
"""Ions whose patterns one task computes, at least and at most: a quarter of a second to twenty."""
TASKS = 32
EXAMPLES = 20
"""Rows of a database that are shown of those that were left out."""
UNITED_ROWS = 4_000_000
"""Rows of databases whose formulas one task unites, at most; also the formulas that may be drawn for in their order."""
DEALT_BYTES = 16 << 20
"""Bytes of databases up to which their formulas are not dealt out: they are one task's."""

Place = tuple[str, int, int | None]
"""A part of a database: its address, empty for the one that comes with it, and from which byte to which."""


def read_rows(task: Place, params: int, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``rows``: the unique formulas of a part of a database, as objects, and what was left out.

    Parameters
    ----------
    task : Place
    params : int
        Shards that they are dealt out to.
    """
    address, start, stop = task
    objects = list[dict[str, Any]]()

    def write(formulas: Any) -> None:
        data, sizes = pack_shards(formulas, params)
        about = {"formulas": len(formulas), "counts": runs.pack(sizes)}
        objects.append({**about, **put_part(output, f"formulas-{len(objects)}", data)})

    found = read_part(address or str(SHIPPED), start, stop, write)
    return {
        "rows": found.rows,
        "lines": found.lines,
        "reasons": found.reasons,
        "rejected": [asdict(one) for one in found.rejected[:EXAMPLES]],
        "objects": objects,
    }


@dataclass(frozen=True, slots=True)
class Uniting:
    """What all tasks of ``formulas`` have in common.

    Attributes
    ----------
    objects : tuple of Stored
        What ``rows`` has left, database after database.
    databases : tuple of int
        How many of them each database has.
    sort : bool
        Whether no result may depend on the order of a database.
    a_formula : int
        Ions that a formula has.
    tasks : int
        How many tasks there are.
    """

    objects: tuple[Stored, ...]
    databases: tuple[int, ...]
    sort: bool
    a_formula: int
    tasks: int


def unite(part: runs.Part, params: Uniting, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``formulas``: unique formulas of some shards, an object for each task of ``centroids``."""
    everything, counts = UniqueTexts(), []
    places = iter(zip(params.objects, part.starts.tolist(), part.stops.tolist(), strict=True))
    for number in params.databases:
        own = UniqueTexts()
        for found, start, stop in islice(places, number):
            if start < stop:
                own.add(read_shards(found, start, stop))
        counts.append(len(own.array()))
        everything.add(own.array())
    formulas = everything.array()
    if params.sort:
        formulas = formulas.take(pa.compute.sort_indices(formulas))
    size = chunk_formulas(len(formulas), params.a_formula, params.tasks)
    parts, width = [], 1
    for first in range(0, len(formulas), size):
        lines = formulas.slice(first, size).to_pylist()
        width = max(width, *map(len, lines))
        data = "\n".join(lines).encode()
        parts.append({"first": first, **put_part(output, f"{first:09d}", data)})
    return {"parts": parts, "formulas": len(formulas), "width": width, "counts": counts}


def chunk_formulas(formulas: int, a_formula: int, shares: int) -> int:
    """Return how many formulas a task of ``centroids`` gets.

    Parameters
    ----------
    formulas : int
        Of one of the shares, which are to make as many tasks together as one would.
    a_formula : int
        Ions that a formula has.
    shares : int
    """
    each = formulas * a_formula // max(1, TASKS // shares)
    return max(1, min(max(each, TASK_IONS[0]), TASK_IONS[1]) // a_formula)


@dataclass(frozen=True, slots=True)
class Source:
    """A database: what it was given as, what it is called, its bytes, and the parts that tasks read."""

    address: str
    name: str
    size: int
    parts: Sequence[Place]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Formulas of one task: lines of an object; `first` is the place of the first one among all."""

    first: int
    object: Stored


@dataclass(frozen=True, slots=True)
class Formulas:
    """The unique formulas of databases.

    Attributes
    ----------
    chunks : list of Chunk
    count : int
    width : int
        Of the longest.
    databases : list of dict
        Of each, JSON-ready, its name, rows, formulas and what was left out.
    """

    chunks: list[Chunk]
    count: int
    width: int
    databases: list[dict[str, Any]]


def find_formulas(stages: Stages, address: str, sources: Sequence[Source], seed: str, a_formula: int) -> Formulas:
    """Read databases and unite their formulas; what the driver has in memory grows with tasks alone.

    Parameters
    ----------
    stages : Stages
    address : str
        Of their run.
    sources : sequence of Source
    seed : str
        How decoys are drawn.
    a_formula : int
        Ions that a formula has.

    Raises
    ------
    InputError
        A database has no formula, or there are too many to be drawn for in their order.
    """
    in_order = seed == "metaspace"
    shards = 1 if in_order or sum(each.size for each in sources) <= DEALT_BYTES else SHARDS
    read = stages.run(Stage("rows", [place for each in sources for place in each.parts], read_rows, shards))
    values, again = read.values(), read.values()
    about = [about_database(each.address, each.name, islice(values, len(each.parts))) for each in sources]
    numbers = tuple(len([*_objects(islice(again, len(each.parts)))]) for each in sources)
    if in_order:
        refuse_too_many(sum(each["formulas"] for each in _objects(read.values())))
    # By what does not depend on the order of rows, as the number of formulas in each part would.
    tasks = min(shards, math.ceil(sum(each["rows"] for each in about) / UNITED_ROWS))
    ranges = [(shards * at // tasks, shards * (at + 1) // tasks) for at in range(tasks)]
    objects = tuple(stored(address, each) for each in _objects(read.values()))
    uniting = Uniting(objects, numbers, not in_order, a_formula, tasks)
    united = stages.run(Stage("formulas", runs.parts_of(_objects(read.values()), ranges), unite, uniting))
    chunks, before, width, counts = list[Chunk](), 0, 1, np.zeros(len(sources), np.int64)
    for each in united.values():
        chunks += [Chunk(before + one["first"], stored(address, one)) for one in each["parts"]]
        before, width, counts = before + each["formulas"], max(width, each["width"]), counts + each["counts"]
    databases = [{**each, "formulas": count} for each, count in zip(about, counts.tolist(), strict=True)]
    return Formulas(chunks, before, width, databases)


def _objects(outputs: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in outputs:
        yield from each["objects"]


def refuse_too_many(formulas: int) -> None:
    """Refuse more formulas than can be drawn for one after the other.

    Raises
    ------
    InputError
        There are more.
    """
    if formulas > UNITED_ROWS:
        raise InputError(
            f"the databases have {formulas:,} formulas, and --decoy-seed metaspace draws for one after the other, for "
            f"{UNITED_ROWS:,} at most; leave it out, or choose smaller databases"
        )


def about_database(address: str, name: str, parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many rows of a database were taken, and why not the others, from what ``read_rows`` returned.

    Raises
    ------
    InputError
        Not one was.
    """
    reasons, examples, before, rows = Counter[str](), list[Rejected](), 0, 0
    for each in parts:
        reasons.update(each["reasons"])
        examples += [Rejected(one["line"] + before, one["value"], one["reason"]) for one in each["rejected"]]
        del examples[EXAMPLES:]
        before += each["lines"]
        rows += each["rows"]
    if not rows:
        raise no_formulas(address, examples)
    return {
        "name": name,
        "rows": rows,
        "rejected": reasons.total(),
        "reasons": dict(reasons.most_common()),
        "examples": [asdict(one) for one in examples],
    }
