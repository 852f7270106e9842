"""Archives that lie, made by code: each costs its own rows, and ends nothing."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.face_align import dataset
from apps.face_align.archives import ArchiveError, Member, members, read_member
from apps.face_align.dataset import Item, find, read
from apps.face_align.science.headers import BadImage
from core import FanfoldError, InputError, open_storage

MEMBERS = {"a.jpg": b"first " * 20, "b.jpg": b"second " * 20, "c.jpg": b"third " * 20}


def zipped(packing: int = zipfile.ZIP_STORED, files: dict[str, bytes] = MEMBERS) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return bytearray(buffer.getvalue())


def tarred(format: int = tarfile.USTAR_FORMAT, files: dict[str, bytes] = MEMBERS, **pax: str) -> bytearray:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.pax_headers = pax if name == "b.jpg" else {}
            archive.addfile(info, io.BytesIO(content))
    return bytearray(buffer.getvalue())


def entry(archive: bytearray, number: int = 1) -> int:
    """Where an entry of a zip's directory begins."""
    at = -1
    for _ in range(number + 1):
        at = archive.index(b"PK\1\2", at + 1)
    return at


def header(archive: bytearray, name: bytes = b"b.jpg") -> int:
    """Where the header of a tar's member begins."""
    return archive.index(name + bytes(20))


def put(at: Callable[[bytearray], int], offset: int, value: bytes) -> Callable[[bytearray], bytearray]:
    def change(archive: bytearray) -> bytearray:
        place = at(archive) + offset
        archive[place : place + len(value)] = value
        return archive

    return change


def summed(offset: int, value: bytes) -> Callable[[bytearray], bytearray]:
    """Change a tar's header, and its checksum with it."""

    def change(archive: bytearray) -> bytearray:
        at = header(archive)
        archive[at + offset : at + offset + len(value)] = value
        total = sum(archive[at : at + 148]) + 8 * 32 + sum(archive[at + 156 : at + 512])
        archive[at + 148 : at + 156] = b"%06o\0 " % total
        return archive

    return change


def end(archive: bytearray) -> int:
    return archive.rindex(b"PK\5\6")


LYING_ZIPS: dict[str, tuple[Callable[[bytearray], bytearray], dict[str, str], str]] = {
    # The change, the statuses that are left, and what is said of the member or archive.
    "an offset beyond the end": (put(entry, 42, b"\xf0\xff\xff\x7f"), {"b.jpg": "decode_error"}, "beyond the end"),
    "an offset into another member": (put(entry, 42, b"\5\0\0\0"), {"b.jpg": "decode_error"}, "there is nothing"),
    "a size beyond the end": (put(entry, 20, b"\xff\xff\0\0" * 2), {"b.jpg": "decode_error"}, "beyond the end"),
    "two sizes": (put(entry, 24, b"\1\0\0\0"), {"b.jpg": "decode_error"}, "two sizes"),
    "a size of gigabytes": (put(entry, 20, b"\0\0\0\x70" * 2), {"b.jpg": "decode_error"}, "beyond the end"),
    "a checksum": (put(entry, 16, b"\1\2\3\4"), {"b.jpg": "decode_error"}, "size or checksum differs"),
    "a version of the future": (put(entry, 6, b"\xff\xff"), {}, ""),
    "an unknown packing": (put(entry, 10, b"\x63\0"), {"b.jpg": "unsupported"}, "method 99"),
    "encryption": (put(entry, 8, b"\1\0"), {"b.jpg": "unsupported"}, "encrypted"),
    "a name that is not UTF-8": (
        lambda archive: put(entry, 46, b"\xff")(put(entry, 8, b"\0\x08")(archive)), {"\udcff.jpg": "ok"}, "",
    ),
    "a name with a null byte": (put(entry, 46, b"\0"), {}, ""),
    "an entry without signature": (
        put(entry, 0, b"XX"), {"b.jpg": "", "c.jpg": "", "x.zip": "decode_error"}, "entry 2 of its directory",
    ),
    "an entry longer than the directory": (
        put(entry, 28, b"\xff\xff"), {"b.jpg": "", "c.jpg": "", "x.zip": "decode_error"}, "entry 2 of its directory",
    ),
    "a count of members": (put(end, 10, b"\7\0"), {"x.zip": "decode_error"}, "says that it has 7 members, and lists 3"),
    "wide sizes that are not there": (put(entry, 20, b"\xff" * 8), {"b.jpg": "decode_error"}, "beyond the end"),
}  # fmt: skip
LYING_TARS: dict[str, tuple[Callable[[bytearray], bytearray], dict[str, str], str]] = {
    "a size beyond the end": (
        summed(124, b"77777777777\0"), {"b.jpg": "decode_error", "c.jpg": "", "x.tar": "decode_error"}, "beyond",
    ),
    "a negative size": (
        summed(124, b"\xff" * 12), {"b.jpg": "", "c.jpg": "", "x.tar": "decode_error"}, "the header at byte",
    ),
    "a signed size": (
        summed(124, b"-0000000100\0"), {"b.jpg": "", "c.jpg": "", "x.tar": "decode_error"}, "the header at byte",
    ),
    "an immense size": (
        summed(124, b"\x80" + b"\xff" * 11), {"b.jpg": "decode_error", "c.jpg": "", "x.tar": "decode_error"}, "beyond",
    ),
    "a checksum": (
        put(header, 0, b"z"), {"b.jpg": "", "c.jpg": "", "x.tar": "decode_error"}, "the header at byte",
    ),
    "a version of the future": (summed(257, b"ustar\x0099"), {}, ""),
    "an unknown type": (summed(156, b"Q"), {"b.jpg": ""}, ""),
    "a sparse file": (summed(156, b"S"), {"b.jpg": "unsupported"}, "sparse"),
    "a name that is not UTF-8": (summed(0, b"\xff.jpg"), {"b.jpg": "", "\udcff.jpg": "ok"}, ""),
    "a second archive after its end": (
        lambda archive: archive + tarred(), {"x.tar": "decode_error"}, "such as another archive",
    ),
}  # fmt: skip


