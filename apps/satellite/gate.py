"""The gate: a scene is opened, its header compared with what is said of it, and it passes or is rejected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from apps._frame.stored import Stored
from apps._frame.tables import counted
from apps.satellite.cog import Band, cog_bytes
from apps.satellite.dataset import object_at
from apps.satellite.formats.draft import Claim, Draft
from apps.satellite.formats.sentinel2 import FIRST_WITH_OFFSET, OFFSET
from apps.satellite.headers import Header, first_line, header_of, placed
from apps.satellite.params import Params
from apps.satellite.rasters import HEADER, gdal, opened
from apps.satellite.records import Asset, Rejected, Scene, with_warning
from apps.satellite.science.reflectance import SATURATED

SAMPLE = 256
"""Pixels a side of the windows in which dark pixels are looked for."""
USUAL_NUMBERS = ("uint16", "int16")
"""What products of level 2 of Sentinel-2 and Landsat are in, for which their usual scales are."""
COMMON_NAMES = frozenset(
    "coastal blue green green05 yellow red rededge rededge071 rededge075 rededge078 nir nir08 nir09 cirrus swir16 "
    "swir22 lwir lwir11 lwir12".split()
)
"""Of bands; source: the electro-optical extension of STAC, version 2."""
DARK = 0.01
"""Reflectance by which the darkest hundredth of a band may lie below 0, or short of what an offset adds."""
HASHED = 4 << 20
_HASHES = {"1220": "sha256", "1620": "sha3_256"}
"""How multihashes begin, by their code and their length of 32; source: the multicodec table."""

Keep = Callable[[str, bytes], str]
"""Writes an object beside the output of a task, by name; returns its key."""


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
    header = header_of(name, source)
    _compare(name, claim, header)
    if params.strict and not header.is_tiled:
        raise Rejected(f"{name} is in strips, and --strict wants cloud-optimized GeoTIFF")
    if is_mask:
        return Asset(source, claim.index, header.raster, header.dtype, fast=header.fast), header.epsg
    _compare_kind(name, claim, header)
    nodata = _nodata(name, claim, header, params)
    scale, offset = _calibration(name, claim, header, params)
    return Asset(
        source, claim.index, header.raster, header.dtype, scale, offset, nodata, header.fast and not header.masked,
        header.masked,
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


def _compare(name: str, claim: Claim, header: Header) -> None:
    """Refuse a header that is not what metadata say of it."""
    if claim.index > header.count:
        raise Rejected(f"{name} is said to be band {claim.index}, and the file has {header.count}")
    if claim.bands is not None and claim.bands != header.count:
        raise Rejected(f"{name} is in a file of {counted(header.count, 'band')}, and is said to be of {claim.bands}")
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


def _compare_kind(name: str, claim: Claim, header: Header) -> None:
    """Refuse a band whose numbers are not what a band's are, or that the file itself calls by the name of another."""
    described = header.descriptions[claim.index - 1]
    if header.dtype.startswith("complex"):
        raise Rejected(f"{name} has complex numbers, which are no reflectance")
    if header.palettes[claim.index - 1]:
        raise Rejected(f"{name} has a table of colours: its numbers stand for classes, not for reflectance")
    same = described.startswith(name) or name.startswith(described)
    if claim.bands is not None and {name, described} <= COMMON_NAMES and not same:
        raise Rejected(f"band {claim.index} of the file calls itself {described}, and is said to be {name}")


def _corner(transform: tuple[float, ...]) -> str:
    return f"{transform[2]:g}, {transform[5]:g} (pixels of {transform[0]:g})"


def _nodata(name: str, claim: Claim, header: Header, params: Params) -> float | None:
    told, own = claim.nodata, header.nodata
    if params.nodata is not None:
        found: float | None = params.nodata
    elif told is not None and own is not None and told != own and not (np.isnan(told) and np.isnan(own)):
        raise Rejected(f"{name} has {own:g} for no data, and is said to have {told:g}")
    else:
        found = own if told is None else told
        if found is None and not header.masked and not header.dtype.startswith("float"):
            raise Rejected(f"nothing says which number of {name} stands for no data; give --nodata")
        if found is not None and not _may_be(found, header.dtype):
            raise Rejected(
                f"{name} has numbers of {header.dtype}, and none can be {found:g} for no data; give --nodata"
            )
    left_out = 0.0 if own is None else own
    if header.is_sparse and found != left_out and not np.isnan(left_out):
        words = "NaN" if found is None else f"{found:g}"
        raise Rejected(
            f"{name} leaves tiles out, which are read as {left_out:g}, and {words} stands for no data; write that into "
            "the file as its no-data value"
        )
    return found


def _may_be(number: float, dtype: str) -> bool:
    """Whether a pixel can be a number; one that says 'no data' by what no pixel can be does not say it."""
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        return True
    return float(number).is_integer() and np.iinfo(kind).min <= number <= np.iinfo(kind).max


def _calibration(name: str, claim: Claim, header: Header, params: Params) -> tuple[float, float]:
    """Return scale and offset: those of flags, else of metadata, which the header must not contradict."""
    if claim.is_usual and params.scale is None and header.dtype not in USUAL_NUMBERS:
        raise Rejected(
            f"{name} has numbers of {header.dtype}, and the scale of these products is that of 16-bit integers; give "
            "--scale and --offset"
        )
    own_scale, own_offset = header.scales[claim.index - 1], header.offsets[claim.index - 1]
    scale = _agreed(name, "scale", (params.scale, claim.scale), None if own_scale == 1 else own_scale)
    offset = _agreed(name, "offset", (params.offset, claim.offset), None if own_offset == 0 else own_offset)
    if scale is None:
        raise Rejected(f"nothing says what reflectance a step of {name} is; give --scale (and --offset)")
    if offset is None and claim.needs_offset:
        raise Rejected(
            f"neither an offset nor a processing baseline is given of {name}, so reflectance would be a guess; give "
            "--offset"
        )
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
        raise Rejected(f"{name} cannot be unpacked: {first_line(error)}") from None


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
            header = placed(name, source, dataset)
            if header.masked:
                raise Rejected(f"{name} is JPEG 2000 with a mask of its own; make a GeoTIFF of it")
            image = dataset.read(claim.index)
    except RasterioError as error:
        raise Rejected(f"{name} cannot be decoded: {first_line(error)}") from None
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
