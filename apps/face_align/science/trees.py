"""Landmarks by dlib's cascaded regression trees, evaluated from arrays that many processes can map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

_VERSION = 1
"""Version number at the start of a serialized ``dlib::shape_predictor``."""
_SEGMENT = 1 << 16
_STRIDE = 32


class ModelFormatError(ValueError):
    """The bytes are no shape predictor this module can read."""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """A shape predictor of C cascades of T trees of depth D, for P points, with F pixel features a cascade.

    Attributes
    ----------
    shape : float32, (2 P,)
        Mean shape, x and y in turn, in units of the face's box.
    anchors : int64, (C, F)
        Landmark that each feature's position is relative to.
    deltas : float32, (C, F, 2)
        Position of each feature relative to its landmark, in the mean shape.
    first, second : int64, (C, T * (2**D - 1))
        Features whose difference each split compares, tree by tree.
    thresholds : float32, (C, T * (2**D - 1))
        What it is compared with; above it the left child follows.
    leaves : float32, (C, T * 2**D, 2 P)
        Change of the shape in each leaf.

    Source
    ------
    Kazemi and Sullivan, "One Millisecond Face Alignment with an Ensemble of Regression Trees", CVPR 2014, as
    implemented by ``dlib::shape_predictor``.
    """

    shape: Floats
    anchors: NDArray[np.int64]
    deltas: Floats
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    thresholds: Floats
    leaves: Floats

    def predict(self, image: Image, box: tuple[int, int, int, int]) -> Ints:
        """Return the landmarks of the face in a box, to the pixel those of dlib.

        Parameters
        ----------
        image : uint8, (height, width, 3)
            RGB pixels.
        box : (left, top, right, bottom)
            Inclusive, in pixels; may reach beyond the image.

        Returns
        -------
        int32, (P, 2)
            x and y in pixels.
        """
        left, top, right, bottom = box
        scale, corner = np.array([right - left, bottom - top], float), np.array([left, top], float)
        mean, flat, current = self.shape.reshape(-1, 2), image.reshape(-1, 3), self.shape
        centred, spread = _centred(mean)
        leaves = self.leaves.shape[1]
        trees = leaves - self.thresholds.shape[1]  # a full tree has one leaf more than splits
        depth = (leaves // trees).bit_length() - 1
        first_split = np.arange(trees) * (leaves // trees - 1)
        first_leaf = first_split + np.arange(trees) - (leaves // trees - 1)
        steps = np.empty((trees + 1, current.size), np.float32)
        for cascade in range(len(self.anchors)):
            points = current.reshape(-1, 2)
            factor = np.vdot(centred, _centred(points)[0]) / spread
            turn = np.array([[factor.real, factor.imag], [-factor.imag, factor.real]], np.float32)
            delta = self.deltas[cascade]
            # Products and sums in the order and precision of dlib, for a rounding apart moves a feature by a pixel.
            moved = delta[:, :1] * turn[0] + delta[:, 1:] * turn[1] + points.take(self.anchors[cascade], axis=0)
            values = _intensities(flat, image.shape[:2], _round(moved * scale + corner))
            above = values.take(self.first[cascade]) - values.take(self.second[cascade]) > self.thresholds[cascade]
            node = 2 - above.take(first_split)
            for _ in range(depth - 1):
                node = 2 * node + 2 - above.take(first_split + node)
            steps[0] = current
            np.take(self.leaves[cascade], node + first_leaf, axis=0, out=steps[1:], mode="clip")
            current = np.add.reduce(steps, axis=0)
        return _round(current.reshape(-1, 2) * scale + corner).astype(np.int32)


def _centred(points: Floats) -> tuple[NDArray[np.complex128], float]:
    """Return points about their mean as complex numbers, and the sum of their squared lengths.

    As complex numbers the least-squares similarity between two shapes is one division. Source: Umeyama,
    "Least-squares estimation of transformation parameters between two point patterns", IEEE PAMI 13 (1991).
    """
    numbers = points.astype(np.float64).view(np.complex128)[:, 0]
    numbers = numbers - numbers.sum() / len(numbers)
    return numbers, float(np.vdot(numbers, numbers).real)


def _round(positions: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.floor(positions + 0.5).astype(np.intp)


def _intensities(pixels: Image, size: tuple[int, ...], at: NDArray[np.intp]) -> Floats:
    """Return the mean of the three channels, rounded down, at each (x, y); 0 beyond the image."""
    height, width = size
    x, y = at[:, 0], at[:, 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    colours = pixels.take((y * width + x) * inside, axis=0).astype(np.int32)
    gray = (colours[:, 0] + colours[:, 1] + colours[:, 2]) // 3
    return (gray * inside).astype(np.float32)


def parse(content: Any) -> Trees:
    """Read a serialized ``dlib::shape_predictor``, such as ``shape_predictor_68_face_landmarks.dat``.

    Parameters
    ----------
    content : bytes-like
        The file.

    Raises
    ------
    ModelFormatError
        It is something else, or its trees differ in size.
    """
    try:
        return _assemble(_integers(np.frombuffer(content, np.uint8)))
    except (IndexError, ValueError) as error:
        raise ModelFormatError(f"not a dlib shape predictor with full trees of one size ({error})") from None


def _integers(content: Image) -> Ints:
    """Decode dlib's numbers: a byte of length and sign, then the magnitude, least significant byte first."""
    padded = np.concatenate([content, np.zeros(_STRIDE, np.uint8)])
    words = np.ndarray(len(content), "<u4", padded[1:].data, strides=(1,))
    masks = np.array([2 ** (8 * min(n, 4)) - 1 for n in range(16)], np.uint32)
    places = np.arange(1, _SEGMENT + 1)
    decoded, begin = [], 0
    while begin < len(content):
        heads = padded[begin : min(begin + _SEGMENT, len(content))]
        # Where a number starts is known only from the one before. So: for every byte, where one would land after
        # _STRIDE numbers, found by doubling; then walk in such strides; then fill the strides in.
        end = len(heads)
        jumps = [np.append(np.minimum(places[:end] + (heads & 15), end), end)]
        while 2 ** (len(jumps) - 1) < _STRIDE:
            jumps.append(jumps[-1].take(jumps[-1]))
        stride, position, walked = jumps.pop().data, 0, []
        while position < end:
            walked.append(position)
            position = stride[position]
        starts = np.array(walked)
        for jump in reversed(jumps):
            starts = np.stack([starts, jump.take(starts)], axis=1).reshape(-1)
        starts = starts[starts < end]
        lengths = heads[starts] & 15
        if lengths.max() > 8:
            raise ModelFormatError("not a sequence of dlib's numbers")
        values = (words[starts + begin] & masks[lengths]).astype(np.int32)
        decoded.append(np.where(heads[starts] & 128, -values, values))
        begin += int(starts[-1]) + 1 + int(lengths[-1])
    return np.concatenate(decoded)