def outcomes(path: Path) -> tuple[dict[str, str], str]:
    """The status of each item of an archive in a folder with a sound image, and all that is said of faults."""
    (path.parent / "well.jpg").write_bytes(b"well")
    statuses, said = {}, []
    for item in find(str(path.parent)).items:
        status, reason = outcome(item)
        statuses[item.name.removeprefix("x/")] = status
        said.append(reason)
    assert statuses.pop("well.jpg") == "ok"
    return statuses, " ".join(said)


def outcome(item: Item) -> tuple[str, str]:
    try:
        read(item, open_storage(item.root))
    except BadImage as error:
        return error.status, str(error)
    return "ok", ""


def expected(changed: dict[str, str]) -> dict[str, str]:
    statuses = dict.fromkeys(MEMBERS, "ok") | changed
    return {name: status for name, status in statuses.items() if status}


@pytest.mark.parametrize("lie", LYING_ZIPS)
def test_a_zip_that_lies_costs_the_member_that_it_lies_about(lie: str, tmp_path: Path) -> None:
    change, changed, said = LYING_ZIPS[lie]
    (tmp_path / "x.zip").write_bytes(change(zipped()))

    statuses, reasons = outcomes(tmp_path / "x.zip")

    if lie == "a name that is not UTF-8":
        changed = {**changed, "b.jpg": ""}
    if lie == "a name with a null byte":
        changed = {"b.jpg": ""}  # nothing is left of its name, so it is none of an image
    assert statuses == expected(changed)
    assert said in reasons


@pytest.mark.parametrize("lie", LYING_TARS)
def test_a_tar_that_lies_costs_the_member_that_it_lies_about(lie: str, tmp_path: Path) -> None:
    change, changed, said = LYING_TARS[lie]
    (tmp_path / "x.tar").write_bytes(change(tarred()))

    statuses, reasons = outcomes(tmp_path / "x.tar")

    assert statuses == expected(changed)
    assert said in reasons


PAX: dict[str, tuple[bytes, str]] = {
    "no length": (b"x path=b.jpg\n", "is damaged"),
    "a length beyond the header": (b"999 path=b.jpg\n", "is damaged"),
    "a length of nothing": (b"0 path=b.jpg\n", "is damaged"),
    "no value": (b"9 path b\n", "is damaged"),
    "a size that is no number": (b"12 size=-99\n", "is damaged"),
    "a size beyond the end": (b"23 size=99999999999999\n", "beyond the end"),
    "a length of many digits": (b"9" * 5000 + b" path=b\n", "is damaged"),
}


