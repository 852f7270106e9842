"""Workers and drivers killed for real: the same crops, and nothing committed done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from apps._frame.manifest import STAGES
from apps.face_align import align, aligning, batches
from apps.face_align.science import images
from core import FunctionExecutor

Batch = Callable[..., Path]
Crops = Callable[[Path], dict[str, bytes]]

DRIVER = """
import sys
from pathlib import Path
from apps.face_align import align, aligning, batches
from core import FunctionExecutor
from tests.apps.face_align.test_killed import commits, held

batches.BATCH_SECONDS = (0.0, 0.0)
aligning.decode = held(lambda: len(commits(Path(sys.argv[2]))) >= int(sys.argv[3]))
with FunctionExecutor("process?start=fork", workers=2) as executor:
    align(sys.argv[1], sys.argv[2], executor=executor)
"""
"""Its tasks wait once there are so many commits: whenever it is killed then, it is half-way."""
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _one_image_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_SECONDS", (0.0, 0.0))


def commits(folder: Path) -> set[str]:
    return {path.name for path in (folder / STAGES / "align").glob("*.out")} if folder.exists() else set()


def held(waits: Callable[[], bool]) -> Callable[..., images.Image]:
    """Return a decoder that waits as long as something is so."""

    def decode(content: bytes, *limits: Any) -> images.Image:
        while waits():
            time.sleep(0.01)
        return images.decode(content, *limits)

    return decode


def test_a_driver_killed_again_and_again_leaves_what_an_undisturbed_one_does(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor, crops_in: Crops
) -> None:
    source, target = batch(24, empty__png=b""), tmp_path / "faces"
    whole = align(source, tmp_path / "whole", executor=serial)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    for goal in (4, 9, 14, 19):
        command = [sys.executable, "-c", DRIVER, source, target, str(goal)]
        driver = subprocess.Popen(command, env=environment, cwd=tmp_path)
        deadline = time.monotonic() + 120
        while len(commits(target)) < goal:
            assert driver.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert len(commits(target)) >= goal
    # The workers of a killed driver end with it, but not at the same instant.
    committed = stable(lambda: commits(target))
    result = align(source, target, executor=serial)

    assert result.pending == 25 - len(committed)
    assert crops_in(target) == crops_in(tmp_path / "whole")
    assert [(row.key, row.status, row.points) for row in result.rows] == [
        (row.key, row.status, row.points) for row in whole.rows
    ]


def stable(look: Callable[[], set[str]]) -> set[str]:
    """What is seen twice in a row, half a second apart."""
    seen = look()
    while not threading.Event().wait(0.5):
        now = look()
        if now == seen:
            return now
        seen = now
    return seen


def test_workers_killed_at_random_change_nothing(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor, crops_in: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = batch(24, empty__png=b"")
    whole = align(source, tmp_path / "whole", executor=serial)
    chance, stop, killed, enough = random.Random(3), threading.Event(), 0, tmp_path / "enough"
    monkeypatch.setattr(aligning, "decode", held(lambda: len(commits(tmp_path / "faces")) > 11 and not enough.exists()))

    def kill(executor: FunctionExecutor) -> None:
        nonlocal killed
        while not stop.wait(0.3) and killed < 8:
            if not commits(tmp_path / "faces"):
                continue  # the workers may not have been started
            pids = [worker.pid for worker in list(executor._backend._table.workers.values()) if worker.pid]  # type: ignore[attr-defined]
            if pids:
                with suppress(ProcessLookupError):  # one has ended
                    os.kill(chance.choice(pids), signal.SIGKILL)
                    killed += 1
                    enough.touch()

    with FunctionExecutor("process?start=fork", workers=2) as executor:
        killer = threading.Thread(target=kill, args=(executor,))
        killer.start()
        result = align(source, tmp_path / "faces", executor=executor)
        stop.set()
        killer.join()

    assert killed
    assert [(row.key, row.status, row.reason) for row in result.rows] == [
        (row.key, row.status, row.reason) for row in whole.rows
    ]
    assert crops_in(tmp_path / "faces") == crops_in(tmp_path / "whole")


def test_an_image_that_ends_every_worker_is_a_row(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_SECONDS", (100.0, 100.0))

    def fatal(content: bytes, *limits: Any) -> images.Image:
        if content == b"poison":
            os._exit(9)
        return images.decode(content, *limits)

    monkeypatch.setattr(aligning, "decode", fatal)

    with FunctionExecutor("process?start=fork", workers=1) as executor:
        result = align(batch(3, poison__png=b"poison"), tmp_path / "faces", executor=executor)

    assert [row.status for row in result.rows] == ["ok", "ok", "ok", "decode_error"]
    assert "ended the worker" in result.rows[3].reason
