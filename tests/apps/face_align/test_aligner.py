from __future__ import annotations

from typing import Any

import cv2
import dlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.face_align import models
from apps.face_align.params import Params
from apps.face_align.science.aligner import Aligner, Box, choose
from apps.face_align.science.geometry import Image

sides = st.integers(1, 300)
boxes = st.lists(
    st.tuples(st.integers(-50, 500), st.integers(-50, 500), sides, sides).map(
        lambda box: (box[0], box[1], box[0] + box[2] - 1, box[1] + box[3] - 1)
    ),
    min_size=1,
    max_size=6,
)


def area(box: Box) -> int:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


@given(boxes)
def test_the_largest_face_is_the_first_of_the_largest_area(found: list[Box]) -> None:
    expected = max(found, key=lambda box: dlib.rectangle(*box).width() * dlib.rectangle(*box).height())

    assert choose(found, "largest", (640, 480)) == [expected]


@given(boxes)
def test_the_centre_face_is_the_nearest_to_the_centre(found: list[Box]) -> None:
    (chosen,) = choose(found, "center", (640, 480))

    def distance(box: Box) -> float:
        return float(np.hypot((box[0] + box[2] + 1) / 2 - 320, (box[1] + box[3] + 1) / 2 - 240))

    assert distance(chosen) == min(map(distance, found))


@given(boxes)
def test_all_faces_come_from_the_largest_down(found: list[Box]) -> None:
    chosen = choose(found, "all", (640, 480))

    assert sorted(chosen) == sorted(found)
    assert [area(box) for box in chosen] == sorted(map(area, found), reverse=True)


@pytest.mark.parametrize("select", ["largest", "center", "all"])
def test_no_face_gives_none(select: str) -> None:
    assert choose([], select, (640, 480)) == []


def test_a_face_smaller_than_asked_for_is_ignored(head: Any) -> None:
    def detect(image: Image, upsample: int) -> list[Any]:
        return [dlib.rectangle(0, 0, 49, 49), dlib.rectangle(100, 100, 199, 180)]

    def predict(image: Image, box: Box) -> Any:
        return np.array([(k, k * k % 97) for k in range(68)], np.int32)

    counts = [Aligner(detect=detect, predict=predict, min_face=least).align(head).count for least in (50, 51, 81, 82)]

    assert counts == [2, 1, 1, 0]


def test_doublings_find_smaller_faces(head: Any) -> None:
    small = cv2.resize(head, (150, 150), interpolation=cv2.INTER_AREA)

    counts = []
    for upsample in (0, 1):
        params = Params(upsample=upsample)
        counts.append(models.aligner(params, models.model_hash(params)).align(small).count)

    assert counts == [0, 1]


def test_the_network_finds_the_face_where_the_other_detector_does(head: Any) -> None:
    found = []
    for detector in ("cnn", "hog"):
        params = Params(detector=detector)
        aligned = models.aligner(params, models.model_hash(params)).align(head)
        found.append(np.array(aligned.faces[0].box))

    assert np.abs(found[0] - found[1]).max() < 20
