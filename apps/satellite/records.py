"""What is known of scenes and cells: plain records that travel between stages as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from apps._frame.stored import Stored
from apps.satellite.science.grid import Bounds, Raster

ACCEPTED, REJECTED, SUPERSEDED, DAMAGED = "accepted", "rejected", "superseded", "damaged"
"""What became of a scene; damaged is one whose pixels could not be read where they were needed."""
PASSED_OVER = "passed over"
"""Of a file that may be a scene, and that nothing says is one."""
SCL, QA_PIXEL = "scl", "qa_pixel"
"""Kinds of masks."""


class Rejected(Exception):
    """A scene cannot be used; says why."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A band of a scene, or its mask.

    Attributes
    ----------
    source : Stored
        The object that it is read from, with the tag that it had.
    index : int
        Which band of the file, from 1.
    raster : Raster
    dtype : str
    scale, offset : float
        Reflectance is ``scale * number + offset``.
    nodata : float or None
    fast : bool
        Whether its tiles can be decoded without GDAL.
    masked : bool
        Whether the file itself says by a mask where it has no data.
    """

    source: Stored
    index: int
    raster: Raster
    dtype: str
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    fast: bool = False
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """An acquisition over one footprint, as it passed the gate.

    Attributes
    ----------
    name : str
        Its id.
    source : str
        Address of what it was read from: an item, a product's folder, a file.
    when : str
        Time of acquisition, UTC, ISO 8601.
    datatake : str
        Platform and beginning of the datatake, or pass: scenes with the same one are one measurement.
    tile : str
        Which part of the datatake: tile or row, and datastrip.
    version : tuple of str
        Baseline and time of processing, by which one of several editions is the newest.
    epsg : int
    bands : dict
        Assets by name.
    mask : Asset or None
    mask_kind : str
        "scl", "qa_pixel", or empty.
    warnings : tuple of str
        What was odd about it and did not stop it.
    """

    name: str
    source: str
    when: str
    platform: str
    datatake: str
    tile: str
    version: tuple[str, ...]
    epsg: int
    bands: dict[str, Asset]
    mask: Asset | None
    mask_kind: str
    warnings: tuple[str, ...] = ()

    @property
    def raster(self) -> Raster:
        """Where the pixels of its band with the smallest ones are."""
        return min((band.raster for band in self.bands.values()), key=lambda each: each.x_size)

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top in its zone."""
        return self.raster.bounds


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one scene: a row of the table of scenes."""

    name: str
    source: str
    status: str
    reason: str = ""
    when: str = ""
    platform: str = ""
    tile: str = ""
    version: str = ""
    zone: str = ""
    warnings: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A task: a cell with the scenes that have a part in it, those of one datatake together.

    Attributes
    ----------
    zone : int
        EPSG code.
    x, y : int
        Numbers of the cell, eastward and northward.
    raster : Raster
    anchor : tuple of float
        Where the cell numbered 0, 0 has its lower left corner.
    datatakes : tuple of tuple of Scene
        In the order of their times.
    later : int
        Number of the first datatake that counts as later, for changes.
    zones : tuple
        Number and well-known binary of the zones of statistics that have a part in the cell, in its coordinates.
    """

    zone: int
    x: int
    y: int
    raster: Raster
    anchor: tuple[float, float]
    datatakes: tuple[tuple[Scene, ...], ...]
    later: int
    zones: tuple[tuple[int, bytes], ...] = ()

    @property
    def name(self) -> str:
        """Zone and numbers, such as ``32632/5_-3``."""
        return f"{self.zone}/{self.x}_{self.y}"


@dataclass(frozen=True, slots=True)
class CellDone:
    """What came of a cell.

    Attributes
    ----------
    name : str
    files : dict
        Size and SHA-256 of each file that was written, by name below the cell's folder.
    bands : tuple of str
        Of the composite, in order.
    scales : tuple of float
        What a step of each band is.
    valid : int
        Pixels that have a value.
    dates : tuple of str
        Of the datatakes that had a valid pixel here.
    scenes : tuple of str
        Names of the scenes that were read.
    lost : dict
        Why a scene could not be read here, by its name.
    zonal : dict
        Sums by number of a zone, as text.
    shapes : dict
        What there is in the layer of shapes, where there is one.
    """

    name: str
    files: dict[str, dict[str, Any]]
    bands: tuple[str, ...]
    scales: tuple[float, ...]
    dtype: str
    valid: int
    dates: tuple[str, ...]
    scenes: tuple[str, ...]
    lost: dict[str, str]
    zonal: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    shapes: dict[str, Any] = field(default_factory=dict)


def scene_json(scene: Scene) -> dict[str, Any]:
    """Return a scene as JSON can hold it."""
    made: dict[str, Any] = _without_data(asdict(scene))
    return made


def _without_data(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_data(each) for name, each in value.items() if name != "data"}
    return [_without_data(each) for each in value] if isinstance(value, list | tuple) else value


def scene_from(found: Mapping[str, Any]) -> Scene:
    """Return the scene that ``scene_json`` wrote."""
    bands = {name: _asset(each) for name, each in found["bands"].items()}
    mask = None if found["mask"] is None else _asset(found["mask"])
    told = {"version": tuple(found["version"]), "warnings": tuple(found["warnings"])}
    return Scene(**{**found, **told, "bands": bands, "mask": mask})


def _asset(found: Mapping[str, Any]) -> Asset:
    return Asset(**{**found, "source": Stored(**found["source"]), "raster": Raster(**found["raster"])})


def done_bytes(done: CellDone) -> bytes:
    """Return the record of a cell as a file."""
    return json.dumps(asdict(done), sort_keys=True, indent=1).encode()


def cell_done_from(found: Mapping[str, Any]) -> CellDone:
    """Return the record of a cell from JSON."""
    told = {name: tuple(found[name]) for name in ("bands", "scales", "dates", "scenes")}
    return CellDone(**{**found, **told})


def row_of(scene: Scene, status: str = ACCEPTED, reason: str = "") -> Row:
    """Return the row of a scene."""
    return Row(
        scene.name, scene.source, status, reason, scene.when, scene.platform, scene.tile, " ".join(scene.version),
        str(scene.epsg), "; ".join(scene.warnings),
    )  # fmt: skip


def with_warning(scene: Scene, words: str) -> Scene:
    """Return a scene with one more warning."""
    return replace(scene, warnings=(*scene.warnings, words))
