"""The faces for other software beside what they stand in for: ``python -m benchmarks.ecosystem``.

Prints Markdown tables of wall and CPU time, warm, all contenders of a row in turns in one process; in brackets, how
many times what fanfold takes. CPU time counts all processes. Peers are joblib's own backend (loky) and the pools of the
standard library; joblib comes with ``pip install '.[compat]'``.

- joblib: 5,000 no-ops; 200 calls that each read one row of the same array of 16 MB.
- pool: ``map`` of 1,000 and 10,000 no-ops in its default form.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import joblib
import numpy as np
from joblib import Parallel, delayed

import core.joblib
from benchmarks._measure import Sample, repeated, table
from core import FunctionExecutor

TURNS = 5
ARRAY = (2000, 1000)
"""Of float64: 16 MB."""

Works = dict[str, Callable[[], Any]]


def noop(x: int) -> int:
    return x


def row_sum(array: Any, row: int) -> float:
    return float(array[row].sum())


def joblib_rows(workers: int, executor: FunctionExecutor) -> dict[str, Works]:
    array = np.random.default_rng(0).random(ARRAY)
    backends = {"fanfold": core.joblib.FanfoldBackend(executor), "loky": "loky"}

    def on(backend: Any, calls: Callable[[], Any]) -> Callable[[], Any]:
        def work() -> None:
            with joblib.parallel_config(backend, n_jobs=workers):
                Parallel()(calls())

        return work

    noops = [delayed(noop)(x) for x in range(5000)]
    return {
        "joblib, 5,000 no-ops": {name: on(backend, lambda: noops) for name, backend in backends.items()},
        "joblib, 200 calls with 16 MB": {
            name: on(backend, lambda: (delayed(row_sum)(array, row) for row in range(200)))
            for name, backend in backends.items()
        },
    }


def pool_rows(executor: FunctionExecutor, standard: ProcessPoolExecutor, pool: Any) -> dict[str, Works]:
    ours = executor.pool()
    return {
        f"pool.map, {count:,} no-ops": {
            "fanfold": lambda count=count: list(ours.map(noop, range(count))),  # type: ignore[misc]
            "ProcessPoolExecutor": lambda count=count: list(standard.map(noop, range(count))),  # type: ignore[misc]
            "multiprocessing.Pool": lambda count=count: pool.map(noop, range(count)),  # type: ignore[misc]
        }
        for count in (1_000, 10_000)
    }


def measured(works: Works) -> dict[str, Sample]:
    """Measure contenders in turns; the median of each over the turns."""
    samples: dict[str, list[Sample]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(TURNS):
        for name, work in works.items():
            samples[name].append(repeated(work, seconds=0.5, least=2))
    return {
        name: Sample(statistics.median(s.wall for s in some), statistics.median(s.cpu for s in some))
        for name, some in samples.items()
    }


def report(rows: dict[str, dict[str, Sample]]) -> None:
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    for clock in ("wall", "cpu"):
        lines = []
        for head, row in rows.items():
            best = getattr(row["fanfold"], clock) or 1e-9
            shown = {name: getattr(sample, clock) for name, sample in row.items()}
            cells = [
                f"{shown[name] * 1e3:.1f} ms ({shown[name] / best:.2f})" if name in shown else "" for name in names
            ]
            lines.append([head, *cells])
        print(f"\n{clock} time\n\n{table(['', *names], lines)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ecosystem", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    workers = parser.parse_args().workers
    print(f"{platform.machine()}, {workers} workers, Python {platform.python_version()}, joblib {joblib.__version__}")
    with (
        FunctionExecutor("process", workers=workers) as executor,
        ProcessPoolExecutor(workers) as standard,
        multiprocessing.Pool(workers) as pool,
    ):
        rows = {**joblib_rows(workers, executor), **pool_rows(executor, standard, pool)}
        report({head: measured(works) for head, works in rows.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
