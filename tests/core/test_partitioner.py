"""Chunks own the lines that start in their range: nothing is lost, nothing is read twice."""

import itertools
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from core.data import objects, ranges
from core.data.chunks import Chunks
from core.data.encoded import encoding_of, packing_of
from core.data.objects import open_handle
from core.data.partition import find_objects, partition
from core.errors import ConfigError, InputError
from core.storage.base import open_storage

numbers = itertools.count()

newlines = st.sampled_from([b"\n", b"\r\n", b"||", b"aba", None])
contents = st.one_of(
    st.lists(
        st.sampled_from([b"\n", b"\r", b"\r\n", b"|", b"||", b"a", b"ab", b"aba", b"word", b"\xff"]), max_size=40
    ).map(b"".join),
    st.binary(max_size=60),
)


@pytest.fixture(params=["file", "memory"])
def address(request, tmp_path):
    return {"file": f"file://{tmp_path}/data", "memory": f"memory://partitioner-{next(numbers)}"}[request.param]


@pytest.fixture
def small_reads(monkeypatch):
    """Requests of a few bytes, so that lines, headers and chunks are longer than what is read at once."""
    for module in (ranges, objects):
        monkeypatch.setattr(module, "PROBE", 2)
        monkeypatch.setattr(module, "BLOCK", 5)


def put(address, content, key="object"):
    storage = open_storage(address)
    storage.put(key, content)
    return storage, storage.head(key)


def lines_of(content, newline):
    if newline is None:
        return [content] if content else []
    pieces = content.split(newline)
    return [piece + newline for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def reference(content, newline, start, end, header_lines):
    """What a chunk holds, by reading everything before it."""
    if newline is None:
        return content[start:end]
    lines = lines_of(content, newline)
    begins = itertools.accumulate((len(line) for line in lines), initial=0)
    owned = [line for line, begin in list(zip(lines, begins, strict=False))[header_lines:] if start <= begin < end]
    return b"".join(lines[:header_lines] + owned)


@pytest.mark.parametrize("reads", ["small", "normal"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(content=contents, newline=newlines, data=st.data(), header_lines=st.integers(0, 3))
def test_chunks_hold_every_line_exactly_once(address, request, reads, content, newline, data, header_lines):
    if reads == "small":
        request.getfixturevalue("small_reads")
    header_lines = 0 if newline is None else header_lines
    # What is no plain lines is refused, and has tests of its own.
    assume(not packing_of(content) and not encoding_of(content).startswith(("utf-16", "utf-32")))
    assume(newline != b"\n" or b"\n" in content or b"\r" not in content[:-1])
    chunk_bytes = data.draw(st.integers(1, len(content) + 3))
    found = put(address, content)

    parts = list(partition([found], Chunks(bytes=chunk_bytes, newline=newline, header_lines=header_lines)))

    assert [part.part for part in parts] == list(range(len(parts)))
    assert {part.parts for part in parts} == {len(parts)}
    chunks = [open_handle(part).read() for part in parts]
    header = b"".join(lines_of(content, newline)[:header_lines])
    assert header + b"".join(chunk[len(header) :] for chunk in chunks) == content
    assert chunks == [reference(content, newline, part.start, part.end, header_lines) for part in parts]
    if newline is not None:
        owned = [list(open_handle(part).lines()) for part in parts]
        whole = lines_of(content, newline)
        assert owned[0][:header_lines] + [line for lines in owned for line in lines[header_lines:]] == whole


@settings(deadline=None)
@given(size=st.integers(0, 1000), count=st.integers(1, 40))
@example(size=7, count=3)
def test_chunk_count_covers_every_byte_once_in_even_parts(size, count):
    found = put("memory://partitioner-count", b"x" * size)

    parts = list(partition([found], Chunks(count=count)))

    assert len(parts) == max(1, min(count, size))
    assert [part.start for part in parts] == [0, *[part.end for part in parts[:-1]]]
    assert parts[-1].end == size
    lengths = [part.end - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_without_options_each_object_is_one_partition_and_an_empty_one_is_not_lost(address):
    storage = open_storage(address)
    for key, content in (("a", b"1\n2"), ("b", b""), ("c", b"3")):
        storage.put(key, content)

    parts = list(partition(find_objects(address)))

    assert [(part.key, part.start, part.end, part.parts) for part in parts] == [
        ("a", 0, 3, 1),
        ("b", 0, 0, 1),
        ("c", 0, 1, 1),
    ]
    assert [open_handle(part).read() for part in parts] == [b"1\n2", b"", b"3"]


def test_an_empty_object_in_chunks_is_one_empty_partition(address):
    found = put(address, b"")

    (by_bytes,) = partition([found], Chunks(bytes=10, header_lines=1))
    (by_count,) = partition([found], Chunks(count=10))

    assert open_handle(by_bytes).read() == open_handle(by_count).read() == b""


def test_partitions_of_memory_are_readable_in_another_process():
    found = put("memory://partitioner-elsewhere", b"name\n1\n2\n3\n")
    parts = list(partition([found], Chunks(bytes=6, header_lines=1)))
    code = """if True:
        import pickle, sys
        from core.data.objects import open_handle
        pickle.dump([open_handle(part).read() for part in pickle.load(sys.stdin.buffer)], sys.stdout.buffer)
    """

    out = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(parts), capture_output=True, check=True)

    assert pickle.loads(out.stdout) == [b"name\n1\n", b"name\n2\n3\n"]


def test_partitioning_is_lazy(address):
    found = put(address, b"x" * 100)

    def endless():
        while True:
            yield found

    parts = partition(endless(), Chunks(bytes=30))

    assert [part.part for part in itertools.islice(parts, 6)] == [0, 1, 2, 3, 0, 1]


def test_a_users_partitioner_gets_handles_and_makes_partitions(address):
    storage = open_storage(address)
    storage.put("a", b"1\n2\n3\n")
    storage.put("b", b"4\n")

    def halves(handles):
        for handle in handles:
            assert handle.read().endswith(b"\n")
            cut = handle.size // 2
            yield replace(handle.partition, start=0, end=cut, part=0, parts=2)
            yield replace(handle.partition, start=cut, end=handle.size, part=1, parts=2)

    parts = list(partition(find_objects(address), Chunks(partitioner=halves)))

    assert [open_handle(part).read() for part in parts] == [b"1\n2\n", b"3\n", b"4\n", b""]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda handle: "text", "which is no Partition"),
        (lambda handle: replace(handle.partition, end=99), "which has 3"),
    ],
)
def test_a_users_partitioner_that_returns_nonsense_is_told(address, made, message):
    found = put(address, b"123")

    with pytest.raises(InputError, match=message):
        list(partition([found], Chunks(partitioner=lambda handles: [made(handle) for handle in handles])))


