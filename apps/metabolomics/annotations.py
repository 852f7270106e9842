"""The table of annotations, with the columns of METASPACE's export, and the intensities of their first images."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apps._frame.tables import csv_bytes, visible
from apps.metabolomics.annotated import Annotated
from apps.metabolomics.databases import Molecule
from apps.metabolomics.parquet_pieces import parquet_pieces
from apps.metabolomics.science.overlaps import isobars, isomers

COLUMNS = (
    "datasetName", "formula", "adduct", "chemMod", "neutralLoss", "ion", "mz", "massError", "msm", "fdr", "rhoSpatial",
    "rhoSpectral", "rhoChaos", "moleculeNames", "moleculeIds", "minIntensity", "maxIntensity", "totalIntensity",
    "isomers", "isobars", "isomerIons", "isobarIons", "databases",
)  # fmt: skip
"""As in METASPACE's export, where ``adduct`` begins with M, ``isomers`` counts the molecules of the formula, and
``isobars`` the other ions that share peaks; massError in ppm. The last three are added."""
TEXTS = frozenset(
    {
        "datasetName", "formula", "adduct", "chemMod", "neutralLoss", "ion", "moleculeNames", "moleculeIds",
        "isomerIons", "isobarIons", "databases",
    }
)  # fmt: skip
BETWEEN = ", "
GROUP_ROWS = 1 << 20
"""Rows of a row group of intensities, about: 24 MB in memory."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """An accepted ion with what is known of it; intensities of the first isotope image as they were measured.

    `isomers` are the accepted ions of the same composition, `isobars` the other ones of which a window overlaps.
    """

    number: int
    formula: str
    adduct: str
    chem_mod: str
    neutral_loss: str
    ion: str
    mz: float
    mass_error: float | None
    msm: float
    fdr: float
    spatial: float
    spectral: float
    chaos: float | None
    min_intensity: float
    max_intensity: float
    total_intensity: float
    molecules: Sequence[tuple[str, Molecule]]
    isomers: Sequence[str]
    isobars: Sequence[str]

    @property
    def names(self) -> list[str]:
        """Names of the molecules, each once."""
        return list(dict.fromkeys(molecule.name for _, molecule in self.molecules))

    def values(self, dataset: str) -> tuple[object, ...]:
        """Return its row, by `COLUMNS`."""
        distinct = {(molecule.name, molecule.id) for _, molecule in self.molecules}
        return (
            dataset, self.formula, f"M{self.adduct}", self.chem_mod, self.neutral_loss, self.ion, self.mz,
            self.mass_error, self.msm, self.fdr, self.spatial, self.spectral, self.chaos, BETWEEN.join(self.names),
            BETWEEN.join(dict.fromkeys(molecule.id for _, molecule in self.molecules)), self.min_intensity,
            self.max_intensity, self.total_intensity, len(distinct), len(self.isobars),
            BETWEEN.join(self.isomers), BETWEEN.join(self.isobars),
            BETWEEN.join(dict.fromkeys(database for database, _ in self.molecules)),
        )  # fmt: skip


@dataclass(frozen=True)
class Annotations:
    """The accepted ions of a run as annotations, best first."""

    run: Annotated

    def __len__(self) -> int:
        return len(self.run.ions)

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return str(self.run.figures["dataset"])

    def __iter__(self) -> Iterator[Annotation]:
        names = self._ions
        for number, row in enumerate(self._rows()):
            same, near = self._overlaps.get(number, ((), ()))
            yield Annotation(
                number, row["formula"], row["adduct"], row["chemMod"], row["neutralLoss"], row["ion"], row["mz_0"],
                row["massError"], row["msm"], row["fdr"], row["spatial"], row["spectral"], row["chaos"],
                row["minIntensity"], row["maxIntensity"], row["totalIntensity"],
                self.run.molecules.get(row["formula"], ()), [names[at] for at in same], [names[at] for at in near],
            )  # fmt: skip

    def _rows(self) -> Iterator[dict[str, Any]]:
        for batch in self.run.ions.to_batches(max_chunksize=10_000):
            yield from batch.to_pylist()

    @cached_property
    def _ions(self) -> list[str]:
        return [str(ion) for ion in self.run.ions.column("ion").to_pylist()]

    @cached_property
    def _overlaps(self) -> dict[int, tuple[list[int], list[int]]]:
        """Isomers, and the isobars that are none, of each ion that has any."""
        mz = self.run.matrix("mz")
        near = isobars(mz, float(self.run.figures["ppm"]))
        same = set(isomers(mz, near))
        found: dict[int, tuple[list[int], list[int]]] = {}
        for pair in near:
            for one, two in (pair, pair[::-1]):
                found.setdefault(one, ([], []))[0 if pair in same else 1].append(two)
        return found

    def csv(self) -> bytes:
        """Return the table as CSV."""
        return csv_bytes(COLUMNS, (each.values(self.dataset) for each in self))

    def parquet(self) -> bytes:
        """Return the table as Parquet; text that is not UTF-8 is escaped visibly."""
        rows = [each.values(self.dataset) for each in self]
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
        arrays = [
            pa.array([visible(value) for value in column], pa.string())
            if name in TEXTS
            else pa.array(column, pa.int64() if name in ("isomers", "isobars") else pa.float64())
            for name, column in zip(COLUMNS, columns, strict=True)
        ]
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(arrays, names=list(COLUMNS)), sink, compression="zstd")
        return sink.getvalue()


def intensities(run: Annotated) -> Iterator[bytes]:
    """Return, piece by piece, the first isotope image of every annotation as Parquet.

    A row a pixel that is not 0: ion, pixel, x, y, intensity; x and y count from 0 at the corner of the images.
    """
    schema = pa.schema(
        [("ion", pa.string()), *((name, pa.int32()) for name in ("pixel", "x", "y")), ("intensity", pa.float64())]
    )

    def tables() -> Iterator[pa.Table]:
        for ion in run.ions.column("ion").to_pylist():
            image = run.image(ion)
            rows, columns = np.divmod(image.pixels, np.int32(run.field.width))
            texts = pa.array([ion], pa.string()).take(pa.array(np.zeros(image.pixels.size, np.int32)))
            arrays = [texts, *map(pa.array, (image.pixels, columns, rows, image.values))]
            yield pa.Table.from_arrays(arrays, schema=schema)

    # Tables of values that hardly repeat would cost most of the time, and four tenths of the size.
    encoding = {"pixel": "DELTA_BINARY_PACKED", "intensity": "BYTE_STREAM_SPLIT"}
    return parquet_pieces(tables(), schema, GROUP_ROWS, use_dictionary=["ion", "x", "y"], column_encoding=encoding)
