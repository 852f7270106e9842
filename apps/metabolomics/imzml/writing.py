"""Writing an imzML pair to any storage, one spectrum at a time, whatever its size."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml.elements import NAMES
from core import ConfigError
from core.storage import open_storage, split_address

CHUNK = 4 << 20
"""Bytes that are handed to the storage at once."""

_ACCESSIONS = {"f4": "MS:1000521", "f8": "MS:1000523", "i4": "MS:1000519", "i8": "MS:1000522"}
_POLARITIES = {"+": ("MS:1000130", "positive scan"), "-": ("MS:1000129", "negative scan")}


class Pixel(NamedTuple):
    """One spectrum to write.

    Parameters
    ----------
    x, y : int
    mz, intensity : array, shape (n,)
    z : int
    """

    x: int
    y: int
    mz: NDArray[np.generic]
    intensity: NDArray[np.generic]
    z: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a pair is written.

    Parameters
    ----------
    continuous : bool
        Write the m/z array once; all spectra must have the same.
    mz, intensity : str
        Element types: ``f4``, ``f8``, ``i4`` or ``i8``.
    compressed : bool
        Pack arrays by zlib.
    polarity : str
        ``+``, ``-`` or empty.
    mode : str
        ``centroid`` or ``profile``.
    pixel_size : float
        In micrometres.
    identifier : bytes
        The 16 bytes of the UUID; drawn at random if empty.
    """

    continuous: bool = False
    mz: str = "f8"
    intensity: str = "f4"
    compressed: bool = False
    polarity: str = "+"
    mode: str = "centroid"
    pixel_size: float = 50.0
    identifier: bytes = field(default=b"")


def write_imzml(address: str, pixels: Iterable[Pixel], form: Format | None = None) -> None:
    """Write a dataset: the .ibd first, whose checksum the .imzML then states.

    Parameters
    ----------
    address : str
        Of the .imzML; a path, or an object's URL.
    pixels : iterable of Pixel
        Read once, in the order in which spectra are written.
    form : Format, optional

    Raises
    ------
    ConfigError
        The address does not end with ``.imzML``.
    ValueError
        A spectrum has not as many m/z as intensities, or not the m/z of the first one in continuous mode.
    """
    storage_address, key = split_address(address)
    if not key.lower().endswith(".imzml"):
        raise ConfigError(f"{address}: the name of a dataset ends with .imzML; write it so")
    form = form or Format()
    writer = _Writer(form, form.identifier or uuid.uuid4().bytes)
    storage = open_storage(storage_address)
    try:
        storage.put(f"{key[: -len('.imzml')]}.ibd", _in_chunks(writer.binary(pixels)))
        storage.put(key, _in_chunks(writer.xml()))
    finally:
        storage.close()


def _in_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


