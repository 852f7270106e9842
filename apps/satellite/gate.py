"""The gate: a scene is opened, its header compared with what is said of it, and it passes or is rejected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apps._frame.stored import Stored
from apps.satellite.cog import Band, cog_bytes
from apps.satellite.dataset import object_at
from apps.satellite.formats.draft import Claim, Draft
from apps.satellite.formats.sentinel2 import FIRST_WITH_OFFSET, OFFSET
from apps.satellite.params import Params
from apps.satellite.rasters import HEADER, gdal, opened, tiles
from apps.satellite.records import Asset, Rejected, Scene, with_warning
from apps.satellite.science.grid import Raster
from apps.satellite.science.reflectance import SATURATED

EARTH_RADIUS = (6_300_000.0, 6_400_000.0)
"""Metres between which semi-major axes of ellipsoids of the earth lie."""
LARGEST_TILE = 64 << 20
"""Pixels of a tile or strip at most; one that claims more is there to fill a worker's memory."""
SAMPLE = 256
"""Pixels a side of the windows in which dark pixels are looked for."""
DARK = 0.01
"""Reflectance by which the darkest hundredth of a band may lie below 0, or short of what an offset adds."""
HASHED = 4 << 20
_HASHES = {"1220": "sha256", "1620": "sha3_256"}
"""How multihashes begin, by their code and their length of 32; source: the multicodec table."""

Keep = Callable[[str, bytes], str]
"""Writes an object beside the output of a task, by name; returns its key."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a raster says of itself."""

    raster: Raster
    epsg: int
    dtype: str
    nodata: float | None
    count: int
    is_tiff: bool
    is_tiled: bool
    fast: bool
    scales: tuple[float, ...]
    offsets: tuple[float, ...]


def admit(draft: Draft, params: Params, keep: Keep | None) -> Scene:
    """Open a scene, and return it as it passes the gate; by its headers alone if nothing is to be kept.

    Raises
    ------
    Rejected
        It does not; says why.
    """
    if draft.mask is None and params.mask != "none":
        raise Rejected("it has no mask of clouds; --mask none goes without")
    assets, epsgs = {}, set()
    for name, claim in draft.bands.items():
        assets[name], epsg = _asset(name, claim, params, keep, is_mask=False)
        epsgs.add(epsg)
    mask = None
    if draft.mask is not None and params.mask != "none":
        mask, epsg = _asset(draft.mask_kind, draft.mask, params, keep, is_mask=True)
        epsgs.add(epsg)
    if len(epsgs) > 1:
        raise Rejected(f"its assets are in several systems, EPSG:{', '.join(map(str, sorted(epsgs)))}")
    sizes = {(asset.raster.x_size, asset.raster.y_size) for asset in assets.values()}
    if len(sizes) > 1 and params.resample == "reject":
        told = ", ".join(f"{name} {asset.raster.x_size:g} m" for name, asset in assets.items())
        raise Rejected(f"its bands are of several resolutions ({told}); name a rule by --resample")
    scene = Scene(
        draft.name, draft.source, draft.when, draft.platform, draft.datatake, draft.tile, draft.version, epsgs.pop(),
        assets, mask, draft.mask_kind if mask is not None else "", draft.warnings,
    )  # fmt: skip
    if draft.is_sentinel2 and keep is not None:
        scene = _judged(scene, draft.baseline)
    if params.strict and scene.warnings:
        raise Rejected("; ".join(scene.warnings))
    return scene


