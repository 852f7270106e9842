"""The fast index against the slow and plain reader: equal on whatever is right, refused or equal on whatever is not."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.metabolomics.imzml import offsets
from apps.metabolomics.imzml.offsets import Table, scan
from apps.metabolomics.imzml.opening import Remedies, inspect
from apps.metabolomics.imzml.spectrum import whole_number
from core import InputError
from tests.apps.metabolomics.imzml_pairs import Pair, Peaks, as_peaks, slow_reader
from tests.apps.metabolomics.test_imzml_reading import read_peaks


def scanned(text: str | bytes, piece: int = 1 << 20) -> Table:
    data = text.encode() if isinstance(text, str) else text
    left = iter([data[at : at + piece] for at in range(0, len(data), piece)])
    return scan(lambda: next(left, b""), "made.imzML")


def rows(table: Table) -> list[Any]:
    columns = table.positions, table.offsets, table.lengths, table.encoded
    return [[*map(np.ndarray.tolist, each)] for each in zip(*columns, strict=True)] + [
        table.shapes[i] for i in table.shape
    ]


def many(count: int, **options: Any) -> str:
    generator = np.random.default_rng(count)
    spectra = []
    for i in range(count):
        size = int(generator.integers(0, 9))
        spectra.append(Peaks(i % 40, i // 40, np.arange(size) + 100.0, np.ones(size)))
    pair = Pair(spectra, **options)
    return pair.xml(pair.binary()[1])


def parsed(monkeypatch: pytest.MonkeyPatch, text: str) -> Table:
    """Read every spectrum tag by tag."""
    with monkeypatch.context() as patched:
        patched.setattr(offsets, "learn", lambda *_: None)
        patched.setattr(offsets.KnownTags, "match", lambda *_: None)
        return scanned(text)


def test_nearly_all_spectra_of_a_file_are_like_its_template() -> None:
    table = scanned(many(1000))

    assert len(table.shape) == 1000
    assert table.by_template >= 997


@pytest.mark.parametrize("piece", [100, 337, 1024, 10_000])
def test_pieces_of_any_size_give_the_same_index(piece: int) -> None:
    text = many(60)

    assert rows(scanned(text, piece)) == rows(scanned(text))


def test_spectra_by_template_are_those_that_parsing_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    text = many(300)
    fast = scanned(text)

    slow = parsed(monkeypatch, text)

    assert (slow.by_template, fast.by_template > 250) == (0, True)
    assert rows(slow) == rows(fast)


def varied(count: int) -> str:
    """Spectra of some sixty ways of writing in no order, more than there are templates."""
    choices = random.Random(3)
    extras = [
        '<cvParam accession="MS:1000129"/>',
        '<cvParam accession="MS:1000130"/>',
        '<userParam name="a" value="7"/>',
    ]
    inside = ["", '<userParam name="t" value="1.5"/>', "<!-- none -->"]
    spectra = [
        Peaks(
            i % 40, i // 40, np.arange(i % 3) + 100.0, np.ones(i % 3), z=choices.choice([None, 1]),
            extra="".join(choices.sample(extras[:1] + extras[2:], choices.randrange(3))),
            inside=choices.choice(inside) * choices.randrange(3),
        )
        for i in range(count)
    ]  # fmt: skip
    pair = Pair(spectra, spectrum="")
    return pair.xml(pair.binary()[1])


def test_spectra_of_many_ways_in_no_order_are_those_that_parsing_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    text, read = varied(500), []
    honest = offsets.read_spectrum
    monkeypatch.setattr(offsets, "read_spectrum", lambda *about: read.append(1) or honest(*about))
    fast = scanned(text)
    few = len(read)

    slow = parsed(monkeypatch, text)

    assert (few < 130, len(read) - few) == (True, 500)
    assert rows(slow) == rows(fast) == rows(scanned(text, 777))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('value="{}"', 'value="NA"', "'NA' is not a whole number"),
        ('id="Scan=400"', 'id="Scan<400"', "not well-formed XML at byte"),
        ('id="Scan=400"', 'id="Scan&400"', "not well-formed XML at byte"),
        ('ref="intensityArray"', 'ref="mzArray"', "two m/z arrays"),
    ],
)
def test_what_is_wrong_with_a_known_way_of_writing_is_refused_as_ever(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    text = varied(500)
    at = text.index('<spectrum id="Scan=400"')
    begin = text.index('value="', text.index("IMS:1000102", at)) + 7
    old = old.format(text[begin : text.index('"', begin)])
    changed = text[:at] + text[at:].replace(old, new, 1)

    messages = []
    for read in (scanned, lambda document: parsed(monkeypatch, document)):
        with pytest.raises(InputError, match=said) as refused:
            read(changed)
        messages.append(re.sub(r"byte [0-9,]+", "byte", str(refused.value)))
    assert messages[0] == messages[1]


def test_an_ms_level_of_a_known_way_of_writing_is_read() -> None:
    text = varied(300).replace("</scanList>", '</scanList><cvParam accession="MS:1000511" value="1"/>')
    at = text.index("MS:1000511", text.index('id="Scan=200"'))

    table = scanned(text[:at] + text[at:].replace('value="1"', 'value="2"', 1))

    assert [row + 1 for row, code in enumerate(table.shape) if table.shapes[code].level == 2] == [200]


class Irregular:
    """Spectra whose tags and attributes stand in any order, with whatever a spectrum may have, or should not have."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.strange = self.random.random() < 0.5

    def param(self, accession: str, value: object = "", name: str = "") -> str:
        attributes = [f'accession="{accession}"', f'name="{name}"', f'value="{value}"', 'cvRef="MS"']
        self.random.shuffle(attributes)
        end = self.random.choice(["/>", " />", "/>\n", '/> some "text" '])
        return f"<cvParam {' '.join(attributes)}{end}"

    def number(self) -> object:
        usual = self.random.choice([7, 12, self.random.randrange(1 << 30)])
        unusual = (-3, "+5", " 9 ", "1e+05", "&#49;2", "2.0", "", "NA", 2**31, 2**60, "1.23457e+06", "9" * 19, "12>")
        return self.random.choice(unusual) if self.strange and self.random.random() < 0.01 else usual

    def noise(self) -> str:
        usual = [
            self.param("MS:1000285", self.random.random()),
            f'<userParam name="n{self.random.randrange(4)}" value="{self.random.randrange(99)}"/>',
            f'<userParam name="at {self.random.random()}" value=""/>',
            "<userParam name='a \"quoted\" one' value='5'/>",
            f"<!-- {self.random.randrange(9)} -->",
            f'<!-- "{self.random.randrange(99)}" -->\n',
            "<precursorList>" + self.param("IMS:1000050", 3) + self.param("MS:1000129") + "</precursorList>",
            f'<other id="{self.random.randrange(99)}"><inner/> text </other>',
        ]
        strange = [
            self.param("MS:1000129"), self.param("MS:1000511", self.random.choice([1, 2, "x"])),
            self.param("MS:1000580"), self.param("MS:1000128"), self.param("IMS:1000050", 8),
            '<cvParam accession="MS:1000130" name="not empty"></cvParam>', '<x a="1" a="2"/>', "<x a='1\">'/>",
            '<referenceableParamGroupRef ref="numbers"/>', '<referenceableParamGroupRef ref="nowhere"/>',
            "<![CDATA[ </spectrum> ]]>", "<!-- <x> -->", '<!-- "a -- b" -->', '<?x "?>" ?>', "</scan>", "<scan>",
            '<binaryDataArray encodedLength="0"/>', '<x a="&lt;"/>', '<x a="&"/>', '<x a="&no;"/>', "<spectrum/>",
        ]  # fmt: skip
        return self.random.choice(strange if self.strange and self.random.random() < 0.01 else usual)

    def mixed(self, parts: list[str], most: int) -> str:
        mixed = parts + [self.noise() for _ in range(self.random.randrange(most))]
        self.random.shuffle(mixed)
        return "".join(mixed)

    def array(self, group: str) -> str:
        numbers = [self.param(f"IMS:100010{i}", self.number()) for i in (2, 3, 4)]
        inside = self.mixed([f'<referenceableParamGroupRef ref="{group}"/>', *numbers, "<binary/>"], 2)
        return f'<binaryDataArray encodedLength="0">{inside}</binaryDataArray>'

    def spectrum(self, index: int) -> str:
        positions = [self.param(f"IMS:100005{axis}", self.number()) for axis in range(self.random.choice([2, 2, 3]))]
        scan = f"<scanList><scan>{self.mixed(positions, 2)}</scan></scanList>"
        arrays = [self.array("mz"), self.array("in")]
        if self.strange and self.random.random() < 0.02:
            arrays += [self.array(self.random.choice(["mz", "other"]))]
        level = self.random.sample([self.param("MS:1000130", name="positive"), self.param("MS:1000127")], 2)
        listed = f"<binaryDataArrayList>{''.join(arrays)}</binaryDataArrayList>"
        inside = self.mixed([*level, scan, listed, self.param("IMS:1000103", 8)], 4)
        return f'<spectrum id="s {index}" index="{index}">{inside}</spectrum>'

    def document(self, count: int) -> str:
        groups = {
            "mz": self.param("MS:1000514") + self.param("MS:1000523"),
            "in": self.param("MS:1000515") + self.param("MS:1000521"),
            "other": self.param("MS:1000786", name="an array") + self.param("MS:1000521"),
            "numbers": self.param("IMS:1000051", 4),
        }
        head = "".join(
            f'<referenceableParamGroup id="{name}">{params}</referenceableParamGroup>'
            for name, params in groups.items()
        )
        spectra = [self.spectrum(index) for index in range(count)]
        text = f"<mzML>{head}<run><spectrumList>{self.random.choice(['', ' '])}{''.join(spectra)}"
        for _ in range(self.random.choice([0, 0, 1])):
            at = self.random.randrange(2 * len(text) // 3, len(text))
            text = text[:at] + self.random.choice(["", *"<>&\"'/ -=9a"]) + text[at + self.random.randrange(2) :]
        return f"{text}</spectrumList></run></mzML>"


def said_of(text: str, read: Callable[[str], Table]) -> list[Any] | str:
    try:
        table = read(text)
    except InputError as error:
        return str(error)
    return [len(table.shape), *rows(table)]


@pytest.mark.parametrize("batch", range(4))
def test_irregular_spectra_are_those_that_parsing_gives_and_refused_where_it_refuses(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    refused, known = 0, list[bool]()
    honest = offsets.KnownTags.match

    def match(*about: Any) -> Any:
        found = honest(*about)
        known.append(found is not None)
        return found

    monkeypatch.setattr(offsets, "learn", lambda *_: None)
    for seed in range(50 * batch, 50 * batch + 50):
        text = Irregular(seed).document(40)
        monkeypatch.setattr(offsets.KnownTags, "match", match)
        fast = said_of(text, scanned)
        slow = said_of(text, partial(parsed, monkeypatch))

        assert fast == slow, f"seed {seed}"
        refused += isinstance(fast, str)
    assert 5 < refused < 45
    assert sum(known) > 500


@pytest.mark.parametrize(
    ("warm", "probe"),
    [
        ('<userParam name="a" value="5"/>', '<userParam name="a" value="&no;"/>'),
        ("<x a='1\"2\"3'/>", "<x a='1\"2' b\"3'/>"),
        ('<!-- "5" -->', '<!-- "a -- b" -->'),
        ('<x a="w" id="5"/><x a="foo value=" id="7"/>', '<x a="foo value="!"7"/>'),
        ('<x a="w"/>', '<x a="w" a="w"/>'),
        ("", '<precursorList><cvParam accession="IMS:1000052" value="3"/></precursorList>'),
        ("", '<cvParam accession="IMS:1000050" value="1"/><cvParam accession="IMS:1000050" value="2"/>'),
        ("", '<binaryDataArray encodedLength="0"></binaryDataArray>'),
    ],
)
def test_what_only_looks_like_known_tags_is_read_as_ever(
    monkeypatch: pytest.MonkeyPatch, warm: str, probe: str
) -> None:
    pair = Pair([Peaks(i, 1, extra=warm if i < 30 else probe) for i in range(31)])
    text = pair.xml(pair.binary()[1])
    monkeypatch.setattr(offsets, "learn", lambda *_: None)

    fast = said_of(text, scanned)

    assert fast == said_of(text, partial(parsed, monkeypatch))


def test_spectra_alike_behind_irregular_ones_have_their_template_and_none_is_tried_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spectra = [Peaks(i, 1, extra=f"<!-- {i} -->") for i in range(900)] + [Peaks(i, 2) for i in range(600)]
    pair = Pair(spectra)
    tried, honest = [], offsets.match
    monkeypatch.setattr(offsets, "match", lambda *about: tried.append(1) or honest(*about))

    table = scanned(pair.xml(pair.binary()[1]))

    assert table.by_template >= 600 - offsets.RELEARN
    assert len(tried) < 1500 + offsets.MAX_TEMPLATES * offsets.FORGET * 2


def test_spectra_of_several_kinds_in_turn_all_have_their_template() -> None:
    spectra = [
        Peaks(i, 1, z=i % 2 or None, extra='<cvParam accession="MS:1000129"/>' * (i % 3 == 0)) for i in range(600)
    ]
    pair = Pair(spectra, spectrum="")

    table = scanned(pair.xml(pair.binary()[1]))

    assert table.by_template >= 590
    assert [table.shapes[code].polarity for code in table.shape[:6]] == ["-", "", "", "-", "", ""]
    assert (table.positions[1::2, 2] == np.arange(1, 600, 2) % 2).all()


def test_a_spectrum_that_only_looks_like_the_template_is_parsed() -> None:
    text = many(50)
    at = text.index('id="Scan=30"')
    changed = text[:at] + text[at:].replace("MS:1000514", "MS:1000514", 1).replace(
        'ref="mzArray"', 'ref="intensityArray"', 1
    )

    with pytest.raises(InputError, match=r"spectrum 30 .* has two intensity arrays"):
        scanned(changed)


def test_a_tag_within_a_hole_of_the_template_is_found() -> None:
    text = many(50).replace('id="Scan=30"', 'id="Scan<30"')

    with pytest.raises(InputError, match="not well-formed XML at byte"):
        scanned(text)


def test_a_number_that_is_none_in_the_middle_of_a_run_is_found() -> None:
    text = many(50)
    at = text.index('accession="IMS:1000102"', text.index('id="Scan=30"'))
    begin = text.index('value="', at) + 7

    with pytest.raises(InputError, match=r"spectrum 30 .*'NA' is not a whole number"):
        scanned(text[:begin] + "NA" + text[text.index('"', begin) :])


@pytest.mark.parametrize("cut", range(40, 4000, 131))
def test_a_document_cut_off_anywhere_is_refused(cut: int) -> None:
    text = many(20)

    with pytest.raises(InputError, match=r"made.imzML: .*(cut off|well-formed|no XML|not of mzML)"):
        scanned(text[: len(text) - cut])


def test_a_spectrum_outside_of_the_list_is_refused() -> None:
    text = many(3).replace("</spectrumList>", "</spectrumList><spectrum id='x'/>")

    with pytest.raises(InputError, match="a spectrum stands outside of the list"):
        scanned(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("16", 16), (" 16 ", 16), ("+16", 16), ("-16", -16), ("016", 16), ("16.", 16), ("16.000", 16), ("1e+05", 100_000),
     ("1.2E8", 120_000_000), ("1.50e1", 15), ("123456e0", 123_456), ("1152921504606846975", 2**60 - 1)],
)  # fmt: skip
def test_whole_numbers_are_read_however_they_are_written(text: str, number: int) -> None:
    assert whole_number(text.encode()) == number


@pytest.mark.parametrize(
    "text", ["", "NA", "1.5", "1e-1", "1,5", "0x1", "1_0", "١", "1e", "1.23457e+06", str(2**60), "1e400"]
)
def test_what_is_no_whole_number_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"whole number|rounded|too large"):
        whole_number(text.encode())


