"""Speed of S3 storage against plain boto3 with as many threads: ``python -m benchmarks.storage s3://BUCKET/PREFIX``.

Both go to the same service in turns, in one run; a ratio above 1 means that fanfold is faster.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from core import open_storage
from core.storage.s3 import S3Storage
from core.storage.s3_client import THREADS
from core.types import MiB

SMALL, SMALL_BYTES = 500, 4096
MEDIUM, MEDIUM_BYTES = 32, 4 * MiB
LARGE_BYTES = 128 * MiB
REPEATS = 5


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="an empty prefix on an S3 service, such as s3://bucket/benchmark")
    storage = open_storage(parser.parse_args().address)
    if not isinstance(storage, S3Storage):
        parser.error("the address must be s3:// or cos://")
    print(f"{'':34}{'fanfold':>12}{'boto3':>12}{'ratio':>8}")
    try:
        with ThreadPoolExecutor(THREADS) as threads:
            measure(storage, plain_client(storage), threads)
    finally:
        storage.delete(info.key for info in storage.list())


def plain_client(storage: S3Storage) -> Any:
    """Return a client of the same service as boto3 makes it, with connections for all threads."""
    import boto3
    from botocore.config import Config

    meta = storage.client.meta
    options = Config(max_pool_connections=THREADS)
    return boto3.client("s3", endpoint_url=meta.endpoint_url, region_name=meta.region_name, config=options)


def measure(storage: S3Storage, client: Any, threads: ThreadPoolExecutor) -> None:
    """Print one line a kind of transfer."""
    names = storage.names
    small, medium, large = (os.urandom(size) for size in (SMALL_BYTES, MEDIUM_BYTES, LARGE_BYTES))

    def each(count: int, work: Callable[[str], object]) -> Callable[[], object]:
        return lambda: list(threads.map(work, [f"k{number:05d}" for number in range(count)]))

    def read(key: str) -> bytes:
        data: bytes = client.get_object(**names(key))["Body"].read()
        return data

    def download() -> bytes:
        into = io.BytesIO()
        client.download_fileobj(storage.bucket, storage.prefix + "large", into)
        return into.getvalue()

    show(
        f"put {SMALL_BYTES >> 10} KiB objects, requests/s",
        SMALL,
        each(SMALL, lambda key: storage.put(key, small)),
        each(SMALL, lambda key: client.put_object(**names(key), Body=small)),
    )
    show(f"get {SMALL_BYTES >> 10} KiB objects, requests/s", SMALL, each(SMALL, storage.get), each(SMALL, read))
    show(
        f"put {MEDIUM_BYTES // MiB} MiB objects, MB/s",
        MEDIUM * MEDIUM_BYTES / 1e6,
        each(MEDIUM, lambda key: storage.put(key, medium)),
        each(MEDIUM, lambda key: client.put_object(**names(key), Body=medium)),
    )
    show(
        f"get {MEDIUM_BYTES // MiB} MiB objects, MB/s",
        MEDIUM * MEDIUM_BYTES / 1e6,
        each(MEDIUM, storage.get),
        each(MEDIUM, read),
    )
    show(
        f"put one of {LARGE_BYTES // MiB} MiB, MB/s",
        LARGE_BYTES / 1e6,
        lambda: storage.put("large", large),
        lambda: client.upload_fileobj(io.BytesIO(large), storage.bucket, storage.prefix + "large"),
    )
    show(f"get one of {LARGE_BYTES // MiB} MiB, MB/s", LARGE_BYTES / 1e6, lambda: storage.get("large"), download)


def show(what: str, amount: float, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Print the median speeds of both, run in turns, and the median of their ratios."""
    speeds: list[tuple[float, float]] = []
    for turn in range(REPEATS + 1):
        order = (ours, theirs) if turn % 2 else (theirs, ours)
        taken = {}
        for work in order:
            began = time.perf_counter()
            work()
            taken[work] = time.perf_counter() - began
        if turn:  # the first turn opens connections
            speeds.append((amount / taken[ours], amount / taken[theirs]))
    mine, other = (statistics.median(column) for column in zip(*speeds, strict=True))
    ratio = statistics.median(a / b for a, b in speeds)
    print(f"{what:34}{mine:12.0f}{other:12.0f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
