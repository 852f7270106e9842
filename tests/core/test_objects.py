"""What a map function can do with its object."""

import copy
import csv
import io
import itertools
import multiprocessing
import os
import pickle

import numpy as np
import pandas as pd
import pytest

from core.data import ranges
from core.data.chunks import Chunks
from core.data.objects import open_handle
from core.data.partition import find_objects, partition
from core.errors import NotFound, ObjectChanged
from core.storage.base import open_storage
from core.storage.clients import process_storage

TABLE = b"name,value\n" + b"".join(b"row%d,%d\n" % (number, number) for number in range(1000))


class Recorder:
    """A storage that notes which ranges it was asked for."""

    shared = True

    def __init__(self, content):
        self.address, self.content, self.ranges = "memory://recorder", content, []

    def get(self, key, start=0, end=None, *, etag=""):
        self.ranges.append((start, end))
        return self.content[start:end]


@pytest.fixture
def storage(tmp_path):
    return open_storage(f"file://{tmp_path}/data")


def handles(storage, **options):
    return [open_handle(part) for part in partition(((storage, info) for info in storage.list()), Chunks(**options))]


def recorded(content, **options):
    """Handles on chunks of a recorded object."""
    recorder = Recorder(content)
    info = open_storage("memory://recorder").put("object", content)
    return recorder, [open_handle(part, recorder) for part in partition([(recorder, info)], Chunks(**options))]


def test_handle_names_its_object_and_chunk(storage):
    info = storage.put("folder/table.csv", TABLE)

    handle = handles(storage, count=3)[1]

    assert (handle.key, handle.size, handle.etag) == ("folder/table.csv", len(TABLE), info.etag)
    assert (handle.part, handle.parts, handle.start, handle.end) == (1, 3, len(TABLE) // 3, len(TABLE) * 2 // 3)
    assert handle.bucket == storage.address.removeprefix("file://")
    assert "folder/table.csv" in repr(handle)
    assert "part 1 of 3" in repr(handle)


def test_pandas_csv_and_numpy_read_chunks_with_header(storage):
    storage.put("table.csv", TABLE)
    chunks = [handles(storage, bytes=700, header_lines=1) for _ in range(3)]

    frames = [pd.read_csv(handle.data_stream) for handle in chunks[0]]
    rows = [row for handle in chunks[1] for row in csv.DictReader(handle.text())]
    arrays = [np.loadtxt(handle.data_stream, delimiter=",", skiprows=1, usecols=1, ndmin=1) for handle in chunks[2]]

    expected = list(range(1000))
    assert pd.concat(frames)["value"].tolist() == expected
    assert [int(row["value"]) for row in rows] == expected
    assert np.concatenate(arrays).tolist() == expected


def test_formats_that_need_a_seekable_file_are_read_in_place(storage):
    array, buffer = np.arange(10_000), io.BytesIO()
    np.savez(buffer, array=array)
    storage.put("array.npz", buffer.getvalue())

    (handle,) = handles(storage)

    assert np.array_equal(np.load(handle.data_stream)["array"], array)


def test_stream_is_one_file_and_read_is_always_the_whole_chunk(storage):
    storage.put("object", b"0123456789")
    (handle,) = handles(storage)

    assert handle.data_stream.read(4) == b"0123"
    assert handle.read() == b"0123456789"
    assert handle.data_stream.read() == b"456789"
    assert handle.data_stream.read() == b""


def test_stream_seeks_within_its_chunk_across_header_and_body(storage):
    storage.put("object", b"head\none\ntwo\nthree\n")
    handle = handles(storage, bytes=9, header_lines=1)[1]
    reference = io.BytesIO(b"head\ntwo\nthree\n")

    for offset, whence, length in [(3, 0, 4), (-2, 1, 3), (-4, 2, 9), (0, 0, -1), (99, 0, 2), (6, 0, -1), (2, 0, -1)]:
        assert handle.data_stream.seek(offset, whence) == reference.seek(offset, whence)
        assert handle.data_stream.read(length) == reference.read(length)
    with pytest.raises(ValueError, match="before the start"):
        open_handle(handle.partition).data_stream.seek(-1)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"||"])
def test_a_line_of_many_megabytes_belongs_to_the_chunk_it_starts_in(storage, newline):
    long = b"x" * (20 << 20)
    storage.put("object", b"short" + newline + long + newline + b"last without newline")

    chunks = [list(handle.lines()) for handle in handles(storage, bytes=1 << 20, newline=newline)]

    assert chunks[0] == [b"short" + newline, long + newline]
    assert chunks[-1] == [b"last without newline"]
    assert chunks[1:-1] == [[]] * 19


