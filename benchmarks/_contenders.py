"""One adapter a contender, and one measurement of one of them: ``python -m benchmarks._contenders NAME ROW``."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _workloads as workloads
from benchmarks._measure import Sample, adopt_orphans, repeated, tree_cpu

WORKERS = 2
KILL_EVERY = 0.1
KILL_TASKS = 1000
SUBMITS = 5000


@dataclass
class MainPoint:
    """A value of a class of ``__main__``: a measurement runs this module as a script."""

    x: int


class Contender:
    """What a measurement asks of each.

    `batches` says whether it sizes batches itself, `most` how many tasks it bears.
    """

    batches = False
    most = 10_000

    def open(self) -> None:
        raise NotImplementedError

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        raise NotImplementedError

    def close(self) -> None: ...

    def submit(self, fn: Callable[[Any], Any], item: Any) -> Any:
        raise NotImplementedError

    def sum_csv(self, path: str) -> int:
        return sum(self.map(workloads.add_up_range, workloads.ranges(path), 1))

    def map_through_kills(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self.map(fn, items, 1)


class Fanfold(Contender):
    batches = True
    options: dict[str, Any] = {}

    def open(self) -> None:
        from core import FunctionExecutor

        self.executor = FunctionExecutor(workers=WORKERS, **self.options)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        return self.executor.map(fn, items, batch_size=batch).results()

    def close(self) -> None:
        self.executor.shutdown()

    def submit(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self.executor.submit(fn, item)

    def sum_csv(self, path: str) -> int:
        chunk = math.ceil(os.path.getsize(path) / workloads.CSV_CHUNKS)
        total: int = self.executor.map_reduce(workloads.add_up_object, path, sum, chunk_bytes=chunk).result()
        return total

    def map_through_kills(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self.executor.map(fn, items, retries=20).results()


class FanfoldDurable(Fanfold):
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.options = {"durable": True, "storage": f"file://{self.folder.name}"}
        super().open()

    def close(self) -> None:
        super().close()
        self.folder.cleanup()


class Pool(Contender):
    batches = True

    def open(self) -> None:
        import multiprocessing

        self.pool = multiprocessing.Pool(WORKERS)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        return self.pool.map(fn, items, chunksize=batch)

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


class ProcessPool(Contender):
    def open(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.executor: Any = ProcessPoolExecutor(WORKERS)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        return list(self.executor.map(fn, items, chunksize=batch or 1))

    def submit(self, fn: Callable[[Any], Any], item: Any) -> Any:
        return self.executor.submit(fn, item)

    def close(self) -> None:
        self.executor.shutdown()


class Loky(ProcessPool):
    def open(self) -> None:
        from loky import get_reusable_executor

        self.executor = get_reusable_executor(max_workers=WORKERS)


class Joblib(Contender):
    batches = True

    def open(self) -> None:
        from joblib import Parallel, delayed

        self.delayed = delayed
        self.parallel = {batch: Parallel(n_jobs=WORKERS, batch_size=batch) for batch in ("auto", 1)}

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        results: list[Any] = self.parallel[batch or "auto"](self.delayed(fn)(item) for item in items)
        return results


class Dask(Contender):
    def open(self) -> None:
        from distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self.cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
        self.client = Client(self.cluster)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        results: list[Any] = self.client.gather(self.client.map(fn, items, pure=False))
        return results

    def map_through_kills(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        results: list[Any] = self.client.gather(self.client.map(fn, items, pure=False, retries=20))
        return results

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


class Ray(Contender):
    def open(self) -> None:
        import ray

        self.ray = ray
        ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level=logging.CRITICAL, log_to_driver=False)

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        remote = self.ray.remote(fn)
        results: list[Any] = self.ray.get([remote.remote(item) for item in items])
        return results

    def map_through_kills(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        remote = self.ray.remote(fn).options(max_retries=20)
        results: list[Any] = self.ray.get([remote.remote(item) for item in items])
        return results

    def close(self) -> None:
        self.ray.shutdown()


class Lithops(Contender):
    most = 50
    settings: dict[str, Any] = {
        "lithops": {"backend": "localhost", "storage": "localhost"},
        "localhost": {"worker_processes": WORKERS},
    }

    def open(self) -> None:
        from lithops import FunctionExecutor

        self.executor = FunctionExecutor(config=self.settings, log_level="ERROR")

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        # Lithops spreads a tuple over the parameters and the workloads take one argument.
        data = [(item,) for item in items]
        results: list[Any] = self.executor.get_result(self.executor.map(fn, data))
        return results

    def close(self) -> None:
        self.executor.clean()


CONTENDERS: dict[str, tuple[type[Contender], str]] = {
    "fanfold": (Fanfold, "core"),
    "fanfold durable": (FanfoldDurable, "core"),
    "multiprocessing.Pool": (Pool, "multiprocessing"),
    "ProcessPoolExecutor": (ProcessPool, "concurrent.futures"),
    "loky": (Loky, "loky"),
    "joblib": (Joblib, "joblib"),
    "dask": (Dask, "distributed"),
    "ray": (Ray, "ray"),
    "Lithops": (Lithops, "lithops"),
}


def check(right: bool) -> None:
    if not right:
        raise AssertionError("wrong results")


def cold(contender: Contender, package: str, _: str) -> dict[str, Any]:
    started = time.perf_counter()
    __import__(package)
    imported = time.perf_counter()
    cpu = tree_cpu()
    contender.open()
    check(contender.map(workloads.noop, [7], 1) == [7])
    first = time.perf_counter()
    return {"import": imported - started, **asdict(Sample(first - imported, tree_cpu() - cpu))}


def noops(contender: Contender, tasks: int, batch: int | None) -> dict[str, Any]:
    if batch is None and not contender.batches:
        return {"none": "sizes no batches"}
    tasks = min(tasks, contender.most)
    items = list(range(tasks))
    contender.open()
    contender.map(workloads.noop, items[: 4 * WORKERS], batch)
    sample = repeated(lambda: check(contender.map(workloads.noop, items, batch) == items), least=3)
    return {"wall": sample.wall / tasks, "cpu": sample.cpu / tasks, "tasks": tasks}


def points(contender: Contender, kind: type[Any]) -> dict[str, Any]:
    items = [kind(number) for number in range(1_000)]
    contender.open()
    try:
        contender.map(workloads.noop, items[: 4 * WORKERS], None)
    except Exception as error:
        return {"error": f"{type(error).__name__}: cannot send them"}
    sample = repeated(lambda: check(contender.map(workloads.noop, items, None) == items), least=3)
    return {"wall": sample.wall / len(items), "cpu": sample.cpu / len(items)}


def submits(contender: Contender, _: str, __: str) -> dict[str, Any]:
    """Measure the process that submits, alone."""
    if type(contender).submit is Contender.submit:
        return {"none": "has no submit"}
    contender.open()
    contender.map(workloads.noop, list(range(4 * WORKERS)), 1)
    started, cpu = time.perf_counter(), time.process_time()
    futures = [contender.submit(workloads.noop, number) for number in range(SUBMITS)]
    check([future.result() for future in futures] == list(range(SUBMITS)))
    return {"wall": (time.perf_counter() - started) / SUBMITS, "cpu": (time.process_time() - cpu) / SUBMITS}


def csv(contender: Contender, _: str, data: str) -> dict[str, Any]:
    path, total = data.rsplit("=", 1)
    contender.open()
    contender.map(workloads.noop, list(range(4 * WORKERS)), 1)
    return asdict(repeated(lambda: check(contender.sum_csv(path) == int(total)), least=3, seconds=4))


def arrays(contender: Contender, _: str, __: str) -> dict[str, Any]:
    contender.open()
    contender.map(workloads.noop, list(range(4 * WORKERS)), 1)

    def work() -> None:
        results = contender.map(workloads.array, range(100), 1)
        check(all(found[0] == found[-1] == number for number, found in enumerate(results)))

    return asdict(repeated(work, least=3, seconds=4))


def kills(contender: Contender, _: str, __: str) -> dict[str, Any]:
    chance = random.Random(1)
    killed = 0
    over = threading.Event()

    def kill(folder: str) -> None:
        nonlocal killed
        while not over.wait(KILL_EVERY):
            pids = [int(name) for name in os.listdir(folder)]
            while pids:
                pid = pids.pop(chance.randrange(len(pids)))
                Path(folder, str(pid)).unlink()
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed += 1
                break

    contender.open()
    with tempfile.TemporaryDirectory() as folder:
        items = [(folder, number) for number in range(KILL_TASKS)]
        killer = threading.Thread(target=kill, args=(folder,), daemon=True)
        started, cpu = time.perf_counter(), tree_cpu()
        killer.start()
        try:
            results = contender.map_through_kills(workloads.announced_square, items)
        finally:
            over.set()
            killer.join()
    wall = time.perf_counter() - started
    right = results == [number * number for number in range(KILL_TASKS)]
    return {"wall": wall, "cpu": tree_cpu() - cpu, "killed": killed, "right": right}


ROWS: dict[str, Callable[[Contender, str, str], dict[str, Any]]] = {
    "cold": cold,
    "noop-1k-auto": lambda contender, *_: noops(contender, 1_000, None),
    "noop-1k-single": lambda contender, *_: noops(contender, 1_000, 1),
    "noop-10k-auto": lambda contender, *_: noops(contender, 10_000, None),
    "noop-10k-single": lambda contender, *_: noops(contender, 10_000, 1),
    "submit": submits,
    "main": lambda contender, *_: points(contender, MainPoint),
    "module": lambda contender, *_: points(contender, workloads.ModulePoint),
    "csv": csv,
    "arrays": arrays,
    "kills": kills,
}


def main(name: str, row: str, data: str = "") -> None:
    adopt_orphans()
    kind, package = CONTENDERS[name]
    contender = kind()
    try:
        answer = ROWS[row](contender, package, data)
    except ModuleNotFoundError as error:
        answer = {"error": "not installed" if error.name in (package, "core") else str(error)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80] if str(error) else ''}"}
    print("\n" + json.dumps(answer), flush=True)
    # A contender broken by kills may never close; the measurement is done.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
