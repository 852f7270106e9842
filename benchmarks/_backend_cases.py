"""One contender on one infrastructure: ``python -m benchmarks._backend_cases NUMBER`` prints what it took, as JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._contenders import WORKERS, Contender, Dask, Fanfold, Lithops, Ray, check
from benchmarks._measure import OWN_PYTHON, adopt_orphans, repeated, tree_cpu

ROOT = Path(__file__).resolve().parents[1]
TRIED = 200
"""Tasks from which the speed is guessed, and at least so many are measured, unless a contender bears fewer."""

SECONDS = 1.5
"""How long a repetition should take, as far as the number of tasks can be chosen."""

Place = dict[str, Any]


class FanfoldThere(Fanfold):
    def __init__(self, place: Place) -> None:
        self.options = {name: place[name] for name in ("compute", "storage", "notify") if name in place}


class DaskTasks(Dask):
    """One Dask task an item, on the cluster of the others."""

    def __init__(self, place: Place) -> None:
        self.address = place["compute"].replace("dask://", "tcp://")

    def open(self) -> None:
        from distributed import Client

        self.client = Client(self.address)

    def close(self) -> None:
        self.client.close()


class DaskBag(DaskTasks):
    """Batches as Dask makes them: a bag of about a hundred parts."""

    batches = True

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        from dask import bag

        made = bag.from_sequence(items, partition_size=batch)
        results: list[Any] = made.map(fn).compute(scheduler=self.client)
        return results


class LithopsContainers(Lithops):
    """Lithops in one container of this machine, by podman: a ``docker`` that it finds may have no engine behind it."""

    most = 10

    def __init__(self, place: Place) -> None:
        if "lithops" not in place:
            raise RuntimeError("no image with Lithops could be built")
        self.folder = tempfile.TemporaryDirectory()
        for name, program in (("podman", shutil.which("podman")), ("python", sys.executable)):
            os.symlink(str(program), f"{self.folder.name}/{name}")
        os.environ["PATH"] = f"{self.folder.name}:/usr/sbin:/sbin"
        self.settings = {
            "lithops": {"backend": "localhost", "storage": "localhost"},
            "localhost": {"worker_processes": WORKERS, "runtime": place["lithops"]},
        }

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], batch: int | None) -> list[Any]:
        # It removes its container after every job, and the next job of the same executor may find the name taken.
        self.open()
        return super().map(fn, items, batch)


@dataclass(frozen=True, slots=True)
class Case:
    """A contender on an infrastructure, and the package whose import is not measured."""

    site: str
    title: str
    name: str
    contender: Callable[[Place], Contender]
    needs: str = "core"

    @property
    def ours(self) -> bool:
        return self.name.startswith("fanfold")


def _local(kind: type[Contender], place: Place) -> Contender:
    return kind()


CASES = [
    Case("processes", "processes", "fanfold process", FanfoldThere),
    Case("processes", "processes", "Lithops localhost", partial(_local, Lithops), "lithops"),
    Case("processes", "processes", "dask", partial(_local, Dask), "distributed"),
    Case("processes", "processes", "ray", partial(_local, Ray), "ray"),
    Case("containers", "containers (podman)", "fanfold container", FanfoldThere),
    Case("containers", "containers (podman)", "Lithops localhost", LithopsContainers, "lithops"),
    Case("http", "HTTP service", "fanfold http", FanfoldThere),
    Case("functions", "Lambda emulators, calls", "fanfold lambda", FanfoldThere, "boto3"),
    Case("events", "Lambda emulators, events", "fanfold lambda", FanfoldThere, "boto3"),
    Case("told events", "Lambda emulators, events", "fanfold lambda, notices over Redis", FanfoldThere, "boto3"),
    Case("slurm", "Slurm cluster", "fanfold slurm", FanfoldThere),
    Case("dask", "Dask cluster", "fanfold dask", FanfoldThere, "distributed"),
    Case("dask", "Dask cluster", "dask, one task an item", DaskTasks, "distributed"),
    Case("dask", "Dask cluster", "dask.bag", DaskBag, "distributed"),
]


@contextmanager
def place_of(site: str) -> Iterator[Place]:
    """Start an infrastructure, a descendant of this process, and take over its variables."""
    command = [os.environ[OWN_PYTHON], "-m", "benchmarks._backend_sites", site]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        if not line:
            raise RuntimeError(f"{site} did not start")
        place = json.loads(line)
        os.environ |= place.get("env", {})
        yield place
    finally:
        server.stdin.close()
        server.wait(60)


def measured(case: Case, place: Place) -> dict[str, Any]:
    """Measure the first result from nothing, then tasks that do nothing, one a batch and in batches."""

    def noop(item: int) -> int:  # within a function, so that it travels by value to workers without this module
        return item

    __import__(case.needs)
    contender = case.contender(place)
    cpu, started = tree_cpu(), time.perf_counter()
    contender.open()
    check(contender.map(noop, [7], 1) == [7])
    answer: dict[str, Any] = {"cold": {"wall": time.perf_counter() - started, "cpu": tree_cpu() - cpu}}
    contender.map(noop, range(4 * WORKERS), 1)
    for name, batch in (("single", 1), ("auto", None)):
        if batch is not None or contender.batches:
            answer[name] = per_task(contender, noop, batch)
    contender.close()
    return answer


def per_task(contender: Contender, noop: Callable[[int], int], batch: int | None) -> dict[str, float]:
    def work(count: int) -> None:
        check(contender.map(noop, range(count), batch) == list(range(count)))

    tasks = contender.most
    if batch is not None:
        tried = min(TRIED, contender.most)
        started = time.perf_counter()
        work(tried)
        tasks = int(min(contender.most, max(tried, SECONDS * tried / (time.perf_counter() - started))))
    sample = repeated(lambda: work(tasks), seconds=2 * SECONDS, least=3)
    return {"wall": sample.wall / tasks, "cpu": sample.cpu / tasks, "tasks": tasks}


def main(number: str) -> None:
    adopt_orphans()
    case = CASES[int(number)]
    answer: dict[str, Any]
    try:
        with place_of(case.site) as place:
            answer = {"missing": place["missing"]} if "missing" in place else measured(case, place)
    except ModuleNotFoundError as error:
        answer = {"missing": f"needs the package {error.name}"}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error) else ''}"}
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
