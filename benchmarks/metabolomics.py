"""An annotation from end to end: ``python -m benchmarks.metabolomics``.

A synthetic dataset is annotated by the command, in fresh processes, with one worker and with two, taken in turn; of
several repetitions the one with the least wall time counts, since other load can only add to it.

- first: nothing is in the cache; the dataset is indexed, and the patterns of the database are computed.
- another database: the dataset is indexed already.
- again: the same command, when all is there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from apps.metabolomics.databases import shipped
from apps.metabolomics.synth import addresses, generate
from apps.metabolomics.synth_params import Specification
from benchmarks._measure import isolated, machine, table

PIXELS, PEAKS = 20_000, 4_000
MOLECULES = 5_000
CASES = ("first", "another database", "again")
GOAL = 1.8
"""How much quicker two workers are to be than one."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What one command took, in seconds, and what it says it has done."""

    wall: float
    cpu: float
    peaks: int
    ions: int


def annotate(dataset: str, database: str, place: Path, workers: int, timeout: float) -> Flow:
    words = ["annotate", dataset, "--db", database, "--output", str(place), "--images", "none", "--json", "--quiet"]
    started = time.perf_counter()
    answer = isolated("benchmarks._metabolomics", [*words, "--compute", "process", "--workers", str(workers)], timeout)
    wall = time.perf_counter() - started
    if answer.get("error"):
        raise SystemExit(f"{' '.join(words)}: {answer['error']}")
    return Flow(wall, answer["cpu"], answer["peaks"], answer["ions"])


def other_database(path: Path) -> str:
    """Write as many formulas of the database that comes with the application."""
    formulas = shipped().formulas.to_pylist()
    step = max(1, len(formulas) // MOLECULES)
    path.write_text("formula\n" + "\n".join(formulas[::step][:MOLECULES]) + "\n")
    return str(path)


def measured(folder: Path, dataset: str, databases: tuple[str, str], workers: int, timeout: float) -> list[Flow]:
    """Run the three cases in a folder of their own; returns what each took."""
    place = folder / f"runs-{workers}"
    first = annotate(dataset, databases[0], place / "first", workers, timeout)
    other = annotate(dataset, databases[1], place / "other", workers, timeout)
    again = annotate(dataset, databases[1], place / "other", workers, timeout)
    shutil.rmtree(place)
    return [first, other, again]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metabolomics", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--repetitions", type=int, default=3, help="of each flow, in turn (default: 3)")
    parser.add_argument(
        "--pixels", type=int, default=PIXELS,
        help=f"of the dataset, each of {PEAKS:,} peaks; the fewer, the more the command's start weighs "
        f"(default: {PIXELS:,})",
    )  # fmt: skip
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one measurement (default: 1800)")
    arguments = parser.parse_args()
    best: dict[tuple[str, int], Flow] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = str(folder / "made.imzML")
        generate(dataset, Specification(pixels=arguments.pixels, peaks=float(PEAKS), molecules=MOLECULES))
        databases = addresses(dataset)["database"], other_database(folder / "other.tsv")
        for repetition in range(arguments.repetitions):
            for workers in (1, 2):
                print(f"repetition {repetition + 1}, {workers} workers", file=sys.stderr, flush=True)
                for case, flow in zip(
                    CASES, measured(folder, dataset, databases, workers, arguments.timeout), strict=True
                ):
                    known = best.get((case, workers))
                    best[case, workers] = flow if known is None or flow.wall < known.wall else known
    rows = []
    for case in CASES:
        one, two = best[case, 1], best[case, 2]
        rows.append(
            [case, f"{one.peaks:,}", f"{one.ions:,}", f"{one.wall:.1f}", f"{one.cpu:.1f}", f"{two.wall:.1f}",
             f"{two.cpu:.1f}", f"{one.wall / two.wall:.2f}"]
        )  # fmt: skip
    heads = ["", "peaks", "ions", "1 worker, s", "CPU s", "2 workers, s", "CPU s", "ratio"]
    print(f"{machine()}.\n\n{table(heads, rows)}\n\nGoal of the first: {GOAL}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
