"""Notices over Redis against looking through the storage: delay of results, and requests to S3.

    python -m benchmarks.notices [--quick]

Worker processes of this machine commit to a SeaweedFS of this machine and send no replies, as on an asynchronous
platform. The clock of a task starts when its worker has committed it and stops when its future is done; requests are
the driver's own. Each line is one job of 200 tasks on two workers, in a process that has run one before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from benchmarks._server import free_port, s3_server
from core import FunctionExecutor, Future
from core.compute import base
from core.compute.local.process import ProcessBackend
from core.settings import Address, ExecutorConfig
from core.task.protocol import BatchLost, Invocation, Reply

BUCKET = "notices"
TASKS = 200
WORKERS = 2
DURATIONS = (0.001, 0.01, 0.1)
"""Seconds of a task."""

committed: dict[int, float] = {}
"""Monotonic time at which each task of the job was committed."""


class SilentBackend(ProcessBackend):
    """Worker processes whose replies only say when a commit was made; the driver does not get them."""

    name = "silent"

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        super().__init__(Address("process"), config)
        self.capabilities = replace(
            self.capabilities, reports_completion=False, results_in_storage=True, carries_queues=False
        )
        self._sent: dict[int, Invocation] = {}

    def invoke(self, invocation: Invocation) -> None:
        self._sent[invocation.batch_id] = invocation
        super().invoke(invocation)

    def poll(self, timeout: float | None) -> list[Reply]:
        for reply in super().poll(timeout):
            if isinstance(reply, BatchLost):
                raise SystemExit(f"a worker was lost: {reply.message}")
            committed.update(dict.fromkeys(self._sent.pop(reply.batch_id).task_ids, time.monotonic()))
        return []


@dataclass(frozen=True, slots=True)
class Found:
    """One job: seconds of it all, median and largest delay of its results in seconds, requests of its driver."""

    wall: float
    median: float
    largest: float
    requests: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notices", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tasks of 1 and 10 ms only")
    durations = DURATIONS[:2] if parser.parse_args().quick else DURATIONS
    base._BACKENDS["silent"] = f"{__name__}:SilentBackend"
    print(f"{'task':>7} {'batch':>6} {'':8} {'job':>8} {'median':>9} {'largest':>9} {'requests':>9}")
    with s3_server(BUCKET), redis_server() as address:
        for seconds in durations:
            for size in (1, None):
                for notify in (None, address):
                    line = measured(seconds, size, notify)
                    print(
                        f"{seconds * 1e3:4.0f} ms {size or 'auto':>6} {'redis' if notify else 'polling':8} "
                        f"{line.wall:6.2f} s {line.median * 1e3:6.0f} ms {line.largest * 1e3:6.0f} ms "
                        f"{line.requests:9d}",
                        flush=True,
                    )
    return 0


def measured(seconds: float, size: int | None, notify: str | None) -> Found:
    """Run a job; the executor has run another before, so that workers and connections are warm."""
    with FunctionExecutor("silent", f"s3://{BUCKET}/jobs", workers=WORKERS, notify=notify) as executor:
        executor.map(time.sleep, [0.0] * WORKERS, batch_size=1).results()
        committed.clear()
        done: dict[int, float] = {}
        began = time.monotonic()
        futures = executor.map(time.sleep, [seconds] * TASKS, batch_size=size)
        for index, future in enumerate(futures):
            future.add_done_callback(partial(_note, done, index))
        futures.results()
        wall = time.monotonic() - began
        requests = executor._history.jobs()[-1]._storage.requests  # type: ignore[attr-defined]
        delays = [max(0.0, done[index] - committed[index]) for index in range(TASKS) if index in committed]
    return Found(wall, statistics.median(delays), max(delays), requests)


def _note(done: dict[int, float], index: int, future: Future) -> None:
    done[index] = time.monotonic()


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis without persistence; gives its address."""
    program = shutil.which("redis-server", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise SystemExit("needs the program redis-server: apt-get install redis-server")
    import redis

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                while True:
                    try:
                        client.ping()
                        break
                    except redis.ConnectionError:
                        if server.poll() is not None:
                            raise SystemExit("the Redis server did not start") from None
                        time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