def _assemble(numbers: Ints) -> Trees:
    if numbers[0] != _VERSION or numbers[2] != -1:
        raise ModelFormatError("unknown version")
    size = -int(numbers[1])
    at = 3 + 2 * size
    shape = _floats(numbers[3:at])
    cascades, trees, splits = (int(number) for number in numbers[at : at + 3])
    leaves = splits + 1
    if splits < 1 or leaves & splits or min(cascades, trees, size) < 1 or size % 2:
        raise ModelFormatError("its trees are not full")
    width = 1 + 4 * splits + 1 + leaves * (2 + 2 * size)
    at += 1
    body = numbers[at : at + cascades * (1 + trees * width)].reshape(cascades, 1 + trees * width)
    at += body.size
    forest = body[:, 1:].reshape(cascades, trees, width)
    split = forest[..., 1 : 1 + 4 * splits].reshape(cascades, trees, splits, 4)
    leaf = forest[..., 2 + 4 * splits :].reshape(cascades, trees * leaves, 2 + 2 * size)
    same = (body[:, 0] == trees, forest[..., 0] == splits, forest[..., 1 + 4 * splits] == leaves, leaf[..., 0] == -size)
    if not all(part.all() for part in same):
        raise ModelFormatError("its trees differ in size")
    features = int(numbers[at + 1])
    anchors = numbers[at + 1 : at + 1 + cascades * (1 + features)].reshape(cascades, 1 + features)[:, 1:]
    at += 2 + cascades * (1 + features)
    deltas = numbers[at : at + cascades * (1 + 4 * features)].reshape(cascades, 1 + 4 * features)[:, 1:]
    return Trees(
        shape=shape,
        anchors=anchors.astype(np.int64),
        deltas=_floats(deltas).reshape(cascades, features, 2),
        first=split[..., 0].reshape(cascades, -1).astype(np.int64),
        second=split[..., 1].reshape(cascades, -1).astype(np.int64),
        thresholds=_floats(split[..., 2:]).reshape(cascades, -1),
        leaves=_floats(leaf[..., 2:]),
    )


def _floats(pairs: Ints) -> Floats:
    """Turn pairs of mantissa and binary exponent into numbers."""
    split = pairs.reshape(*pairs.shape[:-1], -1, 2)
    return np.ldexp(split[..., 0].astype(np.float32), split[..., 1])
