"""Drivers killed for real, two at a time, in a folder and in a bucket: one history, and the same bytes."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import open_storage
from core.storage import Storage
from tests.apps.frame.conftest import Words, environment, write_application

TEXTS = 40
LINES = 5_000
"""Of each text: some 30 ms of counting, so that there is time to kill."""
HOLDING = """

from pathlib import Path
from time import sleep

counts = count


def count(source: Stored, params: Counting) -> dict[str, int]:
    while source.key.rpartition("/")[2] >= "2" and Path({held!r}).exists():
        sleep(0.01)
    return counts(source, params)
"""
"""Put after the stages: texts from the 13th on (2.txt, after 19.txt) wait while there is a file."""
VARIES = {"manifest.json"}
"""Says when the run was begun."""
numbers = itertools.count()

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with texts that take a while to count."""
    folder, chance = tmp_path_factory.mktemp("corpus") / "texts", random.Random(5)
    folder.mkdir()
    for number in range(TEXTS):
        lines = (" ".join("".join(chance.choices("abcdefgh", k=4)) for _ in range(8)) for _ in range(LINES))
        (folder / f"{number}.txt").write_text("\n".join(lines))
    return folder


def hold_at(folder: Path, held: Path) -> None:
    """Have the application in a folder wait half-way as long as there is a file."""
    stages = folder / "words" / "stages.py"
    stages.write_text(stages.read_text() + HOLDING.format(held=str(held)))


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "words", *arguments, "--workers", "2", "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(), **pipes)


@pytest.fixture
def start(home: Path, texts: Path) -> Iterator[Start]:
    """Return a function that starts the application on larger texts, and does not wait for it."""
    shutil.rmtree(home / "texts")
    shutil.copytree(texts, home / "texts")
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        running.append(started(home, *arguments))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def held(home: Path, tmp_path: Path) -> Path:
    """Return a file: until it is taken away, a run comes no further than its 12th text."""
    file = tmp_path / "held"
    file.touch()
    hold_at(home, file)
    return file


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, home: Path) -> str:
    """Return the address of a run in a folder, and in a bucket of a real S3 server."""
    if request.param == "folder":
        return str(home / "counts")
    request.getfixturevalue("s3_server")
    return f"s3://fanfold/words-{next(numbers)}/counts"


def contents(storage: Storage) -> dict[str, bytes]:
    return {info.key: storage.get(info.key) for info in storage.list() if info.key not in VARIES}