def _asset(name: str, claim: Claim, params: Params, keep: Keep | None, *, is_mask: bool) -> tuple[Asset, int]:
    source = _found(name, claim)
    checksum = claim.checksum if params.checksums and keep is not None else ""
    if claim.member or is_jpeg(source):
        if params.strict:
            raise Rejected(f"{name} is JPEG 2000, and --strict wants cloud-optimized GeoTIFF")
        source = _begun(name, claim, source) if keep is None else _converted(name, claim, source, checksum, keep)
        claim = replace(claim, index=1)
    elif checksum:
        _compare_checksum(name, checksum, source)
    header = _header(name, source)
    _compare(name, claim, header)
    if params.strict and not header.is_tiled:
        raise Rejected(f"{name} is in strips, and --strict wants cloud-optimized GeoTIFF")
    if is_mask:
        return Asset(source, claim.index, header.raster, header.dtype, fast=header.fast), header.epsg
    nodata = _nodata(name, claim, header, params)
    scale, offset = _calibration(name, claim, header, params)
    return Asset(
        source, claim.index, header.raster, header.dtype, scale, offset, nodata, header.fast
    ), header.epsg  # fmt: skip


def _found(name: str, claim: Claim) -> Stored:
    """Return the object of an asset with its size and tag."""
    if claim.stored is not None:
        return claim.stored
    try:
        return object_at(claim.href)
    except FileNotFoundError:
        raise Rejected(f"{name} is missing: there is no {claim.href}") from None


def _compare_checksum(name: str, told: str, source: Stored) -> None:
    kind = _HASHES.get(told[:4])
    if kind is None:
        raise Rejected(
            f"the checksum of {name} is of a kind that is not known ({told[:8]}...); --checksums false goes without"
        )
    digest = hashlib.new(kind)
    with opened(source) as file:
        while block := file.read(HASHED):
            digest.update(block)
    if digest.hexdigest() != told[4:].lower():
        shown = kind.upper().replace("SHA256", "SHA-256").replace("_", "-")
        raise Rejected(
            f"{name} is damaged: its {shown} is not the one of its metadata; --checksums false takes it as it is"
        )


def _header(name: str, source: Stored) -> Header:
    """Read a header, and refuse what no pixel can be placed by."""
    from rasterio.errors import RasterioError

    try:
        with gdal(source) as dataset:
            return _placed(name, source, dataset)
    except RasterioError as error:
        raise Rejected(f"{name} cannot be read as a raster: {_first_line(error)}") from None


def _placed(name: str, source: Stored, dataset: Any) -> Header:
    transform, crs = dataset.transform, dataset.crs
    if crs is None:
        points = " but ground control points" if dataset.gcps[0] else ""
        raise Rejected(f"{name} has no reference system{points}")
    if transform.b or transform.d:
        raise Rejected(f"{name} is rotated")
    if transform.e >= 0 or transform.a <= 0:
        raise Rejected(f"{name} is not north up")
    epsg = _projected(name, crs)
    blocks = dataset.block_shapes[0]
    if blocks[0] * blocks[1] > LARGEST_TILE:
        raise Rejected(f"{name} has tiles of {blocks[0]:,} by {blocks[1]:,} pixels")
    is_tiff = dataset.driver in ("GTiff", "COG")
    found = tiles(source) if is_tiff else None
    if found is not None and found.end > source.size:
        raise Rejected(f"{name} is truncated: {source.size:,} bytes of at least {found.end:,}")
    raster = Raster(transform.c, transform.f, transform.a, -transform.e, dataset.width, dataset.height)
    return Header(
        raster, epsg, str(dataset.dtypes[0]), dataset.nodata, dataset.count, is_tiff,
        found is not None and found.is_tiled, found is not None and found.fast, dataset.scales, dataset.offsets,
    )  # fmt: skip


def _projected(name: str, crs: Any) -> int:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        known = CRS.from_wkt(crs.to_wkt())
    except CRSError as error:
        raise Rejected(f"{name} has a reference system that PROJ does not know: {_first_line(error)}") from None
    if known.ellipsoid is None or not EARTH_RADIUS[0] < known.ellipsoid.semi_major_metre < EARTH_RADIUS[1]:
        raise Rejected(f"{name} is not of the earth ({known.name})")
    if known.is_geographic:
        raise Rejected(f"{name} is in degrees ({known.name}); cells are squares of metres")
    epsg = crs.to_epsg() or known.to_epsg()
    if epsg is None or not known.is_projected or known.axis_info[0].unit_conversion_factor != 1:
        raise Rejected(f"{name} is in {known.name}, which is no system of EPSG in metres")
    return int(epsg)


