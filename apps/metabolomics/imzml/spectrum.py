"""One ``<spectrum>`` of an imzML file: its numbers, and what kind of spectrum it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache

from apps.metabolomics.imzml import terms
from apps.metabolomics.imzml.header import Param
from apps.metabolomics.imzml.markup import Markup, Tag, shown
from core import InputError

X, Y, Z, MZ_OFFSET, MZ_LENGTH, MZ_ENCODED, INTENSITY_OFFSET, INTENSITY_LENGTH, INTENSITY_ENCODED = range(9)
FIELDS = (
    "position x",
    "position y",
    "position z",
    "external offset of the m/z array",
    "external array length of the m/z array",
    "external encoded length of the m/z array",
    "external offset of the intensity array",
    "external array length of the intensity array",
    "external encoded length of the intensity array",
)
"""The numbers of a spectrum, in the order in which they stand in a row."""

ABSENT = -(2**63)
"""Stands for a number that a spectrum does not have."""

LARGEST = 2**60
"""Beyond any file's size, and small enough that two may be added."""

SURE_DIGITS = 18
"""Of a number that is surely below that."""

ROUNDED_DIGITS = 6
"""Significant digits from which a number with an exponent counts as rounded: ``%g`` keeps so many."""

POSITIONS = {terms.POSITION_X: X, terms.POSITION_Y: Y, terms.POSITION_Z: Z}
EXTERNAL = {terms.EXTERNAL_OFFSET: 0, terms.EXTERNAL_ARRAY_LENGTH: 1, terms.EXTERNAL_ENCODED_LENGTH: 2}
_ROLES = {terms.MZ_ARRAY: MZ_OFFSET, terms.INTENSITY_ARRAY: INTENSITY_OFFSET}
DECIDING = (b"accession", b"ref", b"name", b"cvRef", b"unitCvRef", b"unitAccession", b"unitName", b"count")
"""Attributes whose values decide what a spectrum is, beside its numbers and its MS level."""
_DIGITS = tuple(b"0123456789")
_NUMBER = re.compile(rb"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class ArrayKind:
    """How an array lies in the .ibd: element types by accession and by name, and its compression, empty if not told."""

    by_accession: str
    by_name: str
    compression: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of spectrum it is; few differ within a file.

    Parameters
    ----------
    level : int
        MS level; 1 where none is told.
    polarity, mode : str
        ``+``, ``-`` or empty; ``centroid``, ``profile`` or empty.
    mz, intensity : ArrayKind or None
        None where a spectrum has no arrays.
    others : tuple of str
        Names of further arrays, which are not read.
    dangling : tuple of str
        References to groups that the file does not define.
    """

    level: int
    polarity: str
    mode: str
    mz: ArrayKind | None
    intensity: ArrayKind | None
    others: tuple[str, ...]
    dangling: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One spectrum as read.

    Parameters
    ----------
    numbers : list of int
        In the order of `FIELDS`; `ABSENT` where there is none.
    shape : Shape
    begin, end : int
        Where it stands in the document.
    tags : list of Tag
    places : dict
        Where each number's text stands, if in the spectrum itself and once.
    repeats : bool
        Whether a number is said twice.
    """

    numbers: list[int]
    shape: Shape
    begin: int
    end: int
    tags: list[Tag]
    places: dict[int, tuple[int, int]]
    repeats: bool

    def holes(self) -> list[tuple[int, int, int | None]]:
        """Return where text may differ from spectrum to spectrum without changing its shape, and which number it is."""
        fields = {place: number for number, place in self.places.items()}
        found = []
        for tag in self.tags:
            if tag.attributes.get(b"accession") == terms.MS_LEVEL:
                continue
            for name, (start, stop) in tag.spans.items():
                span = tag.begin + start, tag.begin + stop
                number = fields.get(span)
                if number is not None or _varies(name, tag.attributes[name]):
                    found.append((*span, number))
        return sorted(found)


def _varies(name: bytes, text: bytes) -> bool:
    """Tell whether an attribute is likely to differ from spectrum to spectrum; a wrong guess costs time alone."""
    if name in DECIDING:
        return False
    return bool(text) if name == b"value" else text != b"0" and any(map(text.__contains__, _DIGITS))


@dataclass(slots=True)
class _Array:
    params: list[Param] = field(default_factory=list)
    values: list[tuple[int, bytes, tuple[int, int] | None]] = field(default_factory=list)


def whole_number(text: bytes) -> int:
    """Return the whole number that a text stands for, however it is written.

    Raises
    ------
    ValueError
        It stands for none, or was rounded when it was written.
    """
    if text.isdigit() and len(text) <= SURE_DIGITS:
        return int(text)
    text = text.strip()
    found = _NUMBER.fullmatch(text)
    if found is None or len(text) > 60:
        raise ValueError(f"{shown(text[:40])!r} is not a whole number")
    value = Decimal(text.decode())
    if value != value.to_integral_value():
        raise ValueError(f"{shown(text)!r} is not a whole number")
    if abs(value) >= LARGEST:
        raise ValueError(f"{shown(text)!r} is too large")
    _, digits, exponent = value.as_tuple()
    if found[2] and isinstance(exponent, int) and exponent > 0 and len(digits) >= ROUNDED_DIGITS:
        raise ValueError(f"{shown(text)!r} was rounded when it was written")
    return int(value)


def read_spectrum(markup: Markup, first: Tag, groups: dict[bytes, tuple[Param, ...]], number: int) -> Spectrum:
    """Read the spectrum whose opening tag is `first`.

    Parameters
    ----------
    markup : Markup
    first : Tag
    groups : dict
        Params of the groups that spectra refer to.
    number : int
        Which spectrum of the file it is, from 1, for messages.

    Raises
    ------
    InputError
        It does not say what is needed to read it, or says it twice.
    """
    where = f"{markup.source}: spectrum {number:,} (id {shown(first.attributes.get(b'id', b''))[:60]!r})"
    tags, arrays, dangling = [first], list[_Array](), list[str]()
    params: list[Param] = []
    numbers = _Numbers(where)
    while not (tags[-1].name == b"spectrum" and (tags[-1].close or tags[-1].empty)):
        tag = markup.next()
        if tag is None:
            raise markup.error("a spectrum is not closed")
        if tag.name == b"spectrum" and not tag.close:
            raise markup.error("a spectrum stands within another", tag.begin)
        tags.append(tag)
        if tag.close:
            continue
        if tag.name == b"binaryDataArray":
            arrays.append(_Array())
        elif tag.name == b"referenceableParamGroupRef":
            name = tag.attributes.get(b"ref", b"")
            if name not in groups:
                dangling.append(shown(name))
            each: tuple[Param, ...] = groups.get(name, ())
            span = None
        elif tag.name == b"cvParam":
            each, span = (Param.of(tag),), tag.span(b"value")
        if tag.name not in (b"cvParam", b"referenceableParamGroupRef"):
            continue
        if b"binaryDataArray" in markup.open and arrays:
            for param in each:
                if param.accession in EXTERNAL:
                    arrays[-1].values.append((EXTERNAL[param.accession], param.value, span))
                else:
                    arrays[-1].params.append(param)
        elif not (b"precursorList" in markup.open or b"productList" in markup.open):
            for param in each:
                if param.accession in POSITIONS:
                    numbers.add(POSITIONS[param.accession], param.value, span)
            params += each
    shape, roles = shape_of(params, [array.params for array in arrays], dangling, where)
    for array, role in zip(arrays, roles, strict=True):
        if role is not None:
            for index, text, span in array.values:
                numbers.add(role + index, text, span)
    return Spectrum(
        numbers.values, shape, first.begin, tags[-1].end, tags, numbers.places, numbers.repeats or first.empty
    )


class _Numbers:
    """The numbers of one spectrum, as they are found."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.values = [ABSENT] * len(FIELDS)
        self.places: dict[int, tuple[int, int]] = {}
        self.repeats = False

    def add(self, index: int, text: bytes, span: tuple[int, int] | None) -> None:
        try:
            value = whole_number(text)
        except ValueError as error:
            raise InputError(f"{self.where}: {FIELDS[index]}: {error}; export the file again") from None
        if self.values[index] != ABSENT:
            self.repeats = True
            if self.values[index] != value:
                raise InputError(
                    f"{self.where} has two values of {FIELDS[index]}, {self.values[index]} and {value}; "
                    "export the file again"
                )
        self.values[index] = value
        if span is not None:
            self.places[index] = span


def shape_of(
    params: list[Param], arrays: list[list[Param]], dangling: list[str], where: str
) -> tuple[Shape, list[int | None]]:
    """Return what kind of spectrum it is by what it and its arrays say, and the first number of each array's role.

    Raises
    ------
    InputError
        It contradicts itself, or its arrays are not read.
    """
    kinds: dict[int, ArrayKind] = {}
    others: list[str] = []
    roles: list[int | None] = []
    for array in arrays:
        found = {_ROLES[param.accession] for param in array if param.accession in _ROLES}
        if len(found) > 1:
            raise InputError(f"{where} has an array that is both of m/z and of intensities; export the file again")
        role = found.pop() if found else None
        roles.append(role)
        if role is None:
            names = (shown(param.name) for param in array if param.name.lower().endswith(b"array"))
            others.append(next(names, "an array of no known kind"))
            continue
        if role in kinds:
            what = "m/z" if role == MZ_OFFSET else "intensity"
            raise InputError(f"{where} has two {what} arrays; export the file with one")
        kinds[role] = _kind(tuple(array), where)
    if arrays and len(kinds) != len(_ROLES):
        missing = "m/z array (MS:1000514)" if MZ_OFFSET not in kinds else "intensity array (MS:1000515)"
        raise InputError(f"{where} has no {missing}; export the file again")
    shape = Shape(
        _level(params, where),
        _only(params, terms.POLARITIES, "polarities", where),
        _only(params, terms.MODES, "modes", where),
        kinds.get(MZ_OFFSET),
        kinds.get(INTENSITY_OFFSET),
        tuple(others),
        tuple(dangling),
    )
    return shape, roles


def _kind(params: tuple[Param, ...], where: str) -> ArrayKind:
    try:
        return _kind_of(params)
    except ValueError as error:
        raise InputError(f"{where} has an array {error}") from None


@lru_cache(maxsize=256)
def _kind_of(params: tuple[Param, ...]) -> ArrayKind:
    by_accession = {terms.ELEMENT_TYPES[param.accession] for param in params if param.accession in terms.ELEMENT_TYPES}
    named = {terms.ELEMENT_NAMES[name] for param in params if (name := _plain(param.name)) in terms.ELEMENT_NAMES}
    if len(named) > 1 or len(by_accession) > 1:
        raise ValueError("of two element types; export the file again")
    compressions = set()
    for param in params:
        unread = terms.OTHER_TYPES.get(param.accession) or terms.OTHER_COMPRESSIONS.get(param.accession)
        plain = _plain(param.name)
        if param.accession in (terms.ZLIB, terms.NO_COMPRESSION):
            compressions.add("zlib" if param.accession == terms.ZLIB else "none")
        elif unread is None and (b"compress" in plain or b"numpress" in plain or b"big endian" in plain):
            unread = shown(param.name)
        if unread is not None:
            raise ValueError(
                f"in {unread} ({shown(param.accession)}), which is not read; export the file with 32-bit or 64-bit "
                "numbers and no or zlib compression"
            )
    if len(compressions) > 1:
        raise ValueError("with and without compression; export the file again")
    return ArrayKind(*(each.pop() if each else "" for each in (by_accession, named, compressions)))


def _plain(name: bytes) -> bytes:
    return b" ".join(name.lower().replace(b"big-endian", b"big endian").split())


def _level(params: list[Param], where: str) -> int:
    levels = set()
    for param in params:
        if param.accession == terms.MS_LEVEL:
            try:
                levels.add(max(1, whole_number(param.value)))
            except ValueError as error:
                raise InputError(f"{where}: ms level: {error}; export the file again") from None
    if len(levels) > 1:
        raise InputError(f"{where} has two MS levels; export the file again")
    if levels:
        return levels.pop()
    return 2 if any(param.accession == terms.MSN_SPECTRUM for param in params) else 1


def _only(params: list[Param], values: dict[bytes, str], what: str, where: str) -> str:
    found = {values[param.accession] for param in params if param.accession in values}
    if len(found) > 1:
        raise InputError(f"{where} has two {what}, {' and '.join(sorted(found))}; export the file again")
    return found.pop() if found else ""
