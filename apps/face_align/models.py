"""The models: where they are, and how each worker gets them at once and without a copy of its own."""

from __future__ import annotations

import bz2
import hashlib
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

import numpy as np

from apps.face_align.packages import LANDMARK_PACKAGE
from apps.face_align.params import Params
from apps.face_align.science.aligner import Aligner, Detect
from apps.face_align.science.geometry import ANCHORS
from apps.face_align.science.trees import ModelFormatError, Trees, parse
from core import ConfigError, InputError, open_storage, shared_file, worker_resource

_FILES = {
    "inner-eyes": "shape_predictor_68_face_landmarks.dat",
    "outer-eyes": "shape_predictor_68_face_landmarks.dat",
    "five-points": "shape_predictor_5_face_landmarks.dat",
    "cnn": "mmod_human_face_detector.dat",
}
_LAYOUT = 1
"""Number of the order in which arrays are written below; another one makes another file."""


def packaged(name: str) -> Path:
    """Return the file of a packaged model, by landmark set or detector."""
    # Found, not imported: importing the package needs pkg_resources, which setuptools no longer has.
    spec = find_spec(LANDMARK_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError("the landmark models are not installed; run pip install 'fanfold[faces]'")
    return Path(spec.origin).parent / "models" / _FILES[name]


def read_model(params: Params) -> bytes:
    """Return the content of the landmark model that the parameters name."""
    source = params.landmark_model
    if not source:
        return packaged(params.landmarks).read_bytes()
    parent, _, name = source.rpartition("/")
    content = open_storage(parent or ("/" if source.startswith("/") else ".")).get(name)
    return bz2.decompress(content) if content.startswith(b"BZh") else content


def model_hash(params: Params) -> str:
    """Return the landmark model's hash, having stored its arrays where workers map them.

    Raises
    ------
    InputError
        It is no shape predictor, or has not the landmarks that the parameters ask for.
    """
    content = read_model(params)
    digest = hashlib.sha256(content).hexdigest()[:16]
    try:
        trees = _mapped(digest, lambda: content)
    except ModelFormatError as error:
        raise InputError(f"landmark model {params.landmark_model or 'of the package'}: {error}") from None
    needed = 5 if params.landmarks == "five-points" else 68
    if len(trees.shape) != 2 * needed:
        raise InputError(
            f"--landmark-model {params.landmark_model} has {len(trees.shape) // 2} landmarks, but --landmarks "
            f"{params.landmarks} ({ANCHORS[params.landmarks][0]}) needs {needed}"
        )
    return digest


@worker_resource
def aligner(params: Params, model: str) -> Aligner:
    """Return this worker's aligner; `model` is what ``model_hash`` returned."""
    import cv2

    cv2.setNumThreads(1)  # one worker a processor is parallel enough
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    trees = _mapped(model, lambda: read_model(params))
    wanted = {row.name: getattr(params, row.name) for row in fields(Aligner) if hasattr(params, row.name)}
    return Aligner(detect=_detector(params.detector), predict=trees.predict, **wanted)


def _detector(name: str) -> Detect:
    import dlib

    if name == "cnn":
        return dlib.cnn_face_detection_model_v1(str(packaged("cnn")))  # type: ignore[no-any-return]
    # dlib unpacks its detector anew for every caller, which takes 200 times as long as reading a saved one.
    saved = shared_file(f"face_align/frontal-{version('dlib-bin')}.svm", _save_detector)
    return dlib.fhog_object_detector(str(saved))  # type: ignore[no-any-return]


def _save_detector(file: BinaryIO) -> None:
    import dlib

    with NamedTemporaryFile() as saved:  # dlib writes to names alone
        dlib.get_frontal_face_detector().save(saved.name)
        file.write(Path(saved.name).read_bytes())


def _mapped(digest: str, content: Callable[[], bytes]) -> Trees:
    """Return a shape predictor whose arrays are pages of a file, shared by all processes that map it."""
    path = shared_file(f"face_align/trees-{digest}-{_LAYOUT}.npy", lambda file: _write(parse(content()), file))
    arrays = {}
    with path.open("rb") as file:
        for row in fields(Trees):
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            arrays[row.name] = np.memmap(path, dtype, "r", file.tell(), shape).view(np.ndarray)
            file.seek(arrays[row.name].nbytes, 1)
    return Trees(**arrays)


def _write(trees: Trees, file: BinaryIO) -> None:
    for row in fields(Trees):
        np.lib.format.write_array(file, getattr(trees, row.name), version=(1, 0), allow_pickle=False)
