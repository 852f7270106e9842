"""Dataset and patterns together: the scores of a block of ions, the chaos of some, and the images of the accepted ones.

A block is a range of m/z of first peaks. Its task reads the patterns of that range, and of the dataset the slices that
their windows meet, some strips about 1 Da apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from apps._frame.stages import TaskOutput
from apps._frame.stored import Stored
from apps.metabolomics import runs
from apps.metabolomics.parquet_pieces import read_parquet
from apps.metabolomics.parts import put_part
from apps.metabolomics.ranking import histograms, score_bin
from apps.metabolomics.science.chaos import measures_of_chaos
from apps.metabolomics.science.scores import image, score_ions
from apps.metabolomics.segments import Segment, encode, read_windows

PEAK_COLUMNS = ("mz", "pixel", "intensity")
PIXEL_BINS = 50
"""Of bounds, in which the pixels of first images are counted."""
IMAGES_AT_ONCE = 4_000_000
"""Pixels of images that wait for their chaos at a time."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Block:
    """Ions whose first peak is in [low, high)."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Matching:
    """What all tasks that bring dataset and patterns together have in common.

    Attributes
    ----------
    dataset, patterns : tuple of Segment
    n_peaks, min_px, levels : int
    ppm : float
    engine_compat : bool
    width, height, n_sampled : int
        Of the dataset: pixels, and how many of them have a spectrum and are not masked out.
    groups : tuple of int
        Of each modifier.
    mask : Stored, optional
        Pixels that count, as packed bits; all unless given.
    shift : tuple of (m/z, ppm)
        Between which windows are moved linearly; none unless given.
    """

    dataset: tuple[Segment, ...]
    patterns: tuple[Segment, ...]
    n_peaks: int
    min_px: int
    levels: int
    ppm: float
    engine_compat: bool
    width: int
    height: int
    n_sampled: int
    groups: tuple[int, ...]
    mask: Stored | None = None
    shift: tuple[tuple[float, float], ...] = ()

    @property
    def n_groups(self) -> int:
        """Groups that there are."""
        return max(self.groups) + 1

    def centres(self, mz: Floats) -> Floats:
        """Return where peaks of some theoretical m/z are looked for."""
        return mz * (1 + self.errors(mz) * 1e-6) if self.shift else mz

    def errors(self, mz: Floats) -> Floats:
        """Return by how many ppm."""
        if not self.shift:
            return np.zeros_like(mz)
        knots, errors = zip(*self.shift, strict=True)
        return np.asarray(np.interp(mz, knots, errors), np.float64)

    def windows(self, mz: Floats) -> tuple[Floats, Floats]:
        """Return the windows of some m/z; NaN gives NaN."""
        centre = self.centres(mz)
        return centre - centre * self.ppm * 1e-6, centre + centre * self.ppm * 1e-6


@dataclass(frozen=True, slots=True)
class Candidates:
    """Some of the ions of a block whose chaos is wanted: one of so many parts of them."""

    ions: Stored
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class Deciding:
    """What all tasks of ``chaos`` have in common; ions from `lowest` to below `before`, bins of bounds by group."""

    matching: Matching
    lowest: tuple[int, ...]
    before: tuple[int, ...]


def score(block: Block, params: Matching, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``score``: all ions of a block that have images which correlate."""
    peaks = range(params.n_peaks)
    columns = [f"mz_{at}" for at in peaks] + [f"theory_{at}" for at in peaks]
    ends = np.array([block.low]), np.array([np.nextafter(block.high, 0)])
    ions = read_windows(params.patterns, *ends, [*columns, "modifier", "formula"])
    mz, theory = (np.column_stack([ions[f"{name}_{at}"] for at in peaks]) for name in ("mz", "theory"))
    lows, highs = params.windows(mz)
    limits = params.width * params.height, params.n_sampled, params.min_px
    found = score_ions(*read_peaks(params, lows, highs), lows, highs, theory, *limits)
    bound = found.spatial * found.spectral
    kept = np.flatnonzero(found.usable & (bound > 0))
    error = (found.mean_mz[kept, 0] / params.centres(mz[kept, 0]) - 1) * 1e6
    table = {
        "formula": pa.array(ions["formula"][kept], pa.string()),
        "modifier": ions["modifier"][kept].astype(np.uint16),
        **{f"mz_{at}": mz[kept, at] for at in peaks},
        **{f"theory_{at}": theory[kept, at] for at in peaks},
        "spatial": found.spatial[kept],
        "spectral": found.spectral[kept],
        **{f"n_pixels_{at}": found.n_pixels[kept, at] for at in peaks},
        **{f"total_{at}": found.total[kept, at] for at in peaks},
        "minIntensity": found.minimum[kept, 0],
        "maxIntensity": found.maximum[kept, 0],
        "massError": error,
    }
    group = np.array(params.groups)[table["modifier"]]
    pixels = np.bincount(
        (bound[kept] * PIXEL_BINS).astype(int).clip(max=PIXEL_BINS - 1), found.n_pixels[kept, 0], PIXEL_BINS
    )
    return {
        "ions": put_table(output, "ions", pa.table(table)),
        "rows": len(kept),
        "bounds": runs.pack(histograms(bound[kept], group, params.n_groups)),
        "pixels": [int(each) for each in pixels],
        "touches": int(found.n_pixels.sum(dtype=np.int64)),
        "scored": len(mz),
    }


