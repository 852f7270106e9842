"""Spectra read by tags that were parsed before, where no two spectra are written alike.

Tags repeat even where spectra do not. What a tag means where it stands is looked up by its text, or by its text around
its ``value``, or by its text between the values of attributes that decide nothing; what is known in none of these ways
is parsed. Whatever is doubtful here is left to `read_spectrum`, which refuses it in a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from apps.metabolomics.imzml import terms
from apps.metabolomics.imzml.header import Param
from apps.metabolomics.imzml.markup import Tag, parse_tag
from apps.metabolomics.imzml.spectrum import (
    ABSENT,
    EXTERNAL,
    FIELDS,
    LARGEST,
    POSITIONS,
    Shape,
    shape_of,
    whole_number,
)
from core import InputError

MOST = 1 << 12
"""Texts of tags in an element, and ways to combine them, that are remembered: of more of them hardly one is met again.
"""
MOST_ELEMENTS = 64
LONGEST = 1 << 16
"""Bytes of a spectrum that is read here, so that an end that is written otherwise is not searched far."""
_END = b"</spectrum>"
_VALUE = b' value="'
_BLANKS = re.compile(rb"[ \t\r\n]*")
_ARRAYS, _FOREIGN = b"binaryDataArray", (b"precursorList", b"productList")
_PARAMS = (b"cvParam", b"referenceableParamGroupRef")
_NUMBERS = POSITIONS.keys() | EXTERNAL.keys()
_SAYING = {terms.MS_LEVEL, terms.MSN_SPECTRUM, *terms.POLARITIES, *terms.MODES}
"""Accessions that decide anything outside of arrays, beside positions."""
_NOTHING, _ARRAY = 0, 1
"""Codes of what says nothing, and of an array that begins. Above them are things that are said; numbers are below."""


@dataclass(slots=True, eq=False)
class _Element:
    """An element that may be open in a spectrum, and what is known of the tags in it.

    Parameters
    ----------
    in_array, foreign : bool
        Whether params in it belong to an array, or to another spectrum.
    whole, around, between : dict
        By text, by what stands before and behind a value, or by what stands between values: the element that the tag
        leads to, its code, and its value where that is part of the text.
    """

    name: bytes
    parent: _Element | None = None
    in_array: bool = False
    foreign: bool = False
    children: dict[bytes, _Element] = field(default_factory=dict)
    whole: dict[bytes, _Step] = field(default_factory=dict)
    around: dict[tuple[bytes, bytes], _Step] = field(default_factory=dict)
    between: dict[bytes, _Step] = field(default_factory=dict)


_Step = tuple[_Element, int, bytes]


_Way = tuple[Callable[[list[int]], tuple[int, ...]], int]
"""How to take the numbers of a spectrum, in the order of `FIELDS`, from those it tells and `ABSENT`; its shape's code.
"""


class KnownTags:
    """The tags of spectra that were parsed.

    Parameters
    ----------
    groups : dict
        Params of the groups that spectra refer to.
    outer : list of bytes
        Names of the elements that spectra stand in.
    code_of : callable
        Returns the code of a shape.
    """

    def __init__(
        self, groups: dict[bytes, tuple[Param, ...]], outer: list[bytes], code_of: Callable[[Shape], int]
    ) -> None:
        self._groups, self._code_of = groups, code_of
        self._above = _Element(b"")
        self._elements = 1
        # Within such elements no spectrum means what it does elsewhere.
        self._usable = not {_ARRAYS, *_FOREIGN} & set(outer)
        self._codes: dict[tuple[bool, tuple[Param, ...]], int] = {(False, ()): _NOTHING, (True, ()): _ARRAY}
        self._ways: dict[tuple[int, ...], _Way | None] = {}

    def match(self, buffer: bytes, start: int) -> tuple[tuple[int, ...], int, int] | None:
        """Return numbers and shape of the spectrum that begins at a place, and where the next tag is; None if doubtful.

        Parameters
        ----------
        buffer : bytes
        start : int
            Of its tag, or of blanks before that.
        """
        stop = buffer.find(_END, start, start + LONGEST) + len(_END)
        if stop < len(_END) or not self._usable:
            return None
        pieces = iter(buffer[start : stop - len(_END)].split(b"<"))
        if next(pieces).strip():
            return None
        found = self._read(pieces)
        if found is None:
            return None
        blanks = _BLANKS.match(buffer, stop)  # a template begins with its tag
        return *found, blanks.end() if blanks else stop

    def _read(self, pieces: Iterator[bytes]) -> tuple[tuple[int, ...], int] | None:
        said: list[int] = []
        texts: list[bytes] = []
        element = self._above
        for piece in pieces:
            step = element.whole.get(piece)
            if step is not None:
                element, code, value = step
            else:
                head, _, rest = piece.partition(_VALUE)
                value, _, tail = rest.partition(b'"')
                step = element.around.get((head, tail))
                if step is not None and b"&" not in value:
                    element, code, _ = step
                else:
                    step = self._parsed(element, piece, head, rest)
                    if step is None:
                        return None
                    element, code, value = step
            if code:
                said.append(code)
                if code < 0:
                    texts.append(value)
        return self._row(tuple(said), texts) if element.parent is self._above else None

    def _parsed(self, element: _Element, piece: bytes, head: bytes, rest: bytes) -> _Step | None:
        """Return what a tag and the text after it mean, and remember it by whatever of them is enough to know it by."""
        between = b'"'.join(piece.split(b'"')[::2])
        step = element.between.get(between)
        if step is not None and b"&" not in piece:
            # All values stand between double quotes there, so this may be one.
            any_value = rest and head.count(b'"') % 2 == 0
        else:
            tag = parse_tag(b"<" + piece)
            found = None if tag is None else self._step(element, tag)
            if tag is None or found is None:
                return None
            step = *found, tag.attributes.get(b"value", b"")
            begin = len(head) + 1 + len(_VALUE)
            any_value = tag.spans.get(b"value") == (begin, begin + rest.find(b'"')) and not _is_level(tag)
            if tag.name and tag.name not in _PARAMS and b"'" not in piece and b"&" not in piece:
                _remember(element.between, between, step)
        if any_value:
            _remember(element.around, (head, rest.partition(b'"')[2]), step)
        _remember(element.whole, piece, step)
        return step

    def _step(self, element: _Element, tag: Tag) -> tuple[_Element, int] | None:
        """Return which element a tag leads to, and its code; None where it is to be refused, or unusual."""
        if tag.close:
            inner = element.parent is not None and element.parent is not self._above
            return (element.parent, _NOTHING) if inner and element.parent and element.name == tag.name else None
        if tag.name in _PARAMS:
            return self._said_by(element, tag) if tag.empty and element is not self._above else None
        if (tag.name == b"spectrum") != (element is self._above) or (tag.empty and tag.name in (b"spectrum", _ARRAYS)):
            return None
        if tag.empty:
            return element, _NOTHING
        if tag.name not in element.children:
            if self._elements == MOST_ELEMENTS:
                return None
            self._elements += 1
            element.children[tag.name] = _Element(
                tag.name, element, element.in_array or tag.name == _ARRAYS, element.foreign or tag.name in _FOREIGN
            )
        return element.children[tag.name], _ARRAY if tag.name == _ARRAYS else _NOTHING

    def _said_by(self, element: _Element, tag: Tag) -> tuple[_Element, int] | None:
        param = Param.of(tag)
        group: tuple[Param, ...] = (param,)
        if tag.name == b"referenceableParamGroupRef":
            name = tag.attributes.get(b"ref", b"")
            if name not in self._groups or any(each.accession in _NUMBERS for each in self._groups[name]):
                return None
            group = self._groups[name]
        elif param.accession in POSITIONS:
            code = _NOTHING if element.foreign else -1 - POSITIONS[param.accession]
            return None if element.in_array else (element, code)
        elif param.accession in EXTERNAL:
            return element, -4 - EXTERNAL[param.accession] if element.in_array else _NOTHING
        if element.in_array:
            # Of what an array is made, accessions and names tell; values would only tell ways apart.
            group = tuple(Param(each.accession, each.name) for each in group)
        else:
            group = tuple(each for each in group if each.accession in _SAYING and not element.foreign)
        if not group:
            return element, _NOTHING
        code = self._codes.get((element.in_array, group), len(self._codes))
        _remember(self._codes, (element.in_array, group), code)
        return (element, code) if code < MOST else None

    def _row(self, said: tuple[int, ...], texts: list[bytes]) -> tuple[tuple[int, ...], int] | None:
        """Return numbers and shape of a spectrum, as `read_spectrum` would."""
        way = self._ways[said] if said in self._ways else self._new_way(said)
        if way is None:
            return None
        arranged, code = way
        try:
            if b"".join(texts).isdigit():
                numbers = list(map(int, texts))
                if max(numbers) >= LARGEST:
                    return None
            else:
                numbers = list(map(whole_number, texts))
        except ValueError:
            return None
        numbers.append(ABSENT)
        return arranged(numbers), code

    def _new_way(self, said: tuple[int, ...]) -> _Way | None:
        params: list[Param] = []
        arrays: list[list[Param]] = []
        numbers: list[tuple[int, int]] = []
        sayings = {code: saying for saying, code in self._codes.items()}
        for code in said:
            if code == _ARRAY:
                arrays.append([])
            elif code > 0:
                in_array, group = sayings[code]
                (arrays[-1] if in_array else params).extend(group)
            else:
                numbers.append((len(arrays) - 1, -1 - code))
        way = None
        with suppress(InputError):
            shape, roles = shape_of(params, arrays, [], "")
            places = [-1] * len(FIELDS)
            for place, (array, number) in enumerate(numbers):
                role = roles[array] if number >= 3 else 3
                if role is not None and places[role - 3 + number] == -1:
                    places[role - 3 + number] = place
                elif role is not None:
                    break
            else:
                way = itemgetter(*places), self._code_of(shape)
        _remember(self._ways, said, way)
        return way


def _is_level(tag: Tag) -> bool:
    return tag.name == b"cvParam" and Param.of(tag).accession == terms.MS_LEVEL


def _remember(known: dict[Any, Any], key: object, value: object) -> None:
    if len(known) < MOST:
        known[key] = value