def test_the_number_of_kinds_of_spectra_is_bounded() -> None:
    spectra = [
        Peaks(i, 1, extra=f'<cvParam accession="MS:1000511" value="{i + 1}"/>') for i in range(offsets.MAX_SHAPES + 1)
    ]
    pair = Pair(spectra)

    with pytest.raises(InputError, match="more than 4,096 kinds of spectra"):
        scanned(pair.xml(pair.binary()[1]))


# Made by hypothesis.

numbers = st.integers(-(2**31) + 1, 2**31 - 1)
places = st.integers(0, 2**50)
sizes = st.integers(0, 2**31 - 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="<&\"'", exclude_categories=("Cc", "Cs")), max_size=12)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[list[Any]]]:
    """Documents of spectra of some shapes, with noise that says nothing; and the numbers that are in them."""
    expected, written = [], []
    quote = draw(st.sampled_from("\"'"))
    blank = draw(st.sampled_from(["", "\n", "\r\n\t", "  "]))
    noise = ["", "<!-- <spectrum/> -->", f"<userParam name={quote}a{quote} value={quote}7{quote}/>"]
    with_z = draw(st.booleans())

    def param(accession: str, value: Any) -> str:
        name = draw(texts)
        parts = [f"accession={quote}{accession}{quote}", f"name={quote}{name}{quote}", f"value={quote}{value}{quote}"]
        return f"<cvParam {' '.join(parts)}/>"

    for index in range(draw(st.integers(1, 12))):
        x, y, z = draw(numbers), draw(numbers), draw(numbers) if with_z or draw(st.integers(0, 9)) == 0 else None
        row = [draw(places), draw(sizes), draw(places), draw(places), draw(sizes), draw(places)]
        arrays = [
            f"<binaryDataArray encodedLength={quote}{draw(st.integers(0, 9))}{quote}>"
            f"<referenceableParamGroupRef ref={quote}{group}{quote}/>"
            + param("IMS:1000102", row[3 * i])
            + blank
            + param("IMS:1000103", row[3 * i + 1])
            + param("IMS:1000104", row[3 * i + 2])
            + "<binary/></binaryDataArray>"
            for i, group in enumerate(("mz", "in"))
        ]
        written.append(
            f"<spectrum index={quote}{index}{quote}>{draw(st.sampled_from(noise))}{blank}<scan>"
            + param("IMS:1000050", x)
            + param("IMS:1000051", y)
            + ("" if z is None else param("IMS:1000052", z))
            + f"</scan>{blank}{''.join(arrays)}</spectrum>{blank}{draw(st.sampled_from(noise[:2]))}"
        )
        expected.append([x, y, z, *row])
    groups = "".join(
        f"<referenceableParamGroup id='{name}'><cvParam accession='MS:{accession}'/><cvParam accession='MS:1000523'/>"
        "</referenceableParamGroup>"
        for name, accession in (("mz", 1000514), ("in", 1000515))
    )
    return f"<mzML>{groups}<run><spectrumList>{blank}{''.join(written)}</spectrumList></run></mzML>", expected


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(documents(), st.integers(50, 3000))
def test_any_document_is_indexed_as_a_plain_parser_reads_it(document: tuple[str, list[list[Any]]], piece: int) -> None:
    text, expected = document
    ElementTree.fromstring(text)

    table = scanned(text, piece)

    found = []
    for position, offset, length, encoded in zip(
        table.positions, table.offsets, table.lengths, table.encoded, strict=True
    ):
        x, y, z = position.tolist()
        row = [offset[0], length[0], encoded[0], offset[1], length[1], encoded[1]]
        found.append([x, y, None if z == -(2**31) else z, *map(int, row)])
    assert found == expected


