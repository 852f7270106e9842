"""Dataset and patterns together: the scores of a block of ions, the chaos of some, and the images of the accepted ones.

A block is a range of m/z of first peaks. Its task reads the patterns of that range, and of the dataset the slices that
their windows meet, some strips about 1 Da apart.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from apps._frame.stages import TaskOutput
from apps._frame.stored import Stored, sha256
from apps.metabolomics import runs
from apps.metabolomics.modifiers import Modifier
from apps.metabolomics.ranking import histograms, score_bin
from apps.metabolomics.result import ION_IMAGES, IonImage, encode_images, ions_schema
from apps.metabolomics.science.chaos import measures_of_chaos
from apps.metabolomics.science.fdr import LEVELS, fdr
from apps.metabolomics.science.scores import image, score_ions
from apps.metabolomics.segments import Segment, encode, read_windows
from core.storage import process_storage

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
        if not self.shift:
            return mz
        knots, errors = zip(*self.shift, strict=True)
        moved: Floats = mz * (1 + np.interp(mz, knots, errors) * 1e-6)
        return moved

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


@dataclass(frozen=True, slots=True)
class Ranking:
    """One ranking: a target group, and the group of its decoys."""

    group: int
    family: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """What all tasks of ``fdr`` have in common."""

    chaos: tuple[Stored, ...]
    decoys_per_target: int
    engine_compat: bool
    level: float


@dataclass(frozen=True, slots=True)
class Scored:
    """A block with all that is known of it."""

    ions: Stored
    chaos: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Rendering:
    """What all tasks of ``render`` have in common.

    Attributes
    ----------
    rates : tuple of Stored
        The outputs of ``fdr``.
    address : str
        Of the run, where images go.
    """

    matching: Matching
    modifiers: tuple[Modifier, ...]
    rates: tuple[Stored, ...]
    level: float
    address: str = field(compare=False)


def score(block: Block, params: Matching, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``score``: all ions of a block that have images which correlate."""
    peaks = range(params.n_peaks)
    columns = [f"mz_{at}" for at in peaks] + [f"theory_{at}" for at in peaks]
    ends = np.array([block.low]), np.array([np.nextafter(block.high, 0)])
    ions = read_windows(params.patterns, *ends, [*columns, "modifier", "formula"])
    mz, theory = (np.column_stack([ions[f"{name}_{at}"] for at in peaks]) for name in ("mz", "theory"))
    lows, highs = params.windows(mz)
    found = score_ions(
        *_peaks(params, lows, highs), lows, highs, theory, params.width * params.height, params.n_sampled, params.min_px
    )
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
        "ions": _put(output, "ions", pa.table(table)),
        "rows": len(kept),
        "bounds": runs.pack(histograms(bound[kept], group, params.n_groups)),
        "pixels": [int(each) for each in pixels],
        "touches": int(found.n_pixels.sum(dtype=np.int64)),
        "scored": len(mz),
    }


def chaos(task: Candidates, params: Deciding, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``chaos``: the measure of chaos of some ions, and their score."""
    matching = params.matching
    ions = _table(task.ions, ["modifier", "mz_0", "spatial", "spectral"])
    spatial, spectral, modifier = (ions.column(name).to_numpy() for name in ("spatial", "spectral", "modifier"))
    group = np.array(matching.groups)[modifier]
    bins = score_bin(spatial * spectral)
    wanted = (bins >= np.array(params.lowest)[group]) & (bins < np.array(params.before)[group])
    rows = np.array_split(np.flatnonzero(wanted), task.parts)[task.part]
    measures = _measures(matching, ions.column("mz_0").to_numpy()[rows])
    msm = measures * spatial[rows] * spectral[rows]
    columns = {"row": rows.astype(np.int32), "group": group[rows].astype(np.int16), "chaos": measures, "msm": msm}
    return {
        "chaos": _put(output, "chaos", pa.table(columns)),
        "scores": runs.pack(histograms(msm, group[rows], matching.n_groups)),
    }


def rank(task: Ranking, params: Ranked) -> NDArray[np.float64]:
    """Map function of ``fdr``: of one ranking the scores whose rate is at most the level, and those rates."""
    targets, decoys = [], []
    for each in params.chaos:
        table = _table(each, ["group", "msm"])
        group, msm = table.column("group").to_numpy(), table.column("msm").to_numpy()
        targets.append(msm[(group == task.group) & (msm > 0)])
        decoys.append(msm[(group == task.family) & (msm > 0)])
    scores = np.concatenate([np.zeros(0), *targets])
    rates = fdr(scores, np.concatenate([np.zeros(0), *decoys]), params.decoys_per_target, clip=not params.engine_compat)
    scores, places = np.unique(scores, return_index=True)
    rates = rates[places]
    return np.array([scores[rates <= params.level], rates[rates <= params.level]])


def render(task: tuple[int, Scored], params: Rendering, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``render``: the rows of a block in the table of all ions, and the images of accepted ones."""
    number, scored = task
    ions = _table(scored.ions)
    count = ions.num_rows
    measures, msm = np.full(count, np.nan), np.full(count, np.nan)
    for each in scored.chaos:
        table = _table(each, ["row", "chaos", "msm"])
        row = table.column("row").to_numpy()
        measures[row], msm[row] = table.column("chaos").to_numpy(), table.column("msm").to_numpy()
    modifier = ions.column("modifier").to_numpy()
    rates = _rates(params, np.array(params.matching.groups)[modifier], msm)
    table = _final_table(ions, params, modifier, measures, msm, rates)
    accepted = np.flatnonzero(rates <= params.level)
    counts = {str(level): int(np.count_nonzero(rates <= level)) for level in LEVELS if level <= params.level}
    images = f"{ION_IMAGES}{number:06d}.parquet" if len(accepted) else ""
    if images:
        data = encode_images(_images(params.matching, table.take(accepted)))
        process_storage(params.address).put(images, data)
    about = {"rows": count, "accepted": len(accepted), "levels": counts, "images": images}
    return {**about, "table": _put(output, "table", table)}


def _peaks(
    params: Matching, lows: Floats, highs: Floats
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.float32]]:
    """Return the peaks of the dataset that lie in some windows."""
    there = ~np.isnan(lows)
    found = read_windows(params.dataset, lows[there], highs[there], PEAK_COLUMNS)
    mz, pixel, intensity = found["mz"], found["pixel"].astype(np.int32), found["intensity"].astype(np.float32)
    if params.mask is None:
        return mz, pixel, intensity
    kept = np.unpackbits(np.frombuffer(params.mask.read(), np.uint8))[pixel] > 0
    return mz[kept], pixel[kept], intensity[kept]


