"""What a line far longer than its chunk costs: counted in bytes and requests, on files with holes."""

import pytest

from core import Chunks
from core.data.objects import open_handle
from core.data.partition import partition
from core.data.ranges import BLOCK, PROBE
from core.errors import InputError
from core.storage.base import open_storage
from core.types import MiB

SIZE, CHUNK = 256 * MiB, 8 * MiB


@pytest.fixture
def hollow(tmp_path):
    """Make an object of zeros, with some bytes at some places."""
    storage = open_storage(f"file://{tmp_path}")

    def make(**at):
        with open(tmp_path / "object", "wb") as file:
            file.truncate(SIZE)
            for place, content in at.items():
                file.seek(int(place.removeprefix("at_")))
                file.write(content)
        return storage, storage.head("object")

    return make


def consume(handle):
    return sum(len(block) for block in iter(lambda: handle.data_stream.read(MiB), b""))


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"aba"])
@pytest.mark.parametrize("length", [CHUNK, 2 * BLOCK])
def test_an_object_without_newline_is_searched_once_by_all_chunks_together(hollow, newline, length):
    storage, info = hollow()
    chunks = [
        open_handle(part, storage) for part in partition([(storage, info)], Chunks(bytes=length, newline=newline))
    ]
    before = storage.bytes_in, storage.requests

    sizes = [consume(chunk) for chunk in chunks]

    assert sizes == [SIZE] + [0] * (len(chunks) - 1)
    # The first chunk reads the object because it is its line; each other one looks for a line in its own range.
    assert storage.bytes_in - before[0] <= 2 * SIZE + len(chunks) * (2 * PROBE + 16)
    assert storage.requests - before[1] <= 3 * SIZE // BLOCK + 8 * len(chunks)


def test_a_line_over_many_chunks_is_read_by_its_own_chunk_alone(hollow):
    storage, info = hollow(**{f"at_{CHUNK // 2}": b"\n", f"at_{SIZE - CHUNK // 2}": b"\n"})
    chunks = [open_handle(part, storage) for part in partition([(storage, info)], Chunks(bytes=CHUNK))]

    costs = []
    for chunk in chunks:
        before = storage.bytes_in
        consume(chunk)
        costs.append(storage.bytes_in - before)

    assert all(cost <= CHUNK + 3 * PROBE for cost in costs[1:])
    assert [chunk.part for chunk in chunks if consume(open_handle(chunk.partition, storage))] == [0, len(chunks) - 1]


def test_a_chunk_of_ordinary_lines_is_read_by_one_request(hollow):
    storage, info = hollow(**{f"at_{at}": b"\n" for at in range(1000, SIZE, 100_000)})
    chunks = [open_handle(part, storage) for part in partition([(storage, info)], Chunks(bytes=4 * BLOCK))]
    before = storage.requests

    for chunk in chunks[1:]:
        chunk.read()

    assert storage.requests - before <= 4 * len(chunks[1:])
    assert len(chunks[1].read()) > 3 * BLOCK


def test_a_header_of_a_file_without_newline_is_refused_and_not_read_to_its_end_by_every_chunk(hollow):
    storage, info = hollow()
    chunks = [open_handle(p, storage) for p in partition([(storage, info)], Chunks(bytes=CHUNK, header_lines=1))]
    before = storage.bytes_in

    with pytest.raises(InputError, match="the first 1 lines of 'object'.*more than 8388608 bytes; check newline="):
        chunks[5].read()

    assert storage.bytes_in - before <= 3 * BLOCK


def test_seeking_to_the_end_of_a_chunk_finds_it(hollow):
    storage, info = hollow(**{f"at_{CHUNK + 5}": b"\n", f"at_{CHUNK + 20 * MiB}": b"\n"})
    chunk = open_handle(list(partition([(storage, info)], Chunks(bytes=CHUNK)))[1], storage)

    assert chunk.data_stream.seek(0, 2) == 20 * MiB - 5
    assert chunk.data_stream.seek(-1, 2) == 20 * MiB - 6
    assert chunk.data_stream.read() == b"\n"
