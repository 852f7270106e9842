"""Overhead of every backend beside its peers on the same infrastructure: ``python -m benchmarks.backends``.

Starts what this machine can run (processes, containers, an HTTP worker, Lambda emulators, Slurm, a Dask cluster, Redis)
and prints a Markdown table, and what is missing with the command that adds it. Needs ``pip install '.[bench,test]'``.

- cold: from the executor's constructor to the first result; the infrastructure is up, our workers are not.
- one a batch, automatic: microseconds a task that does nothing, two workers, warm; the median of at least three maps.
- CPU counts all processes, the servers too. In brackets, how many times what fanfold takes in the first row of the
  infrastructure.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks._backend_cases import CASES, Case
from benchmarks._measure import adopt_orphans, isolated, machine, table

COLUMNS = (("cold", "wall"), ("single", "wall"), ("single", "cpu"), ("auto", "wall"), ("auto", "cpu"))
HEADS = ("infrastructure", "", "cold", "one a batch", "CPU", "automatic", "CPU")
LIMIT = 300.0
ALONE = {
    "http": "HTTP service: Lithops reaches such services only through the interfaces of Knative and Code Engine",
    "functions": "Lambda: Lithops 3.8 calls lambda.REGION.amazonaws.com whatever the endpoint: no emulator",
    "slurm": "Slurm: Lithops has no such backend",
}
"""Why an infrastructure has no peer."""

Answers = dict[Case, dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=(__doc__ or "").splitlines()[0])
    names = sorted({case.site for case in CASES})
    parser.add_argument("--sites", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--ours", action="store_true", help="leave out the peers")
    parser.add_argument("--timeout", type=float, default=LIMIT, help="seconds for one row (default: %(default)g)")
    arguments = parser.parse_args()
    adopt_orphans()
    answers: Answers = {}
    for number, case in enumerate(CASES):
        if case.site not in arguments.sites or (arguments.ours and not case.ours):
            continue
        print(f"{case.title}: {case.name}", file=sys.stderr, flush=True)
        answers[case] = isolated("benchmarks._backend_cases", [str(number)], arguments.timeout, case.needs)
        end_descendants()
    report(answers)
    return 0


def end_descendants() -> None:
    """End what a row left behind: servers have sessions of their own, and an orphan becomes this process's child."""
    while children := _children(os.getpid()):
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)


def _children(parent: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry))
    return found


def report(answers: Answers) -> None:
    print(f"{machine()}, 2 workers.\n")
    own: dict[str, dict[str, Any]] = {}
    rows, notes = [], [why for site, why in ALONE.items() if any(case.site == site for case in answers)]
    for case, answer in answers.items():
        first = own.setdefault(case.title, answer)
        rows.append([case.title, case.name, *(cell(answer, first, *column) for column in COLUMNS)])
        for kind in ("missing", "error"):
            if kind in answer:
                notes.append(f"{case.title}, {case.name}: {answer[kind]}")
    print(table(HEADS, rows), end="\n\n")
    print("\n".join(f"- {note}." for note in notes))


def cell(answer: dict[str, Any], own: dict[str, Any], column: str, kind: str) -> str:
    if column not in answer:
        return "missing" if "missing" in answer else "fails" if "error" in answer else "-"
    value = answer[column][kind]
    text = (
        f"{value:.3g} s" if column == "cold" else f"{1e6 * value:,.0f} us" if value > 1e-5 else f"{1e6 * value:.1f} us"
    )
    if own is not answer and own.get(column, {}).get(kind):
        text += f" ({value / own[column][kind]:.2g}x)"
    return text


if __name__ == "__main__":
    sys.exit(main())