def _compare(name: str, claim: Claim, header: Header) -> None:
    """Refuse a header that is not what metadata say of it."""
    if claim.index > header.count:
        raise Rejected(f"{name} is said to be band {claim.index}, and the file has {header.count}")
    if claim.epsg is not None and claim.epsg != header.epsg:
        raise Rejected(f"{name} is in EPSG:{header.epsg}, and said to be in EPSG:{claim.epsg}")
    shape = (header.raster.height, header.raster.width)
    if claim.shape is not None and claim.shape != shape:
        raise Rejected(
            f"{name} has {shape[0]:,} by {shape[1]:,} pixels, and is said to have {claim.shape[0]:,} by "
            f"{claim.shape[1]:,}"
        )
    if claim.transform is not None and not np.allclose(claim.transform, header.raster.transform, rtol=0, atol=1e-3):
        raise Rejected(
            f"{name} lies at {_corner(header.raster.transform)}, and is said to lie at {_corner(claim.transform)}"
        )


def _corner(transform: tuple[float, ...]) -> str:
    return f"{transform[2]:g}, {transform[5]:g} (pixels of {transform[0]:g})"


def _nodata(name: str, claim: Claim, header: Header, params: Params) -> float | None:
    if params.nodata is not None:
        return params.nodata
    told, own = claim.nodata, header.nodata
    if told is not None and own is not None and told != own and not (np.isnan(told) and np.isnan(own)):
        raise Rejected(f"{name} has {own:g} for no data, and is said to have {told:g}")
    found = own if told is None else told
    if found is None and not header.dtype.startswith("float"):
        raise Rejected(f"nothing says which number of {name} stands for no data; give --nodata")
    if found is not None and not _may_be(found, header.dtype):
        raise Rejected(f"{name} has numbers of {header.dtype}, and none can be {found:g} for no data; give --nodata")
    return found


def _may_be(number: float, dtype: str) -> bool:
    """Whether a pixel can be a number; one that says 'no data' by what no pixel can be does not say it."""
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        return True
    return float(number).is_integer() and np.iinfo(kind).min <= number <= np.iinfo(kind).max


def _calibration(name: str, claim: Claim, header: Header, params: Params) -> tuple[float, float]:
    """Return scale and offset: those of flags, else of metadata, which the header must not contradict."""
    own_scale, own_offset = header.scales[claim.index - 1], header.offsets[claim.index - 1]
    scale = _agreed(name, "scale", (params.scale, claim.scale), None if own_scale == 1 else own_scale)
    offset = _agreed(name, "offset", (params.offset, claim.offset), None if own_offset == 0 else own_offset)
    if scale is None:
        raise Rejected(f"nothing says what reflectance a step of {name} is; give --scale (and --offset)")
    return scale, offset or 0.0


def _agreed(name: str, what: str, told: tuple[float | None, float | None], own: float | None) -> float | None:
    flag, claimed = told
    if flag is not None:
        return flag
    if claimed is None or own is None:
        return own if claimed is None else claimed
    if not np.isclose(claimed, own, rtol=1e-6, atol=0):
        raise Rejected(f"{name} has {what} {own:g}, and is said to have {claimed:g}; give --{what}")
    return claimed


def is_jpeg(source: Stored) -> bool:
    """Whether an object is JPEG 2000, by its name."""
    return source.key.lower().endswith((".jp2", ".j2k"))


def _begun(name: str, claim: Claim, source: Stored) -> Stored:
    """Return an image of which only the beginning is at hand, if it has to be unpacked."""
    if not claim.member:
        return source
    data, size = _member(name, claim, source, HEADER)
    return replace(source, key=claim.member, size=size, data=data)


