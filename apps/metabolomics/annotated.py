"""What a finished annotation holds, read for report, exports and comparison, without the dataset itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from apps.metabolomics.molecules import Named, decode_molecules
from apps.metabolomics.parquet_pieces import encode_table, read_parquet
from apps.metabolomics.pictures import Field, normalised
from apps.metabolomics.result import FIGURES, IonImage, IonImages, open_all_ions, read_accepted
from apps.metabolomics.science.images import ImageSet
from core import InputError
from core.storage import NotFound, Storage, open_storage

PIXELS = "pixels.parquet"
MOLECULES = "molecules.parquet"


@dataclass(frozen=True, eq=False)
class Shown:
    """Images of a run as they are shown.

    Attributes
    ----------
    field : Field
    tic : float64[n]
        Total ion current of each pixel that has a spectrum.
    images : IonImages
    norm : str
        ``tic`` if they are divided by it.
    """

    field: Field
    tic: NDArray[np.float64]
    images: IonImages
    norm: str

    @cached_property
    def dense_tic(self) -> NDArray[np.float64]:
        """Return the total ion current of every pixel, 0 without a spectrum, float64[width * height]."""
        found = np.zeros(self.field.width * self.field.height)
        found[self.field.pixels] = self.tic
        return found

    def isotopes(self, ion: str) -> list[IonImage]:
        """Return the isotope images of an ion."""
        found = self.images[ion]
        return [normalised(image, self.dense_tic) for image in found] if self.norm == "tic" else found


@dataclass(frozen=True, eq=False)
class Annotated:
    """A finished annotation.

    Attributes
    ----------
    figures : dict
        Those of ``result.json``.
    field : Field
        Width, height, and which pixels have a spectrum.
    tic : float64[n]
        Total ion current of each of them.
    ions : pyarrow.Table
        Accepted ions, best first; columns as in ``all_ions.parquet``.
    molecules : dict
        Molecules of each formula, by the name of their database first.
    images : IonImages
        Isotope images of the accepted ions.
    storage : Storage
        The run's.
    """

    figures: Mapping[str, Any]
    field: Field
    tic: NDArray[np.float64]
    ions: pa.Table
    molecules: Mapping[str, Sequence[Named]]
    images: IonImages
    storage: Storage

    @property
    def peaks(self) -> int:
        """Isotope peaks of a pattern."""
        return sum(name.startswith("mz_") for name in self.ions.column_names)

    def matrix(self, name: str) -> NDArray[np.float64]:
        """Return float64[ions, peaks] of a column a peak, such as ``mz``; NaN for null."""
        columns = [self.column(f"{name}_{peak}") for peak in range(self.peaks)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self.ions), 0))

    def column(self, name: str) -> NDArray[np.float64]:
        """Return float64[ions]; NaN for null."""
        return np.asarray(self.ions.column(name).cast(pa.float64()).to_numpy(), np.float64)

    @cached_property
    def shown(self) -> Shown:
        """Images as they are shown."""
        return Shown(self.field, self.tic, self.images, str(self.figures.get("norm")))

    @property
    def dense_tic(self) -> NDArray[np.float64]:
        """Total ion current of every pixel, 0 without a spectrum, float64[width * height]."""
        return self.shown.dense_tic

    def isotopes(self, ion: str) -> list[IonImage]:
        """Return the isotope images of an accepted ion, normalised as the run was asked to."""
        return self.shown.isotopes(ion)

    def image(self, ion: str, peak: int = 0) -> IonImage:
        """Return one isotope image of an accepted ion."""
        return self.isotopes(ion)[peak]

    def targets(self, columns: Sequence[str], which: pc.Expression) -> pa.Table:
        """Return some columns of those targets, accepted or not, for which an expression holds."""
        file = open_all_ions(self.storage)
        wanted = (pc.field("decoy") == pc.scalar(False)) & which
        chosen = [
            file.read_row_group(group, [*columns, "decoy"]).filter(wanted).select(list(columns))
            for group in range(file.num_row_groups)
        ]
        return pa.concat_tables([file.schema_arrow.empty_table().select(list(columns)), *chosen])

    def image_set(self, ions: Sequence[str], side: int = 0) -> ImageSet:
        """Return the first isotope images of some accepted ions, normalised as the run was asked to.

        Parameters
        ----------
        side : int, optional
            Pixels a side at most: larger images are made smaller by adding pixels up.
        """
        factor = self.field.factor(side) if side else 1
        sampled = np.flatnonzero(self.field.mask(factor)).astype(np.int32)
        pixels, values = list[NDArray[np.int32]](), list[NDArray[np.float64]]()
        for ion in ions:
            image = self.image(ion)
            if factor > 1:
                small = self.field.summed(image.pixels, image.values, factor).ravel()
                image = IonImage(np.flatnonzero(small).astype(np.int32), small[small != 0.0])
            pixels.append(image.pixels)
            values.append(image.values)
        offsets = np.cumsum([0, *(each.size for each in pixels)])
        none = np.empty(0)
        return ImageSet(
            np.concatenate([none.astype(np.int32), *pixels]), np.concatenate([none, *values]), offsets, sampled
        )


def encode_pixels(pixels: NDArray[np.int32], tic: NDArray[np.float64]) -> bytes:
    """Write which pixels have a spectrum, and their total ion current."""
    return encode_table(pa.table({"pixel": pa.array(pixels, pa.int32()), "tic": pa.array(tic, pa.float64())}))


def _molecules_of(data: bytes) -> dict[str, list[Named]]:
    found: dict[str, list[Named]] = {}
    for database, molecule in decode_molecules(data):
        found.setdefault(molecule.formula, []).append((database, molecule))
    return found


def read_run(address: str, level: float | None = None) -> Annotated:
    """Read a finished annotation.

    Parameters
    ----------
    address : str
        The run's folder or prefix.
    level : float, optional
        False discovery rate up to which ions are read; that of the run unless given.

    Raises
    ------
    InputError
        There is no finished annotation, or the level is above that of the run, beyond which ions have no rate.
    """
    storage = open_storage(address)
    try:
        figures = json.loads(storage.get(FIGURES))
        asked = float(figures["fdr"])
    except NotFound:
        raise InputError(f"{address} holds no finished annotation: there is no {FIGURES}; resume it first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{address}/{FIGURES} is of no annotation ({error!r}); give the folder of a run") from None
    if level is not None and level > asked:
        raise InputError(
            f"{address} was annotated up to an FDR of {asked:g}, not {level:g}: beyond it ions have no rate; "
            f"annotate with --fdr {level:g}"
        )
    return of_storage(storage, figures, asked if level is None else level)


def of_storage(storage: Storage, figures: Mapping[str, Any], level: float) -> Annotated:
    """Return what a run's storage holds, by its figures; see `read_run`."""
    pixels = read_parquet(storage.get(PIXELS))
    field = Field(int(figures["width"]), int(figures["height"]), pixels.column("pixel").to_numpy())
    return Annotated(
        figures, field, pixels.column("tic").to_numpy(), read_accepted(storage, level),
        _molecules_of(storage.get(MOLECULES)), IonImages(storage), storage,
    )  # fmt: skip
