"""Places that are hostile: no room, no rights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.apps.satellite.conftest import Site, noisy
from tests.apps.satellite.test_killed import published
from tests.servers.disks import remount
from tests.servers.held import ROOT

READER = {"AWS_PROFILE": "reader", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


def ran(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "apps.satellite", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=200)


@pytest.fixture
def asked(site: Site) -> tuple[str, ...]:
    """Arguments of a run of nine cells."""
    for date in range(2):
        site.scene(f"s{date}", noisy(date), when=f"2024-06-0{date + 1}T10:00:00Z")
    return "run", "--input", f"{site.folder}/", "--cell", "64"


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("full_at", "told"), [("cells", "cannot write"), ("results", "the results were not written")])
def test_a_disk_that_fills_up_loses_nothing(
    asked: tuple[str, ...], drawing_main: Any, small_disk: Path, tmp_path: Path, full_at: str, told: str
) -> None:
    assert drawing_main(*asked, "--output", tmp_path / "whole")[0] == 0
    cells = size(tmp_path / "whole/cells")
    room = cells // 2 if full_at == "cells" else cells + (size(tmp_path / "whole") - cells) // 2
    remount(small_disk, f"size={room}")

    done = ran(tmp_path, *asked, "--output", "disk/run", "--workers", "2")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert told in done.stderr
    assert "No space left on device" in done.stderr
    assert "resume disk/run" in done.stderr.splitlines()[-1]
    assert not (small_disk / "run/result.json").exists()
    before = {path: path.stat().st_mtime_ns for path in small_disk.glob("run/cells/*/*/done.json")}
    remount(small_disk, "size=64m")
    resumed = ran(tmp_path, "resume", "disk/run", "--workers", "2", "--quiet")
    assert resumed.returncode == 0, resumed.stderr
    assert published(small_disk / "run") == published(tmp_path / "whole")
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_folder_that_may_only_be_read_is_refused_before_any_work(
    asked: tuple[str, ...], main: Any, small_disk: Path, tmp_path: Path, command: str
) -> None:
    remount(small_disk, "size=64m")
    if command == "resume":
        assert main(*asked, "--output", small_disk / "run")[0] == 0
        (small_disk / "run/result.json").unlink()
    remount(small_disk, "ro")

    status, _, err = main(
        *(("resume", small_disk / "run") if command == "resume" else (*asked, "--output", small_disk))
    )

    assert status == 2
    assert "Read-only file system" in err
    assert err.count("\n") == 1


def test_a_bucket_that_may_only_be_read_is_refused_before_any_work(
    asked: tuple[str, ...], s3_server: Any, tmp_path: Path
) -> None:
    place = f"s3://readable/{tmp_path.name}"

    done = ran(tmp_path, *asked, "--output", place, "--compute", "serial", **READER)

    assert done.returncode == 2
    assert place in done.stderr
    assert "denied" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_finished_run_in_a_bucket_that_may_only_be_read_is_queried_and_verified(
    asked: tuple[str, ...], main: Any, s3_server: Any, tmp_path: Path
) -> None:
    place = f"s3://readable/{tmp_path.name}"
    assert main(*asked, "--output", place)[0] == 0

    verified = ran(tmp_path, "verify", "--output", place, **READER)
    queried = ran(tmp_path, "query", "--output", place, "--bbox", "8.9,45,9.1,45.2", "--result", "found", **READER)

    assert verified.returncode == 0, verified.stderr
    assert queried.returncode == 0, queried.stderr
    assert (tmp_path / "found/32632.tif").exists()


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "apps.satellite", *arguments, "--workers", "1"]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def test_one_command_given_twice_at_once_is_one_run(asked: tuple[str, ...], tmp_path: Path) -> None:
    assert ran(tmp_path, *asked, "--output", "whole", "--compute", "serial").returncode == 0

    both = [started(tmp_path, *asked, "--output", "run") for _ in range(2)]
    said = [each.communicate(timeout=250)[1] for each in both]

    assert [each.returncode for each in both] == [0, 0], said
    assert sum("was finished before" in each for each in said) == 1
    assert published(tmp_path / "run") == published(tmp_path / "whole")


def test_another_command_on_a_place_where_one_runs_is_refused(asked: tuple[str, ...], tmp_path: Path) -> None:
    first = started(tmp_path, *asked, "--output", "run")
    while not (tmp_path / "run/manifest.json").exists():
        assert first.poll() is None

    second = ran(tmp_path, *asked, "--output", "run", "--stat", "mean")
    said = first.communicate(timeout=250)[1]

    assert second.returncode == 2
    assert "stat" in second.stderr
    assert second.stderr.count("\n") == 1
    assert first.returncode == 0, said
