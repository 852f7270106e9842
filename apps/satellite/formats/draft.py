"""A scene as its metadata claim it to be, before anything of it was opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from apps._frame.stored import Stored
from apps.satellite.records import Rejected


@dataclass(frozen=True, slots=True)
class Claim:
    """What metadata say of a band or mask; None where they say nothing.

    Attributes
    ----------
    href : str
        Address of the object, if `stored` is not known yet.
    member : str
        Path within a zip archive, if the object is one.
    index : int
        Which band of the file, from 1.
    bands : int
        How many the file has.
    scale, offset : float
        Reflectance is ``scale * number + offset``.
    is_usual : bool
        Whether the scale is not said, and is the usual one of such products.
    needs_offset : bool
        Whether some such products have an offset, so that it is not 0 where nothing says it.
    shape : tuple of int
        Height and width.
    transform : tuple of float
        The six numbers of the affine transform.
    checksum : str
        A hexadecimal multihash (as in STAC's file extension), or empty.
    """

    href: str = ""
    stored: Stored | None = None
    member: str = ""
    index: int = 1
    bands: int | None = None
    scale: float | None = None
    offset: float | None = None
    is_usual: bool = False
    needs_offset: bool = False
    nodata: float | None = None
    epsg: int | None = None
    shape: tuple[int, int] | None = None
    transform: tuple[float, ...] | None = None
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What metadata say of a scene; see `records.Scene`.

    Attributes
    ----------
    is_sentinel2 : bool
        Whether its offset is to be judged by dark pixels.
    """

    name: str
    source: str
    when: str
    platform: str
    datatake: str
    tile: str
    version: tuple[str, ...]
    bands: Mapping[str, Claim]
    mask: Claim | None
    mask_kind: str
    is_sentinel2: bool = False
    baseline: str = ""
    warnings: tuple[str, ...] = field(default=())


def utc(text: object, where: str) -> datetime:
    """Return a time in UTC.

    Raises
    ------
    Rejected
        It is none, or does not say of which zone it is.
    """
    try:
        found = datetime.fromisoformat(str(text).strip())
    except ValueError:
        raise Rejected(f"{where} is no time: {text!r}") from None
    if found.tzinfo is None:
        raise Rejected(f"{where} {text!r} does not say its time zone; write it in UTC, with a Z")
    return found.astimezone(UTC)


def written(when: datetime) -> str:
    """Return a time as text, in UTC."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