def test_a_users_partitioner_that_returns_nothing_at_all_is_told(address):
    put(address, b"content")

    with pytest.raises(InputError, match="returned None, which is no iterable of Partitions"):
        list(partition(find_objects(address), Chunks(partitioner=lambda handles: None)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bytes": 1, "count": 1}, ConfigError, "exclude each other"),
        ({"bytes": 1, "partitioner": list}, ConfigError, "exclude each other"),
        ({"bytes": 0}, InputError, "bytes of Chunks must be a whole number of at least 1, not 0"),
        ({"bytes": 1e6}, InputError, "bytes of Chunks must be a whole number"),
        ({"count": -1}, InputError, "count of Chunks"),
        ({"count": True}, InputError, "count of Chunks"),
        ({"header_lines": -1}, InputError, "header_lines"),
        ({"header_lines": None}, InputError, "header_lines"),
        ({"newline": b""}, InputError, "newline"),
        ({"newline": "\n"}, InputError, "newline"),
        ({"newline": None, "header_lines": 1}, ConfigError, "header_lines and records need lines"),
        ({"newline": None, "records": "csv"}, ConfigError, "header_lines and records need lines"),
        ({"newline": b"|", "records": "csv"}, ConfigError, "leave newline out"),
        ({"records": "tsv"}, InputError, "records"),
        ({"delimiter": '"'}, InputError, "delimiter"),
        ({"delimiter": "::"}, InputError, "delimiter"),
        ({"delimiter": 5}, InputError, "delimiter"),
    ],
)
def test_bad_ways_of_cutting_are_refused_when_they_are_written(options, error, message):
    with pytest.raises(error, match=message):
        Chunks(**options)
