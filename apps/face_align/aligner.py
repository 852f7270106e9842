"""From an image to its aligned faces: detection, choice, landmarks, crop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.face_align.geometry import Image, Matrix, Points, affine, crop
from apps.face_align.params import Params

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels, inclusive."""
Detect = Callable[[Image, int], Sequence[Any]]
Predict = Callable[[Image, Box], Points]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face and its crop.

    `box` as found by the detector; `points` int32 (P, 2) in pixels; `matrix` float64 (2, 3) from image to crop; `crop`
    uint8 (size, size, 3) RGB.
    """

    box: Box
    points: Points
    matrix: Matrix
    crop: Image


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


@dataclass(frozen=True, slots=True)
class Aligner:
    """Finds, chooses and crops faces.

    Parameters
    ----------
    detect : callable
        Takes RGB pixels and the number of doublings; returns dlib rectangles, or objects that have one as ``rect``.
    predict : callable
        Takes RGB pixels and a box; returns landmarks, int32 (P, 2).
    params : Params
        What is wanted.
    """

    detect: Detect
    predict: Predict
    params: Params

    def align(self, image: Image, stages: Stages | None = None) -> tuple[int, list[Face]]:
        """Return how many faces an image has, and those chosen of them, aligned.

        Parameters
        ----------
        image : uint8, (height, width, 3)
            RGB, contiguous.
        stages : Stages, optional
            Counts the CPU time of each stage.
        """
        stages = stages or Stages()
        params = self.params
        stages.start()
        boxes = [_box(found) for found in self.detect(image, params.upsample)]
        stages.end("detect")
        boxes = [box for box in boxes if min(_sides(box)) >= params.min_face]
        if params.skip_multi and len(boxes) > 1:
            return len(boxes), []
        faces = []
        for box in choose(boxes, params.select, (image.shape[1], image.shape[0])):
            points = self.predict(image, box)
            stages.end("landmarks")
            matrix = affine(points, params.landmarks, params.size)
            faces.append(Face(box, points, matrix, crop(image, matrix, params.size)))
            stages.end("warp")
        return len(boxes), faces


def choose(boxes: Sequence[Box], select: str, size: tuple[int, int]) -> list[Box]:
    """Return the first box of the largest area, the one nearest to the centre, or all from the largest down."""
    if not boxes:
        return []
    largest_first = sorted(boxes, key=lambda box: -np.prod(_sides(box)))
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


def _distance(box: Box, size: tuple[int, int]) -> int:
    """Return four times the squared distance between the centres of a box and of an image."""
    return (box[0] + box[2] + 1 - size[0]) ** 2 + (box[1] + box[3] + 1 - size[1]) ** 2