def _measures(params: Matching, mz: Floats) -> Floats:
    """Return the chaos of the first images of some ions, in ascending order of m/z."""
    if not len(mz):
        return np.zeros(0)
    lows, highs = params.windows(mz)
    peaks = _peaks(params, lows, highs)
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


def _rates(params: Rendering, group: NDArray[Any], msm: Floats) -> Floats:
    """Return the false discovery rate of each ion; NaN for decoys and where it is above the level."""
    rates = np.full(len(msm), np.nan)
    for target, stored in enumerate(params.rates):
        scores, values = decode_rates(stored.read())
        rows = np.flatnonzero(group == target)
        if not len(scores) or not len(rows):
            continue
        places = np.searchsorted(scores, msm[rows]).clip(max=len(scores) - 1)
        same = scores[places] == msm[rows]
        rates[rows[same]] = values[places[same]]
    return rates


def _final_table(
    ions: pa.Table, params: Rendering, modifier: NDArray[Any], measures: Floats, msm: Floats, rates: Floats
) -> pa.Table:
    """Return the rows of a block as ``all_ions.parquet`` has them."""
    chosen = [params.modifiers[each] for each in modifier]
    formulas = ions.column("formula").to_pylist()
    mass_error = np.where(np.isnan(measures), np.nan, ions.column("massError").to_numpy())
    said: dict[str, Any] = {
        "chemMod": [each.chem_mod for each in chosen],
        "neutralLoss": [each.neutral_loss for each in chosen],
        "adduct": [each.adduct for each in chosen],
        "charge": [each.charge for each in chosen],
        "ion": [f"{formula}{each.suffix}" for formula, each in zip(formulas, chosen, strict=True)],
        "decoy": [each.decoy for each in chosen],
        "chaos": pa.array(measures, from_pandas=True),
        "msm": pa.array(msm, from_pandas=True),
        "fdr": pa.array(rates, from_pandas=True),
        "massError": pa.array(mass_error, from_pandas=True),
        "totalIntensity": ions.column("total_0"),
    }
    schema = ions_schema(params.matching.n_peaks)
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        values = said[name] if name in said else ions.column(name)
        if name.startswith("mz_"):
            values = pa.array(values.to_numpy(), from_pandas=True)
        columns.append(pa.array(values, kind) if isinstance(values, list) else values.cast(kind))
    return pa.table(columns, schema=schema)


def _images(params: Matching, accepted: pa.Table) -> Iterator[tuple[str, Sequence[IonImage]]]:
    """Yield the isotope images of accepted ions."""
    names = [f"mz_{at}" for at in range(params.n_peaks)]
    mz = np.column_stack([accepted.column(name).to_numpy() for name in names])
    lows, highs = params.windows(mz)
    peaks = _peaks(params, lows, highs)
    for row, ion in enumerate(accepted.column("ion").to_pylist()):
        there = np.flatnonzero(~np.isnan(mz[row]))
        yield ion, [IonImage(*image(*peaks, lows[row, at], highs[row, at])) for at in there]


def encode_rates(found: NDArray[np.float64]) -> bytes:
    """Write scores and their rates."""
    return np.ascontiguousarray(found, "<f8").tobytes()


def decode_rates(data: bytes) -> NDArray[np.float64]:
    """Return float64[2, n]: scores, ascending, and their rates."""
    return np.frombuffer(data, "<f8").reshape(2, -1)


def stored(address: str, found: dict[str, Any]) -> Stored:
    """Return an object that a task has put, and named in what it returned."""
    return Stored(address, found["key"], found["size"], found["tag"])


def _put(output: TaskOutput, name: str, table: pa.Table) -> dict[str, Any]:
    data = encode(table)
    return {"key": output.put(name, data), "size": len(data), "tag": sha256(data)}


def _table(found: Stored, columns: list[str] | None = None) -> pa.Table:
    return pq.read_table(io.BytesIO(found.read()), columns=columns)
