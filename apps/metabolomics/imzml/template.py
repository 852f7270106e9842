"""A spectrum learnt as a template: what never changes is compared, what may change is cut out.

Exporters write all spectra alike, so that one regular expression over a whole spectrum replaces the parsing of dozens
of tags.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml.spectrum import ABSENT, FIELDS, SURE_DIGITS, Spectrum, whole_number

LONGEST = 1 << 14
"""Bytes of a spectrum that is learnt, at most: to compile it takes a microsecond a byte."""
MOST = 1 << 10
"""Spectra that are cut at once, at most: until they are numbers, their texts take memory."""
_NONE = np.empty((0, len(FIELDS)), np.int64)


@dataclass(slots=True, eq=False)
class Template:
    """The text of a spectrum with holes.

    Parameters
    ----------
    literals : list of bytes
        What stands before, between and behind the holes. Each that follows a hole begins with the quote that ends it.
    holes : list of (int or None)
        Which number each hole is; None for one that is not needed.
    fields : list of int
        Which number each hole is that is needed.
    constants : int64 array, shape (9,)
        Numbers of every spectrum of this template; `ABSENT` where a hole has it, or none.
    shape : int
        Code of its shape.
    pattern : compiled regular expression or None
        Compiled when a spectrum is met that is written like it: that takes as long as parsing a few.
    """

    literals: list[bytes]
    holes: list[int | None]
    fields: list[int]
    constants: NDArray[np.int64]
    shape: int
    pattern: re.Pattern[bytes] | None = None


def learn(spectrum: Spectrum, text: bytes, tail: bytes, shape: int) -> Template | None:
    """Return the template of a spectrum, None where its numbers cannot be cut out, or it is too long.

    Parameters
    ----------
    spectrum : Spectrum
    text : bytes
        The spectrum's text.
    tail : bytes
        What stands between it and the next spectrum.
    shape : int
        Code of its shape.
    """
    if spectrum.repeats or len(text) > LONGEST:
        return None
    holes = spectrum.holes()
    if not holes:
        return None
    begin = spectrum.begin
    edges = [0, *(edge - begin for hole in holes for edge in hole[:2]), len(text)]
    literals = [text[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    literals[-1] += tail
    numbers = [number for _, _, number in holes]
    fields = [number for number in numbers if number is not None]
    constants = np.array(spectrum.numbers, np.int64)
    constants[fields] = ABSENT
    return Template(literals, numbers, fields, constants, shape)


def match(template: Template, buffer: bytes, start: int) -> tuple[NDArray[np.int64], int]:
    """Cut the numbers out of the spectra from a place on that are like the template, `MOST` at once.

    Parameters
    ----------
    template : Template
    buffer : bytes
    start : int

    Returns
    -------
    numbers : int64 array, shape (spectra, 9)
        In the order of `FIELDS`.
    stop : int
        Where the next spectrum begins; without any before it, it is not like the template, or not whole.
    """
    if template.pattern is None:
        if not _is_alike(template.literals, buffer, start):
            return _NONE, start
        template.pattern = _compiled(template)
    found: list[bytes] = []
    begins = [start]
    while len(begins) <= MOST and (spectrum := template.pattern.match(buffer, begins[-1])) is not None:
        found += spectrum.groups()
        begins.append(spectrum.end())
    if len(begins) == 1:
        return _NONE, start
    numbers, width = _numbers(found), len(template.fields)
    count = len(numbers) // width if width else len(begins) - 1
    rows = np.empty((count, len(FIELDS)), np.int64)
    rows[:] = template.constants
    rows[:, template.fields] = numbers[: count * width].reshape(count, width)
    return rows, begins[count]


def _is_alike(literals: list[bytes], buffer: bytes, start: int) -> bool:
    """Tell whether a spectrum has the literals of a template, whatever is in its holes."""
    if not buffer.startswith(literals[0], start):
        return False
    place = start + len(literals[0])
    for literal in literals[1:]:
        place = buffer.find(literal[:1], place)
        if place < 0 or not buffer.startswith(literal, place):
            return False
        place += len(literal)
    return True


def _compiled(template: Template) -> re.Pattern[bytes]:
    # No tag and no entity can be in a hole.
    text = re.escape(template.literals[0])
    for number, literal in zip(template.holes, template.literals[1:], strict=True):
        hole = b"[^<&" + literal[:1] + b"]*+"
        text += (hole if number is None else b"(" + hole + b")") + re.escape(literal)
    return re.compile(text)


def _numbers(texts: list[bytes]) -> NDArray[np.int64]:
    """Return the numbers that texts stand for, as far as each stands for one."""
    if texts and all(map(bytes.isdigit, texts)) and max(map(len, texts)) <= SURE_DIGITS:
        return np.fromstring(b",".join(texts), np.int64, sep=",")
    numbers: list[int] = []
    with suppress(ValueError):
        for text in texts:
            numbers.append(whole_number(text))
    return np.array(numbers, np.int64)
