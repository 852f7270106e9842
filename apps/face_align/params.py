"""The documented parameter set of an alignment: the same for flags, TOML and API."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from apps._frame.params import check_fields, choice, optional, setting, switch, text, whole
from core import ConfigError

LANDMARKS = ("inner-eyes", "outer-eyes", "five-points")
SELECT = ("largest", "center", "all")
FORMATS = ("keep", "png", "jpg", "webp")
DETECTORS = ("hog", "cnn")

LARGEST_CROP = 4096
"""Pixels a side; a larger crop would only magnify."""


ALGORITHM = 1
"""To be raised when the same parameters give other crops."""


def _place(value: Any) -> str:
    """Accept an address; a path is taken from the working folder of now, so that a run can be resumed elsewhere."""
    place = text(value)
    return place if "://" in place or not place else os.path.abspath(os.path.expanduser(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Which images, and everything that determines their crops."""

    source: str = setting(
        "", _place, "a folder, prefix, archive, list or image", "the images; a demonstration batch unless given",
        "SOURCE", positional=True,
    )  # fmt: skip
    size: int = setting(
        180, whole(8, LARGEST_CROP), f"a whole number from 8 to {LARGEST_CROP}", "pixels a side of a crop", "PIXELS"
    )
    landmarks: str = setting(
        "inner-eyes", choice(*LANDMARKS), f"one of {', '.join(LANDMARKS)}",
        "what is brought to fixed places: inner-eyes (and bottom lip), outer-eyes (and nose), or outer eyes and nose "
        "of the smaller model, five-points", "NAME",
    )  # fmt: skip
    upsample: int = setting(
        1, whole(0, 4), "a whole number from 0 to 4",
        "times the image is doubled before detection; 0 finds faces from 80 pixels on, 1 from 40", "TIMES",
    )  # fmt: skip
    min_face: int = setting(
        0, whole(0, 100_000), "a whole number of at least 0", "pixels a side below which a face is ignored", "PIXELS"
    )
    select: str = setting(
        "largest", choice(*SELECT), f"one of {', '.join(SELECT)}",
        "which faces of an image are cropped: largest, center, all", "NAME",
    )  # fmt: skip
    skip_multi: bool = setting(False, switch, "true or false", "crop nothing from images with several faces")
    format: str = setting(
        "keep", choice(*FORMATS), f"one of {', '.join(FORMATS)}",
        "format of the crops: keep (the input's), png, jpg, webp", "NAME",
    )  # fmt: skip
    quality: int = setting(
        95, whole(1, 100), "a whole number from 1 to 100", "quality of JPEG and WebP crops", "PERCENT"
    )
    max_side: int | None = setting(
        None, optional(whole(64, 100_000)), "a whole number from 64 to 100000",
        "reduce larger images to this many pixels a side first: faster, and no longer pixel for pixel the same",
        "PIXELS",
    )  # fmt: skip
    detector: str = setting(
        "hog", choice(*DETECTORS), f"one of {', '.join(DETECTORS)}",
        "hog, or cnn (finds more faces, a hundred times slower without a GPU)", "NAME",
    )  # fmt: skip
    rotate: bool = setting(
        False, switch, "true or false",
        "turn an image in which no face is found by 90, 180 and 270 degrees, and look again",
    )  # fmt: skip
    rename: bool = setting(
        False, switch, "true or false", "give crops that would have one name different ones, rather than refuse them",
        identity=False,
    )  # fmt: skip
    landmark_model: str = setting(
        "", _place, "a file or URL",
        "dlib shape predictor to use instead of the packaged one: file or URL, .dat or .bz2", "FILE|URL",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)
        if self.skip_multi and self.select == "all":
            raise ConfigError("--skip-multi drops what --select all is for; drop one of the two")

    def fingerprint(self, model: str) -> str:
        """Return a short hash of everything that determines the crops; `model` is the landmark model's own."""
        settings = asdict(self) | {"landmark_model": model, "algorithm": ALGORITHM}
        del settings["rename"], settings["source"]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateParams:
    """Of the command that checks the aligner: nothing but where it runs."""
