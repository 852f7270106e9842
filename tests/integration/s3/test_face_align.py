"""Faces aligned from bucket to bucket, while what they stand on fails."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dlib", reason="needs dlib: pip install '.[faces]'")
cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install '.[faces]'")
pytest.importorskip("skimage", reason="needs the photographs of scikit-image: pip install '.[faces]'")

from apps._frame.manifest import INTERNAL, MANIFEST, STAGES  # noqa: E402
from apps._frame.report import FOLDER  # noqa: E402
from apps.face_align import align, batches, demo  # noqa: E402
from apps.face_align.naming import RESULTS  # noqa: E402
from core import FunctionExecutor, open_storage  # noqa: E402

IMAGES = 40
ROOT = Path(__file__).parents[3]
OUTAGE = 20.0


@pytest.fixture(scope="module")
def source(s3_server: Any) -> str:
    bucket = open_storage("s3://fanfold/faces-in")
    for number in range(IMAGES):
        image = demo.variant(demo.portrait(), angle=0.5 * number - 10)
        bucket.put(f"{number % 3}/{number:02d}.jpg", cv2.imencode(".jpg", image)[1].tobytes())
    bucket.put("cut-off.jpg", cv2.imencode(".jpg", demo.portrait())[1].tobytes()[:3000])
    return "s3://fanfold/faces-in"


@pytest.fixture(scope="module")
def undisturbed(source: str) -> dict[str, bytes]:
    with FunctionExecutor(workers=2) as executor:
        align(source, "s3://fanfold/faces-undisturbed", executor=executor)
    return crops("faces-undisturbed")


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_SECONDS", (0.1, 0.1))


def crops(prefix: str) -> dict[str, bytes]:
    storage = open_storage(f"s3://fanfold/{prefix}")
    keys = (info.key for info in storage.list() if not info.key.startswith((INTERNAL, MANIFEST)))
    return {key: storage.get(key) for key in keys if key not in RESULTS}


def commits(prefix: str) -> int:
    return sum(1 for _ in open_storage(f"s3://fanfold/{prefix}").list(STAGES))


def test_a_faulty_network_changes_no_crop(source: str, undisturbed: dict[str, bytes], proxy: Any) -> None:
    proxy.spoil(0.05)
    option = f"?endpoint={proxy.endpoint}"

    with FunctionExecutor(workers=2) as executor:
        result = align(source + option, f"s3://fanfold/faces-faulty{option}", executor=executor)

    assert proxy.spoiled
    assert result.counts["ok"] == IMAGES
    assert crops("faces-faulty") == undisturbed


def test_twenty_workers_killed_change_no_crop(source: str, undisturbed: dict[str, bytes]) -> None:
    chance, stop, killed = random.Random(5), threading.Event(), []
    target = "faces-killed"

    def kill(executor: Any) -> None:
        seen = 0
        while not stop.wait(0.05) and len(killed) < 20:
            now = commits(target)
            workers = [worker.pid for worker in list(executor._backend._table.workers.values()) if worker.pid]
            if workers and now > seen:
                seen = now
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed.append(now)

    with FunctionExecutor(workers=2) as executor:
        killer = threading.Thread(target=kill, args=(executor,))
        killer.start()
        result = align(source, f"s3://fanfold/{target}", executor=executor)
        stop.set()
        killer.join()

    assert killed
    assert result.counts["ok"] == IMAGES
    assert crops(target) == undisturbed


def test_a_driver_killed_in_a_bucket_is_resumed_by_the_buckets_address(
    source: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    target = "s3://fanfold/faces-resumed"
    command = [sys.executable, "-m", "apps.face_align"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen([*command, source, "--output", target, "--quiet"], env=environment, cwd=tmp_path)
    while not commits("faces-resumed") and started.poll() is None:
        pass
    started.kill()
    started.wait()

    done = subprocess.run(
        [*command, "resume", target, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["status"]["ok"], found["status"]["decode_error"]) == (IMAGES, 1)
    assert crops("faces-resumed") == undisturbed


@pytest.mark.slow
def test_a_server_away_for_twenty_seconds_delays_the_job_alone(
    source: str, undisturbed: dict[str, bytes], s3_server: Any
) -> None:
    target = "faces-outage"

    with FunctionExecutor(workers=2) as executor, ThreadPoolExecutor(1) as other:
        aligned = other.submit(align, source, f"s3://fanfold/{target}", executor=executor)
        while not commits(target):
            pass
        s3_server.stop()
        threading.Event().wait(OUTAGE)
        s3_server.start()  # in the main thread: the server ends with the thread that started it
        result = aligned.result()

    assert result.counts["ok"] == IMAGES
    assert crops(target) == undisturbed


def test_no_secret_is_in_what_a_run_writes_or_logs(source: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fanfold")
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]

    with FunctionExecutor(workers=2) as executor:
        align(source, "s3://fanfold/faces-secret", executor=executor, size=16)

    storage = open_storage("s3://fanfold/faces-secret")
    written = {info.key: storage.get(info.key) for info in storage.list()}
    assert set(RESULTS) - {FOLDER} <= set(written)
    assert [key for key, content in written.items() if secret.encode() in content] == []
    assert secret not in caplog.text