def _member(name: str, claim: Claim, source: Stored, length: int = -1) -> tuple[bytes, int]:
    """Return what a member of an archive has, all of it or its beginning, and its size."""
    from zipfile import BadZipFile, ZipFile

    try:
        with opened(source) as file, ZipFile(file) as archive, archive.open(claim.member) as member:
            return member.read(length), archive.getinfo(claim.member).file_size
    except (BadZipFile, KeyError, EOFError, ValueError) as error:
        raise Rejected(f"{name} cannot be unpacked: {_first_line(error)}") from None


def _converted(name: str, claim: Claim, source: Stored, checksum: str, keep: Keep) -> Stored:
    """Write a JPEG 2000 image, which can only be decoded in whole tiles, as a GeoTIFF once.

    Without a checksum its damage may pass: what is missing behind the beginning of a tile decodes as if it were smooth.
    """
    from rasterio.errors import RasterioError

    if claim.member:
        data, size = _member(name, claim, source)
        source = replace(source, key=claim.member, size=size, data=data)
    if checksum:
        source = replace(source, data=source.read())  # once, to be hashed and to be decoded
        _compare_checksum(name, checksum, source)
    try:
        with gdal(source, HASHED) as dataset:
            header = _placed(name, source, dataset)
            image = dataset.read(claim.index)
    except RasterioError as error:
        raise Rejected(f"{name} cannot be decoded: {_first_line(error)}") from None
    written = cog_bytes([Band(name, image, mean=False)], header.raster, header.epsg, header.nodata)
    tag = f"sha256:{hashlib.sha256(written).hexdigest()}"
    return Stored("", keep(f"{name}.tif", written), len(written), tag, written)


def _judged(scene: Scene, baseline: str) -> Scene:
    """Warn where the darkest pixels say that the offset is another than metadata have it.

    Public catalogues have said of one processing baseline both that the offset is in the numbers and that it is not.
    Reflectance below zero is odd in any band. A single band may be bright without fault, so of those without an offset
    the darkest decides.
    """
    numbers = {name: _darkest(asset) for name, asset in scene.bands.items()}
    dark = {
        name: number * scene.bands[name].scale + scene.bands[name].offset
        for name, number in numbers.items()
        if number is not None
    }
    below = {name: value for name, value in dark.items() if scene.bands[name].offset < 0 and value < -DARK}
    if below:
        offset = scene.bands[min(below, key=lambda name: below[name])].offset
        words = f"with an offset of {offset:g}, which seems to be applied already"
        scene = with_warning(scene, f"{', '.join(below)}: darkest pixels have {min(below.values()):.3f} {words}")
    plain = {name: value for name, value in dark.items() if scene.bands[name].offset == 0}
    late = baseline.replace(".", "").isdigit() and float(baseline) >= FIRST_WITH_OFFSET
    if late and plain and min(plain.values()) > -OFFSET - DARK:
        words = "without an offset: it seems to be missing"
        scene = with_warning(scene, f"{', '.join(plain)}: darkest pixels have {min(plain.values()):.3f} {words}")
    return scene


def _darkest(asset: Asset) -> float | None:
    """Return the number that a hundredth of valid pixels has at most, of windows spread over a scene.

    Windows begin at multiples of their side, so that each lies in one tile of the usual sides.
    """
    from apps.satellite.rasters import read_window

    found = []
    raster = asset.raster
    for down, right in ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
        top = max(0, min(round(raster.height * down) - SAMPLE // 2, raster.height - SAMPLE)) // SAMPLE * SAMPLE
        left = max(0, min(round(raster.width * right) - SAMPLE // 2, raster.width - SAMPLE)) // SAMPLE * SAMPLE
        rows, columns = (top, min(top + SAMPLE, raster.height)), (left, min(left + SAMPLE, raster.width))
        try:
            window = read_window(asset, rows, columns)
        except ConnectionError:
            raise
        except Exception:  # what is damaged costs its scene where it is needed, wherever in it that is
            continue
        found.append(window[(window != asset.nodata) & (window != SATURATED)])
    valid = np.concatenate([np.empty(0), *found])
    valid = valid[np.isfinite(valid)]
    return float(np.percentile(valid, 1)) if valid.size else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
