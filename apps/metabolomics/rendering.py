"""Rates, tables and images of scored ions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from apps._frame.stages import TaskOutput
from apps._frame.stored import Stored, sha256
from apps.metabolomics.join import Floats, Matching, put_table, read_peaks, read_table
from apps.metabolomics.modifiers import Modifier
from apps.metabolomics.result import ION_IMAGES, IonImage, encode_images, ions_schema
from apps.metabolomics.science.fdr import LEVELS, fdr
from apps.metabolomics.science.scores import image
from core.storage import process_storage


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
    most : int
        Ions of a block by which the m/z scale is judged.
    """

    matching: Matching
    modifiers: tuple[Modifier, ...]
    rates: tuple[Stored, ...]
    level: float
    address: str = field(compare=False)
    most: int = 0


def rank(task: Ranking, params: Ranked) -> NDArray[np.float64]:
    """Map function of ``fdr``: of one ranking the scores whose rate is at most the level, and those rates."""
    targets, decoys = [], []
    for each in params.chaos:
        table = read_table(each, ["group", "msm"])
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
    known = _known(scored, params)
    rates, count = known.rates, len(known.rates)
    table = _final_table(known, params)
    accepted = np.flatnonzero(rates <= params.level)
    counts = {str(level): int(np.count_nonzero(rates <= level)) for level in LEVELS if level <= params.level}
    images = f"{ION_IMAGES}{number:06d}.parquet" if len(accepted) else ""
    data = encode_images(_images(params.matching, table.take(accepted))) if images else b""
    if images:
        process_storage(params.address).put(images, data)
    about = {"rows": count, "accepted": len(accepted), "levels": counts, "images": images, "tag": sha256(data)}
    return {**about, "table": put_table(output, "table", table)}


def find_confident(task: Scored, params: Rendering) -> dict[str, list[float]]:
    """Map function of ``calibrate``: m/z and mass error of the best accepted ions of a block."""
    known = _known(task, params)
    accepted = np.flatnonzero(known.rates <= params.level)
    best = np.sort(accepted[np.argsort(-known.msm[accepted], kind="stable")][: params.most])
    return {name: known.ions.column(name).to_numpy()[best].tolist() for name in ("mz_0", "massError")}


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


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A block's table of scores with chaos, MSM and rates, NaN where there is none."""

    ions: pa.Table
    chaos: Floats
    msm: Floats
    rates: Floats


def _known(task: Scored, params: Rendering) -> _Known:
    ions = read_table(task.ions)
    measures, msm = np.full(ions.num_rows, np.nan), np.full(ions.num_rows, np.nan)
    for each in task.chaos:
        table = read_table(each, ["row", "chaos", "msm"])
        row = table.column("row").to_numpy()
        measures[row], msm[row] = table.column("chaos").to_numpy(), table.column("msm").to_numpy()
    group = np.array(params.matching.groups)[ions.column("modifier").to_numpy()]
    return _Known(ions, measures, msm, _rates(params, group, msm))


def _final_table(known: _Known, params: Rendering) -> pa.Table:
    """Return the rows of a block as ``all_ions.parquet`` has them."""
    ions = known.ions
    chosen = [params.modifiers[each] for each in ions.column("modifier").to_pylist()]
    formulas = ions.column("formula").to_pylist()
    mass_error = np.where(np.isnan(known.chaos), np.nan, ions.column("massError").to_numpy())
    said: dict[str, Any] = {
        "chemMod": [each.chem_mod for each in chosen],
        "neutralLoss": [each.neutral_loss for each in chosen],
        "adduct": [each.adduct for each in chosen],
        "charge": [each.charge for each in chosen],
        "ion": [f"{formula}{each.suffix}" for formula, each in zip(formulas, chosen, strict=True)],
        "decoy": [each.decoy for each in chosen],
        "chaos": pa.array(known.chaos, from_pandas=True),
        "msm": pa.array(known.msm, from_pandas=True),
        "fdr": pa.array(known.rates, from_pandas=True),
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
    peaks = read_peaks(params, lows, highs)
    for row, ion in enumerate(accepted.column("ion").to_pylist()):
        there = np.flatnonzero(~np.isnan(mz[row]))
        yield ion, [IonImage(*image(*peaks, lows[row, at], highs[row, at])) for at in there]


def encode_rates(found: NDArray[np.float64]) -> bytes:
    """Write scores and their rates."""
    return np.ascontiguousarray(found, "<f8").tobytes()


def decode_rates(data: bytes) -> NDArray[np.float64]:
    """Return float64[2, n]: scores, ascending, and their rates."""
    return np.frombuffer(data, "<f8").reshape(2, -1)
