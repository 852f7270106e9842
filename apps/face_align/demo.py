"""A small batch for trying: photographs that an installed package ships, varied, and the faults that batches have."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from apps.face_align.science.geometry import Image
from core import ConfigError

PORTRAIT = "astronaut.png"
"""NASA's photograph of Eileen Collins, in the public domain, as scikit-image ships it."""
OTHERS = ("camera.png", "chelsea.png", "coffee.png", "rocket.jpg")
"""Photographs in which no face looks at the camera."""
_HEAD = (slice(0, 300), slice(70, 370))
"""Rows and columns of the portrait around the head, pixels."""


def photographs() -> Path:
    """Return the folder of the package's photographs.

    Raises
    ------
    ConfigError
        The package is not installed.
    """
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ConfigError("no photographs to demonstrate with: name a folder of images, or pip install scikit-image")
    return Path(spec.origin).parent / "data"


def portrait() -> Image:
    """Return the portrait's head and shoulders, uint8 (300, 300, 3), BGR."""
    return np.asarray(cv2.imread(str(photographs() / PORTRAIT)), np.uint8)[_HEAD]


def variant(image: Image, *, angle: float = 0.0, scale: float = 1.0, flip: bool = False, gain: float = 1.0) -> Image:
    """Return an image turned by degrees about its centre, scaled about it, mirrored, and with another exposure."""
    height, width = image.shape[:2]
    turned = cv2.warpAffine(
        image,
        cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale),
        (width, height),
        borderMode=cv2.BORDER_REFLECT,
    )
    turned = cv2.flip(turned, 1) if flip else turned
    return np.asarray(cv2.convertScaleAbs(turned, alpha=gain), np.uint8)


def write_demonstration(folder: Path) -> None:
    """Write about twenty files into a folder: one face in many poses, several, none, odd formats, and damaged files."""
    head = portrait()
    files = {"original/astronaut.png": (photographs() / PORTRAIT).read_bytes()}
    for angle in (-20, -10, 10, 20):
        files[f"turned/{angle:+d}.jpg"] = _encoded(".jpg", variant(head, angle=angle))
    for scale in (0.7, 1.3, 1.6):
        files[f"scaled/{scale}.jpg"] = _encoded(".jpg", variant(head, scale=scale))
    for gain in (0.5, 1.5):
        files[f"exposure/{gain}.webp"] = _encoded(".webp", variant(head, gain=gain, flip=gain > 1))
    files["formats/gray.tif"] = _encoded(".tif", cv2.cvtColor(head, cv2.COLOR_BGR2GRAY))
    files["formats/sixteen-bit.png"] = _encoded(".png", head.astype(np.uint16) * 257)
    files["several/two.jpg"] = _encoded(".jpg", np.hstack([head, variant(head, flip=True, scale=0.8)]))
    for name in OTHERS:
        files[f"no-face/{name}"] = (photographs() / name).read_bytes()
    files["damaged/cut-off.jpg"] = files["turned/+10.jpg"][:5000]
    files["damaged/empty.png"] = b""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _encoded(extension: str, image: NDArray[Any]) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()