def commits(storage: Storage) -> set[str]:
    return {info.key for info in storage.list(".run/stages/") if info.key.endswith((".out", ".ref"))}


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so, or the process has ended."""
    while process.poll() is None and not there():
        threading.Event().wait(0.01)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def undisturbed(texts: Path) -> dict[str, bytes]:
    """Return what a run leaves that nobody disturbs."""
    write_application(texts.parent)
    _, err = started(texts.parent, "texts", "--output", "whole").communicate()
    whole = contents(open_storage(str(texts.parent / "whole")))
    assert "result.json" in whole, err
    return whole


def test_a_driver_killed_again_and_again_leaves_what_an_undisturbed_one_does(
    start: Start, place: str, undisturbed: dict[str, bytes]
) -> None:
    storage, seen = open_storage(place), set[str]()

    for goal in (1, 9, 20, TEXTS, TEXTS + 1):
        driver = start("texts", "--output", place)
        wait_until(lambda goal=goal: len(commits(storage)) >= goal, driver)
        kill(driver)
        # A driver that comes to its end before it is killed removes them.
        assert seen <= commits(storage) or "result.json" in contents(storage)
        seen = commits(storage)
    last = start("texts", "--output", place)
    out, err = last.communicate()

    assert last.returncode == 0, err
    created = [json.loads(line) for line in err.splitlines() if '"JobCreated"' in line]
    assert sum(event["tasks"] for event in created) <= TEXTS + 3 - len(seen)
    assert json.loads(out) == json.loads(undisturbed["result.json"])
    assert contents(storage) == undisturbed


def test_a_driver_killed_at_any_moment_leaves_a_run_that_can_be_resumed(
    start: Start, place: str, undisturbed: dict[str, bytes]
) -> None:
    chance, storage = random.Random(int(os.environ.get("FANFOLD_TEST_SEED", "11"))), open_storage(place)

    for _ in range(6):
        driver = start("texts", "--output", place)
        wait_until(lambda: next(storage.list(), None) is not None, driver)
        threading.Event().wait(chance.uniform(0.0, 1.5))
        kill(driver)
    driver = start("resume", place)
    _, err = driver.communicate()

    assert driver.returncode == 0, err
    assert contents(storage) == undisturbed


def test_of_two_drivers_the_second_waits_says_who_has_the_run_and_shows_the_same(
    start: Start, place: str, held: Path, undisturbed: dict[str, bytes]
) -> None:
    storage = open_storage(place)
    first = start("texts", "--output", place)
    wait_until(lambda: len(commits(storage)) > 0, first)

    second = start("texts", "--output", place)
    assert second.stderr is not None
    said = second.stderr.readline()
    held.unlink()
    (out, _), (shown, err) = first.communicate(), second.communicate()

    assert (first.returncode, second.returncode) == (0, 0)
    assert re.match(rf"words: process {first.pid} on \S+ has driven run \S+ since \d\d:\d\d.*; waiting for it", said)
    assert "JobCreated" not in err
    assert shown == out
    assert contents(storage) == undisturbed


def test_a_second_driver_takes_over_when_the_first_is_killed(
    start: Start, place: str, held: Path, undisturbed: dict[str, bytes]
) -> None:
    storage = open_storage(place)
    first = start("texts", "--output", place)
    wait_until(lambda: len(commits(storage)) > 4, first)
    second = start("texts", "--output", place)
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()

    kill(first)
    held.unlink()
    second.communicate()

    assert second.returncode == 0
    assert contents(storage) == undisturbed


@pytest.mark.usefixtures("held")
def test_status_tells_who_drives_a_run_how_far_it_is_and_how_to_go_on(start: Start, words: Words, place: str) -> None:
    storage = open_storage(place)
    driver = start("texts", "--output", place)
    wait_until(lambda: len(commits(storage)) > 2, driver)

    live = json.loads(words("status", place, "--json").stdout)
    kill(driver)
    killed = words("status", place)

    assert live["state"] == "running"
    assert f"process {driver.pid} on " in live["holder"]
    assert live["note"].startswith("1/2 count: ")
    assert live["stages"]["count"] > 2
    assert re.search(r"^State +interrupted$", killed.stdout, re.MULTILINE)
    assert f" python -m words resume {place}\n" in killed.stdout


def test_an_interrupted_run_prints_the_line_that_resumes_it(
    start: Start, words: Words, home: Path, held: Path, undisturbed: dict[str, bytes]
) -> None:
    storage = open_storage(str(home / "my counts"))
    driver = start("texts", "--output", "my counts", "--retries", "1")
    wait_until(lambda: len(commits(storage)) > 2, driver)

    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate()
    held.unlink()
    resumed = words("resume", "my counts", "--workers", "1")

    assert driver.returncode == 130
    assert err.endswith(
        "words: interrupted; what was finished is kept. Resume with:\n"
        "  python -m words resume 'my counts' --workers 2 --retries 1\n"
    )
    assert resumed.returncode == 0, resumed.stderr
    assert contents(storage) == undisturbed


def test_a_run_interrupted_before_anything_was_done_leaves_nothing(start: Start, home: Path) -> None:
    driver = start("texts", "--output", "counts/deep", "--workers", "2", "--compute", "process?start=spawn")
    wait_until((home / "counts" / "deep" / "manifest.json").exists, driver)

    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate()

    assert driver.returncode == 130
    if "nothing was written" in err:
        assert not (home / "counts").exists()
    else:
        assert (home / "counts" / "deep" / ".run" / "stages").exists()


DIES = """
import os, runpy, sys
from core.storage.local import LocalStorage

left = int(sys.argv.pop(1))


def counted(step):
    def call(*args, **options):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return step(*args, **options)

    return call


LocalStorage.put, LocalStorage.delete = counted(LocalStorage.put), counted(LocalStorage.delete)
os.replace = counted(os.replace)
sys.argv[0] = "words"
runpy.run_module("words", run_name="__main__", alter_sys=True)
"""
"""Runs the application until it has changed something in storage so many times, and then is gone."""


def test_a_run_that_dies_before_any_step_it_takes_in_storage_is_resumed_to_the_same_bytes(
    home: Path, words: Words
) -> None:
    for number in range(2, 5):
        (home / "texts" / f"{number}.txt").unlink()
    (home / "dies.py").write_text(DIES)
    arguments = ["texts", "--compute", "serial", "--quiet", "--output"]
    assert words(*arguments, "whole").returncode == 0
    whole, differing = contents(open_storage(str(home / "whole"))), []

    for step in itertools.count():
        command = [sys.executable, "dies.py", str(step), *arguments, f"run-{step}"]
        died = subprocess.run(command, cwd=home, env=environment(), capture_output=True, text=True, timeout=120)
        if died.returncode == 0:
            break
        assert died.returncode == 9, died.stderr
        again = words(*arguments, f"run-{step}")
        if again.returncode or contents(open_storage(str(home / f"run-{step}"))) != whole:
            differing.append((step, again.stderr))

    assert differing == []
    assert step > 20
