"""Places that are hostile: no rights, no room, damaged or foreign objects, clocks that are wrong."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from apps._frame.stored import Stored
from apps.protein_remd.engines import Schedule
from apps.protein_remd.engines.harmonic import Oscillators
from apps.protein_remd.segments import Bundle, Segment, Shared, identity, warm_system
from core import open_storage
from tests.apps.protein_remd.conftest import HARMONIC, ROOT, history
from tests.servers.disks import remount

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

    assert done.returncode == 2
    assert f"in {readable} is denied" in one_sentence(done)
    assert {info.key: info.etag for info in storage.list()} == before


@pytest.mark.parametrize("bucket", ["readable", "nowhere-at-all"])
def test_a_run_that_cannot_begin_says_so_and_leaves_nothing(s3_server, tmp_path, bucket):
    place = f"s3://{bucket}/{tmp_path.name}-new"

    done = ran(tmp_path, "run", *LANGEVIN, "--output", place, "--compute", "serial", **KEYLESS)

    assert done.returncode == 2
    assert place in one_sentence(done)
    assert "nothing was written" in done.stderr or done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compute", ["serial", "process"])
def test_a_disk_that_fills_up_loses_nothing(remd, small_disk, tmp_path, compute):
    remount(small_disk, "size=72k")
    remd("run", *LANGEVIN, "--rounds", "9", "--output", "whole")

    done = ran(tmp_path, "run", *LANGEVIN, "--rounds", "9", "--output", "disk/a", "--compute", compute)

    assert done.returncode == 1
    assert "No space left on device" in one_sentence(done)
    assert "resume disk/a" in last_line(done)
    remount(small_disk, "size=4m")
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
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    changed = {"cut": content[:half], "empty": b"", "flipped": flipped}
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(changed[kind])


@pytest.mark.parametrize("kind", ["cut", "empty", "flipped"])
@pytest.mark.parametrize("where", ["state/00000004", "bundle"])
@pytest.mark.parametrize("committed", [True, False])
def test_an_object_that_is_damaged_is_named(remd, tmp_path, capsys, where, kind, committed):
    remd("run", *LANGEVIN, "--rounds", "4", "--output", "a")
    if not committed:
        (tmp_path / "a" / "rounds" / "00000004.json").unlink()
        (tmp_path / "a" / "result.json").unlink()
    victim = next(path for path in sorted((tmp_path / "a" / where).rglob("*")) if path.is_file())
    damage(victim, kind)
    capsys.readouterr()

    assert remd("resume", "a", "--rounds", "6") == 2

    said = capsys.readouterr().err
    assert (victim.name if "state" in where else victim.parent.name) in said
    assert "is damaged: " in said


def test_a_system_of_which_a_file_is_missing_is_named(remd, tmp_path, capsys):
    remd("run", *LANGEVIN, "--rounds", "4", "--output", "a")
    damage(next((tmp_path / "a" / "bundle").rglob("oscillators.json")), "missing")

    assert remd("resume", "a", "--rounds", "6") == 2

    assert "is damaged: its files are not those that were prepared; begin a new run" in capsys.readouterr().err


@pytest.mark.parametrize("committed", [True, False])
def test_a_state_that_is_missing_is_computed_again(remd, tmp_path, committed):
    remd("run", *LANGEVIN, "--rounds", "6", "--output", "whole")
    remd("run", *LANGEVIN, "--rounds", "4", "--output", "a")
    if not committed:
        (tmp_path / "a" / "rounds" / "00000004.json").unlink()
        (tmp_path / "a" / "result.json").unlink()
    damage(next((tmp_path / "a" / "state" / "00000004").iterdir()), "missing")

    assert remd("resume", "a", "--rounds", "6") == 0

    assert history(tmp_path / "a") == history(tmp_path / "whole")


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


def test_a_late_state_of_a_run_that_was_overwritten_is_not_taken_for_one_of_the_new(remd, tmp_path):
    remd("run", *LANGEVIN, "--rounds", "2", "--seed", "7", "--output", "old")
    remd("run", *LANGEVIN, "--rounds", "3", "--output", "whole")
    remd("run", *LANGEVIN, "--rounds", "1", "--output", "a")
    late = tmp_path / "a" / "state" / "00000002"
    late.mkdir()
    for path in (tmp_path / "old" / "state" / "00000002").iterdir():
        (late / path.name).write_bytes(path.read_bytes())

    assert remd("resume", "a", "--rounds", "3") == 0

    found = history(tmp_path / "a")
    assert {name: found[name] for name in history(tmp_path / "whole")} == history(tmp_path / "whole")


def test_segments_are_the_same_only_if_all_that_they_do_is():
    begun = Stored("", "state/00000001/0001-0.npz", 9, "sha256:1")
    task = Segment(2, 1, 350.0, 1.0, begun)
    shared = Shared(Bundle("harmonic", "b", None), None, 1, 1, Schedule(500))
    others = [
        identity(replace(task, previous=replace(begun, tag="sha256:2")), shared),
        identity(replace(task, previous=None), shared),
        identity(replace(task, scale=1.1), shared),
        identity(replace(task, temperature=351.0), shared),
        identity(replace(task, round_number=3), shared),
        identity(replace(task, replica=2), shared),
        identity(task, replace(shared, seed=2)),
        identity(task, replace(shared, segments=2)),
        identity(task, replace(shared, schedule=Schedule(501))),
        identity(task, replace(shared, bundle=Bundle("harmonic", "c", None))),
    ]

    assert len({identity(task, shared), *others}) == 11
    assert identity(replace(task, previous=replace(begun, address="elsewhere", data=b"1")), shared) == identity(
        task, replace(shared, address="elsewhere")
    )


def test_states_that_workers_of_another_version_left_are_not_taken(remd, tmp_path, monkeypatch, capsys):
    remd("run", *LANGEVIN, "--rounds", "3", "--output", "whole")
    remd("run", *LANGEVIN, "--rounds", "1", "--output", "a")
    sound = Oscillators.__init__

    def other(self, *arguments, **named):
        sound(self, *arguments, **named)
        self.version = "numpy 99"

    monkeypatch.setattr(Oscillators, "__init__", other)
    warm_system.clear()
    capsys.readouterr()
    assert remd("resume", "a", "--rounds", "3") == 2
    assert "workers have numpy 99, and the run was begun with numpy" in capsys.readouterr().err
    assert list((tmp_path / "a" / "state" / "00000002").iterdir())
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    warm_system.clear()

    assert remd("resume", "a", "--rounds", "3") == 0

    found = history(tmp_path / "a")
    assert {name: found[name] for name in history(tmp_path / "whole")} == history(tmp_path / "whole")


def test_files_of_others_among_states_are_not_deleted_with_these(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "2", "--states", "9", "--output", "a")
    foreign = tmp_path / "a" / "state" / "00000002" / "notes.txt"
    foreign.write_text("mine")

    remd("resume", "a", "--rounds", "4", "--states", "9")

    assert [path.name for path in foreign.parent.iterdir()] == ["notes.txt"]


SKEWED = """
import os, time
sound, offset = time.time, float(os.environ["CLOCK_OFFSET"])
time.time = lambda: sound() + offset
"""


def test_drivers_whose_clocks_are_hours_apart_make_one_history(remd, tmp_path):
    remd("run", *LANGEVIN, "--rounds", "9", "--output", "whole")
    (tmp_path / "sitecustomize.py").write_text(SKEWED)
    all_of_them = []
    for each in ("0", "-7200", "7200"):
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "CLOCK_OFFSET": each}
        command = [sys.executable, "-m", "apps.protein_remd", "run", *LANGEVIN, "--rounds", "9", "--output", "both"]
        all_of_them.append(subprocess.Popen([*command, "--compute", "serial"], cwd=tmp_path, env=environment, text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE))  # fmt: skip

    said = [process.communicate(timeout=120) for process in all_of_them]

    assert 0 in [process.returncode for process in all_of_them], said
    assert all(
        process.returncode == 0 or "was taken over" in err for process, (_, err) in zip(all_of_them, said, strict=True)
    )
    assert history(tmp_path / "both") == history(tmp_path / "whole")