@pytest.mark.parametrize("lie", PAX)
def test_a_pax_header_that_lies_ends_its_archive_there_and_no_other(lie: str, tmp_path: Path) -> None:
    content, said = PAX[lie]
    extended = tarfile.TarInfo("pax")
    extended.type, extended.size = b"x", len(content)
    block = extended.tobuf() + content + bytes(-len(content) % 512)
    archive = tarred()
    at = header(archive)
    (tmp_path / "x.tar").write_bytes(archive[:at] + block + archive[at:])

    statuses, reasons = outcomes(tmp_path / "x.tar")

    assert statuses["a.jpg"] == "ok"
    assert statuses["x.tar"] == "decode_error"
    assert "c.jpg" not in statuses
    assert said in reasons


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_a_tar_is_named(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("a.jpg")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"1234"))
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = kind, "a.jpg"
        archive.addfile(link)

    items = find(str(tmp_path / "x.tar")).items

    assert [(item.name, item.status, item.fault) for item in items] == [
        ("a.jpg", "", ""),
        ("b.jpg", "unsupported", "a link in its archive, to a.jpg"),
    ]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_gives_long_names_and_those_that_are_not_ascii(format: int, tmp_path: Path) -> None:
    names = ["a/" * 40 + "b" * 90 + ".jpg", "é.jpg", "plain.jpg"]
    if format != tarfile.USTAR_FORMAT:
        names.append("long/" * 60 + "x.jpg")
    (tmp_path / "x.tar").write_bytes(tarred(format, dict.fromkeys(names, b"1234")))

    found = {item.name: read(item, open_storage(item.root)) for item in find(str(tmp_path / "x.tar")).items}

    assert found == dict.fromkeys(names, b"1234")


def test_members_are_those_that_the_standard_library_finds(tmp_path: Path) -> None:
    files = {f"{number}/{'x' * number}.jpg": bytes([number]) * 700 * number for number in range(60)}
    for kind, content in (("zip", zipped(zipfile.ZIP_DEFLATED, files)), ("tar", tarred(tarfile.PAX_FORMAT, files))):
        stream = io.BytesIO(content)

        found = {
            member.name: read_member(member, lambda start, end: content[start:end], 10**6)  # noqa: B023
            for member in members(stream, len(content), kind)
        }

        assert found == files


def test_a_zip_of_more_than_four_gigabytes_is_read_by_its_wide_sizes() -> None:
    wide, content = 5 << 30, b"content"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, zlib.crc32(content), 7, 7, 5, 0) + b"a.jpg"
    extra = struct.pack("<2HQ", 1, 8, wide)
    listed = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 45, 45, 0, 0, 0, 0, zlib.crc32(content), 7, 7, 5, len(extra), 0, 0, 0, 0, 2**32 - 1
    )
    directory = listed + b"a.jpg" + extra
    start = wide + len(local + content)
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), start)
    place = struct.pack("<4sIQI", b"PK\6\7", 0, start + len(directory), 1)
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(directory), 2**32 - 1, 0)
    tail = local + content + directory + record + place + last
    stream = Hollow(wide, tail)

    (member,) = members(stream, wide + len(tail), "zip")

    assert read_member(member, lambda begin, end: stream.at(begin, end), 100) == content


class Hollow(io.RawIOBase):
    """A file of zeros with something at its end."""

    def __init__(self, zeros: int, tail: bytes) -> None:
        self._zeros, self._tail, self._position = zeros, tail, 0

    def at(self, begin: int, end: int) -> bytes:
        hollow = max(0, min(end, self._zeros) - begin)
        return bytes(hollow) + self._tail[max(0, begin - self._zeros) : max(0, end - self._zeros)]

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        data = self.at(self._position, self._position + size)
        self._position += len(data)
        return data


