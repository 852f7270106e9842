"""Where landmarks go, and the crop that brings them there: pixel for pixel that of openface's AlignDlib."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Points = NDArray[np.int32]
Matrix = NDArray[np.float64]

# Mean landmarks, as shares of the width and height of their bounding box. Source: the table TEMPLATE of openface's
# align_dlib.py (Amos, Ludwiczuk, Satyanarayanan, CMU-CS-16-118), normalised by its extremes, in single precision.
_TEMPLATE = {
    33: (0.4949509, 0.5144414),
    36: (0.194157, 0.16926692),
    39: (0.36378494, 0.17794687),
    42: (0.6189632, 0.17277813),
    45: (0.7888591, 0.15817115),
    57: (0.50020397, 0.7505844),
}
ANCHORS = {
    "inner-eyes": ((39, 42, 57), (39, 42, 57)),
    "outer-eyes": ((36, 45, 33), (36, 45, 33)),
    # Of dlib's five points, 2 and 0 are the outer corners of the eyes and 4 is the base of the nose.
    "five-points": ((2, 0, 4), (36, 45, 33)),
}
"""By name: indices among a model's landmarks, and the landmarks of the 68-point scheme they are."""


def affine(points: Points, landmarks: str, size: int) -> Matrix:
    """Return the affine map that brings three landmarks to their places in the crop.

    Parameters
    ----------
    points : int32, (68, 2) or (5, 2)
        x and y in pixels.
    landmarks : str
        Key of ``ANCHORS``.
    size : int
        Pixels a side of the crop.

    Returns
    -------
    float64, (2, 3)
        From image to crop.
    """
    indices, scheme = ANCHORS[landmarks]
    targets = np.array([_TEMPLATE[index] for index in scheme], np.float32)
    found = points[list(indices)].astype(np.float32)
    return np.asarray(cv2.getAffineTransform(found, size * targets), np.float64)


def crop(image: Image, matrix: Matrix, size: int) -> Image:
    """Return the square of `size` pixels a side that an affine map cuts out; black beyond the image.

    Bilinear, as ``cv2.warpAffine`` of OpenCV 4 computes it; OpenCV 5 rounds otherwise.
    """
    return np.asarray(cv2.warpAffine(image, matrix, (size, size)), np.uint8)
