"""What a run leaves behind: the table of all ions, and the images of the accepted ones."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.storage import Storage

ALL_IONS = "all_ions.parquet"
ION_IMAGES = "ion_images/"
FIGURES = "result.json"
"""The final one: facts, counts and parameters, as JSON."""
KEPT_IMAGES = 256 << 20
"""Bytes of objects of images, packed, that a reader keeps: ions by their score come from all of them in turn."""


def ions_schema(n_peaks: int) -> pa.Schema:
    """Return the columns of ``all_ions.parquet``: one row an ion that has images, of targets and decoys.

    ======================  ==========================================================================================
    formula                 as the database has it, in canonical order of elements
    chemMod, neutralLoss    modification and loss; empty for none
    adduct, charge          such as ``+H``; charge with its sign
    ion                     the whole of them, such as ``C6H12O6+H``
    decoy                   whether it is no molecule's: the decoys of a formula and modification stand for all its
                            target adducts
    mz_i, theory_i          m/z of each isotope peak, and its intensity with the highest as 100; null beyond the last
    spatial, spectral       rhoSpatial and rhoSpectral
    chaos, msm              rhoChaos and its product with both; null where the level asked for was certain without it
    fdr                     of targets, by chemMod, neutralLoss and adduct; null where it is above the level
    n_pixels_i, total_i     pixels of each isotope image that are not 0, and their sum
    minIntensity,           of the first isotope image, over its pixels that are not 0
    maxIntensity,
    totalIntensity
    massError               ppm: mean m/z of the peaks of the first image, weighted by intensity, against theory; null
                            where chaos is
    ======================  ==========================================================================================
    """
    peaks = range(n_peaks)
    texts = [(name, pa.string()) for name in ("formula", "chemMod", "neutralLoss", "adduct")]
    return pa.schema(
        [
            *texts,
            ("charge", pa.int8()),
            ("ion", pa.string()),
            ("decoy", pa.bool_()),
            *((f"mz_{peak}", pa.float64()) for peak in peaks),
            *((f"theory_{peak}", pa.float64()) for peak in peaks),
            *((name, pa.float64()) for name in ("spatial", "spectral", "chaos", "msm", "fdr")),
            *((f"n_pixels_{peak}", pa.int32()) for peak in peaks),
            *((f"total_{peak}", pa.float64()) for peak in peaks),
            *((name, pa.float64()) for name in ("minIntensity", "maxIntensity", "totalIntensity", "massError")),
        ]
    )


class ObjectFile(io.RawIOBase):
    """An object of a storage as a file that is read where it is asked for; whole it may be larger than the memory."""

    def __init__(self, storage: Storage, key: str) -> None:
        self._storage, self._key, self._place = storage, key, 0
        self._size = storage.head(key).size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read up to ``len(buffer)`` bytes."""
        stop = min(self._place + len(buffer), self._size)
        data = self._storage.get(self._key, self._place, stop) if stop > self._place else b""
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def open_all_ions(storage: Storage) -> pq.ParquetFile:
    """Return the table of all ions of a run, of which row groups are read one at a time."""
    return pq.ParquetFile(ObjectFile(storage, ALL_IONS))


def read_accepted(storage: Storage, level: float) -> pa.Table:
    """Return the target ions of a run whose FDR is at most a level, best first.

    Parameters
    ----------
    storage : Storage
        The run's.
    level : float
        At most the one that the run was asked for; above it ions have no FDR.
    """
    file = open_all_ions(storage)
    chosen = []
    for group in range(file.num_row_groups):
        if file.read_row_group(group, columns=["fdr"]).column(0).null_count < file.metadata.row_group(group).num_rows:
            chosen.append(file.read_row_group(group).filter(pc.field("fdr") <= level))
    table = pa.concat_tables([file.schema_arrow.empty_table(), *chosen])
    return table.sort_by([("msm", "descending"), ("ion", "ascending")])


@dataclass(frozen=True, slots=True)
class IonImage:
    """One isotope image of an ion, sparse.

    Attributes
    ----------
    pixels : int32[n]
        Places that are not 0, ascending; row times width and column.
    values : float64[n]
        Sums of the intensities there.
    """

    pixels: NDArray[np.int32]
    values: NDArray[np.float64]

    def dense(self, width: int, height: int) -> NDArray[np.float64]:
        """Return it as float64[height, width]."""
        image = np.zeros(width * height)
        image[self.pixels] = self.values
        return image.reshape(height, width)


_IMAGES = pa.schema(
    [
        ("ion", pa.string()),
        ("peak", pa.int8()),
        ("pixels", pa.list_(pa.int32())),
        ("values", pa.list_(pa.float64())),
    ]
)


def encode_images(found: Iterable[tuple[str, Sequence[IonImage]]]) -> bytes:
    """Write the isotope images of ions as one object, a row group an ion."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, _IMAGES, compression="zstd", use_dictionary=False) as writer:
        for ion, images in found:
            columns = [
                pa.array([ion] * len(images), pa.string()),
                pa.array(range(len(images)), pa.int8()),
                pa.array([image.pixels for image in images], _IMAGES.field("pixels").type),
                pa.array([image.values for image in images], _IMAGES.field("values").type),
            ]
            writer.write_table(pa.table(columns, schema=_IMAGES))
    return sink.getvalue()


class IonImages:
    """The isotope images of the accepted ions of a run, read when they are asked for.

    Parameters
    ----------
    storage : Storage
        The run's.
    places : mapping, optional
        Of those that matter, the object that holds them and which of its row groups; all are looked for unless given.
    """

    def __init__(self, storage: Storage, places: Mapping[str, tuple[str, int]] | None = None) -> None:
        self._storage, self._known = storage, places
        self._open: dict[str, tuple[pq.ParquetFile, int]] = {}
        self._held = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, ion: object) -> bool:
        return ion in self._places

    def __getitem__(self, ion: str) -> list[IonImage]:
        """Return the images of an ion, in the order of its isotope peaks; KeyError if it is not among them."""
        key, group = self.place(ion)
        table = self._file(key).read_row_group(group, columns=["pixels", "values"])
        pairs = zip(table.column("pixels"), table.column("values"), strict=True)
        return [IonImage(pixels.values.to_numpy(), values.values.to_numpy()) for pixels, values in pairs]

    def place(self, ion: str) -> tuple[str, int]:
        """Return the object that holds an ion's images, and which of its row groups; KeyError if none does."""
        return self._places[ion]

    @cached_property
    def _places(self) -> Mapping[str, tuple[str, int]]:
        if self._known is not None:
            return self._known
        places: dict[str, tuple[str, int]] = {}
        for info in self._storage.list(ION_IMAGES):
            file = self._file(info.key)
            for group in range(file.num_row_groups):
                places[file.read_row_group(group, columns=["ion"]).column(0)[0].as_py()] = info.key, group
        return places

    def _file(self, key: str) -> pq.ParquetFile:
        if key not in self._open:
            data = self._storage.get(key)
            self._held += len(data)
            while self._open and self._held > KEPT_IMAGES:
                oldest = next(iter(self._open))
                self._held -= self._open.pop(oldest)[1]
            self._open[key] = pq.ParquetFile(pa.BufferReader(data)), len(data)
        self._open[key] = self._open.pop(key)  # the last to be let go
        return self._open[key][0]
