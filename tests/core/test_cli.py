from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

import core
from core.cli import doctor
from core.cli import main as cli
from core.cli.doctor import Check
from core.cli.main import chosen_jobs, main, readable_age, readable_size
from core.errors import InputError, NotFound, StorageUnavailable
from core.storage.base import Storage

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_000_000.0
HOUR = 3600.0


@dataclass(frozen=True)
class Job:
    job_id: str
    name: str = "square"
    created: float = NOW - 25 * HOUR
    owner: str = "host:123"
    state: str = "interrupted"
    tasks: int = 10
    done: int = 4
    bytes: int = 1500
    lease_expires: float = NOW - 24 * HOUR
    watchers: int = 0
    problem: str = ""


DEAD = Job("dead")
RECENT = Job("recent", created=NOW - HOUR, lease_expires=NOW - 60)
FINISHED = Job("finished", created=NOW - 90 * HOUR, state="finished", done=10, lease_expires=NOW - 80 * HOUR)
RUNNING = Job("running", created=NOW - 120, state="running", lease_expires=NOW + 30)
JOBS = [DEAD, RECENT, FINISHED, RUNNING]


class Shelf:
    """Stands for the durable jobs in a storage: what is listed, from where, and what was removed."""

    def __init__(self) -> None:
        self.jobs = list(JOBS)
        self.addresses: list[str] = []
        self.removed: list[str] = []
        self.error: Exception | None = None

    def list_jobs(self, storage: Storage) -> list[Job]:
        self.addresses.append(storage.address)
        if self.error is not None:
            raise self.error
        return self.jobs

    def remove_job(self, storage: Storage, job_id: str) -> None:
        self.removed.append(job_id)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shelf:
    shelf = Shelf()
    module = types.ModuleType("core.task.leases")
    module.list_jobs = shelf.list_jobs  # type: ignore[attr-defined]
    module.remove_job = shelf.remove_job  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "core.task.leases", module)
    monkeypatch.setattr(cli.time, "time", lambda: NOW)
    monkeypatch.setenv("FANFOLD_STORAGE", f"file://{tmp_path}")
    monkeypatch.chdir(tmp_path)
    return shelf


