"""Objects that are no plain lines: compressed, wide characters, carriage returns. Right, or refused with the remedy."""

import bz2
import csv
import gzip
import io
import lzma
import pickle
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import Chunks, FunctionExecutor, InputError
from core.data.objects import open_handle
from core.data.partition import find_objects, partition
from core.errors import MissingExtra
from core.storage.base import open_storage

TEXT = "".join(f"{number},wörd\r\n" for number in range(20_000))
CONTENT = TEXT.encode()


def zstd_compress(data):
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        zstd = pytest.importorskip("backports.zstd", reason="needs backports.zstd: pip install '.[zstd]'")
    return zstd.compress(data)


packed = pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstd_compress)]
)


def handle_on(content, key="x.txt", **options):
    storage = open_storage("memory://encoded")
    storage.put(key, content)
    (part,) = partition([(storage, storage.head(key))], Chunks(**options))
    return open_handle(part)


@packed
def test_a_compressed_object_is_unpacked_by_lines_and_text_and_raw_otherwise(suffix, pack):
    handle = handle_on(pack(CONTENT), f"x.csv.{suffix}")

    assert list(handle.lines()) == CONTENT.splitlines(keepends=True)
    assert handle.text().read() == TEXT
    assert handle.read() == handle.data_stream.read() == pack(CONTENT)
    assert handle.text("latin-1").read(12) == "0,wÃ¶rd\r\n1,w"


@packed
def test_what_is_compressed_without_saying_so_in_its_name_is_unpacked_too(suffix, pack):
    assert list(handle_on(pack(b"a\nb"), "x.csv").lines()) == [b"a\n", b"b"]


@packed
def test_parts_packed_one_behind_another_are_all_read(suffix, pack):
    assert handle_on(pack(CONTENT) + pack(b"") + pack(b"end"), f"x.{suffix}").text().read() == TEXT + "end"


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_zeros_between_and_behind_parts_are_no_damage(suffix, pack):
    content = pack(b"a\n") + bytes(8) + pack(b"b\n") + bytes(200_000)

    assert list(handle_on(content, f"x.{suffix}").lines()) == [b"a\n", b"b\n"]


@packed
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_object_is_one_sentence(suffix, pack, data):
    content = pack(b"a\n" * 50) + pack(b"line\n" * 50)
    first = len(pack(b"a\n" * 50))
    length = data.draw(st.integers(1, len(content) - 1).filter(lambda length: length != first))

    with pytest.raises(InputError, match=r"x\.\w+' (ends before its|is damaged|is no) \w+ data"):
        list(handle_on(content[:length], f"x.{suffix}").lines())


@packed
@pytest.mark.parametrize("second", [True, False])
def test_a_damaged_object_is_one_sentence_in_whatever_part(suffix, pack, second):
    whole = pack(CONTENT)
    damaged = whole[:-30] + bytes(byte ^ 255 for byte in whole[-30:])
    for content in ((whole + damaged) if second else damaged, whole + b"rubbish that is no part"):
        with pytest.raises(InputError, match=r"(is damaged|ends before its) \w+ data"):
            handle_on(content, f"x.{suffix}").text().read()


def test_a_name_that_promises_what_the_object_is_not_is_refused_by_lines_alone():
    handle = handle_on(b"plain\n", "x.csv.gz")

    for read in (handle.lines, handle.text):
        with pytest.raises(InputError, match=r"x\.csv\.gz' is no gzip data, though its name says so"):
            read()
    assert handle.read() == b"plain\n"
    assert list(handle_on(b"", "x.csv.gz").lines()) == []


@pytest.mark.parametrize("name", ["x.csv.ZIP", "x.lz4", "x.txt.br"])
def test_what_is_compressed_in_another_way_is_refused_by_lines_text_and_chunks_alone(name):
    handle = handle_on(b"PK\n\x00", name)

    for read in (handle.lines, handle.text, lambda: handle_on(b"PK\n\x00", name, count=2)):
        with pytest.raises(InputError, match="is compressed in a way that .* do not unpack; use read"):
            read()
    assert handle.read() == handle.data_stream.read() == b"PK\n\x00"


def test_little_that_becomes_much_takes_little_memory():
    handle = handle_on(gzip.compress(bytes(300 << 20), compresslevel=1), "x.gz")
    code = """if True:
        import pickle, resource, sys
        from core.data.objects import open_handle
        text = open_handle(pickle.load(sys.stdin.buffer)).text()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert sum(len(block) for block in iter(lambda: text.read(1 << 20), "")) == 300 << 20
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """

    out = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(handle.partition), capture_output=True, check=True
    )

    assert int(out.stdout) < 50_000  # KiB


