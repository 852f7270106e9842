"""Sorting what no memory holds: sorted runs that workers write, counted in bins of m/z, and merged by range.

A run is one object of records in the order of their m/z. Its task returns how many records fall into each bin, so the
driver adds up counts alone, cuts them into parts of equal size, and knows of every run which records a part takes. A
cut is an edge of a bin, so equal m/z are never on two sides of one.
"""

from __future__ import annotations

import base64
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps._frame.stages import TaskOutput
from apps._frame.stored import Stored
from apps.metabolomics.parts import put_part, stored
from apps.metabolomics.science.sorting import bin_edges, bin_offsets
from core import InputError
from core.storage import process_storage

BINS = 65_536
"""Of 116 ppm each: fine enough that a bin of 10 M pixels in continuous mode, some ten m/z, still fits a worker."""
EDGES: NDArray[np.float64] = bin_edges(BINS)
READERS = 16
"""Ranges that a merge asks the storage for at a time."""

Counts = NDArray[np.int64]


def bin_of(mz: NDArray[Any]) -> NDArray[np.int64]:
    """Return the bin of each m/z."""
    return np.searchsorted(EDGES, mz, side="right") - 1


def count_bins(mz: NDArray[Any]) -> Counts:
    """Return how many of some m/z, in ascending order, fall into each bin."""
    return np.diff(bin_offsets(mz, EDGES))


def put_run(output: TaskOutput, records: NDArray[Any], mz: NDArray[Any]) -> dict[str, Any]:
    """Write sorted records as an object of a task; returns what the task has to return of it, as JSON.

    Parameters
    ----------
    output : TaskOutput
    records : structured array[n]
        In ascending order of `mz`.
    mz : float[n]
        What they are sorted by.
    """
    return {**put_part(output, "run", records.view(np.uint8).data), "counts": pack(count_bins(mz))}


def pack(counts: NDArray[Any]) -> str:
    """Return whole numbers as text that JSON can hold."""
    return base64.b64encode(zlib.compress(counts.astype("<i8").tobytes(), 1)).decode()


def unpack(text: str) -> Counts:
    """Return what ``pack`` was given, in one dimension."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").astype(np.int64)


def counts_of(run: dict[str, Any]) -> Counts:
    """Return the counts of a run by bin."""
    return unpack(run["counts"])


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of a stage.

    Attributes
    ----------
    objects : tuple of Stored
    counts : int64[BINS]
        Of all together.
    totals : Counter
        Sums of whatever else was counted.
    """

    objects: tuple[Stored, ...]
    counts: Counts
    totals: Counter[str]


def gathered(address: str, runs: Iterable[dict[str, Any]]) -> Runs:
    """Add up what tasks have returned of their runs, one in memory at a time.

    Parameters
    ----------
    address : str
        Of the storage that they have put them to.
    runs : iterable of dict
        What ``put_run`` returned, and under ``totals`` whole numbers by name.
    """
    counts, totals, objects = np.zeros(BINS, np.int64), Counter[str](), []
    for run in runs:
        counts += counts_of(run)
        totals.update(run["totals"])
        objects.append(stored(address, run))
    return Runs(tuple(objects), counts, totals)


def cut(weights: NDArray[Any], target: float) -> list[tuple[int, int]]:
    """Cut bins into ranges of nearly equal weight.

    Parameters
    ----------
    weights : float[BINS]
    target : float
        Weight of a range at most, unless one bin alone has more.

    Returns
    -------
    list of (first bin, bin after the last)
        All bins that have a weight, in order.
    """
    ends = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    found: list[tuple[int, int]] = []
    start = int(np.searchsorted(ends, 0.0, side="right")) - 1
    while start < len(weights) and ends[start] < ends[-1]:
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] + target, side="right")) - 1)
        found.append((start, int(np.searchsorted(ends, ends[stop], side="left"))))
        start = int(np.searchsorted(ends, ends[stop], side="right")) - 1  # past the empty bins
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """What one task merges: of each run the records from `starts` to `stops`, which are those of some bins.

    Attributes
    ----------
    starts, stops : int64[runs]
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def parts_of(runs: Iterable[dict[str, Any]], ranges: Sequence[tuple[int, int]]) -> list[Part]:
    """Return which records of each run the ranges of bins take, one run in memory at a time."""
    firsts, stops = (np.array(edges) for edges in zip(*ranges, strict=True))
    begins, ends = [], []
    for run in runs:
        places = np.concatenate([[0], np.cumsum(counts_of(run))])
        begins.append(places[firsts])
        ends.append(places[stops])
    pairs = zip(np.array(begins, np.int64).T.copy(), np.array(ends, np.int64).T.copy(), strict=True)
    return [Part(*both) for both in pairs]


def read_part(part: Part, runs: Sequence[Stored], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the records of a part, run after run.

    Raises
    ------
    InputError
        A run is shorter than it was.
    """
    offsets = np.concatenate([[0], np.cumsum(part.stops - part.starts)])
    records = np.empty(int(offsets[-1]), dtype)

    def fill(at: int) -> None:
        start, stop = (int(place) * dtype.itemsize for place in (part.starts[at], part.stops[at]))
        if start == stop:
            return
        run = runs[at]
        data = process_storage(run.address).get(run.key, start, stop)
        if len(data) != stop - start:
            raise InputError(f"{run.url} is damaged: it ends too soon; delete it, and resume the run")
        records[offsets[at] : offsets[at + 1]] = np.frombuffer(data, dtype)

    with ThreadPoolExecutor(READERS) as readers:
        for _ in readers.map(fill, range(len(runs))):
            pass
    return records
