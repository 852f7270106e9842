"""A thousand images aligned from bucket to bucket while workers and drivers are killed, twenty and five times."""

from __future__ import annotations

import csv
import io
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("dlib", reason="needs dlib: pip install '.[faces]'")
pytest.importorskip("cv2", reason="needs OpenCV: pip install '.[faces]'")
pytest.importorskip("skimage", reason="needs the photographs of scikit-image: pip install '.[faces]'")

from apps._frame.manifest import INTERNAL, MANIFEST, STAGES
from apps._frame.report import FOLDER
from apps.face_align.naming import RESULTS
from benchmarks._faces import write_batch
from core import open_storage

ROOT = Path(__file__).parents[3]
IMAGES = 1000
DRIVERS, WORKERS = 5, 20
"""How many of each are killed."""

DRIVER = """
import logging, sys
from apps.face_align import align, aligning, batches
from core import FunctionExecutor

logging.basicConfig()
logging.getLogger("fanfold").setLevel(logging.DEBUG)
batches.BATCH_SECONDS, aligning.COMMIT_SECONDS = (0.5, 0.5), 0.5
with FunctionExecutor(workers=2) as executor:
    align(sys.argv[1], sys.argv[2], executor=executor)
"""


@pytest.fixture(scope="module")
def source(s3_server):
    storage = open_storage("s3://fanfold/thousand")
    files = write_batch(IMAGES)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda entry: storage.put(*entry), files.items()))
    return "s3://fanfold/thousand", len(files)


def start(source, target, log):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", DRIVER, source, target], env=environment, stdout=log, stderr=log)


def children(pid):
    try:
        return [
            int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except FileNotFoundError:
        return []


def workers_of(driver):
    """Processes of the zygote, the one child of a driver."""
    return [worker for forkserver in children(driver.pid) for worker in children(forkserver)]


def commits(storage):
    return {info.key for info in storage.list(STAGES)}


def wait_for_progress(storage, driver, before):
    """Return the commits there are when there is one more than `before`, None if the driver ended first."""
    while driver.poll() is None:
        now = commits(storage)
        if now - before:
            return now
        threading.Event().wait(0.05)
    return None


def contents(storage):
    return {info.key: storage.get(info.key) for info in storage.list()}


def crops_of(found):
    own = (INTERNAL, MANIFEST)
    return {key: data for key, data in found.items() if key not in RESULTS and not key.startswith(own)}


def manifest_of(found):
    """Rows without the time that each took."""
    rows = csv.DictReader(io.StringIO(found["manifest.csv"].decode()))
    return [{name: value for name, value in row.items() if name != "ms"} for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_workers_and_five_drivers_killed_change_nothing(source, tmp_path):
    address, count = source
    log = (tmp_path / "log").open("ab")
    assert start(address, "s3://fanfold/thousand-whole", log).wait() == 0
    chance = random.Random(11)
    victims = ["worker"] * WORKERS + ["driver"] * DRIVERS
    chance.shuffle(victims)
    storage = open_storage("s3://fanfold/thousand-killed")
    seen = set()

    driver = start(address, storage.address, log)
    for victim in victims:
        found = wait_for_progress(storage, driver, seen)
        assert found is not None, f"the job ended before its next {victim} could be killed"
        seen = found
        if victim == "driver":
            driver.kill()
            driver.wait()
            driver = start(address, storage.address, log)
        else:
            while not (pids := workers_of(driver)):
                assert driver.poll() is None
                threading.Event().wait(0.05)
            os.kill(chance.choice(pids), signal.SIGKILL)
    assert driver.wait() == 0

    killed, whole = contents(storage), contents(open_storage("s3://fanfold/thousand-whole"))
    results = set(RESULTS) - {FOLDER}
    assert len(killed) > 0.9 * count
    assert crops_of(killed) == crops_of(whole)
    assert results <= set(killed)
    assert manifest_of(killed) == manifest_of(whole)
    assert len({row["key"] for row in manifest_of(killed)}) == count
    # A worker killed in an upload of parts would leave them where no listing shows them; crops are too small for parts.
    assert not storage.client.list_multipart_uploads(Bucket="fanfold").get("Uploads")
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    log.close()
    assert [key for key, data in killed.items() if secret in data] == []
    assert secret not in (tmp_path / "log").read_bytes()
