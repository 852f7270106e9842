"""A spectrum learnt as a template: what never changes is compared, what may change is cut out.

Exporters write all spectra alike, so that comparing a few hundred bytes replaces the parsing of dozens of tags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml.spectrum import ABSENT, FIELDS, SURE_DIGITS, Spectrum, whole_number


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The text of a spectrum with holes.

    Parameters
    ----------
    head : bytes
        What stands before the first hole.
    parts : tuple of (bytes, bytes, int, bool)
        Of each hole the quote that ends it, what follows it (with that quote) and its length, and whether it is a
        number that is needed.
    fields : tuple of int
        Which number each needed hole is.
    constants : int64 array, shape (9,)
        Numbers of every spectrum of this template; `ABSENT` where a hole has it, or none.
    shape : int
        Code of its shape.
    tags, entities : int
        How many ``<`` and ``&`` one spectrum has. More of them stand in a hole, where they cannot be.
    """

    head: bytes
    parts: tuple[tuple[bytes, bytes, int, bool], ...]
    fields: tuple[int, ...]
    constants: NDArray[np.int64]
    shape: int
    tags: int
    entities: int


def learn(spectrum: Spectrum, text: bytes, tail: bytes, shape: int) -> Template | None:
    """Return the template of a spectrum, None where its numbers cannot be cut out.

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
    if spectrum.repeats:
        return None
    holes = spectrum.holes()
    if not holes:
        return None
    begin = spectrum.begin
    literals, fields, needed = [], [], []
    constants = np.array(spectrum.numbers, np.int64)
    ends = [hole[0] - begin for hole in holes[1:]]
    for (_, stop, number), following in zip(holes, [*ends, len(text)], strict=True):
        literals.append(text[stop - begin : following])
        needed.append(number is not None)
        if number is not None:
            fields.append(number)
            constants[number] = ABSENT
    literals[-1] += tail
    head = text[: holes[0][0] - begin]
    fixed = head + b"".join(literals)
    return Template(
        head,
        tuple((each[:1], each, len(each), number) for each, number in zip(literals, needed, strict=True)),
        tuple(fields),
        constants,
        shape,
        fixed.count(b"<"),
        fixed.count(b"&"),
    )


def match(template: Template, buffer: bytes, start: int) -> tuple[NDArray[np.int64], int]:
    """Cut the numbers out of all spectra from a place on that are like the template.

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
        Where the first spectrum begins that is not like it, or is not whole.
    """
    find, begins_with = buffer.find, buffer.startswith
    head, parts, width = template.head, template.parts, len(template.fields)
    head_length = len(head)
    found: list[bytes] = []
    begins: list[int] = []
    add, begin = found.append, start
    while begins_with(head, begin):
        place = begin + head_length
        for quote, literal, length, needed in parts:
            end = find(quote, place)
            if end < 0 or not begins_with(literal, end):
                break
            if needed:
                add(buffer[place:end])
            place = end + length
        else:
            begins.append(begin)
            begin = place
            continue
        break
    count = len(begins)
    if not count:
        return np.empty((0, len(FIELDS)), np.int64), start
    del found[count * width :]
    begins.append(begin)
    values, wrong = _numbers(found)
    if wrong is not None:
        count = wrong // width
    stop = begins[count]
    if (
        buffer.count(b"<", start, stop) != count * template.tags
        or buffer.count(b"&", start, stop) != count * template.entities
    ):
        count, stop = 0, start
    numbers = np.empty((count, len(FIELDS)), np.int64)
    numbers[:] = template.constants
    if width:
        numbers[:, list(template.fields)] = np.array(values[: count * width], np.int64).reshape(-1, width)
    return numbers, stop


def _numbers(texts: list[bytes]) -> tuple[list[int], int | None]:
    """Return the numbers that texts stand for, and the place of the first that stands for none, where they end."""
    if all(map(bytes.isdigit, texts)) and max(map(len, texts), default=0) <= SURE_DIGITS:
        return list(map(int, texts)), None
    numbers: list[int] = []
    for place, text in enumerate(texts):
        try:
            numbers.append(whole_number(text))
        except ValueError:
            return numbers, place
    return numbers, None