class TestJobs:
    def test_lists_the_oldest_first_with_state_lease_progress_and_size(
        self, shelf: Shelf, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["jobs"])

        heads, *rows = capsys.readouterr().out.splitlines()
        assert status == 0
        assert heads.split() == ["JOB", "NAME", "AGE", "OWNER", "STATE", "LEASE", "DONE", "SIZE"]
        assert [row.split()[0] for row in rows] == ["finished", "dead", "recent", "running"]
        assert "interrupted" in rows[1]
        assert "1d 1h" in rows[1]
        assert "dead" in rows[1].split("interrupted")[1]
        assert "4/10" in rows[1]
        assert "1.5 kB" in rows[1]
        assert "alive, 30s left" in rows[3]

    def test_prints_one_json_object(self, shelf: Shelf, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        main(["jobs", "--json"])

        answer = json.loads(capsys.readouterr().out)
        assert answer["storage"] == f"file://{tmp_path}"
        assert answer["jobs"][3]["job_id"] == "running"
        assert answer["jobs"][3]["lease_expires"] == RUNNING.lease_expires

    def test_says_when_there_are_none(self, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
        shelf.jobs = []

        assert main(["jobs"]) == 0
        assert capsys.readouterr().out.startswith("no durable jobs in file://")

    def test_a_storage_that_was_never_used_has_no_jobs(self, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
        shelf.error = NotFound("there is no such folder")

        assert main(["jobs"]) == 0
        assert "no durable jobs" in capsys.readouterr().out

    def test_the_flag_names_another_storage(self, shelf: Shelf, tmp_path: Path) -> None:
        main(["jobs", "--storage", f"file://{tmp_path}/other"])

        assert shelf.addresses == [f"file://{tmp_path}/other"]

    def test_without_configuration_looks_where_jobs_go_by_default(
        self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("FANFOLD_STORAGE")
        monkeypatch.setenv("FANFOLD_STATE_DIR", str(tmp_path / "state"))

        main(["jobs"])

        assert shelf.addresses == [f"file://{tmp_path}/state/storage"]

    def test_a_storage_that_does_not_answer_is_a_failure(
        self, shelf: Shelf, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shelf.error = StorageUnavailable("the disk is on fire")

        assert main(["jobs"]) == 1
        assert capsys.readouterr().err == "fanfold: the disk is on fire\n"

    def test_an_unknown_kind_of_storage_is_wrong_use(self, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["jobs", "--storage", "moon://base"]) == 2
        assert "moon" in capsys.readouterr().err

    def test_ctrl_c_is_status_130(self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(storage: Storage) -> list[Job]:
            raise KeyboardInterrupt

        monkeypatch.setattr(sys.modules["core.task.leases"], "list_jobs", interrupted)

        assert main(["jobs"]) == 130


ABANDONED = """
import os, sys
from core import FunctionExecutor
executor = FunctionExecutor(compute="serial", storage=sys.argv[1], durable=True)
futures = executor.map(abs, [-1, -2, -3])
futures.results()
print(futures.job_id, flush=True)
os._exit(1)
"""


def test_what_a_dead_driver_left_is_listed_then_removed_for_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"file://{tmp_path}/jobs"
    driver = subprocess.run(
        [sys.executable, "-c", ABANDONED, address], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    job_id = driver.stdout.strip()

    main(["jobs", "--storage", address, "--json"])
    listed = json.loads(capsys.readouterr().out)["jobs"]
    status = main(["clean", "--storage", address, job_id])

    assert [(job["job_id"], job["tasks"], job["done"]) for job in listed] == [(job_id, 3, 3)]
    assert listed[0]["bytes"] > 0
    assert status == 0
    assert [path for path in (tmp_path / "jobs").rglob("*") if path.is_file()] == []


class TestClean:
    def test_removes_jobs_dead_for_a_day(self, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["clean"])

        assert status == 0
        assert shelf.removed == ["finished", "dead"]
        assert capsys.readouterr().out.splitlines()[-1].startswith("removed 2 jobs, 3 kB; 2 jobs left in file://")

    def test_a_shorter_age_removes_more(self, shelf: Shelf) -> None:
        main(["clean", "--older-than", "1m"])

        assert shelf.removed == ["finished", "dead", "recent"]

    def test_all_spares_only_what_is_running(self, shelf: Shelf) -> None:
        main(["clean", "--all"])

        assert shelf.removed == ["finished", "dead", "recent"]

    def test_named_jobs_go_however_recent_and_no_other(self, shelf: Shelf) -> None:
        main(["clean", "recent"])

        assert shelf.removed == ["recent"]

    def test_a_running_job_is_refused_by_name(self, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["clean", "dead", "running"])

        assert (status, shelf.removed) == (2, [])
        assert capsys.readouterr().err == "fanfold: job running is being run by host:123; stop that process first\n"

    def test_an_unknown_job_is_refused(self, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["clean", "nosuch"]) == 2
        assert "there is no job nosuch" in capsys.readouterr().err

    def test_a_dry_run_removes_nothing(self, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
        main(["clean", "--all", "--dry-run"])

        assert shelf.removed == []
        assert "would remove 3 jobs" in capsys.readouterr().out

    def test_prints_one_json_object(self, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
        main(["clean", "--json"])

        answer = json.loads(capsys.readouterr().out)
        assert (answer["removed"], answer["bytes"], answer["dry_run"]) == (["finished", "dead"], 3000, False)

    @pytest.mark.parametrize("flags", [["--older-than", "soon"], ["--older-than", "1h", "--all"]])
    def test_flags_that_make_no_sense_are_wrong_use(self, shelf: Shelf, flags: list[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["clean", *flags])

        assert (caught.value.code, shelf.removed) == (2, [])

    def test_a_driver_known_to_be_gone_leaves_its_job_to_all_before_the_lease_runs_out(self) -> None:
        abandoned = Job("gone", lease_expires=NOW + 1)

        assert chosen_jobs([abandoned], [], None, NOW) == [abandoned]  # type: ignore[list-item]
        assert chosen_jobs([abandoned], [], 60.0, NOW) == []  # type: ignore[list-item]

    def test_results_that_a_driver_may_still_read_are_spared(self) -> None:
        read = Job("read", state="finished", lease_expires=NOW + 1)

        assert chosen_jobs([read], [], None, NOW) == []  # type: ignore[list-item]

    def test_a_job_named_twice_is_removed_once(self) -> None:
        assert chosen_jobs([DEAD], ["dead", "dead"], 0.0, NOW) == [DEAD]  # type: ignore[list-item]

    def test_a_running_job_is_an_input_error(self) -> None:
        with pytest.raises(InputError):
            chosen_jobs([RUNNING], ["running"], 0.0, NOW)  # type: ignore[list-item]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_round_trip(monkeypatch: pytest.MonkeyPatch, bare: Path) -> Path:
    monkeypatch.setattr(doctor, "_try_compute", lambda *_: "answered")
    return bare


class TestDoctor:
    def test_a_working_set_up_passes_a_real_round_trip(self, bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["doctor", "--compute", "serial", "--json"])

        report = json.loads(capsys.readouterr().out)
        assert (status, report["ok"]) == (0, True)
        assert [check["name"] for check in report["checks"]] == ["compute serial"]
        assert f"Python {sys.version.split()[0]} on " in report["checks"][0]["detail"]

    def test_every_section_is_readable(self, no_round_trip: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["doctor"])

        text = capsys.readouterr().out
        for title in ("Software", "Backends and storages", "Configuration", "Tried just now"):
            assert f"{title}" in text
        assert re.search(r"^  compute  container, .*process, serial", text, re.MULTILINE)
        assert re.search(r"^  storage  .*file, .*memory", text, re.MULTILINE)

    def test_settings_say_where_they_came_from(
        self, no_round_trip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (no_round_trip / "fanfold.toml").write_text("retries = 7\n")
        monkeypatch.setenv("FANFOLD_MEMORY", "1GiB")

        main(["doctor", "--json"])

        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["settings"]}
        assert (rows["retries"]["value"], rows["retries"]["origin"]) == (7, "fanfold.toml")
        assert (rows["memory"]["value"], rows["memory"]["origin"]) == (1 << 30, "FANFOLD_MEMORY")
        assert (rows["compute"]["value"], rows["compute"]["origin"]) == ("process", "default")

    def test_a_missing_extra_comes_with_its_command(
        self, no_round_trip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = doctor._version
        monkeypatch.setattr(doctor, "_version", lambda name: None if name == "numba" else known(name))

        status = main(["doctor"])

        line = next(line for line in capsys.readouterr().out.splitlines() if "fanfold[fast]" in line)
        assert re.split(r"\s{2,}", line.strip()) == [
            "numba",
            "pip install 'fanfold[fast]'",
            "compiled kernels for large Monte Carlo jobs",
        ]
        assert status == 0

    def test_a_storage_is_written_read_and_left_empty(
        self, no_round_trip: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["doctor", "--storage", f"file://{no_round_trip}/store"])

        assert status == 0
        assert "1 KiB written, read and deleted" in capsys.readouterr().out
        assert [path for path in (no_round_trip / "store").rglob("*") if path.is_file()] == []

    def test_a_storage_that_cannot_be_written_fails(
        self, no_round_trip: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (no_round_trip / "file").write_text("in the way")

        status = main(["doctor", "--storage", f"file://{no_round_trip}/file"])

        assert status == 1
        assert f"FAILED  storage file://{no_round_trip}/file" in capsys.readouterr().out

    def test_an_unknown_backend_fails(self, bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status = main(["doctor", "--compute", "moon", "--json"])

        check = Check(**json.loads(capsys.readouterr().out)["checks"][0])
        assert (status, check.ok) == (1, False)
        assert "moon" in check.detail

    def test_a_broken_configuration_file_fails_but_the_rest_is_shown(
        self, no_round_trip: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (no_round_trip / "fanfold.toml").write_text("workers = 0\n")

        status = main(["doctor"])

        text = capsys.readouterr().out
        assert status == 1
        assert "FAILED  configuration  fanfold.toml: workers = 0: expected a whole number of at least 1" in text
        assert "python" in text

    def test_an_event_log_that_cannot_be_written_fails(
        self, no_round_trip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FANFOLD_LOG", "absent/events.jsonl")

        assert main(["doctor"]) == 1
        assert "FAILED  event log absent/events.jsonl" in capsys.readouterr().out

    def test_a_misspelt_variable_is_pointed_out(
        self, no_round_trip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FANFOLD_WROKERS", "3")

        assert main(["doctor"]) == 0
        assert "FANFOLD_WROKERS is set but is no setting" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (0.5, "0s"), (59, "59s"), (60, "1m 0s"), (7500, "2h 5m"), (90000, "1d 1h")]
)
def test_ages(seconds: float, text: str) -> None:
    assert readable_age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (4e12, "4 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert readable_size(count) == text


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["jobs", "--nonsense"]])
def test_wrong_use_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: fanfold")


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_version_and_help_are_status_0(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([flag])

    assert caught.value.code == 0
    assert "fanfold" in capsys.readouterr().out


def test_the_package_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "core.cli", "--version"], capture_output=True, text=True, cwd=ROOT)

    assert (done.returncode, done.stdout) == (0, f"fanfold {core.__version__}\n")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    script = "import sys; from core.cli.main import main; sys.exit(main(['jobs', '--json', '--storage', sys.argv[1]]))"

    run = subprocess.run(
        [sys.executable, "-c", script, f"file://{tmp_path}"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    os.close(write)
    assert (run.returncode, run.stderr) == (0, "")
