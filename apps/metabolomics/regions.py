"""Regions of a sample, drawn as an image whose values are their numbers: read, described, or found by k-means."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps._frame.tables import csv_bytes
from apps.metabolomics.annotated import Annotated
from apps.metabolomics.pictures import Field, label_png
from apps.metabolomics.science.region_statistics import region_statistics, separation
from apps.metabolomics.science.segmentation import segment
from core import InputError, open_storage
from core.storage import NotFound, split_address

IONS_AT_ONCE = 200
"""Ions whose images are dense together, a block of pixels at a time: 100 MB."""


def read_label_image(address: str) -> NDArray[Any]:
    """Return an image of whole numbers, int64[height, width].

    Parameters
    ----------
    address : str
        A ``.npy`` array, or an image that Pillow reads, grey or with a palette: colours would say no number.

    Raises
    ------
    InputError
        There is none, or it is none.
    """
    root, key = split_address(address)
    try:
        data = open_storage(root).get(key)
    except NotFound:
        raise InputError(f"there is no image at {address}; check the address") from None
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False) if data.startswith(b"\x93NUMPY") else _pillow(data)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{address} is no image of regions ({error}); give a grey PNG or a .npy array") from None
    if found.ndim != 2 or not (np.issubdtype(found.dtype, np.integer) or found.dtype == bool):
        kind = f"{' x '.join(map(str, found.shape))} of {found.dtype}"
        raise InputError(f"{address} is {kind}; regions are whole numbers in an image of one channel")
    return found.astype(np.int64)


def _pillow(data: bytes) -> NDArray[Any]:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def read_regions(address: str, field: Field) -> NDArray[np.int64]:
    """Return the number of the region of each pixel that has a spectrum, int64[n]; 0 for none.

    Raises
    ------
    InputError
        There is no such image, its size is another, or no pixel is in a region.
    """
    image = read_label_image(address)
    if image.shape != (field.height, field.width):
        height, width = image.shape
        raise InputError(
            f"{address} has {width} x {height} pixels, the dataset {field.width} x {field.height}; "
            "draw the regions on one of its images"
        )
    regions = image.ravel()[field.pixels]
    if not regions.any():
        raise InputError(f"{address} marks no pixel that has a spectrum; regions are the numbers from 1 on")
    return np.asarray(regions, np.int64)


def region_table(run: Annotated, regions: NDArray[np.int64]) -> Iterator[bytes]:
    """Yield, as CSV, what each ion does in each region.

    Columns: ion, region, its pixels, mean and standard deviation of the intensity, share of the pixels with the ion,
    and separation: how probably a pixel of the region is brighter than one of all other regions, 0.5 where they are
    alike; empty where there is one region alone.
    """
    ions = [str(ion) for ion in run.ions.column("ion").to_pylist()]
    yield csv_bytes(["ion", "region", "pixels", "mean", "deviation", "share", "separation"], ())
    for first in range(0, len(ions), IONS_AT_ONCE):
        for row in _region_rows(run, ions[first : first + IONS_AT_ONCE], regions):
            yield csv_bytes(row, ())


def _region_rows(run: Annotated, ions: Sequence[str], regions: NDArray[np.int64]) -> Iterator[list[Any]]:
    images = run.image_set(ions)
    found = region_statistics(images, regions)
    apart: list[Sequence[float | None]] = []
    for region in found.regions:
        # 1 for the region, 2 for all others that are marked.
        sides = np.where(regions == region, 1, np.where(regions != 0, 2, 0))
        alone = found.regions.size == 1
        apart.append([None] * len(ions) if alone else separation(images, sides, 1, 2).tolist())
    for number, ion in enumerate(ions):
        for at, region in enumerate(found.regions):
            deviation = float(found.deviation[number, at])
            yield [
                ion, int(region), int(found.n_pixels[at]), float(found.mean[number, at]),
                None if math.isnan(deviation) else deviation, float(found.share[number, at]), apart[at][number],
            ]  # fmt: skip


def segment_image(run: Annotated, segments: int) -> bytes:
    """Return the segment of each pixel as a PNG of 8-bit grey: from 1 on, 0 without a spectrum.

    It is made of the 200 best ions.

    Raises
    ------
    InputError
        There are fewer pixels than segments.
    """
    ions = [str(ion) for ion in run.ions.column("ion").to_pylist()[:IONS_AT_ONCE]]
    try:
        labels = segment(run.image_set(ions), segments)
    except ValueError as error:
        raise InputError(str(error)) from None
    image = np.zeros(run.field.width * run.field.height, np.uint8)
    image[run.field.pixels] = labels
    return label_png(image.reshape(run.field.height, run.field.width))
