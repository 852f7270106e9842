"""The functions that every contender runs, importable by its workers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARRAY_BYTES = 10_000_000
CSV_BYTES = 100_000_000
CSV_CHUNKS = 16


@dataclass
class ModulePoint:
    """A value of a class that workers import."""

    x: int


def noop(item: Any) -> Any:
    return item


def array(item: int) -> Any:
    import numpy

    return numpy.full(ARRAY_BYTES // 8, float(item))


def write_csv(path: Path) -> int:
    """Write the file of the CSV row; returns the sum of its last column."""
    total = written = number = 0
    with path.open("wb") as file:
        while written < CSV_BYTES:
            values = [(number + offset) * 7919 % 100_003 for offset in range(10_000)]
            block = b"".join(
                b"%d,station-%03d,%d.%02d,%d\n" % (number + offset, value % 997, value % 41, value % 100, value)
                for offset, value in enumerate(values)
            )
            file.write(block)
            total += sum(values)
            written += len(block)
            number += len(values)
    return total


def add_up(lines: bytes) -> int:
    return sum(int(line[line.rindex(b",") + 1 :]) for line in lines.splitlines())


def add_up_range(chunk: tuple[str, int, int]) -> int:
    """What a peer without a partitioner has its user write: the lines that start in a byte range of a file."""
    path, start, end = chunk
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            start += len(file.readline()) - 1
        file.seek(start)
        body = file.read(max(0, end - start))
        if body and not body.endswith(b"\n"):
            body += file.readline()
    return add_up(body)


def ranges(path: str) -> list[tuple[str, int, int]]:
    size = os.path.getsize(path)
    edges = [size * index // CSV_CHUNKS for index in range(CSV_CHUNKS + 1)]
    return [(path, start, end) for start, end in zip(edges[:-1], edges[1:], strict=True)]


def add_up_object(obj: Any) -> int:
    return add_up(obj.data_stream.read())


def announced_square(item: tuple[str, int]) -> int:
    """Tell the killer which process runs tasks, work for some milliseconds, answer."""
    folder, number = item
    Path(folder, str(os.getpid())).touch()
    end = time.perf_counter() + 0.008
    while time.perf_counter() < end:
        pass
    return number * number
