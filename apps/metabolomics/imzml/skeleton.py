"""Spectra known by their skeleton: all of their text but the values of attributes.

A template is quickest where all spectra are written alike. Where many ways of writing alternate, the skeleton and those
values that decide anything are looked up among those that were parsed before, and the numbers stand in known places.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter

from apps.metabolomics.imzml import terms
from apps.metabolomics.imzml.spectrum import DECIDING, Spectrum, whole_number

MOST = 4096
"""Skeletons, and ways of each, that are remembered: with more of them hardly one is met again."""
END = b"</spectrum>"
_BLANKS = re.compile(rb"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to fill a skeleton: the numbers that do not vary, and which value between quotes each other one is."""

    constants: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    levels: tuple[tuple[int, bytes], ...]
    tags: int
    shape: int


@dataclass(frozen=True, slots=True)
class _Skeleton:
    deciding: Callable[[list[bytes]], object]
    ways: dict[object, _Way] = field(default_factory=dict)


class Skeletons:
    """The skeletons of spectra that were parsed."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Skeleton] = {}

    def learn(self, spectrum: Spectrum, text: bytes, shape: int) -> None:
        """Remember how a spectrum is written, if only the values of its attributes stand between double quotes."""
        parts = text.split(b'"')
        if spectrum.repeats or not text.endswith(END) or b"&" in text or len(self._known) >= MOST:
            return
        places, at = {}, spectrum.begin
        for number, part in enumerate(parts):
            places[at, at + len(part)] = number
            at += len(part) + 1
        deciding, levels, quoted = [], [], 0
        for tag in spectrum.tags:
            quoted += len(tag.spans)
            for name, (start, stop) in tag.spans.items():
                place = places.get((tag.begin + start, tag.begin + stop), 0)
                if place % 2 == 0:
                    return
                if name in DECIDING:
                    deciding.append(place)
                elif name == b"value" and tag.attributes.get(b"accession") == terms.MS_LEVEL:
                    levels.append((place, tag.attributes[name]))
        if quoted != len(parts) // 2 or not deciding:
            return
        known = self._known.setdefault(b'"'.join(parts[::2]), _Skeleton(itemgetter(*deciding)))
        numbers = tuple((field, places[span]) for field, span in spectrum.places.items())
        if len(known.ways) < MOST:
            way = _Way(tuple(spectrum.numbers), numbers, tuple(levels), text.count(b"<"), shape)
            known.ways[known.deciding(parts)] = way

    def match(self, buffer: bytes, start: int) -> tuple[list[int], int, int] | None:
        """Return numbers and shape of the spectrum that begins at a place, and where the next tag is; None if unknown.

        Parameters
        ----------
        buffer : bytes
        start : int
            Of its tag, or of blanks before that.
        """
        stop = buffer.find(END, start) + len(END) if self._known else 0
        if stop < len(END):
            return None
        text = buffer[start:stop].lstrip()
        parts = text.split(b'"')
        known = self._known.get(b'"'.join(parts[::2]))
        way = None if known is None else known.ways.get(known.deciding(parts))
        # Neither stands in a value; an entity may stand for what decides.
        if way is None or text.count(b"<") != way.tags or b"&" in text:
            return None
        numbers = list(way.constants)
        try:
            for field_number, place in way.places:
                numbers[field_number] = whole_number(parts[place])
        except ValueError:
            return None
        if any(parts[at] != level for at, level in way.levels):
            return None
        blanks = _BLANKS.match(buffer, stop)  # a template begins with its tag
        return numbers, way.shape, blanks.end() if blanks else stop
