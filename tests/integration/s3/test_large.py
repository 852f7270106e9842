"""Objects larger than the memory of the workers that read them."""

from __future__ import annotations

import hashlib

import pytest

from core import FunctionExecutor, RetryPolicy, open_storage
from core.errors import MemoryLimitExceeded
from core.types import MiB

SIZE = 384 * MiB
MEMORY = 192 * MiB
LINE = b"%062d\n"
LINES = SIZE // len(LINE % 0)


def blocks():
    for start in range(0, LINES, 16_384):
        yield b"".join([LINE % number for number in range(start, min(start + 16_384, LINES))])


@pytest.fixture(scope="module")
def large(s3_server):
    storage = open_storage("s3://fanfold/large")
    digest = hashlib.sha256()

    def passing():
        for block in blocks():
            digest.update(block)
            yield block

    assert storage.put("lines.txt", passing()).size == LINES * len(LINE % 0) > 1.9 * MEMORY
    yield "s3://fanfold/large/lines.txt", digest.hexdigest()
    storage.delete(["lines.txt"])


@pytest.fixture(scope="module")
def executor(s3_server):
    with FunctionExecutor(workers=2, memory=MEMORY, retries=RetryPolicy(1)) as started:
        yield started


def count(obj):
    lines = total = 0
    for line in obj.lines():
        lines += 1
        total += int(line)
    return lines, total


def test_it_is_mapped_in_chunks_of_lines(executor, large):
    counted = executor.map(count, large[0], chunk_bytes=32 * MiB).results(200)

    assert len(counted) == 12
    assert tuple(map(sum, zip(*counted, strict=True))) == (LINES, LINES * (LINES - 1) // 2)


def test_its_lines_are_streamed_whole(executor, large):
    assert executor.map(count, large[0]).results(200) == [(LINES, LINES * (LINES - 1) // 2)]


def test_its_bytes_are_streamed_whole(executor, large):
    def digest(obj):
        return hashlib.file_digest(obj.data_stream, "sha256").hexdigest()

    assert executor.map(digest, large[0]).results(200) == [large[1]]


def test_what_holds_it_in_memory_is_stopped_by_the_limit(executor, large):
    future = executor.map(lambda obj: len(obj.read()), large[0])[0]

    assert isinstance(future.exception(200), MemoryLimitExceeded)
