"""The index of a dataset: its peaks in the order of m/z, in segments that all runs over the dataset share.

It is a run of its own, so that it can be made beforehand, taken up where it stopped, and looked at; it lies in the
cache under a name made of the dataset's files and of how they are read.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from apps._frame import Session
from apps._frame.run import Run
from apps._frame.stages import Outputs, Stage, TaskOutput
from apps._frame.stored import Stored
from apps.metabolomics import runs
from apps.metabolomics.cache import CACHE, damaged, entry, sealed, unsealed
from apps.metabolomics.dataset import decode_part, encode_part
from apps.metabolomics.imzml import Spectra, open_dataset, read_spectra, tasks
from apps.metabolomics.imzml.pair import Blob, find_pair
from apps.metabolomics.params import ReadingParams
from apps.metabolomics.parquet_pieces import read_parquet
from apps.metabolomics.parts import put_part, stored
from apps.metabolomics.science.sorting import sort_peaks
from apps.metabolomics.segments import Segment, put_segment, segment
from core import ConfigError, InputError
from core.storage import NotFound, process_storage

ALGORITHM = 5
"""To be raised when the same files give another index."""
STAGES = ("offsets", "ds-map", "ds-reduce")
SEGMENTS = "segments/"
TIC = "tic.parquet"
INDEX = "index.json"

TASK_BYTES = (1 << 20, 128 << 20)
"""Bytes of the .ibd of one task, at least and at most: between them a dataset is cut into `TASKS`."""
SEGMENT_PEAKS = (1 << 16, 1 << 22)
"""Peaks of one segment, likewise; 64 MB at most before they are packed."""
TASKS = 32
KEPT: Any = {"results": (TIC, INDEX), "keeps": (SEGMENTS,)}
DROPPED = ("not_finite", "not_positive", "unsorted")


@dataclass(frozen=True, slots=True)
class DatasetIndex:
    """An indexed dataset.

    Attributes
    ----------
    address : str
        Of the index.
    facts : dict
        Of the dataset, JSON-ready: name, width, height, n_spectra, n_sampled (pixels that have a spectrum), polarity
        (may be empty), pixel_size, mode, continuous, peaks, dropped, quirks, and what else its header says.
    segments : tuple of Segment
        All its peaks, in the order of m/z.
    counts : int64[BINS]
        Peaks by bin of m/z.
    """

    address: str
    facts: dict[str, Any]
    segments: tuple[Segment, ...]
    counts: runs.Counts


@dataclass(frozen=True, slots=True)
class Merging:
    """What all tasks of ``ds-reduce`` have in common.

    Attributes
    ----------
    runs : tuple of Stored
    mz_type : str
    address : str
        Where segments go, which are named by content.
    """

    runs: tuple[Stored, ...]
    mz_type: str
    address: str = field(compare=False)


def within(total: float, bounds: tuple[int, int]) -> int:
    """Return the size of one of `TASKS` parts, within bounds."""
    return int(min(max(total / TASKS, bounds[0]), bounds[1]))


def record_type(mz_type: str) -> np.dtype[Any]:
    """Return the type of a peak in a run."""
    return np.dtype([("mz", mz_type), ("pixel", "<i4"), ("intensity", "<f4")])


def scan(files: tuple[Blob, Blob], params: ReadingParams, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``offsets``: check a dataset, and write where its spectra lie, an object a task of ``ds-map``."""
    dataset = open_dataset(
        params.source, z=params.z, allow_truncated=params.allow_truncated, ignore_uuid=params.ignore_uuid,
        centroid=params.centroid,
    )  # fmt: skip
    if not dataset.n_peaks:
        raise InputError(f"{params.source}: none of its {dataset.n_spectra:,} spectra has a peak; check the export")
    parts = []
    bytes_a_peak = dataset.mz_type.itemsize + 4
    for number, (start, stop) in enumerate(tasks(dataset, within(dataset.n_peaks * bytes_a_peak, TASK_BYTES))):
        data = encode_part(dataset.between(start, stop))
        parts.append(put_part(output, f"{number:06d}", data))
    facts = {
        "name": stem_of((dataset.xml, dataset.ibd)),
        "width": dataset.width,
        "height": dataset.height,
        "n_spectra": dataset.n_spectra,
        "n_sampled": len(dataset.mask),
        "z": dataset.z,
        "polarity": dataset.polarity,
        "pixel_size": dataset.pixel_size,
        "mode": dataset.mode,
        "continuous": dataset.continuous,
        "mz_type": dataset.mz_type.str,
        "quirks": [asdict(quirk) for quirk in dataset.quirks],
        "header": dataset.facts,
    }
    return {"facts": facts, "parts": parts}


