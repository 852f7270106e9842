"""S3 storage beside boto3 and s5cmd, measured in turns in one run: ``python -m benchmarks.storage``.

Prints Markdown tables of speed and of the client's CPU time; a ratio above 1 means that fanfold is better. All go to
one service: a SeaweedFS server of this run, or that of the address given. The first turn opens connections and is not
counted; figures are medians, ratios the median of each turn's ratio.

- boto3, 8 threads: a client as boto3 makes it, with as many threads as fanfold has.
- boto3, as s5cmd: the same with the defaults of s5cmd: 256 threads, five parts of 50 MiB at a time.
- s5cmd: the program itself, with the start of its process, from and to files in memory.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks._measure import Sample, machine, table
from benchmarks._server import s3_server
from core import open_storage
from core.storage.s3 import S3Storage
from core.storage.s3_client import THREADS
from core.types import MiB

BUCKET = "bench"
S5CMD_WORKERS, S5CMD_PART, S5CMD_PARTS = 256, 50 * MiB, 5
"""What s5cmd does unless told otherwise: --numworkers, cp --part-size and cp --concurrency."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of transfer: `count` objects of `size` bytes, written or read."""

    verb: str
    count: int
    size: int

    @property
    def title(self) -> str:
        size = f"{self.size >> 10} KiB" if self.size < MiB else f"{self.size // MiB} MiB"
        return f"{self.verb} {self.count} x {size}"

    @property
    def folder(self) -> str:
        return f"{self.count}x{self.size}"

    @property
    def keys(self) -> list[str]:
        return [f"{self.folder}/k{number:05d}" for number in range(self.count)]

    @property
    def counts_requests(self) -> bool:
        return self.size < MiB

    @property
    def amount(self) -> float:
        """Requests, or MB where the bytes are what takes time."""
        return self.count if self.counts_requests else self.count * self.size / 1e6


KINDS = ((500, 4096), (32, 4 * MiB), (1, 128 * MiB))
ROWS = [Row(verb, count, size) for count, size in KINDS for verb in ("put", "get")]


class Contender:
    """What a measurement asks of each: write or read the objects of a row."""

    def __init__(self, storage: S3Storage, folder: Path) -> None:
        self.storage = storage
        self.folder = folder

    def put(self, row: Row, data: bytes) -> None:
        raise NotImplementedError

    def get(self, row: Row) -> None:
        raise NotImplementedError


class Fanfold(Contender):
    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS)

    def put(self, row: Row, data: bytes) -> None:
        for info in self.threads.map(lambda key: self.storage.put(key, data), row.keys):
            check(info.size == row.size)

    def get(self, row: Row) -> None:
        for data in self.threads.map(self.storage.get, row.keys):
            check(len(data) == row.size)


class Boto3(Contender):
    workers = THREADS
    transfer: dict[str, int] = {}

    def __init__(self, storage: S3Storage, folder: Path) -> None:
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config

        super().__init__(storage, folder)
        meta = storage.client.meta
        options = Config(max_pool_connections=self.workers)
        self.client = boto3.client("s3", endpoint_url=meta.endpoint_url, region_name=meta.region_name, config=options)
        self.config = TransferConfig(**self.transfer)
        self.threads = ThreadPoolExecutor(self.workers)

    def put(self, row: Row, data: bytes) -> None:
        names = [self.storage.names(key) for key in row.keys]
        if row.count == 1:
            self.client.upload_fileobj(io.BytesIO(data), *names[0].values(), Config=self.config)
        else:
            list(self.threads.map(lambda name: self.client.put_object(**name, Body=data), names))

    def get(self, row: Row) -> None:
        names = [self.storage.names(key) for key in row.keys]
        if row.count == 1:
            into = io.BytesIO()
            self.client.download_fileobj(*names[0].values(), into, Config=self.config)
            check(len(into.getvalue()) == row.size)
        else:
            for data in self.threads.map(lambda name: self.client.get_object(**name)["Body"].read(), names):
                check(len(data) == row.size)


class Boto3AsS5cmd(Boto3):
    workers = S5CMD_WORKERS
    transfer = {
        "multipart_threshold": S5CMD_PART,
        "multipart_chunksize": S5CMD_PART,
        "max_concurrency": S5CMD_PARTS,
    }