def test_zstd_without_its_package_names_the_command(monkeypatch):
    for name in ("backports", "backports.zstd", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(MissingExtra, match=r"pip install 'fanfold\[zstd\]'"):
        handle_on(b"\x28\xb5\x2f\xfd" + bytes(20), "x.zst").text()


@pytest.mark.parametrize("suffix", ["gz", "GZ", "bz2", "xz", "zst"])
def test_chunks_of_what_is_compressed_by_name_are_refused_before_anything_is_read(suffix):
    storage = open_storage("memory://encoded")
    storage.put(f"x.csv.{suffix}", CONTENT)

    with pytest.raises(InputError, match="is compressed .* give no chunks for it and read lines"):
        list(partition([(storage, storage.head(f"x.csv.{suffix}"))], Chunks(bytes=100)))


def test_compressed_objects_that_fit_into_a_chunk_and_raw_pieces_of_others_are_read(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(CONTENT))
    raw = partition(find_objects(tmp_path), Chunks(bytes=100, newline=None))

    with FunctionExecutor("serial") as executor:
        whole = executor.map(lambda obj: obj.text().read(), str(tmp_path), chunk_bytes=64 << 20).results(60)

    assert whole == [TEXT]
    assert gzip.decompress(b"".join(open_handle(part).read() for part in raw)) == CONTENT


@pytest.mark.parametrize("header_lines", [0, 1])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(CONTENT, mtime=0), "is compressed .gzip."),
        (TEXT.encode("utf-16"), "text in UTF-16.*store it as UTF-8"),
        (TEXT.encode("utf-32"), "text in UTF-32.*store it as UTF-8"),
    ],
)
def test_the_first_chunk_of_what_turns_out_to_be_no_plain_lines_refuses_the_job(tmp_path, content, words, header_lines):
    (tmp_path / "x.txt").write_bytes(content)

    chunks = Chunks(count=3, header_lines=header_lines)

    with FunctionExecutor("serial") as executor, pytest.raises(InputError, match=words):
        executor.map(lambda obj: obj.read(), str(tmp_path), chunks=chunks).results(60)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "utf-8"])
def test_the_mark_of_a_text_tells_its_encoding(encoding):
    handle = handle_on(TEXT.encode(encoding))

    assert handle.text().read() == TEXT
    assert handle_on(gzip.compress(TEXT.encode(encoding)), "x.gz").text().read() == TEXT


def test_big_and_little_ends_are_told_apart():
    for mark, encoding in ((b"\xfe\xff", "utf-16-be"), (b"\0\0\xfe\xff", "utf-32-be"), (b"\xff\xfe", "utf-16-le")):
        assert handle_on(mark + "häß\n".encode(encoding)).text().read() == "häß\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_lines_of_wide_characters_are_refused(encoding):
    with pytest.raises(InputError, match="iterate over text"):
        handle_on(TEXT.encode(encoding)).lines()


@pytest.mark.parametrize("encoding", ["utf-16-le", "UTF-16BE", "utf_32_be"])
def test_chunks_of_wide_characters_without_a_mark_are_refused_when_they_are_read_as_such(encoding):
    storage = open_storage("memory://encoded")
    storage.put("x", TEXT.encode(encoding))
    cut = [open_handle(part) for part in partition([(storage, storage.head("x"))], Chunks(count=3))]
    newline = "\n".encode(encoding)
    (whole,) = partition([(storage, storage.head("x"))])

    for chunk in cut:
        with pytest.raises(InputError, match="UTF.*whose lines cannot be found by bytes; give no chunks"):
            chunk.text(encoding)
    assert open_handle(whole).text(encoding).read() == TEXT
    parts = partition([(storage, storage.head("x"))], Chunks(count=3, newline=newline))
    assert "".join(open_handle(part).text(encoding).read() for part in parts) == TEXT


def test_a_mark_is_no_part_of_the_first_name_in_a_table():
    content = "\ufeffname,value\na,1\nb,2\n".encode()
    storage = open_storage("memory://encoded")
    storage.put("marked.csv", content)
    parts = partition([(storage, storage.head("marked.csv"))], Chunks(bytes=18, header_lines=1))

    read = [list(csv.DictReader(open_handle(part).text())) for part in parts]

    assert read == [[{"name": "a", "value": "1"}], [{"name": "b", "value": "2"}]]


def test_a_file_of_carriage_returns_is_refused_by_what_would_take_it_for_one_line():
    content = b"name\r1\r2\r"

    with pytest.raises(InputError, match=r"carriage returns and no newline.*newline=b'\\r'"):
        list(handle_on(content).lines())
    parts = partition(
        [(open_storage("memory://encoded"), handle_on(content).partition)], Chunks(bytes=3, header_lines=1)
    )
    with pytest.raises(InputError, match="carriage returns"):
        list(parts)
    assert list(handle_on(content, newline=b"\r").lines()) == [b"name\r", b"1\r", b"2\r"]
    assert list(csv.reader(handle_on(content).text())) == [["name"], ["1"], ["2"]]
    assert list(handle_on(b"one line\r").lines()) == [b"one line\r"]
    assert list(handle_on(b"10%\r20%\r\ndone\n").lines()) == [b"10%\r20%\r\n", b"done\n"]


def test_chunks_at_carriage_returns_are_right():
    storage = open_storage("memory://encoded")
    storage.put("x", b"name\r1\r2\r3")
    chunks = Chunks(bytes=4, header_lines=1, newline=b"\r")

    read = [list(open_handle(part).lines()) for part in partition([(storage, storage.head("x"))], chunks)]

    assert read == [[b"name\r"], [b"name\r", b"1\r", b"2\r"], [b"name\r", b"3"]]


def test_text_wrappers_close_and_iterate_like_files():
    with handle_on(gzip.compress(b"a\nb\n"), "x.gz").text() as text:
        assert list(text) == ["a\n", "b\n"]
    assert isinstance(text, io.TextIOWrapper)