def test_a_newline_across_a_chunk_boundary_ends_its_line_once(storage):
    storage.put("object", b"ab\r\ncd\r\nef")

    for size in range(1, 12):
        chunks = [handle.read() for handle in handles(storage, bytes=size, newline=b"\r\n")]
        assert b"".join(chunks) == b"ab\r\ncd\r\nef"
        assert all(chunk == b"" or chunk.endswith((b"\r\n", b"ef")) for chunk in chunks)


def test_crlf_files_cut_at_line_feeds_keep_every_byte(storage):
    storage.put("object", b"a\r\nb\r\n\r\nc")

    lines = [line for handle in handles(storage, bytes=2) for line in handle.lines()]

    assert lines == [b"a\r\n", b"b\r\n", b"\r\n", b"c"]


def test_large_objects_stream_by_blocks_without_gap_or_repeat(monkeypatch):
    monkeypatch.setattr(ranges, "BLOCK", 1000)
    content = bytes(range(256)) * 40
    recorder, (handle,) = recorded(content)

    read = b"".join(iter(lambda: handle.data_stream.read(100), b""))

    assert read == content
    assert all(end - start <= 1000 for start, end in recorder.ranges)
    assert recorder.ranges == list(itertools.pairwise([*range(0, len(content), 1000), len(content)]))


def test_a_small_chunk_of_lines_is_one_request():
    plain, chunks = recorded(TABLE, count=4)
    with_header, chunks_with_header = recorded(TABLE, count=4, header_lines=1)

    chunks[1].read()
    chunks_with_header[1].read()

    assert len(plain.ranges) == len(with_header.ranges) == 1


def test_nothing_is_read_before_it_is_asked_for():
    recorder, chunks = recorded(TABLE, count=4)

    assert len(chunks) == 4
    assert recorder.ranges == []


def test_a_handle_travels_as_its_partition(storage):
    storage.put("object", b"1\n2\n")
    handle = handles(storage, count=2)[1]
    handle.data_stream.read()

    for travelled in (pickle.loads(pickle.dumps(handle)), copy.copy(handle)):
        assert travelled.partition == handle.partition
        assert travelled.read() == b"2\n"


@pytest.mark.parametrize("content", [b"changed!", b"", b"12345678 and more", b"1"])
def test_an_object_replaced_after_planning_is_an_error(storage, content):
    storage.put("object", b"1\n345678")
    chunks = handles(storage, count=2)
    storage.put("object", content)

    for handle in chunks:
        with pytest.raises(ObjectChanged, match="object 'object' in .* changed"):
            handle.read()


def test_an_object_appended_to_while_it_is_read_is_an_error(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(ranges, "BLOCK", 100)
    storage.put("object", b"x" * 1000)
    (handle,) = handles(storage)
    handle.data_stream.read(10)

    with open(tmp_path / "data" / "object", "ab") as file:
        file.write(b"more")

    with pytest.raises(ObjectChanged):
        handle.data_stream.read()


def test_an_empty_object_that_has_grown_is_an_error(storage):
    storage.put("object", b"")
    (handle,) = handles(storage)
    assert handle.read() == b""

    storage.put("object", b"1")

    with pytest.raises(ObjectChanged):
        handle.read()


def test_a_truncated_object_without_tag_is_an_error():
    recorder, (handle,) = recorded(b"0123456789")
    recorder.content = b"0123"

    with pytest.raises(ObjectChanged):
        handle.read()


def test_an_object_deleted_after_planning_is_not_found(storage):
    storage.put("object", b"1")
    (handle,) = handles(storage)
    storage.delete(["object"])

    with pytest.raises(NotFound, match="object"):
        handle.read()


def test_storage_clients_are_kept_but_never_shared_across_fork(tmp_path):
    address = f"file://{tmp_path}"
    mine = process_storage(address)
    assert process_storage(address) is mine

    reader, writer = multiprocessing.Pipe(duplex=False)
    if (child := os.fork()) == 0:
        writer.send(process_storage(address) is mine)
        os._exit(0)
    os.waitpid(child, 0)

    assert reader.recv() is False


def test_found_objects_are_read_through_their_address(storage, tmp_path):
    storage.put("a", b"1")
    storage.put("b", b"2")

    parts = partition(find_objects([tmp_path / "data" / "*"]))

    assert [open_handle(part).read() for part in parts] == [b"1", b"2"]
