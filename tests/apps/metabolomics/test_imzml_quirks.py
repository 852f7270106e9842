"""Files as exporters write them: each said what is unusual, refused where it cannot be read surely, never misread."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.metabolomics.imzml import Dataset, open_dataset, read_spectra
from apps.metabolomics.imzml.opening import Remedies, inspect
from core import InputError
from tests.apps.metabolomics.imzml_pairs import ACCESSIONS, NAMES, UUID, Pair, Peaks, as_peaks, replaced, slow_reader
from tests.apps.metabolomics.test_imzml_reading import read_peaks

PLAIN = '<cvParam accession="MS:1000576" name="no compression"/>'


def codes(dataset: Dataset) -> set[str]:
    return {quirk.code for quirk in dataset.quirks} - {"pixel-size"}


def typed(accession: str, name: str, packing: str = PLAIN) -> str:
    return f'<cvParam accession="{ACCESSIONS[accession]}" name="{NAMES[name]}"/>{packing}'


def refused(path: str, words: str, **remedies: Any) -> None:
    with pytest.raises(InputError) as caught:
        open_dataset(path, **remedies)
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert Path(path).name in message or Path(path).with_suffix(".ibd").name in message


# Element types: bytes per value first, then name, then accession.


@pytest.mark.parametrize("stored", ["f4", "f8", "i4", "i8"])
@pytest.mark.parametrize("accession", ["f4", "f8", "i4"])
@pytest.mark.parametrize("name", ["f4", "f8", "i4"])
def test_bytes_per_value_decide_first_then_the_name_then_the_accession(
    tmp_path: Path, stored: str, accession: str, name: str
) -> None:
    path = Pair(intensity=stored, intensity_params=typed(accession, name)).write(tmp_path)

    dataset = inspect(path, Remedies())

    size = stored[1]
    expected = name if name[1] == size else accession if accession[1] == size else name[0] + size
    assert dataset.elements[0].intensity == expected
    assert ("element-type" in codes(dataset)) == ({accession, name} != {expected})


def test_a_type_of_another_name_is_said_once_and_not_for_each_spectrum(tmp_path: Path) -> None:
    dataset = open_dataset(Pair(mz="f4", mz_params=typed("f4", "f8")).write(tmp_path))

    (quirk,) = [quirk for quirk in dataset.quirks if quirk.code == "element-type"]
    assert quirk.count == 4
    assert "m/z values are called 32-bit float and 64-bit float" in quirk.sentence
    assert "are 32-bit float" in quirk.sentence


def test_a_type_that_has_no_known_name_is_told_by_its_accession(tmp_path: Path) -> None:
    params = '<cvParam accession="IMS:1000141" name="Ganzzahl"/>' + PLAIN
    path = Pair(intensity="i4", intensity_params=params).write(tmp_path)

    assert open_dataset(path).elements[0].intensity == "i4"


def test_packed_arrays_of_two_types_are_told_apart_by_what_is_in_one(tmp_path: Path) -> None:
    zlib = '<cvParam accession="MS:1000574" name="zlib compression"/>'
    path = Pair(
        packed=True, mz="f4", mz_params=typed("f8", "f4", zlib), intensity_params=typed("f4", "f8", zlib)
    ).write(tmp_path)

    dataset = open_dataset(path)

    assert (dataset.elements[0].mz, dataset.elements[0].intensity) == ("f4", "f4")
    assert [m for _, _, m, _ in read_peaks(dataset)][:3] == [100.0, 200.5, 300.25]


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ('<cvParam accession="MS:1002312" name="x"/>', "MS-Numpress linear prediction"),
        ('<cvParam accession="MS:1002748" name="x"/>', "MS-Numpress short logged float"),
        ('<cvParam accession="MS:1009999" name="zstd compression"/>', "zstd compression"),
        ('<cvParam accession="MS:1009998" name="MS-Numpress of tomorrow"/>', "MS-Numpress of tomorrow"),
        ('<cvParam accession="IMS:1100001" name="16-bit integer"/>', "16-bit integer"),
        ('<cvParam accession="IMS:1009997" name="big-endian"/>', "big-endian"),
    ],
)
def test_storage_that_is_not_read_is_refused_by_its_name(tmp_path: Path, params: str, named: str) -> None:
    refused(Pair(mz_params=typed("f8", "f8", "") + params).write(tmp_path), named)


def test_big_endian_numbers_are_not_read_as_m_z(tmp_path: Path) -> None:
    pair = Pair()
    path = pair.write(tmp_path)
    data, places = pair.binary()
    turned = bytearray(data)
    for place in places:
        at = place["offset"][0]
        turned[at : at + 24] = np.frombuffer(data, "<f8", 3, at).astype(">f8").tobytes()
    (tmp_path / "made.ibd").write_bytes(turned)

    refused(path, "most m/z of 4 of 4 spectra looked at are none.* byte order")


@pytest.mark.parametrize(("stored", "called"), [("i4", "f4"), ("i8", "f8")])
def test_whole_numbers_are_not_read_as_floats(tmp_path: Path, stored: str, called: str) -> None:
    refused(Pair(intensity=stored, intensity_params=typed(called, called)).write(tmp_path), "the median intensity of 4")


def test_arrays_that_are_exchanged_in_the_header_are_not_read(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    spectra = [Peaks(i, 1, np.sort(generator.uniform(100, 900, 30)), generator.uniform(1, 99, 30)) for i in range(4)]
    path = Pair(spectra, mz="f4", intensity="f4").write(tmp_path)

    replaced(path, ("MS:1000514", "MS:swapped"), ("MS:1000515", "MS:1000514"), ("MS:swapped", "MS:1000515"))

    refused(path, "m/z and intensities seem to be exchanged")


def test_arrays_are_told_by_their_accession_in_any_order_inline_or_by_group(tmp_path: Path) -> None:
    path = Pair().write(tmp_path)
    expected = as_peaks(slow_reader(path))
    text = Path(path).read_text()
    inline = '<cvParam accession="MS:1000514" name="?"/>' + typed("f8", "f8")
    text = text.replace('<referenceableParamGroupRef ref="mzArray"/>', inline)
    text = re.sub(r"(<binaryDataArray .*?</binaryDataArray>)(<binaryDataArray .*?</binaryDataArray>)", r"\2\1", text)
    Path(path).write_text(text)

    dataset = open_dataset(path)

    assert read_peaks(dataset) == expected


def test_a_further_array_is_named_and_not_read(tmp_path: Path) -> None:
    path = Pair().write(tmp_path)
    expected = as_peaks(slow_reader(path))
    mobility = (
        '<binaryDataArray><cvParam accession="MS:1003006" name="mean inverse reduced ion mobility array"/>'
        + typed("f8", "f8")
        + '<cvParam accession="IMS:1000102" value="16"/><cvParam accession="IMS:1000103" value="99"/></binaryDataArray>'
    )
    replaced(path, ("</binaryDataArrayList>", mobility + "</binaryDataArrayList>"))

    dataset = open_dataset(path)

    assert read_peaks(dataset) == expected
    assert (
        "mean inverse reduced ion mobility array"
        in next(q for q in dataset.quirks if q.code == "other-arrays").sentence
    )


@pytest.mark.parametrize(("accession", "missing"), [("MS:1000514", "m/z array"), ("MS:1000515", "intensity array")])
def test_a_spectrum_without_one_of_the_two_arrays_is_refused(tmp_path: Path, accession: str, missing: str) -> None:
    refused(replaced(Pair().write(tmp_path), (accession, "MS:1000516")), f"spectrum 1 .* has no {missing}")


def test_two_arrays_of_one_kind_are_refused(tmp_path: Path) -> None:
    refused(replaced(Pair().write(tmp_path), ("MS:1000515", "MS:1000514")), "two m/z arrays")


# XML as it is written.


def _cp1252(text: str) -> bytes:
    return text.replace("Scan=", "Größe").encode("cp1252")


COMMENT = '<!-- <cvParam accession="IMS:1000050" value="77"/> -->'
ORDER = re.compile(r'(accession="\S+") (name="[^"]*") (value="[^"]*")')
XML = {
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "ISO-8859-1": lambda text: text.replace("UTF-8", "ISO-8859-1").replace("Scan=", "Größe").encode("latin-1"),
    "Windows-1252 that calls itself UTF-8": _cp1252,
    "no declaration": lambda text: text.partition("\n")[2].encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "one line": lambda text: text.replace("\n", "").encode(),
    "a tag on each line": lambda text: text.replace("><", ">\n\t<").encode(),
    "single quotes": lambda text: text.replace('"', "'").encode(),
    "quotes of both kinds": lambda text: re.sub(r'value="(\d+)"', r"value='\1'", text).encode(),
    "blanks around equals signs": lambda text: re.sub(r' (\w+)="', r'  \1 =\n"', text).encode(),
    "blanks in numbers": lambda text: re.sub(r'value="(\d+)"', r'value=" \1 "', text).encode(),
    "digits as entities": lambda text: text.replace('value="3"', 'value="&#51;"').encode(),
    "comments": lambda text: text.replace("<scan>", "<scan>" + COMMENT).encode(),
    "comments with spectra": lambda text: text.replace("</spectrum>", "</spectrum><!-- <spectrum> -->").encode(),
    "a comment in the header": lambda text: text.replace("<run", "<!-- <spectrum id='x'/> --><run").encode(),
    "a processing instruction": lambda text: text.replace("<run", "<?xml-stylesheet href='<spectrum>'?><run").encode(),
    "prefixes": lambda text: re.sub(r"(</?)(?=\w)", r"\1ms:", text).replace("xmlns=", "xmlns:ms=").encode(),
    "attributes of another namespace": lambda text: text.replace(' id="Scan', ' x:id="1" id="Scan').encode(),
    "indexedmzML": lambda text: (
        text.replace("<mzML", '<indexedmzML xmlns="http://psi.hupo.org/ms/mzml"><mzML')
        + '<indexList count="1"><index name="spectrum"><offset idRef="x">0</offset></index></indexList></indexedmzML>'
    ).encode(),
    "no scan settings": lambda text: re.sub("<scanSettingsList.*</scanSettingsList>", "", text).encode(),
    "no file description": lambda text: re.sub("<fileDescription.*</fileDescription>", "", text).encode(),
    "other names": lambda text: re.sub(r'name="[^"]*number"', 'name="m/z array"', text).encode(),
    "other orders of attributes": lambda text: ORDER.sub(r"\3 \2 \1", text).encode(),
    "numbers with a point": lambda text: re.sub(r'value="(\d+)"', r'value="\1.0"', text).encode(),
    "numbers with an exponent": lambda text: re.sub(r'value="(\d+)"', r'value="\1e+00"', text).encode(),
    "numbers with a sign": lambda text: re.sub(r'value="(\d+)"', r'value="+\1"', text).encode(),
    "a wrong count of spectra": lambda text: text.replace('spectrumList count="4"', 'spectrumList count="7"').encode(),
    "no count of spectra": lambda text: text.replace('spectrumList count="4"', "spectrumList").encode(),
    "trailing zero bytes": lambda text: text.encode() + b"\0" * 100,
}  # fmt: skip


@pytest.mark.parametrize("kind", XML)
def test_xml_is_read_however_it_is_written(tmp_path: Path, kind: str) -> None:
    spectra = [Peaks(x, y, (100.0 + x, 200.0, 300.0), (1.0, 2.0, 3.0 + y)) for y in (1, 2, 3) for x in (1, 2, 3)]
    pair = Pair(spectra)
    path = pair.write(tmp_path)
    expected = as_peaks(slow_reader(path))

    Path(path).write_bytes(XML[kind](Path(path).read_text().replace('count="9"', 'count="4"')))

    dataset = open_dataset(path)
    assert read_peaks(dataset) == expected
    assert "count" in codes(dataset)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\x1f\x8b\x08\x00", "the file is no XML"),
        ("<mzML/>".encode("utf-16"), "written in UTF-16"),
        (b"<html><body/></html>", "XML of <html>, not of mzML"),
        (b"<!DOCTYPE mzML><mzML/>", "a DOCTYPE is not read"),
        (b"<mzML><run>", "ends within <run>"),
        (b"<mzML></run>", "stands where <mzML> is open"),
        (b"<mzML a='1' a='2'/>", "attribute a stands twice"),
        (b"<mzML a='<'/>", "not well-formed"),
        (b"<mzML a='&unknown;'/>", "not well-formed"),
        (b"<mzML/>", "it has no spectra"),
        (b"<mzML><run><spectrumList count='0'></spectrumList></run></mzML>", "it has no spectra"),
    ],
)
def test_what_is_no_imzml_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = Pair().write(tmp_path)
    Path(path).write_bytes(content)

    refused(path, words)


def test_the_two_files_are_found_and_missing_ones_named(tmp_path: Path) -> None:
    path = Pair().write(tmp_path)
    refused(str(tmp_path / "made.ibd"), "give the .imzML file beside it")
    refused(str(tmp_path / "other.imzML"), "there is no such file")
    (tmp_path / "made.ibd").rename(tmp_path / "made.IBD")
    assert open_dataset(path).ibd.name == "made.IBD"

    (tmp_path / "made.IBD").unlink()

    refused(path, "there is no made.ibd beside it")


@pytest.mark.parametrize("value", ["NA", "", "nan", "inf", "1.5", "1_6", "0x10", "1.23456e+07", "9" * 30])
@pytest.mark.parametrize("accession", ["IMS:1000102", "IMS:1000103", "IMS:1000050"])
def test_what_is_no_whole_number_is_refused(tmp_path: Path, value: str, accession: str) -> None:
    path = Pair().write(tmp_path)
    text = Path(path).read_text()
    at = text.rindex(f'accession="{accession}" name="a number" value="')
    begin = text.index('value="', at) + 7
    Path(path).write_text(text[:begin] + value + text[text.index('"', begin) :])

    refused(path, "spectrum 4 .*(whole number|too large|rounded)")


# Places in the .ibd.


def test_a_truncated_ibd_is_refused_by_default_and_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = Pair().write(tmp_path)
    whole = as_peaks(slow_reader(path)[:3])
    data = (tmp_path / "made.ibd").read_bytes()
    (tmp_path / "made.ibd").write_bytes(data[:-1])

    refused(path, r"made.ibd has 159 bytes, but 1 of 4 .* spectrum 4, and 160 bytes .*--allow-truncated")

    dataset = open_dataset(path, allow_truncated=True)
    assert read_peaks(dataset) == whole
    assert dataset.mask.tolist() == [0, 1, 2]
    assert next(q for q in dataset.quirks if q.code == "truncated").count == 1


@pytest.mark.parametrize("packed", [False, True])
def test_wherever_an_ibd_is_cut_off_the_spectra_before_are_read(tmp_path: Path, packed: bool) -> None:
    pair = Pair([Peaks(i, 1, (100.0 + i, 200.0), (1.0, 2.0 + i)) for i in range(4)], packed=packed)
    path = pair.write(tmp_path)
    data, places = pair.binary()
    whole = slow_reader(path)
    ends = [place["offset"][1] + place["encoded"][1] for place in places]
    for cut in range(ends[0], len(data)):
        (tmp_path / "made.ibd").write_bytes(data[:cut])

        dataset = open_dataset(path, allow_truncated=True)

        assert read_peaks(dataset) == as_peaks(each for each, end in zip(whole, ends, strict=True) if end <= cut)


def test_offsets_of_another_mode_than_the_ibd_has_are_not_read_as_a_truncated_one(tmp_path: Path) -> None:
    said = '<cvParam accession="IMS:1000030" name="continuous"/>'
    pair = Pair([Peaks(i, 1, np.linspace(100, 200, 20), np.arange(1.0, 21)) for i in range(6)], mz="f4", content=said)
    path = pair.write(tmp_path)  # with m/z of its own for each spectrum
    pair.continuous = True
    (tmp_path / "made.ibd").write_bytes(pair.binary()[0])

    refused(path, "m/z of its own, but made.ibd has exactly the bytes of one m/z array", allow_truncated=True)


def test_offsets_of_one_mz_array_are_not_believed_where_the_ibd_has_one_for_each_spectrum(tmp_path: Path) -> None:
    spectra = [Peaks(i, 1, (100.0 + i, 200.0, 300.0 - i)) for i in range(4)]
    path = Pair(spectra, continuous=True).write(tmp_path)
    (tmp_path / "made.ibd").write_bytes(Pair(spectra).binary()[0])

    refused(path, "all spectra one m/z array, but made.ibd has exactly the bytes of one for each")


def test_an_ibd_of_which_nothing_is_left_is_refused_in_any_case(tmp_path: Path) -> None:
    path = Pair().write(tmp_path)
    (tmp_path / "made.ibd").write_bytes(UUID)

    refused(path, "4 of 4 spectra lie beyond its end", allow_truncated=True)


@pytest.mark.parametrize("uuid", [UUID.hex(), UUID.hex().upper(), "{01020304-0506-0708-090A-0B0C0D0E0F10}"])
def test_a_uuid_is_the_same_however_it_is_written(tmp_path: Path, uuid: str) -> None:
    assert codes(open_dataset(Pair(uuid=uuid).write(tmp_path))) == set()


def test_another_uuid_is_refused_unless_ignored(tmp_path: Path) -> None:
    path = Pair(uuid="ff" * 16).write(tmp_path)

    refused(path, "begins with 0102.* but the header's UUID is ffff.* --ignore-uuid")

    assert len(read_peaks(open_dataset(path, ignore_uuid=True))) == 12


def test_a_missing_uuid_and_one_in_the_byte_order_of_windows_are_said(tmp_path: Path) -> None:
    assert codes(open_dataset(Pair(uuid="").write(tmp_path))) == {"no-uuid"}
    assert codes(open_dataset(Pair(uuid="04030201060508070" + "90a0b0c0d0e0f10").write(tmp_path))) == {"uuid-order"}


def test_the_uuid_is_never_read_as_peaks(tmp_path: Path) -> None:
    spectra = [Peaks(1, 1, offsets=(0, 24)), Peaks(2, 1, offsets=(36, 60))]
    path = Pair(spectra).write(tmp_path)
    refused(path, "spectrum 1 has an array at byte 0 of the .ibd, within its UUID")

    bare = Pair([Peaks(1, 1), Peaks(2, 1)], begins=b"").write(tmp_path)
    refused(bare, "UUID")
    assert len(read_peaks(open_dataset(bare, ignore_uuid=True))) == 6


@pytest.mark.parametrize("offsets", [(16, 28), (16, 16), (24, 40), (16, 41)])
def test_arrays_that_overlap_are_refused(tmp_path: Path, offsets: tuple[int, int]) -> None:
    spectra = [Peaks(1, 1, offsets=offsets), Peaks(2, 1)]

    refused(Pair(spectra).write(tmp_path), "overlap at byte")


def test_two_spectra_with_one_intensity_array_are_refused(tmp_path: Path) -> None:
    spectra = [Peaks(1, 1), Peaks(2, 1, offsets=(16, 40))]

    refused(Pair(spectra).write(tmp_path), "intensities of spectrum 1 and the intensities of spectrum 2 overlap")


def test_spectra_may_lie_in_any_order_with_gaps(tmp_path: Path) -> None:
    spectra = [Peaks(i, 1, (100.0 + i, 200.0), (1.0, 2.0 + i)) for i in range(9)]
    path = Pair(spectra, order=[4, 8, 0, 2, 1, 7, 3, 6, 5], gap=100_000).write(tmp_path)

    dataset = open_dataset(path)

    assert read_peaks(dataset, 30) == as_peaks(slow_reader(path))
    assert dataset.index.number.tolist() == [5, 9, 1, 3, 2, 8, 4, 7, 6]


@pytest.mark.parametrize(("pair", "unused"), [(Pair(gap=5), 40), (Pair(tail=b"tail"), 4), (Pair(continuous=True), 0)])
def test_bytes_that_belong_to_no_spectrum_are_said(tmp_path: Path, pair: Pair, unused: int) -> None:
    dataset = open_dataset(pair.write(tmp_path))

    said = [quirk.sentence for quirk in dataset.quirks if quirk.code == "unused-bytes"]
    assert said == ([f"{unused:,} of {dataset.ibd.size:,} bytes of the .ibd belong to no spectrum"] if unused else [])


def test_lengths_that_are_all_too_short_leave_bytes_that_are_said(tmp_path: Path) -> None:
    spectra = [Peaks(i, 1, lengths=(2, 2), encoded=(16, 8)) for i in range(3)]

    assert "unused-bytes" in codes(open_dataset(Pair(spectra).write(tmp_path)))


@pytest.mark.parametrize("lengths", [(3, 2), (2, 3)])
def test_lengths_that_differ_are_refused(tmp_path: Path, lengths: tuple[int, int]) -> None:
    spectra = [Peaks(1, 1), Peaks(2, 1, lengths=lengths, encoded=(8 * lengths[0], 4 * lengths[1]))]

    refused(Pair(spectra).write(tmp_path), f"spectrum 2 has {lengths[0]} m/z but {lengths[1]} intensities")


@pytest.mark.parametrize("encoded", [(24, 11), (24, 3), (23, 12), (0, 12), (6, 12)])
def test_bytes_that_do_not_fit_the_values_are_refused(tmp_path: Path, encoded: tuple[int, int]) -> None:
    refused(Pair([Peaks(1, 1, encoded=encoded)]).write(tmp_path), "neither 4 nor 8 bytes a value")
    refused(Pair([Peaks(1, 1), Peaks(2, 1, encoded=encoded)]).write(tmp_path), "where others have [48] bytes a value")


def test_a_length_in_bytes_instead_of_values_is_refused(tmp_path: Path) -> None:
    refused(Pair([Peaks(1, 1, lengths=(24, 12))]).write(tmp_path), "24 m/z but 12 intensities")
    refused(Pair([Peaks(1, 1, lengths=(12, 12))], mz="f4").write(tmp_path), "neither 4 nor 8 bytes a value")


def test_a_length_in_bytes_may_be_absent_where_the_type_is_clear(tmp_path: Path) -> None:
    path = Pair().write(tmp_path)
    expected = as_peaks(slow_reader(path))
    text = re.sub(r'<cvParam accession="IMS:1000104"[^>]*>', "", Path(path).read_text())
    Path(path).write_text(text)

    assert read_peaks(open_dataset(path)) == expected

    replaced(path, ('name="32-bit float"', 'name="64-bit float"'))
    refused(path, "two element types")


@pytest.mark.parametrize(("accession", "what"), [("IMS:1000102", "offset"), ("IMS:1000103", "length")])
def test_a_missing_offset_or_length_is_refused(tmp_path: Path, accession: str, what: str) -> None:
    path = Pair().write(tmp_path)
    text = re.sub(f'<cvParam accession="{accession}"[^>]*>', "", Path(path).read_text())
    Path(path).write_text(text)

    refused(path, f"the {what} of an array .* is not told for spectra 1, 2, 3 and 1 more")


def test_a_huge_length_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    huge = 2**31 - 1
    spectra = [Peaks(1, 1), Peaks(2, 1, lengths=(huge, huge), encoded=(8 * huge, 4 * huge))]

    refused(Pair(spectra).write(tmp_path), "1 of 2 spectra lie beyond its end")
    spectra[1].lengths = (2**40, 2**40)
    refused(Pair(spectra).write(tmp_path), "cannot be 1,099,511,627,776")


def test_packed_arrays_that_do_not_hold_what_is_told_are_refused(tmp_path: Path) -> None:
    def first_read(pair: Pair) -> None:
        path = pair.write(tmp_path)
        refused(path, r"made.ibd: the (m/z|intensity) array of spectrum 1 .*bytes")

    first_read(Pair([Peaks(1, 1, lengths=(2, 2))], packed=True))
    first_read(Pair([Peaks(1, 1, lengths=(4, 4))], packed=True))
    bomb = np.zeros(10**6)
    refused(
        Pair([Peaks(1, 1, bomb, bomb, lengths=(10**8, 10**8))], packed=True).write(tmp_path), "which zlib cannot do"
    )
    first_read(Pair([Peaks(1, 1, bomb, bomb, lengths=(100, 100))], packed=True))


def test_a_damaged_packed_array_is_named(tmp_path: Path) -> None:
    path = Pair(packed=True).write(tmp_path)
    data = bytearray((tmp_path / "made.ibd").read_bytes())
    data[16:20] = b"\0\0\0\0"
    (tmp_path / "made.ibd").write_bytes(data)

    refused(path, "the m/z array of spectrum 1 cannot be unpacked")


# Offsets in 32 bits.


def _sparse(folder: Path, starts: list[int], write: Any, slices: tuple[int, ...] = ()) -> str:
    """Make a pair with spectra at some places of a sparse .ibd; `write` says what is written for an offset."""
    spectra, places = [], []
    for i, start in enumerate(starts):
        spectra.append(Peaks(i + 1, 1, (100.0 + i, 200.0, 300.0), (1.0 + i, 2.0, 3.0), slices[i] if slices else None))
        spectra[-1].offsets = (write(start), write(start + 24))
        places.append(start)
    pair = Pair(spectra)
    path = pair.write(folder)
    try:
        with open(folder / "made.ibd", "wb") as file:
            file.write(UUID)
            for peaks, start in zip(spectra, places, strict=True):
                file.seek(start)
                file.write(np.asarray(peaks.mz, "<f8").tobytes() + np.asarray(peaks.intensity, "<f4").tobytes())
    except OSError as error:
        pytest.skip(f"the file system has no sparse files: {error}")
    if (folder / "made.ibd").stat().st_blocks * 512 > 1 << 20:
        (folder / "made.ibd").unlink()
        pytest.skip("the file system has no sparse files")
    return path


def _signed(offset: int) -> int:
    return (offset + 2**31) % 2**32 - 2**31


FAR = [16, 2**31 + 5, 2**32 - 10, 2**32 + 7000, 2**33 - 30, 2**33 + 2**31, 3 * 2**32 + 99]


@pytest.mark.parametrize("write", [int, lambda offset: offset % 2**32, _signed], ids=["64 bits", "unsigned", "signed"])
def test_offsets_beyond_4_gb_are_right_however_often_they_begin_anew(tmp_path: Path, write: Any) -> None:
    path = _sparse(tmp_path, FAR, write)

    dataset = open_dataset(path)

    assert dataset.index.mz_offset.tolist() == FAR
    assert [m for _, _, m, _ in read_peaks(dataset)][::3] == [100.0 + i for i in range(len(FAR))]
    assert ("wrapped-offsets" in codes(dataset)) == (write is not int)


@pytest.mark.parametrize("write", [lambda offset: offset % 2**32, _signed], ids=["unsigned", "signed"])
def test_what_is_left_out_counts_where_offsets_began_anew(tmp_path: Path, write: Any) -> None:
    slices = (1, 1, 1, 1, 2, 2, 2)

    dataset = open_dataset(_sparse(tmp_path, FAR, write, slices), z=2)

    assert dataset.index.mz_offset.tolist() == FAR[4:]
    assert [m for _, _, m, _ in read_peaks(dataset)][::3] == [104.0, 105.0, 106.0]


def test_negative_offsets_of_a_file_over_2_gb_are_repaired(tmp_path: Path) -> None:
    far = [16, 2**31 - 10, 2**31 + 500]

    dataset = open_dataset(_sparse(tmp_path, far, _signed))

    assert dataset.index.mz_offset.tolist() == far


def test_offsets_that_fall_in_a_large_file_but_need_not_have_begun_anew_are_refused(tmp_path: Path) -> None:
    path = _sparse(tmp_path, [16, 9000, 2**32 + 8000], int)
    replaced(path, (str(2**32 + 8000), "7000"), (str(2**32 + 8024), "7024"))

    refused(path, "may or may not count from anew")


def test_negative_offsets_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    refused(Pair([Peaks(1, 1, offsets=(-500, 40))]).write(tmp_path), "spectrum 1 has an offset of -500")


# The picture.


@pytest.mark.parametrize("origin", [(0, 0), (1, 1), (-5, -7), (40_000, 1_000_000)])
def test_positions_are_counted_from_the_first_pixel(tmp_path: Path, origin: tuple[int, int]) -> None:
    left, top = origin
    dataset = open_dataset(Pair([Peaks(left + i, top + j) for j in (0, 2) for i in (0, 1, 3)]).write(tmp_path))

    assert (dataset.width, dataset.height, dataset.x, dataset.y) == (4, 3, left, top)
    assert dataset.mask.tolist() == [0, 1, 3, 8, 9, 11]


@pytest.mark.parametrize(
    ("step", "words"),
    [((50, 50), "stand 50 apart in x and 50 apart in y"), ((1, 3), "stand 3 apart in y"), ((1, 1), ""), ((0, 1), "")],
)
def test_positions_that_leave_room_between_all_pixels_are_said(
    tmp_path: Path, step: tuple[int, int], words: str
) -> None:
    dataset = open_dataset(
        Pair([Peaks(7 + x * step[0], y * step[1]) for x in range(3) for y in range(4)]).write(tmp_path)
    )

    said = [quirk.sentence for quirk in dataset.quirks if quirk.code == "apart"]
    assert said == ([f"positions {words}"] if words else [])


def test_the_count_of_pixels_in_the_header_is_not_believed(tmp_path: Path) -> None:
    settings = '<cvParam accession="IMS:1000042" value="9"/><cvParam accession="IMS:1000043" value="9"/>'

    dataset = open_dataset(Pair(settings=settings).write(tmp_path))

    assert (dataset.width, dataset.height) == (2, 2)
    assert "grid" in codes(dataset)


@pytest.mark.parametrize("z", [0, 1, 77, -3])
def test_one_slice_of_any_z_is_read(tmp_path: Path, z: int) -> None:
    dataset = open_dataset(Pair([Peaks(1, 1, z=z), Peaks(2, 1, z=z)]).write(tmp_path))

    assert dataset.z == z
    assert codes(dataset) == set()


def test_several_slices_are_never_laid_over_each_other(tmp_path: Path) -> None:
    spectra = [Peaks(x, 1, (100.0 + z, 200.0), (1.0, 2.0), z=z) for z in (1, 2, 5) for x in (1, 2)]
    path = Pair(spectra).write(tmp_path)

    refused(path, "it has 3 slices, at z = 1, 2, 5.*choose one with --z 1")
    refused(path, "there is no slice --z 3; the file has 1, 2, 5", z=3)

    dataset = open_dataset(path, z=5)
    assert {m for _, _, m, _ in read_peaks(dataset)} == {105.0, 200.0}
    assert (dataset.n_spectra, dataset.z) == (2, 5)
    assert next(q for q in dataset.quirks if q.code == "slices").count == 4


def test_a_position_far_off_is_refused_before_a_picture_is_made(tmp_path: Path) -> None:
    spectra = [Peaks(1, 1), Peaks(2, 1), Peaks(2_000_000, 2_000_000)]

    refused(Pair(spectra).write(tmp_path), r"span 2,000,000 x 2,000,000 pixels for 3 .* spectrum 3 at \(2,000,000, 2,0")


@pytest.mark.parametrize("peaks", [Peaks(None, 1), Peaks(1, None)])
def test_a_spectrum_without_a_position_is_refused(tmp_path: Path, peaks: Peaks) -> None:
    refused(Pair([Peaks(1, 1), peaks]).write(tmp_path), "1 spectra have no position x .* spectrum 2")


def test_a_position_that_is_said_twice_differently_is_refused(tmp_path: Path) -> None:
    twice = '<cvParam accession="IMS:1000050" value="9"/>'

    refused(
        Pair([Peaks(1, 1), Peaks(2, 1, inside=twice)]).write(tmp_path),
        "spectrum 2 .* two values of position x, 2 and 9",
    )


def test_spectra_on_one_pixel_are_counted_and_all_read(tmp_path: Path) -> None:
    dataset = open_dataset(Pair([Peaks(4, 4), Peaks(5, 4), Peaks(5, 4)]).write(tmp_path))

    assert read_spectra(dataset, 0, 3).pixel.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    (quirk,) = [quirk for quirk in dataset.quirks if quirk.code == "repeated-pixels"]
    assert (quirk.count, "at (5, 4)" in quirk.sentence) == (1, True)


UNITS = [("UO:0000018", 50_000, 50), ("UO:0000017", 50, 50), ("UO:0000016", 0.05, 50), ("UO:0000008", 5e-5, 50)]


@pytest.mark.parametrize(("unit", "value", "micrometres"), UNITS)
def test_the_size_of_a_pixel_has_a_unit(tmp_path: Path, unit: str, value: float, micrometres: float) -> None:
    settings = "".join(f'<cvParam accession="IMS:100004{i}" value="{value}" unitAccession="{unit}"/>' for i in (6, 7))

    dataset = open_dataset(Pair(settings=settings).write(tmp_path))

    assert dataset.pixel_size == pytest.approx((micrometres, micrometres))
    assert not [quirk for quirk in dataset.quirks if quirk.code == "pixel-size"]


@pytest.mark.parametrize(
    ("settings", "size", "said"),
    [
        ('<cvParam accession="IMS:1000046" value="20"/>', (20.0, 20.0), "taken for square"),
        (
            '<cvParam accession="IMS:1000046" value="20"/><cvParam accession="IMS:1000047" value="30"/>',
            (20.0, 30.0),
            "has no unit",
        ),
        ('<cvParam accession="IMS:1000046" value="x"/>', None, "is not told"),
        ('<cvParam accession="IMS:1000046" value="4" unitAccession="UO:0000010"/>', None, "is no length"),
    ],
)  # fmt: skip
def test_what_is_not_told_of_a_pixels_size_is_said(tmp_path: Path, settings: str, size: Any, said: str) -> None:
    dataset = open_dataset(Pair(settings=settings).write(tmp_path))

    assert dataset.pixel_size == size
    assert said in next(q for q in dataset.quirks if q.code == "pixel-size").sentence


# Kinds of spectra.


def test_spectra_of_a_higher_ms_level_are_left_out_and_counted(tmp_path: Path) -> None:
    level = '<cvParam accession="MS:1000511" name="ms level" value="2"/>'
    other = '<cvParam accession="MS:1000580" name="MSn spectrum"/>'
    precursor = (
        '<precursorList><precursor><selectedIonList><selectedIon><cvParam accession="MS:1000511" value="1"/>'
        "</selectedIon></selectedIonList></precursor></precursorList>"
    )
    spectra = [Peaks(1, 1), Peaks(1, 1, extra=level + precursor), Peaks(2, 1), Peaks(2, 1, extra=other)]

    dataset = open_dataset(Pair(spectra).write(tmp_path))

    assert dataset.index.number.tolist() == [1, 3]
    assert next(q for q in dataset.quirks if q.code == "ms-level").count == 2
    refused(Pair(spectra[1:2]).write(tmp_path), "none of its 1 spectra has MS level 1")


POLARITY = {
    "+": '<cvParam accession="MS:1000130" name="a"/>',
    "-": '<cvParam accession="MS:1000129" name="b"/>',
    "": "",
}


@pytest.mark.parametrize("where", ["header", "group", "spectrum", "scan"])
@pytest.mark.parametrize("sign", ["+", "-"])
def test_polarity_is_found_wherever_it_stands(tmp_path: Path, where: str, sign: str) -> None:
    param = POLARITY[sign]
    spectra = [Peaks(1, 1, extra=param * (where == "spectrum"), inside=param * (where == "scan"))]
    pair = Pair(spectra, spectrum=param * (where == "group"))
    pair.content += param * (where == "header")

    assert open_dataset(pair.write(tmp_path)).polarity == sign


def test_polarity_that_is_not_told_is_the_users(tmp_path: Path) -> None:
    path = Pair(spectrum="").write(tmp_path)

    assert codes(open_dataset(path)) == {"no-polarity"}
    assert open_dataset(path).polarity == ""
    assert open_dataset(path, polarity="-").polarity == "-"
    assert codes(open_dataset(path, polarity="-")) == set()


def test_polarities_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    refused(Pair().write(tmp_path), "spectra are positive, but --polarity - was given", polarity="-")
    both = Pair([Peaks(1, 1, extra=POLARITY["+"]), Peaks(2, 1, extra=POLARITY["-"])], spectrum="").write(tmp_path)
    refused(both, "two polarities: 1 spectra are positive, 1 spectra are negative", polarity="+")
    pair = Pair()
    pair.content += POLARITY["-"]
    refused(pair.write(tmp_path), "4 spectra are positive; the header says negative")


def test_a_group_that_nothing_refers_to_says_nothing(tmp_path: Path) -> None:
    path = Pair(spectrum="").write(tmp_path)
    unused = f'<referenceableParamGroup id="unused">{POLARITY["-"]}</referenceableParamGroup>'
    replaced(path, ("</referenceableParamGroupList>", unused + "</referenceableParamGroupList>"))

    assert open_dataset(path).polarity == ""


def test_empty_spectra_are_kept_as_measured_pixels(tmp_path: Path) -> None:
    spectra = [
        Peaks(1, 1),
        Peaks(2, 1, (), ()),
        Peaks(3, 1, (), (), offsets=(0, 0)),
        Peaks(4, 1, (), (), offsets=(9**9, -1)),
    ]
    path = Pair(spectra).write(tmp_path)
    text = Path(path).read_text()
    begin, end = text.rindex("<binaryDataArrayList"), text.rindex("</spectrum>")
    Path(path).write_text(text[:begin] + text[end:])

    dataset = open_dataset(path)

    assert sorted(dataset.mask.tolist()) == [0, 1, 2, 3]
    assert len(read_peaks(dataset, 1)) == 3
    assert next(q for q in dataset.quirks if q.code == "empty").count == 3


def test_values_that_are_none_are_dropped_and_counted(tmp_path: Path) -> None:
    mz = (100.0, np.nan, 102.0, 103.0, np.inf, 105.0, -106.0, 107.0, 0.0)
    intensity = (1.0, 2.0, np.nan, 0.0, 5.0, -6.0, 7.0, 8.0, 9.0)

    spectra = read_spectra(open_dataset(Pair([Peaks(1, 1, mz, intensity)]).write(tmp_path)), 0, 1)

    assert (spectra.mz.tolist(), spectra.intensity.tolist()) == ([100.0, 107.0], [1.0, 8.0])
    assert (spectra.not_finite, spectra.not_positive) == (3, 4)


def test_unsorted_spectra_are_counted(tmp_path: Path) -> None:
    spectra = [Peaks(1, 1), Peaks(2, 1, (300.0, 200.0, 100.0)), Peaks(3, 1, ()), Peaks(4, 1, (50.0, 40.0, 60.0))]
    spectra[2].intensity = ()

    found = read_spectra(open_dataset(Pair(spectra).write(tmp_path)), 0, 4)

    assert found.unsorted == 2
    assert len(found.mz) == 9


def test_an_intensity_beyond_32_bits_is_never_made_infinite(tmp_path: Path) -> None:
    dataset = open_dataset(Pair([Peaks(3, 5, intensity=(1.0, 1e300, 2.0))], intensity="f8").write(tmp_path))

    with pytest.raises(InputError, match=r"an intensity of 1e\+300 at position \(3, 5\)"):
        read_spectra(dataset, 0, 1)


def test_the_word_continuous_is_not_believed(tmp_path: Path) -> None:
    path = replaced(Pair().write(tmp_path), ("IMS:1000031", "IMS:1000030"))
    expected = as_peaks(slow_reader(path))

    dataset = open_dataset(path)

    assert read_peaks(dataset) == expected
    assert codes(dataset) == {"not-continuous"}