def map_spectra(part: Stored, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``ds-map``: the peaks of some spectra as a run, and the sum of each pixel's intensities."""
    dataset = decode_part(part.read())
    spectra = read_spectra(dataset, dataset.first, dataset.first + dataset.n_spectra)
    key = output.put("tic", _tic_bytes(*_sums(spectra, np.unique(dataset.index.pixel))))
    records = np.empty(len(spectra.mz), record_type(spectra.mz.dtype.str))
    records["mz"], records["pixel"], records["intensity"] = spectra.mz, spectra.pixel, spectra.intensity
    records = records.take(sort_peaks(spectra.mz))  # whole ones: three arrays in that order take twice as long
    found = runs.put_run(output, records, records["mz"])
    return {**found, "tic": key, "totals": {name: int(getattr(spectra, name)) for name in DROPPED}}


def merge(part: runs.Part, params: Merging) -> dict[str, Any]:
    """Map function of ``ds-reduce``: merge a range of all runs into a segment."""
    records = runs.read_part(part, params.runs, record_type(params.mz_type))
    records = records.take(sort_peaks(np.ascontiguousarray(records["mz"])))
    columns = {name: np.ascontiguousarray(records[name]) for name in ("mz", "pixel", "intensity")}
    return put_segment(params.address, SEGMENTS, pa.table(columns), "mz")


class Indexing:
    """An index that is being made, or that there is: a context manager that holds its run.

    Parameters
    ----------
    session : Session
    opened : Run
        Not entered yet; see ``index_run``.
    files : (Blob, Blob)
        The .imzML and the .ibd.
    params : ReadingParams
    names : sequence of str
        All stages that the bar shows.
    """

    def __init__(
        self, session: Session, opened: Run, files: tuple[Blob, Blob], params: ReadingParams, names: Iterable[str]
    ) -> None:
        self._params, self._files, self._run = params, files, opened
        refuse_unreachable(session, files[1].storage, "the dataset")
        refuse_unreachable(session, opened.storage, "the cache")
        self._stages = session.stages(self._run, list(names))
        self._scanned: Outputs | None = None

    def __enter__(self) -> Indexing:
        self._run.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self._run.__exit__(*about)

    def facts(self) -> dict[str, Any]:
        """Return what is known of the dataset before its peaks are read; see `DatasetIndex`."""
        if self._run.finished:
            return dict(unsealed(self._run.storage, INDEX)["facts"])
        return dict(self._scan().value(0)["facts"])

    def _scan(self) -> Outputs:
        if self._scanned is None:
            self._scanned = self._stages.run(Stage("offsets", [self._files], scan, self._params))
        return self._scanned

    def build(self) -> DatasetIndex:
        """Return the index, made if there is none yet."""
        if not self._run.finished:
            self._build()
        return read_index(self._run)

    def _build(self) -> None:
        found = self._scan().value(0)
        address = self._run.address
        parts = [stored(address, each) for each in found["parts"]]
        mapped = self._stages.run(Stage("ds-map", parts, map_spectra))
        written = runs.gathered(address, mapped.values())
        peaks = int(written.counts.sum())
        if not peaks:
            raise InputError(
                f"{self._params.source}: all of its peaks are dropped, since none has an m/z and an intensity above 0"
            )
        ranges = runs.cut(written.counts, within(peaks, SEGMENT_PEAKS))
        merging = Merging(written.objects, found["facts"]["mz_type"], address)
        reduced = self._stages.run(Stage("ds-reduce", runs.parts_of(mapped.values(), ranges), merge, merging))
        facts = {**found["facts"], "peaks": peaks, "dropped": {name: written.totals[name] for name in DROPPED}}
        index = {"facts": facts, "segments": list(reduced.values()), "counts": runs.pack(written.counts)}
        tics = (each["tic"] for each in mapped.values())
        self._run.publish({TIC: _tic_file(address, tics), INDEX: sealed(index)})


def index_run(session: Session, address: str, files: tuple[Blob, Blob], params: ReadingParams) -> Run:
    """Return the run of an index in the cache, to be entered."""
    return Run(address, session.app, params, command="index", inputs=tags_of(files), say=session.tell, **KEPT)


def tags_of(files: tuple[Blob, Blob]) -> dict[str, str]:
    """Return the tags of a dataset's files, by their addresses."""
    return {blob.address: blob.etag for blob in files}


def index(session: Session, params: ReadingParams) -> None:
    """Command: index a dataset for the runs to come."""
    files = find_pair(params.source)
    if session.common.output is None:
        session.output = entry(CACHE, stem_of(files), content(params), tags_of(files))
    making = Indexing(session, session.open_run(inputs=tags_of(files), **KEPT), files, params, STAGES)
    with making:
        facts = making.build().facts
    session.show(facts, lambda found: f"{found['name']}: {found['peaks']:,} peaks of {found['n_spectra']:,} spectra")
    session.say(f"\nIndex: {session.output}")
    session.show_bill()


def content(params: ReadingParams) -> list[object]:
    """Return what an index is made from, beside the files."""
    return [ALGORITHM, params]


def stem_of(files: tuple[Blob, Blob]) -> str:
    """Return what a dataset is called."""
    return files[0].name.rpartition(".")[0]


def read_index(run: Run) -> DatasetIndex:
    """Return the index that a finished run of ``index`` holds."""
    found = unsealed(run.storage, INDEX)
    segments = tuple(segment(run.address, each) for each in found["segments"])
    return DatasetIndex(run.address, found["facts"], segments, runs.unpack(found["counts"]))


def read_tic(address: str) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the pixels of a dataset that have a spectrum, ascending, and the sum of the intensities of each."""
    try:
        data = process_storage(address).get(TIC)
    except NotFound:
        raise damaged(address, TIC) from None
    try:
        table = read_parquet(data)
    except (pa.ArrowException, OSError):
        raise damaged(address, TIC) from None
    pixels, places = np.unique(table.column("pixel").to_numpy(), return_inverse=True)
    tic = np.bincount(places, weights=table.column("tic").to_numpy(), minlength=len(pixels))
    return pixels, tic.astype(np.float64)


def refuse_unreachable(session: Session, storage: Any, what: str) -> None:
    """Refuse a place that the workers do not see.

    Raises
    ------
    ConfigError
        It is one.
    """
    storage = process_storage(storage) if isinstance(storage, str) else storage
    if not session.executor.reaches(storage):
        raise ConfigError(
            f"the workers of {session.executor.config.compute} do not see {what} at {storage.address}; put it into a "
            "bucket that they reach, or compute on this machine"
        )


def _sums(spectra: Spectra, pixels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return pixels, and the sum of the intensities of each."""
    begins = np.flatnonzero(np.diff(spectra.pixel, prepend=-1))  # one search a spectrum, not one a peak
    lengths = np.diff(begins, append=len(spectra.pixel))
    places = np.repeat(np.searchsorted(pixels, spectra.pixel[begins]), lengths)
    return pixels, np.bincount(places, weights=spectra.intensity, minlength=len(pixels)).astype(np.float64)


def _tic_bytes(pixels: NDArray[np.int32], tic: NDArray[Any]) -> bytes:
    records = np.empty(len(pixels), [("pixel", "<i4"), ("tic", "<f8")])
    records["pixel"], records["tic"] = pixels, tic
    return records.tobytes()


def _tic_file(address: str, keys: Iterable[str]) -> Iterator[bytes]:
    """Yield a Parquet file of what the tasks have summed up, a row group a task."""
    schema = pa.schema([("pixel", pa.int32()), ("tic", pa.float64())])
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for key in keys:
            records = np.frombuffer(process_storage(address).get(key), [("pixel", "<i4"), ("tic", "<f8")])
            columns: Mapping[str, Any] = {name: np.ascontiguousarray(records[name]) for name in ("pixel", "tic")}
            writer.write_table(pa.table(columns, schema=schema))
    yield sink.getvalue()