# Damaged files: refused in a sentence, or read as the slow reader reads them.


def outcome(path: str) -> list[Any] | None:
    """Return the peaks of a damaged file; None where it is refused, in one sentence."""
    try:
        dataset = inspect(path, Remedies(ignore_uuid=True))
        return read_peaks(dataset) if not any(quirk.fatal for quirk in dataset.quirks) else None
    except InputError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert len(sentence) < 600
    return None


def expected_outcome(path: str) -> list[Any] | None:
    """Return what the slow reader makes of a damaged file; None where it fails."""
    text = re.sub(rb"\A<\?.*?\?>", b"", Path(path).read_bytes(), flags=re.DOTALL)
    # Bytes that no UTF-8 may have are no failure, since files have them; as letters they leave all else as it is.
    clean = re.sub(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x80-\xff]", b"Z", text)
    copy = Path(path).with_name("clean.imzML")
    copy.write_bytes(clean)
    copy.with_suffix(".ibd").write_bytes(Path(path).with_suffix(".ibd").read_bytes())
    try:
        return as_peaks(slow_reader(str(copy)))
    except Exception:
        return None


def damaged(pair: Pair, folder: Path, seed: int, part: str) -> str:
    generator = random.Random(seed)
    path = pair.write(folder)
    file = Path(path) if part == "header" else Path(path).with_suffix(".ibd")
    data = bytearray(file.read_bytes())
    for _ in range(generator.choice([1, 1, 1, 2, 5])):
        at = generator.randrange(len(data))
        if part == "header" and generator.random() < 0.3:
            # Most bytes of a header say nothing; digits do.
            at = generator.choice([i for i, byte in enumerate(data) if 48 <= byte <= 57])
            data[at] = generator.randrange(48, 58)
        else:
            data[at] ^= 1 << generator.randrange(8)
    if generator.random() < 0.1:
        del data[generator.randrange(len(data)) :]
    file.write_bytes(data)
    return path


