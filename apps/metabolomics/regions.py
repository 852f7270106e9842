"""Regions of a sample, drawn as an image whose values are their numbers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.pictures import Field
from core import InputError, open_storage
from core.storage import NotFound, split_address


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
    except Exception as error:  # whatever a damaged or outsized image makes two libraries raise
        raise InputError(f"{address} is no image of regions ({error}); give a grey PNG or a .npy array") from None
    if found.ndim != 2 or not (np.issubdtype(found.dtype, np.integer) or found.dtype == bool):
        kind = f"{' x '.join(map(str, found.shape))} of {found.dtype}"
        raise InputError(f"{address} is {kind}; regions are whole numbers in an image of one channel")
    found = found.astype(np.int64)
    if found.min(initial=0) < 0:
        raise InputError(f"{address} has values below 0; regions are the numbers from 1 on, and 0 is for none")
    return found


def _pillow(data: bytes) -> NDArray[Any]:
    from PIL import Image, UnidentifiedImageError

    try:
        return np.asarray(Image.open(io.BytesIO(data)))
    except UnidentifiedImageError:
        raise ValueError("of no format that is known") from None


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
