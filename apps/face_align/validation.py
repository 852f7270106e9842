"""``validate``: the aligner's own science, checked where it runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from apps._frame import Session
from apps._frame.checks import Check, show_checks
from apps.face_align import models
from apps.face_align.demo import portrait, variant
from apps.face_align.params import Params, ValidateParams
from apps.face_align.science.geometry import Image
from core import TaskError, worker_resource

POSES: dict[str, dict[str, Any]] = {
    "upright": {},
    "turned": {"angle": 17.0},
    "mirrored": {"flip": True, "gain": 0.8},
    "near": {"scale": 1.7, "angle": -6.0},
    "far": {"scale": 0.6},
}
"""What becomes of the portrait, as arguments of ``demo.variant``."""
DIGESTS = {
    "inner-eyes": {
        "upright": "c4eb1c6cf471c7fc",
        "turned": "44e80b437e22663c",
        "mirrored": "2956f12ababb2f0a",
        "near": "6c0fdb3923bf9887",
        "far": "1bee30bba62ba7b6",
    },
    "outer-eyes": {
        "upright": "f79a746f5f1e6321",
        "turned": "bcb27543cd06a613",
        "mirrored": "686cdc35bd2b9afa",
        "near": "d308c3ebe0920eee",
        "far": "f096a4c26aa25a35",
    },
    "five-points": {
        "upright": "3151f88f1a6c2736",
        "turned": "a87a6b56e181d543",
        "mirrored": "91e01dba471b5857",
        "near": "bae80097ab385ba3",
        "far": "1f5c6acc361b1ac8",
    },
}
"""SHA-256, shortened, of crops of 180 pixels a side by openface's AlignDlib, or with its template, and OpenCV 4.14."""


@dataclass(frozen=True, slots=True)
class Pose:
    """A task: the portrait in one pose, as a PNG, and the landmarks by which it is aligned."""

    name: str
    landmarks: str
    model: str
    image: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """What came out of a pose: the crop's digest, and whether box and landmarks are those of dlib's own classes."""

    digest: str
    box_as_dlib: bool
    points_as_dlib: bool


def check_pose(pose: Pose) -> Checked:
    """Map function: align one pose, and look at it with dlib itself."""
    params = Params(landmarks=pose.landmarks)
    image = np.asarray(cv2.cvtColor(_decoded(pose.image), cv2.COLOR_BGR2RGB), np.uint8)
    (face,) = models.aligner(params, pose.model).align(image).faces
    detector, predictor = plain(pose.landmarks)
    box = max(detector(image, params.upsample), key=lambda each: each.width() * each.height())
    points = [(part.x, part.y) for part in predictor(image, box).parts()]
    return Checked(
        hashlib.sha256(face.crop.tobytes()).hexdigest()[:16],
        face.box == (box.left(), box.top(), box.right(), box.bottom()),
        face.points.tolist() == [list(point) for point in points],
    )


@worker_resource
def plain(landmarks: str) -> tuple[Any, Any]:
    """Return dlib's own detector and predictor, as any program makes them."""
    import dlib

    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(models.packaged(landmarks)))


def _decoded(content: bytes) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def run(session: Session, params: ValidateParams) -> int:
    """Command: check crops, boxes and landmarks on the selected backend, and say so in one table."""
    names = {landmarks: models.model_hash(Params(landmarks=landmarks)) for landmarks in DIGESTS}
    images = {name: cv2.imencode(".png", variant(portrait(), **pose))[1].tobytes() for name, pose in POSES.items()}
    poses = [Pose(name, landmarks, names[landmarks], images[name]) for landmarks in DIGESTS for name in POSES]
    futures = session.executor.map(check_pose, poses, label="validate")
    checks: list[Check] = []
    agreed: Counter[str] = Counter()
    for pose, future in zip(poses, futures, strict=True):
        about, expected = f"crop, {pose.name}, {pose.landmarks}", DIGESTS[pose.landmarks][pose.name]
        try:
            found: Checked = future.result()
        except TaskError as error:
            checks.append(Check(about, "stored digest", expected, str(error).splitlines()[0], False))
            continue
        checks.append(Check(about, "stored digest", expected, found.digest, found.digest == expected))
        agreed.update(box=found.box_as_dlib, landmarks=found.points_as_dlib)
    for what, own in (("box", "detector"), ("landmarks", "predictor")):
        told = (f"{what} of every pose", f"dlib's own {own}", f"{len(poses)} alike", f"{agreed[what]} alike")
        checks.append(Check(*told, agreed[what] == len(poses)))
    return show_checks(session, "Face alignment", checks)