class _Writer:
    def __init__(self, form: Format, identifier: bytes) -> None:
        self.form, self.identifier = form, identifier
        self.checksum = hashlib.sha1(identifier, usedforsecurity=False)
        self.positions = array("l")
        self.places = array("q")  # length, and offset and bytes of m/z and of intensities, of each spectrum

    def binary(self, pixels: Iterable[Pixel]) -> Iterator[bytes]:
        yield self.identifier
        at, shared = len(self.identifier), b""
        shared_place = (0, 0)
        for pixel in pixels:
            if len(pixel.mz) != len(pixel.intensity):
                raise ValueError(
                    f"{len(pixel.mz)} m/z and {len(pixel.intensity)} intensities at ({pixel.x}, {pixel.y})"
                )
            mz, intensity = self._packed(pixel.mz, self.form.mz), self._packed(pixel.intensity, self.form.intensity)
            place = shared_place
            if not (self.form.continuous and shared):
                place = shared_place = at, len(mz)
                shared = mz
                at += len(mz)
                self.checksum.update(mz)
                yield mz
            elif mz != shared:
                raise ValueError(f"the spectrum at ({pixel.x}, {pixel.y}) has not the m/z of the first one")
            self.positions.extend((pixel.x, pixel.y, pixel.z))
            self.places.extend((len(pixel.mz), *place, at, len(intensity)))
            at += len(intensity)
            self.checksum.update(intensity)
            yield intensity

    def _packed(self, values: NDArray[np.generic], element: str) -> bytes:
        data = np.asarray(values).astype(f"<{element}").tobytes()
        return zlib.compress(data) if self.form.compressed else data

    def xml(self) -> Iterator[bytes]:
        yield self._head().encode()
        for number in range(len(self.positions) // 3):
            x, y, z = self.positions[3 * number : 3 * number + 3]
            length, mz_at, mz_bytes, intensity_at, intensity_bytes = self.places[5 * number : 5 * number + 5]
            yield (
                _SPECTRUM
                % (number + 1, number, x, y, z, length, mz_bytes, mz_at, length, intensity_bytes, intensity_at)
            ).encode()
        yield b"</spectrumList></run></mzML>\n"

    def _head(self) -> str:
        form = self.form
        kind = ("IMS:1000030", "continuous") if form.continuous else ("IMS:1000031", "processed")
        mode = ("MS:1000128", "profile spectrum") if form.mode == "profile" else ("MS:1000127", "centroid spectrum")
        packing = ("MS:1000574", "zlib compression") if form.compressed else ("MS:1000576", "no compression")
        polarity = [_POLARITIES[form.polarity]] if form.polarity else []
        external = ("IMS:1000101", "external data", "true")
        arrays = [
            _group(name, [(accession, said), (_ACCESSIONS[element], NAMES[element]), packing, external])
            for name, accession, said, element in (
                ("mzArray", "MS:1000514", "m/z array", form.mz),
                ("intensityArray", "MS:1000515", "intensity array", form.intensity),
            )
        ]
        xs, ys = self.positions[::3], self.positions[1::3]
        micrometre = ' unitCvRef="UO" unitAccession="UO:0000017" unitName="micrometer"'
        size = f"{form.pixel_size:g}"
        return "".join(
            [
                '<?xml version="1.0" encoding="UTF-8"?>\n<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1">\n',
                '<cvList count="3">',
                *(f'<cv id="{name}" fullName="{name}" URI="http://purl.obolibrary.org/obo/{name.lower()}.obo"/>'
                  for name in ("MS", "IMS", "UO")),
                "</cvList>\n<fileDescription><fileContent>",
                _param("MS:1000579", "MS1 spectrum"),
                _param(*mode),
                _param(*kind),
                _param("IMS:1000080", "universally unique identifier", str(uuid.UUID(bytes=self.identifier))),
                _param("IMS:1000091", "ibd SHA-1", self.checksum.hexdigest()),
                "</fileContent></fileDescription>\n",
                '<referenceableParamGroupList count="3">',
                *arrays,
                _group("spectrum", [("MS:1000579", "MS1 spectrum"), ("MS:1000511", "ms level", "1"), mode, *polarity]),
                "</referenceableParamGroupList>\n",
                '<softwareList count="1"><software id="fanfold" version="1"/></softwareList>\n',
                '<scanSettingsList count="1"><scanSettings id="grid">',
                _param("IMS:1000042", "max count of pixels x", str(max(xs, default=0))),
                _param("IMS:1000043", "max count of pixels y", str(max(ys, default=0))),
                _param("IMS:1000046", "pixel size (x)", size, micrometre),
                _param("IMS:1000047", "pixel size y", size, micrometre),
                "</scanSettings></scanSettingsList>\n",
                '<instrumentConfigurationList count="1"><instrumentConfiguration id="instrument"/>',
                "</instrumentConfigurationList>\n",
                '<dataProcessingList count="1"><dataProcessing id="writing"/></dataProcessingList>\n',
                '<run id="run" defaultInstrumentConfigurationRef="instrument">',
                f'<spectrumList count="{len(self.positions) // 3}" defaultDataProcessingRef="writing">\n',
            ]
        )  # fmt: skip


def _param(accession: str, name: str, value: str = "", more: str = "") -> str:
    reference = accession.partition(":")[0]
    return (
        f'<cvParam cvRef="{reference}" accession="{accession}" name={quoteattr(name)} value={quoteattr(value)}{more}/>'
    )


def _group(name: str, params: Iterable[tuple[str, ...]]) -> str:
    inside = "".join(_param(*each) for each in params)
    return f'<referenceableParamGroup id="{name}">{inside}</referenceableParamGroup>'


def _hole(accession: str, name: str) -> str:
    return _param(accession, name, "%d")


def _array(group: str) -> str:
    return (
        f'<binaryDataArray encodedLength="0"><referenceableParamGroupRef ref="{group}"/>'
        + _hole("IMS:1000103", "external array length")
        + _hole("IMS:1000104", "external encoded length")
        + _hole("IMS:1000102", "external offset")
        + "<binary/></binaryDataArray>"
    )


_SPECTRUM = (
    '<spectrum id="Scan=%d" defaultArrayLength="0" index="%d"><referenceableParamGroupRef ref="spectrum"/>'
    '<scanList count="1"><scan instrumentConfigurationRef="instrument">'
    + _hole("IMS:1000050", "position x")
    + _hole("IMS:1000051", "position y")
    + _hole("IMS:1000052", "position z")
    + '</scan></scanList><binaryDataArrayList count="2">'
    + _array("mzArray")
    + _array("intensityArray")
    + "</binaryDataArrayList></spectrum>\n"
)