class S5cmd(Contender):
    def __init__(self, storage: S3Storage, folder: Path) -> None:
        program = shutil.which("s5cmd", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if program is None:
            raise ModuleNotFoundError("s5cmd")
        super().__init__(storage, folder)
        self.command = [program, "--log", "error", "--endpoint-url", str(storage.client.meta.endpoint_url), "cp"]
        self.base = f"s3://{storage.bucket}/{storage.prefix}"

    def put(self, row: Row, data: bytes) -> None:
        files = self.folder / "put" / row.folder
        if not files.exists():
            files.mkdir(parents=True)
            for key in row.keys:
                (files / Path(key).name).write_bytes(data)
        self.run(f"{files}/", f"{self.base}{row.folder}/")

    def get(self, row: Row) -> None:
        files = self.folder / "get" / row.folder
        self.run(f"{self.base}{row.folder}/*", f"{files}/")
        check(sum(file.stat().st_size for file in files.iterdir()) == row.count * row.size)

    def run(self, source: str, target: str) -> None:
        subprocess.run([*self.command, source, target], check=True, stdin=subprocess.DEVNULL)


CONTENDERS: dict[str, type[Contender]] = {
    "fanfold": Fanfold,
    f"boto3, {THREADS} threads": Boto3,
    "boto3, as s5cmd": Boto3AsS5cmd,
    "s5cmd": S5cmd,
}

Turns = dict[str, list[Sample]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("address", nargs="?", help="an empty prefix on an S3 service (default: an own server)")
    parser.add_argument("--turns", type=int, default=7, help="counted turns of each contender (default: 7)")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        if arguments.address is None:
            stack.enter_context(s3_server(BUCKET))
        storage = open_storage(arguments.address or f"s3://{BUCKET}/storage")
        if not isinstance(storage, S3Storage):
            parser.error("the address must be s3:// or cos://")
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory)))
        contenders = dict(available(storage, folder))
        try:
            report([(row, measured(row, contenders, arguments.turns)) for row in ROWS], list(contenders))
        finally:
            storage.delete(info.key for info in storage.list())
    return 0


def available(storage: S3Storage, folder: Path) -> Iterator[tuple[str, Contender]]:
    for name, kind in CONTENDERS.items():
        try:
            yield name, kind(storage, folder)
        except ModuleNotFoundError as error:
            print(f"{name}: {error.name or error} is not installed; pip install '.[bench]'", file=sys.stderr)


def measured(row: Row, contenders: dict[str, Contender], turns: int) -> Turns:
    print(row.title, file=sys.stderr, flush=True)
    data = os.urandom(row.size)
    found: Turns = {name: [] for name in contenders}
    for turn in range(turns + 1):
        order = list(contenders)
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            wall, cpu = time.perf_counter(), own_cpu()
            if row.verb == "put":
                contenders[name].put(row, data)
            else:
                contenders[name].get(row)
            sample = Sample(time.perf_counter() - wall, own_cpu() - cpu)
            if turn:
                found[name].append(sample)
    return found


def own_cpu() -> float:
    """Return CPU seconds of this process and of the programs that it waited for, which the server is not."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def check(right: bool) -> None:
    if not right:
        raise SystemExit("an object has the wrong length")


def report(rows: Sequence[tuple[Row, Turns]], names: Sequence[str]) -> None:
    print(f"{machine()}.\n")
    print(table(["Speed", *names], [[row.title, *speeds(row, found, names)] for row, found in rows]), end="\n\n")
    print(table(["CPU time", *names], [[row.title, *costs(row, found, names)] for row, found in rows]))


def speeds(row: Row, found: Turns, names: Sequence[str]) -> Iterator[str]:
    unit = "requests/s" if row.counts_requests else "MB/s"
    for name in names:
        speed = statistics.median(row.amount / turn.wall for turn in found[name])
        yield f"{speed:,.0f} {unit}" + ratio([(own.wall, other.wall) for own, other in pairs(found, name)])


def costs(row: Row, found: Turns, names: Sequence[str]) -> Iterator[str]:
    unit = "ms a request" if row.counts_requests else "ms a MB"
    for name in names:
        cost = statistics.median(1e3 * turn.cpu / row.amount for turn in found[name])
        yield f"{cost:.2f} {unit}" + ratio([(own.cpu, other.cpu) for own, other in pairs(found, name)])


def pairs(found: Turns, name: str) -> list[tuple[Sample, Sample]]:
    return [] if name == "fanfold" else list(zip(found["fanfold"], found[name], strict=True))


def ratio(turns: list[tuple[float, float]]) -> str:
    return f" ({statistics.median(other / own for own, other in turns):.2f}x)" if turns else ""


if __name__ == "__main__":
    sys.exit(main())
