"""Places that are hostile: no rights, no room, damaged or foreign objects, clocks that are wrong."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from core import open_storage
from tests.apps.protein_remd.conftest import HARMONIC, ROOT, history

LANGEVIN = (*HARMONIC, "--dynamics", "langevin")


def ran(folder: Path, *arguments: str, limit=None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with variables of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "apps.protein_remd", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, timeout=120, preexec_fn=limit
    )  # fmt: skip


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def readable(s3_server, remd, tmp_path) -> str:
    """A run of four rounds in a bucket that its reader cannot write."""
    place = f"s3://readable/{tmp_path.name}"
    assert remd("run", *LANGEVIN, "--rounds", "4", "--output", place) == 0
    return place


KEYLESS = {"AWS_PROFILE": "reader", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


def test_a_run_that_may_only_be_read_is_read(readable, tmp_path):
    storage = open_storage(readable)
    before = {info.key: info.etag for info in storage.list()}

    for command in ("status", "verify"):
        done = ran(tmp_path, command, readable, "--compute", "serial", **KEYLESS)
        assert done.returncode == 0, done.stderr

    assert {info.key: info.etag for info in storage.list()} == before


@pytest.mark.parametrize("command", ["resume", "report", "run"])
def test_a_run_that_may_only_be_read_is_not_written(readable, tmp_path, command):
    storage = open_storage(readable)
    before = {info.key: info.etag for info in storage.list()}
    asked = {"resume": (readable, "--rounds", "6"), "report": (readable,), "run": (*LANGEVIN, "--output", readable)}

    done = ran(tmp_path, command, *asked[command], **KEYLESS)

    print(done.returncode, done.stderr)
    assert done.returncode == 2
    assert f"in {readable} is denied" in one_sentence(done)
    assert {info.key: info.etag for info in storage.list()} == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 KiB that can grow."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system needs root and a kernel that allows it: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("compute", ["serial", "process"])
def test_a_disk_that_fills_up_loses_nothing(remd, small_disk, tmp_path, compute):
    remd("run", *LANGEVIN, "--rounds", "40", "--output", "whole")

    done = ran(tmp_path, "run", *LANGEVIN, "--rounds", "40", "--output", "disk/a", "--compute", compute)

    print(done.stderr)
    assert done.returncode == 1
    assert "No space left on device" in one_sentence(done)
    assert "resume disk/a" in last_line(done)
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert remd("resume", "disk/a") == 0
    assert history(small_disk / "a") == history(tmp_path / "whole")


def test_results_that_do_not_fit_leave_a_run_that_can_be_finished(remd, tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = ran(tmp_path, "run", *LANGEVIN, "--rounds", "5", "--output", "a", "--compute", "serial", limit=limit)

    assert done.returncode == 1
    assert "the results were not written" in one_sentence(done)
    assert not (tmp_path / "a" / "result.json").exists()
    assert remd("resume", "a") == 0


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    changed = {"cut": content[:300], "empty": b"", "flipped": content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]}
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(changed[kind])


@pytest.mark.parametrize("kind", ["cut", "empty", "flipped", "missing"])
@pytest.mark.parametrize("where", ["last", "begun", "earlier", "bundle"])
def test_an_object_that_is_damaged_or_missing_is_named_or_made_again(remd, tmp_path, capsys, where, kind):
    remd("run", *LANGEVIN, "--rounds", "6", "--output", "whole")
    remd("run", *LANGEVIN, "--rounds", "4", "--output", "a")
    if where == "begun":
        (tmp_path / "a" / "rounds" / "00000004.json").unlink()
        (tmp_path / "a" / "result.json").unlink()
    folder = tmp_path / "a" / {"last": "state/00000004", "begun": "state/00000004", "earlier": "state/00000002",
                               "bundle": "bundle"}[where]  # fmt: skip
    victim = next(path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != "setup")
    damage(victim, kind)
    capsys.readouterr()

    status = remd("resume", "a", "--rounds", "6")

    said = capsys.readouterr().err
    print(where, kind, status, said)
    if where == "earlier":
        assert status == 0
        assert remd("verify", "a") == 1 if kind != "missing" else True
        return
    if status == 0:
        assert history(tmp_path / "a") == history(tmp_path / "whole")
    else:
        assert status == 2
        assert victim.name in said or victim.parent.name in said


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("fanfold_run", 99, "there is no run in a"),
        ("app", "apps.montecarlo", "apps.montecarlo"),
        ("params", {"system": {"engine": "gromacs"}}, "gromacs"),
        ("params", {"sistem": {}}, "sistem"),
        ("params", [], "there is no run in a"),
    ],
)
def test_a_manifest_of_something_else_is_refused(remd, tmp_path, capsys, part, value, said):
    remd("run", *HARMONIC, "--rounds", "3", "--output", "a")
    path = tmp_path / "a" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: value}))
    capsys.readouterr()

    for command in ("resume", "status", "report", "analyze", "verify"):
        status = remd(command, "a")
        err = capsys.readouterr().err
        print(command, status, err)
        assert status == 2
        assert said in err
        assert err.count("\n") == 1


def test_files_of_others_in_the_place_of_a_run_are_left_alone(remd, tmp_path, capsys):
    (tmp_path / "a" / "rounds").mkdir(parents=True)
    (tmp_path / "a" / "rounds" / "notes.txt").write_text("mine")

    assert remd("run", *HARMONIC, "--rounds", "3", "--output", "a") == 2

    assert "no run of apps.protein_remd wrote" in capsys.readouterr().err
    assert (tmp_path / "a" / "rounds" / "notes.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "a").rglob("*") if path.is_file()] == ["notes.txt"]


def test_foreign_files_among_those_of_a_run_change_nothing(remd, tmp_path):
    remd("run", *LANGEVIN, "--rounds", "5", "--output", "whole")
    remd("run", *LANGEVIN, "--rounds", "3", "--output", "a")
    for name in ("rounds/notes.txt", "rounds/1.json", "state/00000003/.DS_Store", "state/00000004/Thumbs.db",
                 "verdicts/x", "resumes/x.json", "bundle/README", "bundle/.DS_Store"):  # fmt: skip
        path = tmp_path / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"foreign")

    assert remd("resume", "a", "--rounds", "5") == 0
    assert remd("status", "a") == 0
    for name, content in history(tmp_path / "whole").items():
        assert (tmp_path / "a" / name).read_bytes() == content
