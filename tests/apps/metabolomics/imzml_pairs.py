"""Pairs made by code, and a slow and plain reader of them: the reference of the fast one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

UUID = bytes(range(1, 17))
ACCESSIONS = {"f4": "MS:1000521", "f8": "MS:1000523", "i4": "MS:1000519", "i8": "MS:1000522"}
NAMES = {"f4": "32-bit float", "f8": "64-bit float", "i4": "32-bit integer", "i8": "64-bit integer"}


@dataclass
class Peaks:
    """One spectrum of a pair that is made; `extra` is XML that stands within it, `inside` within its scan."""

    x: Any = 1
    y: Any = 1
    mz: Any = (100.0, 200.5, 300.25)
    intensity: Any = (1.0, 2.0, 3.0)
    z: Any = None
    extra: str = ""
    inside: str = ""
    offsets: tuple[Any, Any] | None = None
    lengths: tuple[Any, Any] | None = None
    encoded: tuple[Any, Any] | None = None


@dataclass
class Pair:
    """A pair of files of which everything can be said wrongly."""

    spectra: list[Peaks] = field(default_factory=lambda: [Peaks(1, 1), Peaks(2, 1), Peaks(1, 2), Peaks(2, 2)])
    mz: str = "f8"
    intensity: str = "f4"
    mz_params: str | None = None
    intensity_params: str | None = None
    packed: bool = False
    continuous: bool = False
    content: str = '<cvParam accession="MS:1000127" name="centroid spectrum"/>'
    settings: str = ""
    spectrum: str = '<cvParam accession="MS:1000130" name="positive scan"/>'
    uuid: str = UUID.hex()
    begins: bytes = UUID
    gap: int = 0
    order: list[int] | None = None
    tail: bytes = b""

    def binary(self) -> tuple[bytes, list[dict[str, list[int]]]]:
        """Return the .ibd, and of each spectrum the offsets, lengths and bytes of its arrays."""
        data, shared = bytearray(self.begins), None
        places: list[dict[str, list[int]]] = [{} for _ in self.spectra]
        for number in self.order or range(len(self.spectra)):
            peaks = self.spectra[number]
            where: dict[str, list[int]] = {"offset": [], "length": [], "encoded": []}
            for column, (values, element) in enumerate(((peaks.mz, self.mz), (peaks.intensity, self.intensity))):
                raw = np.asarray(values).astype(f"<{element}").tobytes()
                raw = zlib.compress(raw) if self.packed else raw
                if self.continuous and column == 0 and shared is not None:
                    at = shared
                else:
                    data += b"\xee" * self.gap
                    at = len(data)
                    data += raw
                    shared = at if column == 0 else shared
                where["offset"].append(at)
                where["length"].append(len(values))
                where["encoded"].append(len(raw))
            places[number] = where
        return bytes(data + self.tail), places

    def xml(self, places: list[dict[str, list[int]]]) -> str:
        """Return the .imzML."""
        kind = "MS:1000576" if not self.packed else "MS:1000574"
        packing = f'<cvParam accession="{kind}" name="whether packed"/>'
        groups = []
        for name, accession, element, params in (
            ("mzArray", "MS:1000514", self.mz, self.mz_params),
            ("intensityArray", "MS:1000515", self.intensity, self.intensity_params),
        ):
            if params is None:
                params = f'<cvParam accession="{ACCESSIONS[element]}" name="{NAMES[element]}"/>' + packing
            groups.append(
                f'<referenceableParamGroup id="{name}"><cvParam accession="{accession}" name="what"/>{params}'
                "</referenceableParamGroup>"
            )
        mode = "IMS:1000030" if self.continuous else "IMS:1000031"
        uuid = f'<cvParam accession="IMS:1000080" name="uuid" value="{self.uuid}"/>' if self.uuid else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1">\n'
            f'<fileDescription><fileContent>{uuid}{self.content}<cvParam accession="{mode}" name="mode"/></fileContent>'
            f'</fileDescription>\n<referenceableParamGroupList count="3">{"".join(groups)}'
            f'<referenceableParamGroup id="spectrum">{self.spectrum}</referenceableParamGroup>'
            "</referenceableParamGroupList>\n"
            f'<scanSettingsList count="1"><scanSettings id="s">{self.settings}</scanSettings></scanSettingsList>\n'
            f'<run id="r"><spectrumList count="{len(self.spectra)}">\n'
            + "\n".join(_spectrum(i, *each) for i, each in enumerate(zip(self.spectra, places, strict=True)))
            + "\n</spectrumList></run></mzML>\n"
        )

    def write(self, folder: Path, name: str = "made") -> str:
        """Write both files; returns the path of the .imzML."""
        data, places = self.binary()
        (folder / f"{name}.ibd").write_bytes(data)
        path = folder / f"{name}.imzML"
        path.write_text(self.xml(places))
        return str(path)


def _param(accession: str, value: Any) -> str:
    return "" if value is None else f'<cvParam accession="{accession}" name="a number" value="{value}"/>'


def _spectrum(number: int, peaks: Peaks, where: dict[str, list[int]]) -> str:
    offsets = peaks.offsets or where["offset"]
    lengths = peaks.lengths or where["length"]
    encoded = peaks.encoded or where["encoded"]
    arrays = "".join(
        f'<binaryDataArray encodedLength="0"><referenceableParamGroupRef ref="{group}"/>'
        + _param("IMS:1000103", lengths[i])
        + _param("IMS:1000104", encoded[i])
        + _param("IMS:1000102", offsets[i])
        + "<binary/></binaryDataArray>"
        for i, group in enumerate(("mzArray", "intensityArray"))
    )
    positions = (
        _param("IMS:1000050", peaks.x) + _param("IMS:1000051", peaks.y) + _param("IMS:1000052", peaks.z) + peaks.inside
    )
    return (
        f'<spectrum id="Scan={number + 1}" defaultArrayLength="0" index="{number}">'
        f'<referenceableParamGroupRef ref="spectrum"/>{peaks.extra}<scanList count="1"><scan>{positions}</scan>'
        "</scanList>"
        f'<binaryDataArrayList count="2">{arrays}</binaryDataArrayList></spectrum>'
    )


def replaced(path: str, *changes: tuple[str, str], times: int = -1) -> str:
    """Change the text of an .imzML; each change must find its text."""
    text = Path(path).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, times)
    Path(path).write_text(text)
    return path


@dataclass(frozen=True)
class Read:
    """What the slow reader makes of a spectrum."""

    number: int
    x: int
    y: int
    z: int | None
    mz: list[float]
    intensity: list[float]


def slow_reader(path: str) -> list[Read]:
    """Read a pair by ElementTree, one number at a time; fails on whatever is not plain and right."""
    root = ElementTree.fromstring(Path(path).read_bytes())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    groups = {group.get("id"): list(group.iter("cvParam")) for group in root.iter("referenceableParamGroup")}

    def params(element: ElementTree.Element, attribute: str = "value") -> dict[str, str]:
        found: dict[str, str] = {}
        for each in element.iter():
            named = groups.get(each.get("ref"), []) if each.tag == "referenceableParamGroupRef" else [each]
            for param in named:
                if param.tag == "cvParam":
                    found.setdefault(param.get("accession", ""), param.get(attribute, ""))
        return found

    data = Path(path).with_suffix(".ibd").read_bytes()
    spectra = []
    for number, spectrum in enumerate(root.iter("spectrum"), 1):
        arrays = {}
        for array in spectrum.iter("binaryDataArray"):
            said, names = params(array), set(params(array, "name").values())
            role = next(role for role in ("MS:1000514", "MS:1000515") if role in said)
            element = next(name for name, accession in ACCESSIONS.items() if accession in said or NAMES[name] in names)
            at, count, size = (int(said[f"IMS:100010{i}"]) for i in (2, 3, 4))
            raw = data[at : at + size]
            if "MS:1000574" in said:
                raw = zlib.decompress(raw)
            assert len(raw) == count * int(element[1])
            arrays[role] = np.frombuffer(raw, f"<{element}").astype(float).tolist()
        said = params(spectrum)
        z = int(said["IMS:1000052"]) if "IMS:1000052" in said else None
        spectra.append(
            Read(
                number,
                int(said["IMS:1000050"]),
                int(said["IMS:1000051"]),
                z,
                arrays.get("MS:1000514", []),
                arrays.get("MS:1000515", []),
            )
        )
    return spectra


def as_peaks(spectra: Iterable[Read]) -> list[tuple[int, int, float, float]]:
    """Return position, m/z and intensity of all peaks that count, in a fixed order."""
    return sorted(
        (each.x, each.y, mz, float(np.float32(intensity)))
        for each in spectra
        for mz, intensity in zip(each.mz, each.intensity, strict=True)
        if np.isfinite(mz) and np.isfinite(intensity) and mz > 0 and np.float32(intensity) > 0
    )
