"""What an imzML file says before its first spectrum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from apps.metabolomics.imzml import terms
from apps.metabolomics.imzml.markup import Markup, Tag, shown
from core import InputError


class Param(NamedTuple):
    """A ``cvParam``: its accession decides, name, value and unit stand beside it."""

    accession: bytes
    name: bytes = b""
    value: bytes = b""
    unit: bytes = b""

    @staticmethod
    def of(tag: Tag) -> Param:
        """Return the param that a tag is."""
        get = tag.attributes.get
        return Param(get(b"accession", b"").strip(), get(b"name", b""), get(b"value", b""), get(b"unitAccession", b""))


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of a header.

    Parameters
    ----------
    groups : dict
        Params of each ``referenceableParamGroup``, by its id.
    content, settings : tuple of Param
        What ``fileContent`` and ``scanSettings`` say.
    count : bytes
        How many spectra ``spectrumList`` promises; empty where it does not.
    has_spectra : bool
        Whether a spectrum follows.
    """

    groups: dict[bytes, tuple[Param, ...]]
    content: tuple[Param, ...]
    settings: tuple[Param, ...]
    count: bytes
    has_spectra: bool

    def first(self, params: Iterable[Param], accession: bytes) -> Param | None:
        """Return the first param of an accession."""
        return next((param for param in params if param.accession == accession), None)

    @property
    def uuid(self) -> str:
        """The identifier that the .ibd is to begin with, as 32 hexadecimal digits or whatever stands there."""
        param = self.first(self.content, terms.UUID)
        return "" if param is None else shown(param.value).strip().strip("{}()").replace("-", "").lower()

    @property
    def checksum(self) -> tuple[str, str]:
        """Name and hexadecimal digits of the strongest checksum of the .ibd; empty without one."""
        said = [
            (terms.CHECKSUMS[param.accession], shown(param.value).strip().lower())
            for param in self.content
            if param.accession in terms.CHECKSUMS and param.value.strip()
        ]
        return max(said, key=lambda each: len(each[1]), default=("", ""))

    def pixel_size(self) -> tuple[tuple[float, float] | None, str]:
        """Return width and height of a pixel in micrometres, None where they are not told, and what to say of it."""
        sizes, units, notes = [], [], []
        for accession in (terms.PIXEL_SIZE_X, terms.PIXEL_SIZE_Y):
            param = self.first(self.settings, accession)
            try:
                value = 0.0 if param is None else float(param.value)
            except ValueError:
                value = 0.0
            if param is not None and param.unit and param.unit not in terms.MICROMETRES:
                notes.append(f"the size of a pixel has the unit {shown(param.unit)[:20]}, which is no length")
                value = 0.0
            unit = terms.MICROMETRES.get(param.unit, 1.0) if param is not None else 1.0
            units.append(param is not None and not param.unit)
            sizes.append(value * unit if 0.0 < value < float("inf") else 0.0)
        if sizes[0] and not sizes[1]:
            notes.append("the height of a pixel is not told, so it is taken for square")
            sizes[1] = sizes[0]
        if not sizes[0]:
            return None, notes[0] if notes else "the size of a pixel is not told"
        if any(units):
            notes.append("the size of a pixel has no unit, so micrometres are meant")
        return (sizes[0], sizes[1]), " and ".join(notes)


_SECTIONS = (b"fileContent", b"scanSettings")


def read_header(markup: Markup) -> tuple[Header, Tag | None]:
    """Read up to the first spectrum, whose tag is returned with the header.

    Raises
    ------
    InputError
        The document is no imzML.
    """
    groups: dict[bytes, tuple[Param, ...]] = {}
    said: dict[bytes, list[Param | bytes]] = {name: [] for name in _SECTIONS}
    count, first = b"", None
    group: tuple[bytes, list[Param]] | None = None
    for tag in _tags(markup):
        if tag.name == b"spectrum" and not tag.close:
            first = tag
            break
        section = next((name for name in reversed(markup.open) if name in _SECTIONS), None)
        if tag.name == b"referenceableParamGroup":
            group = _next_group(markup, group, tag, groups)
        elif tag.name == b"spectrumList" and not tag.close:
            count = tag.attributes.get(b"count", b"")
        elif tag.name == b"cvParam" and not tag.close:
            if group is not None:
                group[1].append(Param.of(tag))
            elif section is not None:
                said[section].append(Param.of(tag))
        elif tag.name == b"referenceableParamGroupRef" and section is not None and not tag.close:
            said[section].append(tag.attributes.get(b"ref", b""))
    content, settings = (_resolved(said[name], groups) for name in _SECTIONS)
    return Header(groups, content, settings, count, first is not None), first


def _resolved(said: list[Param | bytes], groups: dict[bytes, tuple[Param, ...]]) -> tuple[Param, ...]:
    """Put each group in the place of the reference to it, which stands before the groups."""
    params: list[Param] = []
    for each in said:
        params += [each] if isinstance(each, Param) else groups.get(each, ())
    return tuple(params)


def _tags(markup: Markup) -> Iterator[Tag]:
    first = True
    while (tag := markup.next()) is not None:
        if first and tag.name not in (b"mzML", b"indexedmzML"):
            raise InputError(
                f"{markup.source}: XML of <{shown(tag.name)[:40]}>, not of mzML; give the .imzML file of a pair"
            )
        first = False
        yield tag


def _next_group(
    markup: Markup, group: tuple[bytes, list[Param]] | None, tag: Tag, groups: dict[bytes, tuple[Param, ...]]
) -> tuple[bytes, list[Param]] | None:
    if not tag.close:
        name = tag.attributes.get(b"id", b"")
        if name in groups:
            raise InputError(
                f"{markup.source}: two groups of params are called {shown(name)!r}; rename one and its references"
            )
        group = name, []
    if (tag.close or tag.empty) and group is not None:
        groups[group[0]] = tuple(group[1])
        group = None
    return group
