"""Replica exchange beside the pure integrator, measured in one run: ``python -m benchmarks.protein_remd``.

Eight replicas of a peptide as large as a WW domain in vacuum (segments of about 0.4 s), and of alanine dipeptide in
implicit water (segments of about 12 ms). Every flow is a fresh process and does the same steps; of several repetitions,
taken in turn, the one with the least CPU counts, since other load can only add to it.

- pure: the same steps in one warm context on one thread, which is never put back and whose state is never read.
- fanfold: the command with 1 and 2 workers, from its start to tables and report; and its rounds alone, which is what
  grows with a campaign. The system was prepared before.
- OpenMM's sampler: ``openmm.app.ReplicaExchangeSampler``.
- a process a segment: what a batch system does, two at a time; a sample.
- long campaigns: what a round takes early and late, of oscillators and of alanine dipeptide.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from typing import Any

from benchmarks._measure import isolated, machine, table
from benchmarks._server import s3_server

BUCKET = "remd"
SEGMENTS = {"WW": 500, "alanine": 500}
"""Steps of a segment."""
FULL = {"WW": 20, "alanine": 400}
QUICK = {"WW": 4, "alanine": 80}
SAMPLE = 2
"""Rounds with a process a segment."""
GOALS = {"WW": 1.05, "alanine": 1.3}
MEASURES = ("cpu", "rounds", "wall")
Answer = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.protein_remd", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--repetitions", type=int, default=3, help="of each flow, in turn (default: 3)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: the command's start weighs more")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one measurement (default: 900)")
    arguments = parser.parse_args()
    rounds = QUICK if arguments.quick else FULL

    def flow(*given: object) -> Answer:
        words = list(map(str, given))
        print(*words, file=sys.stderr, flush=True)
        answer = isolated("benchmarks._remd", words, arguments.timeout)
        if answer.get("error") or answer.get("status"):
            raise SystemExit(f"{' '.join(words)}: {answer.get('error') or 'failed'}")
        return answer

    print(f"{machine()}.\n")
    with tempfile.TemporaryDirectory() as folder:
        for name, steps in SEGMENTS.items():
            place = f"{folder}/{name}"
            begun = flow("begin", name, steps, place)
            flows = {
                "pure integrator": ("pure", name, steps, rounds[name], place),
                "OpenMM's sampler": ("sampler", name, steps, rounds[name], place),
                "fanfold, 1 worker": ("app", name, steps, rounds[name], 1, place),
                "fanfold, 2 workers": ("app", name, steps, rounds[name], 2, place),
            }
            best = least(
                [{label: flow(*words) for label, words in flows.items()} for _ in range(arguments.repetitions)]
            )
            sampled = flow("processes", name, steps, SAMPLE, place)
            best["a process a segment"] = {key: sampled[key] * rounds[name] / SAMPLE for key in ("wall", "cpu")}
            report(name, begun["atoms"], rounds[name], best)
        lasting = {name: flow("long", name, 20, f"{folder}/long-{name}") for name in ("harmonic", "alanine")}
        with s3_server(BUCKET):
            asked = flow("requests", f"s3://{BUCKET}/run")["requests"]
    report_rounds(lasting, asked)
    return 0


def least(repetitions: list[dict[str, Answer]]) -> dict[str, Answer]:
    """Return the least wall time and the least CPU time of each flow."""
    return {
        label: {key: min(each[label][key] for each in repetitions) for key in MEASURES if key in repetitions[0][label]}
        for label in repetitions[0]
    }


def report(name: str, atoms: int, rounds: int, best: dict[str, Answer]) -> None:
    base = best["pure integrator"]
    rows = [
        [label, *(cell(one.get(key), base["wall" if key == "wall" else "cpu"]) for key in MEASURES)]
        for label, one in best.items()
    ]
    segments = rounds * 8
    head = f"{name}: {atoms} atoms, {rounds} rounds of 8 segments of {SEGMENTS[name]} steps"
    print(table([head, "CPU, all processes", "of which rounds", "wall"], rows), end="\n\n")
    one, two = best["fanfold, 1 worker"], best["fanfold, 2 workers"]
    goals = [
        ["a segment, pure", ">= 0.3 s" if name == "WW" else "", f"{base['cpu'] / segments:.3f} s"],
        ["CPU / pure, 1 worker", f"<= {GOALS[name]}", f"{one['cpu'] / base['cpu']:.3f}"],
        ["CPU / pure, 2 workers", f"<= {GOALS[name]}", f"{two['cpu'] / base['cpu']:.3f}"],
        ["rounds alone / pure, 2 workers", f"<= {GOALS[name]}", f"{two['rounds'] / base['cpu']:.3f}"],
        ["wall / pure, 2 workers", "<= 0.55" if name == "WW" else "", f"{two['wall'] / base['wall']:.3f}"],
    ]
    print(table(["", "goal", "measured"], goals), end="\n\n")


def cell(seconds: float | None, base: float) -> str:
    return "" if seconds is None else f"{seconds:.1f} s ({seconds / base:.2f}x)"


def report_rounds(lasting: dict[str, Answer], asked: list[int]) -> None:
    rows = []
    for name, answer in lasting.items():
        ratio = answer["late"] / answer["early"]
        cells = [f"{1e3 * answer['early']:.1f} ms", f"{1e3 * answer['late']:.1f} ms ({ratio:.2f}x)"]
        early, late = answer["memory"]
        memory = [f"{early[who] / 1e6:.1f} to {late[who] / 1e6:.1f} MB" for who in ("driver", "worker")]
        rows.append([name, *cells, *memory])
    print(
        table(
            ["8 replicas", "CPU, round 10", "CPU, round 1,000", "memory of the driver", "of the largest worker"], rows
        ),
        end="\n\n",
    )
    print(f"- Requests to S3 in a round of 8 replicas: {asked[0]} early, {asked[1]} later; the lease's renewal apart.")


if __name__ == "__main__":
    sys.exit(main())
