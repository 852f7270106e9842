"""Templates against a plain walk over their literals: the same spectra are taken, and the same numbers."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.imzml.header import read_header
from apps.metabolomics.imzml.markup import Markup
from apps.metabolomics.imzml.offsets import BLOCK
from apps.metabolomics.imzml.spectrum import SURE_DIGITS, read_spectrum, whole_number
from apps.metabolomics.imzml.template import LONGEST, Template, learn, match
from tests.apps.metabolomics.imzml_pairs import Pair, Peaks
from tests.apps.metabolomics.test_imzml_index import many, scanned


def learnt(text: bytes) -> Template:
    """Return the template of a document's first spectrum."""
    pieces = iter([text])
    markup = Markup(lambda: next(pieces, b""), "made.imzML")
    header, tag = read_header(markup)
    assert tag is not None
    spectrum = read_spectrum(markup, tag, header.groups, 1)
    following = markup.next()
    assert following is not None
    template = learn(spectrum, text[spectrum.begin : spectrum.end], text[spectrum.end : following.begin], 0)
    assert template is not None
    return template


def walked(template: Template, buffer: bytes, start: int) -> tuple[list[list[int]], int]:
    """Do what `match` does, one hole after the other."""
    rows: list[list[int]] = []
    while buffer.startswith(template.literals[0], start):
        place, row = start + len(template.literals[0]), template.constants.tolist()
        for field, literal in zip(template.holes, template.literals[1:], strict=True):
            end = buffer.find(literal[:1], place)
            hole = buffer[place:end]
            if end < 0 or b"<" in hole or b"&" in hole or not buffer.startswith(literal, end):
                return rows, start
            if field is not None:
                try:
                    row[field] = whole_number(hole)
                except ValueError:
                    return rows, start
            place = end + len(literal)
        rows.append(row)
        start = place
    return rows, start


ODD = (
    "", "0", "007", "+5", "-3", " 9 ", "\n4\t", "1e+05", "2.0", "2.5", "NA", "9" * SURE_DIGITS, "9" * (SURE_DIGITS + 1),
    "0" * SURE_DIGITS + "1", str(2**60 - 1), str(2**60), "1.23457e+06", "é", "٣", "a b", "<", "a<b", "&", "&amp;",
    "&#49;", ">", "/>", '"', "'", '"/>', "\0",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A document of spectra that are alike, and that with odd values, other bytes, or without its end."""
    pair = Pair(
        [Peaks(i, 1, z=draw(st.sampled_from([1, 2, 77])), extra='<userParam name="a &amp; b" value="7"/>')
         for i in range(draw(st.integers(2, 12)))],
        packed=draw(st.booleans()),
    )  # fmt: skip
    text = pair.xml(pair.binary()[1])
    if draw(st.booleans()):
        text = text.replace('"', "'")
    first = text.index("<spectrum ")
    intact = text.encode()
    holes = [found.span(1) for found in re.finditer(r"""=["']([^"']*)["']""", text) if found.start() > first]
    for begin, end in sorted(draw(st.sets(st.sampled_from(holes), max_size=4)), reverse=True):
        text = text[:begin] + draw(st.sampled_from(ODD)) + text[end:]
    data = bytearray(text.encode())
    for place in draw(st.sets(st.integers(first, len(data) - 1), max_size=1)):
        data[place] = draw(st.integers(0, 255))
    return intact, bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(first, len(data))))])


@settings(deadline=None, max_examples=400)
@given(damaged())
def test_a_template_takes_what_a_walk_over_its_literals_takes(document: tuple[bytes, bytes]) -> None:
    intact, text = document
    template = learnt(intact)
    for begin in (found.start() for found in re.finditer(rb"<spectrum[ >]", text)):
        rows, stop = match(template, text, begin)
        assert (rows.tolist(), stop) == walked(template, text, begin)


def test_an_entity_in_one_spectrum_spoils_no_others() -> None:
    text = many(1000).replace('id="Scan=500"', 'id="Scan &amp; 500"')

    table = scanned(text)

    assert table.by_template >= 995
    assert np.array_equal(table.offsets, scanned(many(1000)).offsets)


def test_a_template_that_fits_nothing_is_never_compiled() -> None:
    text = many(3).encode()
    template = learnt(text)
    begin = text.index(b"<spectrum ")
    other = text[begin:].replace(b"<binary/>", b"<!-- --><binary/>", 1)

    rows, stop = match(template, other, 0)

    assert (len(rows), stop, template.pattern) == (0, 0, None)


def test_spectra_too_long_to_be_a_template_are_read_all_the_same() -> None:
    pair = Pair([Peaks(i, 2, extra='<userParam name="a" value="7"/>' * (LONGEST // 30)) for i in range(50)])

    table = scanned(pair.xml(pair.binary()[1]))

    assert table.by_template == 0
    assert table.positions[:, 0].tolist() == list(range(50))


def test_rows_of_many_short_runs_are_in_the_order_of_the_file() -> None:
    kinds = np.random.default_rng(0).integers(0, 3, 3 * BLOCK)
    pair = Pair([Peaks(i, kind, z=kind if kind else None) for i, kind in enumerate(kinds.tolist())])

    table = scanned(pair.xml(pair.binary()[1]))

    assert table.by_template > 3 * BLOCK - 20
    assert np.array_equal(table.positions[:, 0], np.arange(3 * BLOCK))
    assert np.array_equal(table.positions[:, 1], kinds)
    assert np.array_equal(table.positions[:, 2], np.where(kinds, kinds, -(2**31)))
