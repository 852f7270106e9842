"""The user's own function of a cell, in place of composite and indices: arrays in, arrays and features out."""

from __future__ import annotations

import json
import linecache
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps.satellite.modules import Files, beside, importable
from apps.satellite.science.reflectance import NODATA, SCALE
from core import ConfigError, InputError


@dataclass(frozen=True, slots=True)
class CellStack:
    """What the function is given.

    Attributes
    ----------
    values : ndarray of int16, shape (dates, bands, height, width)
        Reflectance in steps of `scale`; anything where it is not valid.
    valid : ndarray of bool, shape (dates, height, width)
    bands : tuple of str
    dates : tuple of str
        UTC, ISO 8601.
    transform : tuple of float
        From column and row to coordinates of the zone, as rasterio has it.
    epsg : int
        Of the zone.
    nodata : int
        What stands for no value in what is returned as integers; NaN does in floats.
    """

    values: NDArray[np.int16]
    valid: NDArray[np.bool_]
    bands: tuple[str, ...]
    dates: tuple[str, ...]
    transform: tuple[float, ...]
    epsg: int
    nodata: int = NODATA
    scale: float = SCALE


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function by its name and its sources, so that it reaches every worker and is known by content.

    Attributes
    ----------
    file, name : str
        Of its file, and of itself in it.
    source : str
    modules : tuple of (str, str)
        Names and sources of the modules beside it that it imports.
    """

    file: str
    name: str
    source: str
    modules: Files = ()


def load(given: str) -> UserFunction | None:
    """Return the function that ``FILE.py:name`` names; None of an empty text.

    Raises
    ------
    ConfigError
        The file cannot be read, or has no such function.
    """
    if not given:
        return None
    path, _, name = given.rpartition(":")
    try:
        source = Path(path).read_text("utf-8")
        found = UserFunction(posixpath.basename(path), name, source, beside(source, Path(path).parent))
        compiled(found)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"--function {given}: {error}") from None
    except Exception as error:
        raise ConfigError(f"--function {given}: {path} cannot be run: {error!r}") from error
    return found


@lru_cache(maxsize=4)
def compiled(function: UserFunction) -> Callable[[CellStack], Any]:
    """Return the function itself; its lines show in tracebacks."""
    lines = function.source.splitlines(keepends=True)
    linecache.cache[function.file] = (len(function.source), None, lines, function.file)
    scope: dict[str, Any] = {"__name__": "satellite_function", "__file__": function.file}
    with importable(function.modules):
        exec(compile(function.source, function.file, "exec"), scope)
    if not callable(scope.get(function.name)):
        raise InputError(f"{function.file} has no function {function.name}")
    found: Callable[[CellStack], Any] = scope[function.name]
    return found


def call(function: UserFunction, stack: CellStack) -> tuple[dict[str, NDArray[Any]], list[tuple[Any, str]]]:
    """Run the function on a cell; returns bands by name, and features with their properties as JSON.

    Raises
    ------
    InputError
        What it returned is none of this.
    """
    run = compiled(function)
    with importable(function.modules):  # what the function imports when it runs
        returned = run(stack)
    arrays, features = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, [])
    where = f"{function.name} of {function.file}"
    if not isinstance(arrays, Mapping) or not arrays:
        raise InputError(f"{where} returned {type(arrays).__name__}; expected arrays by name, or these and features")
    shape = stack.valid.shape[1:]
    images = {str(name): np.asarray(image) for name, image in arrays.items()}
    if len(images) < len(arrays) or not all(images):
        raise InputError(f"{where} returned images whose names are empty or the same: {', '.join(map(repr, arrays))}")
    for name, image in images.items():
        if image.shape != shape or image.dtype.kind not in "biuf":
            raise InputError(
                f"{where} returned {name} of {image.dtype} {image.shape}; expected numbers of shape {shape}"
            )
    layer = _features(features, _bounds(stack), where)
    if any(image.dtype.kind == "f" for image in images.values()):
        return {name: _floats(name, image, where) for name, image in images.items()}, layer
    return {name: _integers(name, image, where) for name, image in images.items()}, layer


def _bounds(stack: CellStack) -> Any:
    x_size, _, left, _, y_size, top = stack.transform
    height, width = stack.valid.shape[1:]
    return shapely.box(left, top + y_size * height, left + x_size * width, top)


def _floats(name: str, image: NDArray[Any], where: str) -> NDArray[np.float32]:
    if image.dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrow = image.astype(np.float32)
        if (np.isinf(narrow) & np.isfinite(image)).any():
            raise InputError(f"{where} returned {name} beyond floats of 32 bits")
        return narrow
    whole = _integers(name, image, where)
    return np.where(whole == NODATA, np.nan, whole).astype(np.float32)


def _integers(name: str, image: NDArray[Any], where: str) -> NDArray[np.int16]:
    if image.size and not -32768 <= int(image.min()) <= int(image.max()) <= 32767:
        raise InputError(f"{where} returned {name} beyond 16 bits; return floats")
    return image.astype(np.int16)


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


def _features(features: Sequence[Any], bounds: Any, where: str) -> list[tuple[Any, str]]:
    made = []
    for feature in features:
        try:
            shape, properties = feature
            outline = shapely.geometry.shape(shape) if isinstance(shape, Mapping) else shape
            made.append((outline, json.dumps(dict(properties), sort_keys=True, allow_nan=False, default=_plain)))
        except (TypeError, ValueError, shapely.errors.ShapelyError) as error:
            raise InputError(f"{where} returned a feature that is no pair of shape and properties: {error}") from None
        if not isinstance(outline, shapely.Geometry):
            raise InputError(f"{where} returned a feature whose shape is {type(outline).__name__}")
        if not outline.is_valid:
            raise InputError(f"{where} returned a feature that is not valid: {shapely.is_valid_reason(outline)}")
        if not outline.intersects(bounds):
            raise InputError(
                f"{where} returned a feature outside its cell; shapes are in the coordinates of transform and epsg"
            )
    return made