def chaos(task: Candidates, params: Deciding, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``chaos``: the measure of chaos of some ions, and their score."""
    matching = params.matching
    ions = read_table(task.ions, ["modifier", "mz_0", "spatial", "spectral"])
    spatial, spectral, modifier = (ions.column(name).to_numpy() for name in ("spatial", "spectral", "modifier"))
    group = np.array(matching.groups)[modifier]
    bins = score_bin(spatial * spectral)
    wanted = (bins >= np.array(params.lowest)[group]) & (bins < np.array(params.before)[group])
    rows = np.array_split(np.flatnonzero(wanted), task.parts)[task.part]
    measures = _measures(matching, ions.column("mz_0").to_numpy()[rows])
    msm = measures * spatial[rows] * spectral[rows]
    columns = {"row": rows.astype(np.int32), "group": group[rows].astype(np.int16), "chaos": measures, "msm": msm}
    return {
        "chaos": put_table(output, "chaos", pa.table(columns)),
        "scores": runs.pack(histograms(msm, group[rows], matching.n_groups)),
    }


def read_peaks(
    params: Matching, lows: Floats, highs: Floats
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.float32]]:
    """Return the peaks of the dataset that lie in some windows."""
    there = ~np.isnan(lows)
    found = read_windows(params.dataset, lows[there], highs[there], PEAK_COLUMNS)
    # Windows are doubles: single ones would be turned into doubles anew for each.
    mz = found["mz"].astype(np.float64, copy=False)
    pixel, intensity = found["pixel"].astype(np.int32, copy=False), found["intensity"].astype(np.float32, copy=False)
    if params.mask is None:
        return mz, pixel, intensity
    kept = np.unpackbits(np.frombuffer(params.mask.read(), np.uint8))[pixel] > 0
    return mz[kept], pixel[kept], intensity[kept]


def _measures(params: Matching, mz: Floats) -> Floats:
    """Return the chaos of the first images of some ions, in ascending order of m/z."""
    if not len(mz):
        return np.zeros(0)
    lows, highs = params.windows(mz)
    peaks = read_peaks(params, lows, highs)
    found, waiting, size = [], [], 0
    for at, (low, high) in enumerate(zip(lows, highs, strict=True)):
        waiting.append(image(*peaks, low, high))
        size += len(waiting[-1][0])
        if size >= IMAGES_AT_ONCE or at == len(lows) - 1:
            offsets = np.cumsum([0, *(len(pixels) for pixels, _ in waiting)])
            pixels, values = (np.concatenate(arrays) for arrays in zip(*waiting, strict=True))
            about = params.width, params.height, params.levels
            found.append(measures_of_chaos(pixels, values, offsets, *about, engine_compat=params.engine_compat))
            waiting, size = [], 0
    return np.concatenate(found)


def put_table(output: TaskOutput, name: str, table: pa.Table) -> dict[str, Any]:
    """Write a table beside what a task returns."""
    return put_part(output, name, encode(table))


def read_table(found: Stored, columns: list[str] | None = None) -> pa.Table:
    """Return a table that a task has written."""
    return read_parquet(found.read(), columns)
