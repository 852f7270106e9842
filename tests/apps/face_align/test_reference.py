"""Crops are those of a straightforward AlignDlib, written here from its published description, to the pixel."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import pytest

from apps.face_align import demo, models
from apps.face_align.params import Params
from apps.face_align.validation import DIGESTS, POSES

TEMPLATES = {
    "inner-eyes": ([39, 42, 57], [[0.36378494, 0.17794687], [0.6189632, 0.17277813], [0.50020397, 0.7505844]]),
    "outer-eyes": ([36, 45, 33], [[0.194157, 0.16926692], [0.7888591, 0.15817115], [0.4949509, 0.5144414]]),
}
FACES = Path(__file__).parents[4] / "shared" / "data" / "faces"


@pytest.fixture(scope="module")
def dlib_models() -> tuple[Any, Any]:
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(models.packaged("inner-eyes")))


def straightforward(rgb: Any, dlib_models: tuple[Any, Any], landmarks: str, size: int) -> Any:
    detector, predictor = dlib_models
    boxes = detector(rgb, 1)
    if not boxes:
        return None
    box = max(boxes, key=lambda rect: rect.width() * rect.height())
    shape = predictor(rgb, box)
    points = np.float32([(part.x, part.y) for part in shape.parts()])
    indices, template = TEMPLATES[landmarks]
    matrix = cv2.getAffineTransform(points[indices], size * np.float32(template))
    return cv2.warpAffine(rgb, matrix, (size, size))


def ours(rgb: Any, **settings: Any) -> Any:
    params = Params(**settings)
    faces = models.aligner(params, models.model_hash(params)).align(rgb).faces
    return faces[0].crop if faces else None


def posed(pose: str) -> Any:
    return cv2.cvtColor(demo.variant(demo.portrait(), **POSES[pose]), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]


@pytest.mark.parametrize("landmarks", TEMPLATES)
@pytest.mark.parametrize("pose", POSES)
def test_a_crop_is_the_reference_to_the_pixel(pose: str, landmarks: str, dlib_models: tuple[Any, Any]) -> None:
    image = posed(pose)

    crop = ours(image, landmarks=landmarks, size=180)

    assert np.array_equal(crop, straightforward(image, dlib_models, landmarks, 180))


@pytest.mark.parametrize("landmarks", DIGESTS)
@pytest.mark.parametrize("pose", POSES)
def test_a_crop_has_the_pixels_it_always_had(pose: str, landmarks: str) -> None:
    crop = ours(posed(pose), landmarks=landmarks)

    assert hashlib.sha256(crop.tobytes()).hexdigest()[:16] == DIGESTS[landmarks][pose]


@pytest.mark.parametrize("size", [8, 96, 333])
def test_any_size_is_the_reference_to_the_pixel(size: int, dlib_models: tuple[Any, Any]) -> None:
    image = posed("turned")

    assert np.array_equal(ours(image, size=size), straightforward(image, dlib_models, "inner-eyes", size))


@pytest.mark.parametrize("name", [demo.PORTRAIT, *demo.OTHERS])
def test_photographs_are_the_reference_to_the_pixel(name: str, dlib_models: tuple[Any, Any]) -> None:
    image = cv2.cvtColor(cv2.imread(str(demo.photographs() / name)), cv2.COLOR_BGR2RGB)

    crop, expected = ours(image), straightforward(image, dlib_models, "inner-eyes", 180)

    assert (crop is None) == (expected is None)
    assert crop is None or np.array_equal(crop, expected)


def test_a_face_at_the_edge_is_black_beyond_it(dlib_models: tuple[Any, Any]) -> None:
    image = np.ascontiguousarray(posed("near")[:, 60:])

    crop = ours(image, landmarks="outer-eyes", size=180)

    assert np.array_equal(crop, straightforward(image, dlib_models, "outer-eyes", 180))


@pytest.mark.skipif(not FACES.is_dir(), reason="optional photographs are not in ../shared/data/faces")
@pytest.mark.parametrize("path", sorted(FACES.glob("*.jpg")), ids=lambda path: path.stem)
def test_further_photographs_are_the_reference_to_the_pixel(path: Path, dlib_models: tuple[Any, Any]) -> None:
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)

    crop, expected = ours(image), straightforward(image, dlib_models, "inner-eyes", 180)

    assert (crop is None) == (expected is None)
    assert crop is None or np.array_equal(crop, expected)


def test_the_five_point_model_brings_the_eyes_to_the_same_places() -> None:
    image = posed("upright")

    five, many = ours(image, landmarks="five-points"), ours(image, landmarks="outer-eyes")

    # Two models disagree by a pixel or two about where an eye ends; a wrong order of points would be far off.
    assert np.abs(five.astype(int) - many).mean() < 12
