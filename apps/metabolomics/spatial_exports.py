"""What the ion images of a run say about places: which ions lie together, what regions hold, parts of the sample."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps._frame.tables import csv_bytes
from apps.metabolomics.annotated import Annotated
from apps.metabolomics.science.segmentation import segment


def ion_names(run: Annotated) -> list[str]:
    """Return the names of the annotated ions, best first."""
    return [str(ion) for ion in run.ions.column("ion").to_pylist()]


def colocalisation_csv(run: Annotated) -> bytes:
    """Return a table of ions by ions: how much they lie in the same places, from 0 to 1."""
    from apps.metabolomics.science.colocalisation import colocalisation

    ions = ion_names(run)
    rows = zip(ions, colocalisation(run.image_set(ions)).tolist(), strict=True)
    return csv_bytes(["ion", *ions], ([ion, *row] for ion, row in rows))


def regions_csv(run: Annotated, regions: NDArray[np.int64]) -> bytes:
    """Return a table with a row for each ion and region.

    ``separation`` is how probably a pixel of the region is brighter than one of all other regions together, 0.5 where
    they are alike; empty where there is no other.
    """
    from apps.metabolomics.science.region_statistics import region_statistics, separation

    images = run.image_set(ion_names(run))
    found = region_statistics(images, regions)
    apart: list[Any] = [[None] * len(images)]
    if found.regions.size > 1:
        apart = [
            separation(images, np.where(regions == 0, 0, np.where(regions == number, 1, 2)), 1, 2).tolist()
            for number in found.regions
        ]

    def rows() -> Iterator[list[Any]]:
        for row, ion in enumerate(ion_names(run)):
            for column, number in enumerate(found.regions.tolist()):
                deviation = float(found.deviation[row, column])
                yield [
                    ion, number, int(found.n_pixels[column]), float(found.mean[row, column]),
                    None if np.isnan(deviation) else deviation, float(found.share[row, column]), apart[column][row],
                ]  # fmt: skip

    return csv_bytes(["ion", "region", "pixels", "mean", "deviation", "share", "separation"], rows())


def segments_png(run: Annotated, segments: int, seed: int) -> bytes:
    """Return a grey picture whose values are the numbers of the segments, the largest 1; 0 where is no spectrum."""
    from PIL import Image

    labels = np.zeros(run.field.width * run.field.height, dtype=np.uint8)
    labels[run.field.pixels] = segment(run.image_set(ion_names(run)), segments, seed)
    buffer = io.BytesIO()
    Image.fromarray(labels.reshape(run.field.height, run.field.width)).save(buffer, format="PNG")
    return buffer.getvalue()
