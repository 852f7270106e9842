"""Drivers and workers killed for real, at any point: the same history, to the bit."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from apps.protein_remd.__main__ import APP
from tests.apps.protein_remd.conftest import HARMONIC, ended, history
from tests.servers.processes import workers_of

ROUNDS = 9
"""Before the first evaluation, since drivers that are killed have begun one each time."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("undisturbed") / "whole"
    command = ["run", *HARMONIC, "--rounds", str(ROUNDS), "--output", str(place), "--compute", "serial"]
    assert APP.main(command) == 0
    return history(place)


def committed(run: Path) -> int:
    return len(list((run / "rounds").glob("*.json"))) if (run / "rounds").exists() else 0


def wait_for(run: Path, goal: int, process) -> None:
    deadline = time.monotonic() + 120
    while committed(run) < goal and not ended(process):
        assert time.monotonic() < deadline


def test_a_driver_killed_again_and_again_leaves_the_history_of_an_undisturbed_one(whole, started, tmp_path):
    rng = random.Random(7)
    goal = 0
    while goal < ROUNDS - 2:
        goal += rng.randint(2, 4)
        driver = started(
            "run", *HARMONIC, "--rounds", str(ROUNDS), "--output", "killed", "--compute", "process", "--workers", "2"
        )
        wait_for(tmp_path / "killed", min(goal, ROUNDS), driver)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()

    last = started("resume", "killed", "--workers", "2")
    said = last.communicate(timeout=120)

    assert last.returncode == 0, said
    assert history(tmp_path / "killed") == whole


def test_workers_killed_while_it_runs_change_nothing(whole, started, tmp_path):
    driver = started(
        "run", *HARMONIC, "--rounds", str(ROUNDS), "--output", "killed", "--compute", "process", "--workers", "2"
    )
    for goal in (2, 4, 6):
        wait_for(tmp_path / "killed", goal, driver)
        below = workers_of(driver.pid)
        if below:
            try:
                os.kill(max(below), signal.SIGKILL)
            except ProcessLookupError:
                pass
    said = driver.communicate(timeout=120)

    assert driver.returncode == 0, said
    assert history(tmp_path / "killed") == whole


def test_two_resumes_at_once_make_one_history(whole, started, tmp_path, remd):
    remd("run", *HARMONIC, "--rounds", "2", "--output", "both")

    both = [started("resume", "both", "--rounds", str(ROUNDS), "--workers", "1") for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert history(tmp_path / "both") == whole
