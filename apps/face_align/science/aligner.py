"""From an image to its aligned faces: detection, choice, landmarks, crop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.face_align.science.geometry import Image, Matrix, Points, affine, crop

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels, inclusive."""
Detect = Callable[[Image, int], Sequence[Any]]
Predict = Callable[[Image, Box], Points]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face and its crop.

    `box` as found by the detector; `points` int32 (P, 2) in pixels; `matrix` float64 (2, 3) from image to crop; `crop`
    uint8 (size, size, 3) RGB. `cut` says that the box or a landmark lies beyond the border of the image.
    """

    box: Box
    points: Points
    matrix: Matrix
    crop: Image
    cut: bool


@dataclass(frozen=True, slots=True)
class Alignment:
    """What was found in an image.

    `count` faces, of which `faces` were chosen; `turn` degrees clockwise by which the image was turned first, and
    `width` and `height` in pixels of the turned image, in which boxes, points and matrices are.
    """

    count: int
    faces: tuple[Face, ...]
    turn: int
    width: int
    height: int


@dataclass(slots=True)
class Stages:
    """CPU seconds of the calling thread, by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    _mark: float = field(default_factory=time.thread_time)

    def start(self) -> None:
        """Begin a stage, leaving out what came before."""
        self._mark = time.thread_time()

    def end(self, stage: str) -> None:
        """Count the time since the last mark to a stage."""
        now = time.thread_time()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._mark
        self._mark = now


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligner:
    """Finds, chooses and crops faces.

    Parameters
    ----------
    detect : callable
        Takes RGB pixels and the number of doublings; returns dlib rectangles, or objects that have one as ``rect``.
    predict : callable
        Takes RGB pixels and a box; returns landmarks, int32 (P, 2).
    size : int
        Pixels a side of a crop.
    landmarks : str
        Key of ``geometry.ANCHORS``.
    upsample : int
        Times the image is doubled before detection.
    min_face : int
        Pixels a side below which a face is ignored.
    select : str
        ``largest``, ``center`` or ``all``.
    skip_multi : bool
        Whether nothing is cropped from an image with several faces.
    rotate : bool
        Whether an image without a face is turned by 90, 180 and 270 degrees; of these, the turn with the largest face
        counts.
    """

    detect: Detect
    predict: Predict
    size: int = 180
    landmarks: str = "inner-eyes"
    upsample: int = 1
    min_face: int = 0
    select: str = "largest"
    skip_multi: bool = False
    rotate: bool = False

    def align(self, image: Image, stages: Stages | None = None) -> Alignment:
        """Find the faces of an image, and align those that are chosen.

        Parameters
        ----------
        image : uint8, (height, width, 3)
            RGB, contiguous.
        stages : Stages, optional
            Counts the CPU time of each stage.
        """
        stages = stages or Stages()
        stages.start()
        turn, image, boxes = self._find(image)
        stages.end("detect")
        height, width = image.shape[:2]
        chosen = [] if self.skip_multi and len(boxes) > 1 else choose(boxes, self.select, (width, height))
        faces = []
        for box in chosen:
            points = self.predict(image, box)
            stages.end("landmarks")
            matrix = affine(points, self.landmarks, self.size)
            cut = _reaches_beyond(box, points, (width, height))
            faces.append(Face(box, points, matrix, crop(image, matrix, self.size), cut))
            stages.end("warp")
        return Alignment(len(boxes), tuple(faces), turn, width, height)

    def _find(self, image: Image) -> tuple[int, Image, list[Box]]:
        """Return the turn in which faces are found, the image so turned, and their boxes."""
        upright = (0, image, self._boxes(image))
        if upright[2] or not self.rotate:
            return upright
        turned = [(90 * k, np.ascontiguousarray(np.rot90(image, -k))) for k in (1, 2, 3)]
        found = [(turn, pixels, self._boxes(pixels)) for turn, pixels in turned]
        return max([upright, *found], key=lambda each: max(map(_area, each[2]), default=0))

    def _boxes(self, image: Image) -> list[Box]:
        boxes = [_box(found) for found in self.detect(image, self.upsample)]
        return [box for box in boxes if min(_sides(box)) >= self.min_face]


def choose(boxes: Sequence[Box], select: str, size: tuple[int, int]) -> list[Box]:
    """Return the first box of the largest area, the one nearest to the centre, or all from the largest down."""
    if not boxes:
        return []
    largest_first = sorted(boxes, key=lambda box: -_area(box))
    if select == "all":
        return largest_first
    if select == "center":
        return [min(largest_first, key=lambda box: _distance(box, size))]
    return largest_first[:1]


def _box(found: Any) -> Box:
    rectangle = getattr(found, "rect", found)
    return rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()


def _sides(box: Box) -> tuple[int, int]:
    return box[2] - box[0] + 1, box[3] - box[1] + 1


def _area(box: Box) -> int:
    width, height = _sides(box)
    return width * height


def _reaches_beyond(box: Box, points: Points, size: tuple[int, int]) -> bool:
    corners = np.vstack([points, np.reshape(box, (2, 2))])
    return bool((corners < 0).any() or (corners >= size).any())


def _distance(box: Box, size: tuple[int, int]) -> int:
    """Return four times the squared distance between the centres of a box and of an image."""
    return (box[0] + box[2] + 1 - size[0]) ** 2 + (box[1] + box[3] + 1 - size[1]) ** 2
