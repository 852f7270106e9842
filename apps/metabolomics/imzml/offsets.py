"""Where each spectrum lies: one scan over the XML, in pieces, by templates and where none fits by parsing."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml.header import Header, read_header
from apps.metabolomics.imzml.markup import PADDING, Markup, Tag
from apps.metabolomics.imzml.spectrum import ABSENT, FIELDS, INTENSITY_LENGTH, MZ_LENGTH, Shape, Z, read_spectrum
from apps.metabolomics.imzml.tags import KnownTags
from apps.metabolomics.imzml.template import Template, learn, match
from core import InputError

MAX_TEMPLATES = 8
FORGET = 32
"""Spectra in a row that no template fits, after which all templates are forgotten: trying them costs time."""
RELEARN = 256
"""Such spectra after which one is parsed to learn a template, since all that follow may be written alike."""
MAX_SHAPES = 4096
BLOCK = 4096
"""Spectra whose numbers are checked and stored together, at least."""
MAX_POSITION = 2**31 - 1
MAX_LENGTH = 2**31 - 1
LONGEST_TAG = 64
"""Bytes of a tag that is looked for behind the spectra, at most."""
_SECOND = re.compile(rb"<(?:\?xml|(?:[\w.-]{1,20}:)?(?:indexedmzML|mzML|spectrum))[\s?>]")
_INDEX_END = re.compile(rb"</(?:[\w.-]{1,20}:)?indexedmzML\s{0,20}>")


@dataclass(slots=True, eq=False)
class Table:
    """The numbers of all spectra of a file, in its order.

    Parameters
    ----------
    header : Header
    positions : int32 array, shape (n, 3)
        x, y and z; the least int32 for a z that is not told.
    offsets : int64 array, shape (n, 2)
        Of the m/z and the intensity array, in bytes.
    lengths : int32 array, shape (n, 2)
        In elements; -1 where not told.
    encoded : int64 array, shape (n, 2)
        In bytes; -1 where not told.
    shape : uint16 array, shape (n,)
        Index into `shapes`.
    shapes : list of Shape
    by_template : int
        How many spectra were like a template.
    behind : int
        Bytes behind the end of the document that are not blank.
    """

    header: Header
    positions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    encoded: NDArray[np.int64]
    shape: NDArray[np.uint16]
    shapes: list[Shape]
    by_template: int
    behind: int


@dataclass(slots=True)
class _Rows:
    source: str
    blocks: list[tuple[NDArray[np.generic], ...]] = field(default_factory=list)
    pending: array[int] = field(default_factory=lambda: array("q"))
    codes: array[int] = field(default_factory=lambda: array("H"))
    count: int = 0

    def add_row(self, numbers: Iterable[int], code: int) -> None:
        self.pending.extend(numbers)
        self._added(1, code)

    def add_block(self, numbers: NDArray[np.int64], code: int) -> None:
        self.pending.frombytes(numbers.tobytes())
        self._added(len(numbers), code)

    def _added(self, count: int, code: int) -> None:
        self.codes.extend(repeat(code, count))
        self.count += count
        if len(self.codes) >= BLOCK:
            self.flush()

    def flush(self) -> None:
        if self.codes:
            numbers = np.frombuffer(self.pending, np.int64).reshape(-1, len(FIELDS))
            self._keep(numbers, np.frombuffer(self.codes, np.uint16), self.count - len(numbers))
            self.pending, self.codes = array("q"), array("H")

    def _keep(self, numbers: NDArray[np.int64], codes: NDArray[np.uint16], before: int) -> None:
        absent = numbers == ABSENT
        for column in range(len(FIELDS)):
            position = column <= Z
            limit = MAX_POSITION if position else MAX_LENGTH
            if position or column in (MZ_LENGTH, INTENSITY_LENGTH):
                least = -limit if position else 0
                wrong = ~absent[:, column] & ((numbers[:, column] > limit) | (numbers[:, column] < least))
                if wrong.any():
                    row = int(np.argmax(wrong))
                    raise InputError(
                        f"{self.source}: spectrum {before + row + 1:,}: {FIELDS[column]} cannot be "
                        f"{int(numbers[row, column]):,}; export the file again"
                    )
        least = np.iinfo(np.int32).min
        positions = np.where(absent[:, : Z + 1], least, numbers[:, : Z + 1]).astype(np.int32)
        lengths = np.where(absent[:, [4, 7]], -1, numbers[:, [4, 7]]).astype(np.int32)
        encoded = np.where(absent[:, [5, 8]], -1, numbers[:, [5, 8]])
        self.blocks.append((positions, numbers[:, [3, 6]].copy(), lengths, encoded, codes))


def scan(read: Callable[[], bytes], source: str) -> Table:
    """Read all spectra of an imzML document.

    Parameters
    ----------
    read : callable
        Returns the next piece of the document, empty at its end.
    source : str
        Name of the document, for messages.

    Raises
    ------
    InputError
        It is no well-formed imzML, or a spectrum does not say what is needed.
    """
    markup = Markup(read, source)
    header, tag = read_header(markup)
    rows = _Rows(source)
    codes: dict[Shape, int] = {}

    def code_of(shape: Shape) -> int:
        code = codes.setdefault(shape, len(codes))
        if len(codes) > MAX_SHAPES:
            raise InputError(f"{source}: more than {MAX_SHAPES:,} kinds of spectra in one file; export it again")
        return code

    templates: list[Template] = []
    known = KnownTags(header.groups, markup.open, code_of)
    matched = parsed = 0
    while tag is not None and tag.name == b"spectrum" and not tag.close:
        markup.keep = tag.begin
        spectrum = read_spectrum(markup, tag, header.groups, rows.count + 1)
        code = code_of(spectrum.shape)
        rows.add_row(spectrum.numbers, code)
        tag = markup.next()
        if tag is not None and tag.name == b"spectrum" and not tag.close:
            text, tail = markup.text(spectrum.begin, spectrum.end), markup.text(spectrum.end, tag.begin)
            template = learn(spectrum, text, tail, code) if _blank(tail) else None
            if template is not None:
                templates = [template, *templates[: MAX_TEMPLATES - 1]]
            parsed += 1
            markup.back(tag)
            # Read by their tags too early, spectra would keep a template from being learnt, which is quicker.
            matched += _match_all(markup, templates, known if parsed >= MAX_TEMPLATES else None, rows)
            tag = markup.next()
    behind = _finish(markup, tag)
    rows.flush()
    return _table(header, rows, list(codes), matched, behind)


def _blank(text: bytes) -> bool:
    return not text.strip()


def _match_all(markup: Markup, templates: list[Template], known: KnownTags | None, rows: _Rows) -> int:
    """Take all spectra from here on that are like a template, the one that fits being put first, or of known tags.

    Returns how many were like a template.
    """
    markup.keep = None
    matched = longest = unlike = 0
    while unlike < RELEARN:
        for index, template in enumerate(templates):
            numbers, stop = match(template, markup.buffer, markup.position - markup.start)
            if len(numbers):
                longest = max(longest, (stop + markup.start - markup.position) // len(numbers))
                rows.add_block(numbers, template.shape)
                matched += len(numbers)
                markup.position = markup.start + stop
                templates.insert(0, templates.pop(index))
                unlike = 0
                break
        else:
            found = known.match(markup.buffer, markup.position - markup.start) if known is not None else None
            if found is not None:
                rows.add_row(*found[:2])
                longest = max(longest, found[2] + markup.start - markup.position)
                markup.position = markup.start + found[2]
                unlike += 1
                if unlike == FORGET:
                    templates.clear()
                continue
            # One that was cut off by the end of the piece may still be like a template.
            left = markup.start + len(markup.buffer) - markup.position
            if left > 2 * longest + len(markup.buffer) // 16 or not markup.more():
                break
    return matched


def _finish(markup: Markup, tag: Tag | None) -> int:
    """Read the rest of the document, whose index may be cut off; returns how many bytes behind it are not blank."""
    while tag is not None and not (tag.close and tag.name == b"mzML"):
        if tag.name == b"spectrum" and not tag.close:
            raise markup.error("a spectrum stands outside of the list of spectra", tag.begin)
        tag = markup.next()
    markup.keep = None
    outside, behind, more = not markup.open, 0, True
    while more:
        more = markup.more()
        rest = markup.text(markup.position, markup.start + len(markup.buffer))
        if found := _SECOND.search(rest):
            raise InputError(
                f"{markup.source}: a second document begins behind the end of the first, at byte "
                f"{markup.position + found.start():,}; split the file, or export it again"
            )
        done = max(0, len(rest) - LONGEST_TAG) if more else len(rest)
        if not outside and (found := _INDEX_END.search(rest)):
            outside, done = True, found.end()
            more = True
        elif outside:
            behind += len(rest[:done].translate(None, PADDING))
        markup.position += done
    return behind


def _table(header: Header, rows: _Rows, shapes: list[Shape], matched: int, behind: int) -> Table:
    if not rows.blocks:
        empty = _Rows(rows.source)
        empty.add_row([0] * len(FIELDS), 0)
        empty.flush()
        rows = _Rows(rows.source, [tuple(column[:0] for column in empty.blocks[0])])
    columns = [list(column) for column in zip(*rows.blocks, strict=True)]
    rows.blocks = []
    joined = []
    for column in columns:
        joined.append(np.concatenate(column))
        column.clear()  # of millions of spectra no two copies are held
    positions, offsets, lengths, encoded, shape = joined
    return Table(header, positions, offsets, lengths, encoded, shape, shapes, matched, behind)