PAIRS = {
    "processed": Pair([Peaks(i % 4, i // 4, np.arange(5) + 100.0 + i, np.arange(5) + 1.0) for i in range(12)]),
    "continuous": Pair([Peaks(i % 4, i // 4, intensity=(1.0 + i, 2.0, 3.0)) for i in range(12)], continuous=True),
    "packed": Pair(
        [Peaks(i % 4, i // 4, np.arange(5) + 100.0 + i, np.arange(5) + 1.0) for i in range(12)], packed=True
    ),
    "single": Pair([Peaks(i % 4, i // 4, np.arange(5) + 100.0 + i, np.arange(5) + 1.0) for i in range(12)], mz="f4"),
}


@pytest.mark.parametrize("part", ["header", "data"])
@pytest.mark.parametrize("kind", PAIRS)
def test_damage_is_refused_or_changes_nothing_that_a_plain_reader_does_not_see(
    tmp_path: Path, kind: str, part: str
) -> None:
    read = 0
    for seed in range(150):
        path = damaged(PAIRS[kind], tmp_path, seed, part)

        found = outcome(path)

        if found is not None:
            read += 1
            assert found == expected_outcome(path), f"seed {seed}"
    assert read > 0


@pytest.mark.parametrize("piece", [97, 1 << 20])
@pytest.mark.parametrize(
    ("behind", "count"),
    [("", 0), ("\n \0\n", 0), ("<!-- made by hand -->", 17), ("trailing words " * 50, 650), ("<notes/>", 8)],
)
def test_text_behind_the_document_is_counted(behind: str, count: int, piece: int) -> None:
    assert scanned(f"{many(3)}{behind}", piece).behind == count


def test_an_index_behind_the_spectra_is_part_of_the_document() -> None:
    text = many(3)
    begin = text.index("<mzML")
    wrapped = (
        f"{text[:begin]}<indexedmzML>{text[begin:]}<indexList>{'<offset>9</offset>' * 99}</indexList></indexedmzML>"
    )

    assert scanned(f"{wrapped}\n", 101).behind == 0
    assert scanned(f"{wrapped} more").behind == 4


@pytest.mark.parametrize("piece", [61, 1 << 20])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_second_document_is_refused(wrapped: bool, piece: int) -> None:
    text = many(3)
    begin = text.index("<mzML")
    first = f"{text[:begin]}<indexedmzML>{text[begin:]}</indexedmzML>" if wrapped else text

    with pytest.raises(InputError, match="a second document begins behind the end of the first, at byte"):
        scanned(f"{first}{text}", piece)
