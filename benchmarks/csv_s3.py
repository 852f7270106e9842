"""A map-reduce of CSV on S3 beside its peers, measured in turns in one run: ``python -m benchmarks.csv_s3``.

Eight objects of a table, 1 GB in all, lie in a SeaweedFS server of this run. Each contender counts and adds up a
column for each of 100 stations, in chunks of 32 MiB of whole lines parsed by pandas, with two workers; its answer is
compared with the exact one. Every figure comes from a fresh process whose workers have done the same to a small
table before; CPU time counts all processes of a contender, not the server's. Figures are medians; in brackets, how
many times what fanfold takes. Peers have environments of their own, made when they are first measured; one that
fails says why.

- boto3 loop: one process, one object after the other, each read whole.
- dask.dataframe: read_csv and groupby, over s3fs. dask.bag: read_text, over s3fs, and the function of the others.
- Lithops: its localhost backend with aws_s3 storage.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import sys
from typing import Any

from benchmarks._contenders import WORKERS
from benchmarks._csv_contenders import BUCKET, CHUNK, CONTENDERS, DATA, WARM, Answer
from benchmarks._measure import isolated, machine, table
from benchmarks._server import s3_server

OBJECTS = 8
STATIONS, LARGEST = 100, 99_999
BLOCK_LINES = 40_000
_UNITS = {"MB": 10**6, "GB": 10**9}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.csv_s3", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=size, default="1GB", help="bytes of the table, such as 100MB (default: 1GB)")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--turns", type=int, default=3, help="measurements of each contender (default: 3)")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one of them (default: 120)")
    arguments = parser.parse_args()
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.contenders}
    with s3_server(BUCKET):
        written, exact = upload(arguments.size)
        for _ in range(arguments.turns):
            for name, answers in turns.items():
                if answers and "error" in answers[-1]:
                    continue
                print(name, file=sys.stderr, flush=True)
                answers.append(isolated("benchmarks._csv_contenders", [name], arguments.timeout, CONTENDERS[name][1]))
                if "wall" in answers[-1] and answers[-1]["answer"] != exact:
                    answers[-1] = {"error": "wrong answer"}
    report(written, turns)
    return 0


def size(text: str) -> int:
    found = re.fullmatch(r"(\d+)(MB|GB)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 100MB or 1GB")
    return int(found[1]) * _UNITS[found[2]]


def upload(total: int) -> tuple[int, Answer]:
    """Write the table; returns its bytes and the exact answer."""
    import boto3

    client = boto3.client("s3")
    exact: Answer = {}
    written = 0
    for number in range(OBJECTS):
        block, answer = lines(number)
        repeated = max(1, total // OBJECTS // len(block))
        for station, (count, added) in answer.items():
            known = exact.setdefault(station, [0, 0])
            known[0] += repeated * count
            known[1] += repeated * added
        client.put_object(Bucket=BUCKET, Key=f"{DATA}part-{number}.csv", Body=block * repeated)
        client.put_object(Bucket=BUCKET, Key=f"{WARM}part-{number}.csv", Body=block)
        written += repeated * len(block)
    # Else the first contender works while the table is on its way to the disk.
    os.sync()
    return written, exact


def lines(seed: int) -> tuple[bytes, Answer]:
    """Return about a megabyte of CSV, and its answer."""
    drawn = random.Random(seed)
    answer: Answer = {}
    rows = []
    for number in range(BLOCK_LINES):
        station, value = f"station-{drawn.randrange(STATIONS):03d}", drawn.randrange(LARGEST + 1)
        rows.append(f"{number},{station},{drawn.randrange(100)}.{drawn.randrange(100):02d},{value}\n")
        known = answer.setdefault(station, [0, 0])
        known[0] += 1
        known[1] += value
    return "".join(rows).encode(), answer


def report(written: int, turns: dict[str, list[dict[str, Any]]]) -> None:
    print(f"{machine()}, {WORKERS} workers.\n")
    sound = {name: [answer for answer in answers if "wall" in answer] for name, answers in turns.items()}
    failed = {name: answers[-1]["error"] for name, answers in turns.items() if answers and "error" in answers[-1]}
    rows = []
    for name in turns:
        if name in failed:
            rows.append([name, *["not installed" if "not installed" in failed[name] else "fails"] * 3])
            continue
        wall, cpu = (statistics.median(answer[kind] for answer in sound[name]) for kind in ("wall", "cpu"))
        cells = [f"{wall:.2f} s", f"{written / 1e6 / wall:,.0f} MB/s", f"{cpu:.2f} s"]
        if name != "fanfold" and "fanfold" in turns and "fanfold" not in failed:
            own = {kind: statistics.median(answer[kind] for answer in sound["fanfold"]) for kind in ("wall", "cpu")}
            cells[0] += f" ({wall / own['wall']:.2f}x)"
            cells[2] += f" ({cpu / own['cpu']:.2f}x)"
        rows.append([name, *cells])
    title = f"CSV of {written / 1e6:,.0f} MB on S3, chunks of {CHUNK >> 20} MiB"
    print(table([title, "wall", "speed", "CPU"], rows), end="\n\n")
    print("\n".join(f"- {name}: {error}." for name, error in failed.items()))


if __name__ == "__main__":
    sys.exit(main())
