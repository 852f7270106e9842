"""Parameters of the commands: the same for flags, TOML and Python."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from apps._frame.params import (
    MISSING,
    Parser,
    check_fields,
    choice,
    number,
    optional,
    setting,
    several,
    switch,
    text,
    whole,
)
from core import ConfigError

STATS = ("median", "mean")
RESAMPLE = ("reject", "nearest", "bilinear")
MASKS = ("auto", "none")
CELL, TILE_CELL = 2048, 1024
"""Pixels a side of a cell, and of one where all scenes are of one tile, which then begins at the tile's corner."""


def _place(value: Any) -> str:
    """Accept an address; a path is taken from the working folder of now, so that a run can be resumed elsewhere."""
    place = text(value)
    if "://" in place or not place:
        return place
    path = os.path.abspath(os.path.expanduser(place))
    return f"{path}/" if place.endswith("/") and path != "/" else path


def _cell(value: Any) -> int:
    side = whole(64, 8192)(value)
    if side % 16:
        raise ValueError
    return side


def _function(value: Any) -> str:
    given = text(value)
    if not given:
        return given
    path, colon, name = given.rpartition(":")
    if not (colon and path and name.isidentifier()):
        raise ValueError
    return f"{os.path.abspath(os.path.expanduser(path))}:{name}"


def _box(value: Any) -> tuple[float, ...]:
    box = several(number(-180, 180))(value)
    west, south, east, north = box
    if not (-90 <= south < north <= 90) or west == east:
        raise ValueError
    return box


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Which scenes, and everything that decides what becomes of them."""

    input: tuple[str, ...] = setting(
        (), several(Parser(_place, "an address")), "an address, or several separated by commas",
        "STAC items, a catalogue, a prefix, SAFE products, Landsat products or GeoTIFFs; an example unless given",
        "ADDRESS",
    )  # fmt: skip
    bands: tuple[str, ...] = setting(
        ("blue", "green", "red", "nir"), several(text, distinct=True), "different names separated by commas",
        "bands by common name or key of asset", "NAMES",
    )  # fmt: skip
    stat: str = setting("median", choice(*STATS), doc="of the valid dates: median, mean", metavar="NAME")
    zones: str = setting(
        "", _place, "a GeoJSON file", "areas for which statistics are made, longitude and latitude", "FILE"
    )
    cell: int | None = setting(
        None, optional(_cell), "a multiple of 16 from 64 to 8192",
        "pixels a side of a cell: 2048, or 1024 for a single tile; halved until one fits into --memory-mb", "PIXELS",
    )  # fmt: skip
    memory_mb: int = setting(2048, whole(256), doc="memory of a worker, megabytes", metavar="MB")
    resolution: float | None = setting(
        None, optional(number(0.01, 10_000)), "metres from 0.01 to 10000",
        "pixels of a zone; those of most scenes unless given", "METRES",
    )  # fmt: skip
    resample: str = setting(
        "reject", choice(*RESAMPLE), f"one of {', '.join(RESAMPLE)}",
        "what becomes of bands that are not on the zone's pixels: reject, nearest, bilinear", "RULE",
    )  # fmt: skip
    mask: str = setting(
        "auto", choice(*MASKS), f"one of {', '.join(MASKS)}", "clouds by the scene's own mask, or none", "NAME"
    )
    scl_invalid: tuple[int, ...] = setting(
        (0, 1, 3, 8, 9, 10), several(whole(0, 11), distinct=True, ordered=True), "classes from 0 to 11",
        "classes of Sentinel-2's scene classification that are left out", "CLASSES",
    )  # fmt: skip
    water: float = setting(0.0, number(-1, 1), doc="NDWI above which a pixel is water", metavar="NDWI")
    change: str = setting(
        "", text, "a date such as 2025-06-30",
        "day from which on dates count as later, for NDVI change; the middle one unless given", "DATE",
    )  # fmt: skip
    scale: float | None = setting(
        None,
        optional(number(0, 1e6, open_ends=True)),
        "a number above 0",
        "reflectance of one step, over what metadata say",
        "NUMBER",
    )
    offset: float | None = setting(
        None,
        optional(number(-10, 10)),
        "a number from -10 to 10",
        "reflectance of number 0, over what metadata say",
        "NUMBER",
    )
    nodata: float | None = setting(
        None, optional(number()), "a number", "the number that stands for no data, over what metadata say", "NUMBER"
    )
    band_names: tuple[str, ...] = setting(
        (),
        several(text, distinct=True),
        "different names separated by commas",
        "bands of plain GeoTIFFs in order",
        "NAMES",
    )
    date: str = setting("", text, "a date", "of plain GeoTIFFs, if their names do not have it", "DATE")
    checksums: bool = setting(
        True, switch, doc="read scenes whole where their items have checksums, and compare", metavar="TRUE|FALSE"
    )
    strict: bool = setting(False, switch, doc="reject scenes with warnings, in strips, or in JPEG 2000")
    function: str = setting(
        "", _function, "FILE.py:name", "your own function of a cell in place of composite and indices", "FILE.py:NAME"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.bands:
            raise ConfigError("--bands: name at least one band")
        if any("/" in each or not each.strip() for each in self.bands):
            raise ConfigError("--bands: a band's name is not empty and has no slash")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryParams:
    """Of ``query``: which part of which run."""

    output: str = setting(MISSING, _place, "the folder or prefix of a run", "the run", "RUN")
    bbox: tuple[float, ...] = setting(
        MISSING, Parser(_box, "west,south,east,north in degrees; west above east lies across 180"),
        doc="area, degrees", metavar="W,S,E,N",
    )  # fmt: skip
    result: str = setting(MISSING, _place, "a folder", "where what is found goes", "DIR")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyParams:
    """Of ``verify``: which run."""

    output: str = setting(MISSING, _place, "the folder or prefix of a run", "the run", "RUN")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateParams:
    """Of ``validate``: nothing but where it runs."""
