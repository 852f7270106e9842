"""Faces of image batches: the largest face of each image found, aligned by its landmarks, and cropped.

``from apps.face_align import align; align("s3://bucket/photos", "s3://bucket/faces")``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apps.face_align.stages import align

__all__ = ["align"]


def __getattr__(name: str) -> Any:
    """Load the stages on first use, so that ``--help`` needs no numpy."""
    if name == "align":
        from apps.face_align.packages import check_installed

        check_installed()
        from apps.face_align.stages import align

        return align
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
