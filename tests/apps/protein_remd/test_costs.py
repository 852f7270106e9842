"""What a campaign has taken: noted by each driver, beside rounds that are the same however long they took."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from apps.protein_remd import planning
from apps.protein_remd.campaign import Campaign
from apps.protein_remd.costs import COSTS, LET_GO, Spent, billed, cpu_clock, read_spent, spent_figures, spent_rows
from apps.protein_remd.engines import Schedule
from apps.protein_remd.params import MD, Ladder, Params
from apps.protein_remd.system import System
from core import FunctionExecutor, open_storage
from tests.apps.protein_remd.conftest import HARMONIC

SMALL = Params(system=System(engine="harmonic", dof=4), ladder=Ladder(temperatures=(300.0, 400.0)))
CLUSTER = ("--compute", "slurm://", "--workers", "64", "--storage", "file:///shared/fanfold")
PRICED = ("--compute", "lambda://f", "--storage", "s3://bucket/fanfold")
SPENT = Spent(50, 100.0, 2.0, 150.0, 200.0, 300, 1.25, "2026-01-01")


def test_the_accounts_of_all_drivers_are_added_up(remd, figures, tmp_path):
    remd("run", *HARMONIC, "--rounds", "3", "--output", "a")
    first = read_spent(open_storage(str(tmp_path / "a")))

    found = figures("resume", "a", "--rounds", "8")["spent"]

    assert (first.rounds, first.invocations) == (3, 9)
    assert (found["rounds"], found["invocations"]) == (8, 24)
    assert found["segment_seconds"] > first.segment_seconds > 0
    assert found["wall_seconds"] > first.wall_seconds > 0
    assert len(list((tmp_path / "a" / COSTS).iterdir())) == 2


def test_a_driver_that_is_interrupted_leaves_its_account(remd, tmp_path, monkeypatch):
    advance = Campaign.advance

    def stopped(self):
        if self.round_number == 2:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(Campaign, "advance", stopped)

    assert remd("run", *HARMONIC, "--rounds", "5", "--output", "a") == 130

    assert read_spent(open_storage(str(tmp_path / "a"))).rounds == 2


def test_the_report_tells_time_and_cost_and_how_much_of_the_run_they_are_of(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "3", "--output", "a")
    (account,) = (tmp_path / "a" / COSTS).iterdir()
    known = json.loads(account.read_text())
    account.write_text(json.dumps({**known, "rounds": 2}))

    assert remd("report", "a") == 0

    report = (tmp_path / "a" / "report.html").read_text()
    assert "Time and cost" in report
    assert "of 2 of 3 rounds: others left no account" in report


def test_a_damaged_account_is_passed_over(tmp_path):
    storage = open_storage(f"memory://{tmp_path.name}")
    storage.put(f"{COSTS}1.json", json.dumps(asdict(SPENT)).encode())
    for number, data in enumerate((b"", b"[]", b"{}", b'{"rounds": "many"}', b"\xff")):
        storage.put(f"{COSTS}2-{number}.json", data)

    assert read_spent(storage) == SPENT


def test_speed_and_overhead_follow_from_what_was_taken():
    params = replace(SMALL, md=MD(steps=1000, timestep=2.0))

    found = spent_figures(SPENT, params)

    assert found["ns_per_replica"] == pytest.approx(0.1)
    assert found["ns_per_day_and_replica"] == pytest.approx(0.1 / 100 * 86400)
    assert found["steps_per_cpu_second"] == pytest.approx(300 * 1000 / 150)
    assert found["overhead"] == pytest.approx(0.25)
    assert dict(spent_rows(found, 50))["Time"] == "100 s"


def test_a_price_is_told_with_its_date_and_where_there_is_none_that_is_told():
    assert billed(asdict(SPENT)) == "about $1.2 for 300 segments, by the list price of 2026-01-01"
    assert "not known" in billed(asdict(replace(SPENT, cost=None)))
    assert billed(asdict(replace(SPENT, cost=0.0))) == "nothing on one's own machines"


def test_one_account_without_a_price_leaves_that_of_the_run_unknown(tmp_path):
    storage = open_storage(f"memory://{tmp_path.name}")
    storage.put(f"{COSTS}1.json", json.dumps(asdict(SPENT)).encode())
    storage.put(f"{COSTS}2.json", json.dumps(asdict(replace(SPENT, cost=None))).encode())

    assert read_spent(storage).cost is None


def test_a_program_that_a_segment_runs_counts_as_its_cpu():
    before = cpu_clock()

    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)

    assert cpu_clock() - before > 0.29


def test_what_an_executor_remembers_does_not_grow_with_the_rounds(tmp_path):
    executor = FunctionExecutor(compute="serial")
    made = Campaign(open_storage(f"memory://{tmp_path.name}"), executor, SMALL)

    for _ in range(2 * LET_GO + 5):
        made.advance()

    assert executor.bill().tasks == 2 * 5
    assert made.ledger.spent().invocations == 2 * (2 * LET_GO + 5)


class Clock:
    """A segment takes 2 s apart from its steps and 0.1 s a step, and sometimes much longer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self._runs = 0.0, 0
        monkeypatch.setattr(planning, "cpu_clock", lambda: self.now)

    def start(self, temperature: float, seed: int) -> None:
        return None

    def run(self, snapshot: None, temperature: float, seed: int, schedule: Schedule) -> None:
        self._runs += 1
        self.now += 2.0 + 0.1 * schedule.steps + 100.0 * (self._runs < 3)


def test_calibration_tells_steps_from_what_a_segment_takes_besides_and_heeds_no_other_load(monkeypatch):
    assert planning.calibrated(Clock(monkeypatch), 300.0) == pytest.approx((2.0, 0.1))


def test_a_dry_run_counts_no_more_workers_than_there_are_replicas(figures, monkeypatch):
    monkeypatch.setattr(planning, "calibrated", lambda warm, temperature: (0.0, 0.01))

    found = figures("run", *HARMONIC, "--rounds", "50", "--steps", "100", "--dry-run", *CLUSTER)

    assert found["wall_seconds"] == pytest.approx(50.0)
    assert found["wall_hours_per_100_rounds"] == pytest.approx(100 / 3600)
    assert found["cpu_hours_per_100_rounds"] == pytest.approx(3 * 100 / 3600)
    assert found["cpu_hours_per_replica"] == pytest.approx(50 / 3600)


def test_a_dry_run_has_a_price_where_one_is_listed(figures, monkeypatch):
    monkeypatch.setattr(planning, "calibrated", lambda warm, temperature: (0.0, 0.01))

    found = figures("run", *HARMONIC, "--rounds", "50", "--steps", "100", "--dry-run", *PRICED)

    assert found["charged"]["cost"] == pytest.approx(found["cost_per_100_rounds"] / 2, rel=1e-3)


def test_a_dry_run_says_so_where_no_price_is_known(remd, capsys):
    assert remd("run", *HARMONIC, "--dry-run", "--compute", "https://example.org", *PRICED[2:]) == 0

    assert "at an unknown price" in capsys.readouterr().out


def test_what_is_written_between_counts_as_data_and_as_requests(figures):
    bare = figures("run", *HARMONIC, "--rounds", "10", "--steps", "100", "--dry-run")["stages"][0]

    full = figures("run", *HARMONIC, "--rounds", "10", "--steps", "100", "--frames", "50", "--dry-run")["stages"][0]

    assert full["puts"] - bare["puts"] == 30
    assert full["bytes_out"] - bare["bytes_out"] == 30 * 2 * 12 * 4
