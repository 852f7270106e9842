"""Sets of sparse ion images as matrices of pixels, a block of pixels at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 23
"""Values that are dense at a time, 64 MB, however many images there are."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Ion images of one dataset.

    Attributes
    ----------
    pixels : ndarray of int32, shape (m,)
        ``row * width + column`` of the pixels that are not zero, ascending within an image.
    values : ndarray of float64, shape (m,)
    offsets : ndarray of int64, shape (n + 1,)
        Image i is entries ``offsets[i]`` to ``offsets[i + 1]`` of both.
    sampled : ndarray of int32, shape (p,)
        Pixels that have a spectrum, ascending.

    Raises
    ------
    ValueError
        An image has a pixel that has no spectrum.
    """

    pixels: NDArray[np.int32]
    values: FloatArray
    offsets: NDArray[np.int64]
    sampled: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.pixels.size and not np.array_equal(self.sampled.take(self.places, mode="clip"), self.pixels):
            raise ValueError("an ion image has a pixel that has no spectrum")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def image(self, number: int) -> FloatArray:
        """Return what is not zero of one image."""
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    def with_values(self, values: FloatArray) -> ImageSet:
        """Return the same pixels with other values."""
        return ImageSet(self.pixels, values, self.offsets, self.sampled)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Where each of `pixels` stands among the sampled ones."""
        return np.searchsorted(self.sampled, self.pixels)

    @cached_property
    def _by_pixel(self) -> Any:
        from scipy.sparse import csr_array

        shape = (len(self), self.sampled.size)
        return csr_array((self.values, self.places, self.offsets), shape=shape).tocsc()

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield dense blocks of sampled pixels: which, and their values, shape (n, pixels)."""
        size = max(1, BLOCK // max(1, len(self)))
        for start in range(0, self.sampled.size, size):
            part = slice(start, min(start + size, self.sampled.size))
            yield part, self._by_pixel[:, part].toarray()

    def products(self) -> FloatArray:
        """Sum the products of every two images over the pixels, shape (n, n)."""
        total = np.zeros((len(self), len(self)))
        for _, block in self.blocks():
            total += block @ block.T
        return total
