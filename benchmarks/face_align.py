"""The face aligner beside plain loops, measured in one run over S3: ``python -m benchmarks.face_align``.

A batch of 1000 images of 250 x 250 pixels made from one packaged photograph (3% without a face, 3% with several, 2%
damaged, one of each odd format) lies in a SeaweedFS server of this run. Every flow is a fresh process.

- notebook: the aligner built anew for every image, one process, on a sample.
- warm loop: one process that keeps its aligner, one image after the other.
- fanfold: the application with 1 and 2 workers, from listing to the last commit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from benchmarks._faces import IMAGES, write_batch
from benchmarks._measure import isolated, machine, table
from benchmarks._server import s3_server

BUCKET = "faces"
COLD_REPETITIONS = 5
CORE = ("detect", "landmarks", "warp")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.face_align", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=IMAGES, help=f"size of the batch (default: {IMAGES})")
    parser.add_argument("--sample", type=int, default=20, help="images of the notebook's flow (default: 20)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one measurement (default: 600)")
    arguments = parser.parse_args()
    with s3_server(BUCKET):
        upload(write_batch(arguments.images))

        def flow(name: str, *given: object) -> dict[str, Any]:
            print(name, file=sys.stderr, flush=True)
            answer = isolated("benchmarks._faces", list(map(str, given)), arguments.timeout)
            if "wall" not in answer:
                raise SystemExit(f"{name}: {answer['error']}")
            return answer

        from apps.face_align.models import model_hash
        from apps.face_align.params import Params

        digest = model_hash(Params())
        colds = [isolated("benchmarks._cold_face", [digest], 60.0) for _ in range(COLD_REPETITIONS + 1)][1:]
        notebook = flow("notebook", "plain", BUCKET, arguments.sample, "rebuilt")
        loop = flow("warm loop", "plain", BUCKET, 10**6, "kept")
        apps = {workers: flow(fanfold(workers), "app", BUCKET, workers) for workers in (1, 2)}
    report(notebook, loop, apps, colds)
    return 0


def fanfold(workers: int) -> str:
    return f"fanfold, {workers} worker{'s' * (workers > 1)}"


def upload(files: dict[str, bytes]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import boto3

    client = boto3.client("s3")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: client.put_object(Bucket=BUCKET, Key=f"in/{item[0]}", Body=item[1]), files.items()))


def report(
    notebook: dict[str, Any], loop: dict[str, Any], apps: dict[int, dict[str, Any]], colds: list[dict[str, Any]]
) -> None:
    images = loop["images"]
    print(f"{machine()}.\n")
    slow = notebook["wall"] / notebook["images"]
    rows = [["notebook's flow (sample)", f"{slow * images:,.0f} s", f"{1e3 * slow:.1f} ms", "1"]]
    flows = [("warm loop", loop), *((fanfold(count), answer) for count, answer in apps.items())]
    for name, answer in flows:
        each = answer["wall"] / images
        rows.append([name, f"{answer['wall']:.1f} s", f"{1e3 * each:.1f} ms", f"{slow / each:.1f}x"])
    print(table([f"{images} images over S3", "wall", "an image", "faster"], rows), end="\n\n")
    stages = ["decode", *CORE, "encode", "storage", "start"]
    lines = [
        [fanfold(count), *(f"{1e3 * answer['seconds'].get(stage, 0.0) / images:.2f}" for stage in stages)]
        for count, answer in apps.items()
    ]
    print(table(["CPU, ms an image", *stages], lines), end="\n\n")
    compute = {
        count: sum(answer["seconds"][stage] for stage in ("decode", *CORE, "encode")) for count, answer in apps.items()
    }
    alone = {count: sum(answer["seconds"][stage] for stage in CORE) for count, answer in apps.items()}
    goals = [
        ["compute CPU / (detect + landmarks + warp)", "<= 1.15", f"{compute[1] / alone[1]:.3f}"],
        ["the same / that of the plain loop", "<= 1.15", f"{compute[1] / loop['core']:.3f}"],
        ["wall, 2 workers / warm loop", "<= 0.6", f"{apps[2]['wall'] / loop['wall']:.2f}"],
        ["notebook / fanfold, 2 workers", ">= 40", f"{slow * images / apps[2]['wall']:.0f}"],
        ["cold worker", "<= 0.4 s", f"{statistics.median(cold['wall'] for cold in colds):.2f} s"],
        ["memory of a worker", "<= 300 MB", f"{max(a['peak_rss'] for a in apps.values()) / 1e6:.0f} MB"],
    ]
    print(table(["", "goal", "measured"], goals), end="\n\n")
    print(f"- Outcomes: {', '.join(f'{n} {c}' for n, c in apps[2]['status'].items() if c)}.")
    print(
        f"- {apps[2]['batches']} batches with 2 workers; one waited {apps[2]['idle']:.2f} s for the other at the end."
    )
    print(f"- Memory after the models are loaded: {max(cold['peak'] for cold in colds) / 1e6:.0f} MB.")


if __name__ == "__main__":
    sys.exit(main())