@pytest.mark.parametrize("name", ["é.jpg", "日本.jpg"])
def test_a_zip_made_without_its_flag_gives_the_names_that_it_was_given(name: str, tmp_path: Path) -> None:
    archive = zipped(files={name: b"1"})
    for at in (archive.index(b"PK\3\4") + 6, archive.index(b"PK\1\2") + 8):
        archive[at : at + 2] = b"\0\0"
    (tmp_path / "x.zip").write_bytes(archive)

    assert [item.name for item in find(str(tmp_path / "x.zip")).items] == [name]


def test_a_member_whose_own_header_is_longer_than_usual_is_read(tmp_path: Path) -> None:
    archive, longer = zipped(files={"a.jpg": b"content"}), 5000
    archive[28:30] = struct.pack("<H", longer)
    archive[35:35] = bytes(longer)
    at = end(archive)
    archive[at + 16 : at + 20] = struct.pack("<I", archive.index(b"PK\1\2"))
    (tmp_path / "x.zip").write_bytes(archive)
    (item,) = find(str(tmp_path / "x.zip")).items

    assert read(item, open_storage(item.root)) == b"content"


def test_what_unpacks_to_more_than_it_says_is_damaged_and_never_held() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(50_000_000)) + packer.flush()
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, 0, 0, 0, 0)
    member = Member("a.jpg", 0, len(packed), 1000, "deflated", zlib.crc32(bytes(1000)))

    with pytest.raises(ArchiveError, match="size or checksum differs"):
        read_member(member, lambda start, end: (local + packed)[start:end], 10**9)


def fuzzed(archive: bytearray, changes: list[tuple[int, int]], cut: int, path: Path) -> None:
    for place, value in changes:
        archive[place % len(archive)] = value
    path.write_bytes(archive[: len(archive) - cut % len(archive)])
    try:
        items = find(str(path)).items
    except InputError:
        return
    found = [outcome(item) for item in items]
    assert {status for status, _ in found} <= {"ok", "decode_error", "too_large", "unsupported"}
    assert all(reason for status, reason in found if status != "ok")


ARCHIVES = {
    "stored.zip": zipped(),
    "deflated.zip": zipped(zipfile.ZIP_DEFLATED),
    "ustar.tar": tarred(),
    "gnu.tar": tarred(tarfile.GNU_FORMAT, {"long/" * 30 + "a.jpg": b"1", **MEMBERS}),
    "pax.tar": tarred(tarfile.PAX_FORMAT, {"long/" * 30 + "é.jpg": b"1", **MEMBERS}, comment="of a member"),
}
spoiled = given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.just(0), st.integers(0, 1 << 20)),
)
QUIET = [HealthCheck.function_scoped_fixture]


@pytest.mark.parametrize("name", ARCHIVES)
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@spoiled
def test_whatever_an_archive_holds_is_read_or_said(
    name: str, tmp_path: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    fuzzed(bytearray(ARCHIVES[name]), changes, cut, tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHIVES)
@settings(max_examples=5_000, deadline=None, suppress_health_check=QUIET)
@spoiled
def test_whatever_an_archive_holds_is_read_or_said_at_length(
    name: str, tmp_path: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    fuzzed(bytearray(ARCHIVES[name]), changes, cut, tmp_path / name)


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(content=st.binary(max_size=2000), kind=st.sampled_from(["zip", "tar"]))
def test_bytes_that_are_no_archive_are_an_archive_error(content: bytes, kind: str) -> None:
    found = []
    with suppress(ArchiveError):
        found = list(members(io.BytesIO(content), len(content), kind))

    assert found == []


def test_what_a_dry_run_says_of_bytes_is_not_what_an_archive_claims(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from apps.face_align.__main__ import main

    (tmp_path / "x.tar").write_bytes(LYING_TARS["an immense size"][0](tarred()))

    status = main([str(tmp_path / "x.tar"), "--output", str(tmp_path / "faces"), "--dry-run", "--json"])

    planned = json.loads(capfd.readouterr().out)
    assert status == 0
    assert (planned["images"], planned["to_align"], planned["bytes"]) == (3, 1, len(MEMBERS["a.jpg"]))


def test_a_storage_that_fails_while_an_archive_is_listed_is_no_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.zip").write_bytes(zipped())

    def refuse(*_: object) -> None:
        raise FanfoldError("away")

    monkeypatch.setattr(dataset, "members", refuse)

    with pytest.raises(FanfoldError, match="away"):
        find(str(tmp_path / "x.zip"))
