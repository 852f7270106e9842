"""The core beside its peers, measured in one run: ``python -m benchmarks.core``.

Prints Markdown tables of wall and CPU time; in brackets, how many times what fanfold takes. Every figure comes from a
fresh process; CPU time counts all processes of a contender. Peers are those of ``pip install '.[bench]'``, and Lithops
and ray, whose environments are made when they are first measured; one that is missing or breaks says so in its row.

- cold: from the constructor to the first result, imports done; median of five interpreters.
- no-op: microseconds a task, warm, batches sized by the contender or of one task.
- submit: microseconds a call, results awaited at the end; CPU time is that of the submitting process alone.
- values: microseconds for an instance of a dataclass there and back, batches sized by the contender.
- CSV: sum of a column of a 100 MB file in 16 chunks. 100 x 10 MB: arrays returned by workers.
- kill -9: 1,000 tasks of 8 ms, while a random worker is killed every 100 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._contenders import CONTENDERS, ROWS
from benchmarks._measure import isolated, machine, table
from benchmarks._workloads import write_csv

COLD_REPETITIONS = 5
HEADS = {
    "cold": "cold first result",
    "noop-1k-auto": "no-op 1k, batched",
    "noop-1k-single": "no-op 1k, single",
    "noop-10k-auto": "no-op 10k, batched",
    "noop-10k-single": "no-op 10k, single",
    "submit": "submit, 5k",
    "main": "1k values, class of `__main__`",
    "module": "1k values, class of a module",
    "csv": "100 MB CSV",
    "arrays": "100 x 10 MB back",
    "kills": "kill -9 every 100 ms",
}

PER_TASK = {"noop-1k-auto", "noop-1k-single", "noop-10k-auto", "noop-10k-single", "submit", "main", "module"}
"""Rows that are given in microseconds a task."""

Answers = dict[tuple[str, str], dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one measurement (default: 60)")
    arguments = parser.parse_args()
    answers: Answers = {}
    with tempfile.TemporaryDirectory() as folder:
        data = ""
        if "csv" in arguments.rows:
            path = Path(folder, "table.csv")
            data = f"{path}={write_csv(path)}"
        for row in arguments.rows:
            for name in arguments.contenders:
                print(f"{row}: {name}", file=sys.stderr, flush=True)
                answers[name, row] = measured(name, row, data, arguments.timeout)
    report(answers, arguments.contenders, arguments.rows)
    return 0


def measured(name: str, row: str, data: str, timeout: float) -> dict[str, Any]:
    runs = COLD_REPETITIONS if row == "cold" else 1
    found = []
    for _ in range(runs):
        answer = isolated("benchmarks._contenders", [name, row, data], timeout, peer=CONTENDERS[name][1])
        if "wall" not in answer:
            return answer
        found.append(answer)
    return {**found[0], **{key: statistics.median(run[key] for run in found) for key in ("wall", "cpu")}}


def report(answers: Answers, contenders: list[str], rows: list[str]) -> None:
    print(f"{machine()}, 2 workers.\n")
    for kind, title in (("wall", "Wall time"), ("cpu", "CPU time, all processes")):
        lines = [
            [name, *(cell(answers[name, row], answers.get(("fanfold", row), {}), row, kind) for row in rows)]
            for name in contenders
        ]
        print(table([title, *(HEADS[row] for row in rows)], lines), end="\n\n")
    notes = []
    if "cold" in rows:
        imports = [(name, answers[name, "cold"].get("import")) for name in contenders]
        notes.append(
            "Import, ms: " + ", ".join(f"{name} {1e3 * took:.0f}" for name, took in imports if took is not None)
        )
    fewer = {(name, answer["tasks"]) for (name, _), answer in answers.items() if answer.get("tasks", 1000) < 1000}
    notes += [f"{name}: no-op measured on {tasks} tasks" for name, tasks in sorted(fewer)]
    broken = [(name, row, answer["error"]) for (name, row), answer in answers.items() if "error" in answer]
    notes += [f"{name}, {HEADS[row]}: {error}" for name, row, error in broken if error != "not installed"]
    print("\n".join(f"- {note}." for note in notes))


def cell(answer: dict[str, Any], own: dict[str, Any], row: str, kind: str) -> str:
    if "wall" not in answer:
        return "-" if "none" in answer else "not installed" if answer["error"] == "not installed" else "fails"
    value = answer[kind]
    text = f"{1e6 * value:,.1f} us" if row in PER_TASK else f"{value:.3g} s"
    if row == "kills" and kind == "wall":
        text += f", {'right' if answer['right'] else 'WRONG'} after {answer['killed']} kills"
    if own and own is not answer and own.get(kind):
        text += f" ({value / own[kind]:.2g}x)"
    return text


if __name__ == "__main__":
    sys.exit(main())
