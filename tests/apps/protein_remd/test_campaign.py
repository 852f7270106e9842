"""A campaign from the command: what it leaves, that it goes on, and that it is the same however it was run."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from itertools import pairwise

import numpy as np
import pytest

from apps.protein_remd import campaign as driving
from apps.protein_remd import segments
from apps.protein_remd.campaign import Campaign
from apps.protein_remd.engines import Schedule, harmonic
from apps.protein_remd.params import MD, Exchange, Ladder, Output, Params
from apps.protein_remd.planning import doubts
from apps.protein_remd.science.draws import segment_seed
from apps.protein_remd.science.prediction import harmonic_acceptance
from apps.protein_remd.segments import STATE, packed, unpacked
from apps.protein_remd.system import System
from core import FanfoldError, FunctionExecutor, open_storage
from core.storage import process_storage
from tests.apps.protein_remd.conftest import HARMONIC, history, published

KELVIN = 8.31446261815324e-3


def test_the_table_of_exchanges_follows_from_its_own_columns(remd, tmp_path):
    assert remd("run", *HARMONIC, "--rounds", "40", "--output", "a") == 0

    with open(tmp_path / "a" / "exchange.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == (
        "round,lower,upper,replica_lower,replica_upper,T_lower,T_upper,U_lower,U_upper,log_p,draw,accepted".split(",")
    )
    assert [int(row["round"]) for row in rows] == list(range(1, 41))
    at = [0, 1, 2]
    for row in rows:
        low, up = int(row["lower"]), int(row["upper"])
        assert (low, up) == ((0, 1) if int(row["round"]) % 2 else (1, 2))
        assert (int(row["replica_lower"]), int(row["replica_upper"])) == (at[low], at[up])
        cold, hot = float(row["T_lower"]), float(row["T_upper"])
        log_p = (1 / (KELVIN * cold) - 1 / (KELVIN * hot)) * (float(row["U_lower"]) - float(row["U_upper"]))
        assert float(row["log_p"]) == pytest.approx(log_p, rel=1e-12)
        assert (row["accepted"] == "True") == (float(row["log_p"]) >= 0 or math.log(float(row["draw"])) < log_p)
        if row["accepted"] == "True":
            at[low], at[up] = at[up], at[low]


def test_reduced_potentials_are_grouped_by_the_state_that_was_sampled(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "30", "--output", "a")

    found = np.load(tmp_path / "a" / "u_kn.npz")
    assert found["temperatures"].tolist() == [300.0, 350.0, 410.0]
    assert found["N_k"].tolist() == [30, 30, 30]
    energy = found["u_kn"] * KELVIN * found["temperatures"][:, None]
    assert energy[1] == pytest.approx(energy[0], rel=1e-12)
    first = json.loads((tmp_path / "a" / "rounds" / "00000001.json").read_text())
    assert energy[0][[0, 30, 60]] == pytest.approx([one["potential"] for one in first["segments"]], rel=1e-12)


def test_energies_and_acceptances_are_the_exact_ones(figures):
    found = figures("run", *HARMONIC, "--rounds", "200", "--output", "a")

    for state in found["states"]:
        exact = 6 * KELVIN * state["temperature"]
        assert abs(state["potential"] - exact) < 4 * state["potential_error"]
        assert abs(state["kinetic_temperature"] - state["temperature"]) < 4 * state["kinetic_temperature_error"]
    for pair in found["pairs"]:
        exact = harmonic_acceptance(12, pair["lower"], pair["upper"])
        assert abs(pair["acceptance"] - exact) < 4 * math.sqrt(exact * (1 - exact) / pair["attempted"])
        assert pair["predicted"] == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("workers", ["1", "2", "4"])
def test_the_history_is_the_same_for_any_number_of_workers(remd, tmp_path, workers):
    remd("run", *HARMONIC, "--rounds", "12", "--frames", "250", "--energies", "100", "--output", "serial")
    remd(
        "run", *HARMONIC, "--rounds", "12", "--frames", "250", "--energies", "100", "--output", "parallel",
        "--compute", "process", "--workers", workers,
    )  # fmt: skip

    assert history(tmp_path / "parallel") == history(tmp_path / "serial")
    for name in ("exchange.csv", "u_kn.npz", "result.json"):
        assert (tmp_path / "parallel" / name).read_bytes() == (tmp_path / "serial" / name).read_bytes()


def test_a_campaign_stopped_after_every_round_is_one_that_was_not_stopped(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "4", "--output", "whole")
    remd("run", *HARMONIC, "--rounds", "1", "--output", "parts")

    for rounds in range(2, 5):
        assert remd("resume", "parts", "--rounds", str(rounds)) == 0

    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    names = ("exchange.csv", "exchange.parquet", "u_kn.npz", "result.json", "report.html")
    assert published(tmp_path / "parts", *names) == published(tmp_path / "whole", *names)


def test_a_run_that_was_extended_and_stopped_goes_on_to_what_was_asked_for_last(remd, tmp_path, monkeypatch, capsys):
    remd("run", *HARMONIC, "--rounds", "3", "--output", "a")
    advance = Campaign.advance

    def stopped(self):
        if self.round_number == 5:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(Campaign, "advance", stopped)
    assert remd("resume", "a", "--rounds", "8") == 130
    assert "resume a" in capsys.readouterr().err
    assert not (tmp_path / "a" / "result.json").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    assert remd("resume", "a") == 0

    assert json.loads((tmp_path / "a" / "result.json").read_text())["rounds"] == 8


def test_fewer_rounds_than_are_committed_are_refused(remd, capsys):
    remd("run", *HARMONIC, "--rounds", "5", "--output", "a")
    capsys.readouterr()

    assert remd("resume", "a", "--rounds", "3") == 2

    assert "run a has 5 committed rounds already" in capsys.readouterr().err


def small(**options) -> Params:
    return Params(
        system=System(engine="harmonic", dof=5, dynamics="langevin"),
        ladder=Ladder(temperatures=(300.0, 350.0, 410.0)),
        **options,
    )


def campaign(params: Params, name: str, **options) -> Campaign:
    return Campaign(open_storage(f"memory://{name}"), FunctionExecutor(compute="serial"), params, **options)


def test_chained_segments_are_as_many_single_ones(tmp_path):
    params = small(md=MD(steps=40, steps_per_invocation=120), output=Output(energies=20, frames=40))
    made = campaign(params, tmp_path.name)

    record = made.advance()

    oscillators = harmonic.open_system(harmonic.prepare(params.system, params.md))
    snapshot = oscillators.start(300.0, segment_seed(1, 0, 0))
    singles = []
    for number in range(3):
        singles.append(oscillators.run(snapshot, 300.0, segment_seed(1, 0, 1, number), Schedule(40, 20, 40)))
        snapshot = singles[-1].snapshot
    first = record.segments[0]
    found = unpacked(open_storage(f"memory://{tmp_path.name}").get(first.frames["key"]), "frames")
    assert found["energies"].tolist() == [row for single in singles for row in single.energies.tolist()]
    assert found["frames"].tolist() == [frame for single in singles for frame in single.frames.tolist()]
    assert (first.potential, first.kinetic) == (singles[-1].potential, singles[-1].kinetic)
    assert (found["energies"].shape, found["frames"].shape) == ((6, 2), (3, 5))


def test_a_round_asks_as_much_of_the_storage_after_sixty_as_after_ten(tmp_path):
    made = campaign(small(exchange=Exchange(rounds=200)), tmp_path.name)
    asked = []
    for _ in range(60):
        before = made._storage.requests
        made.advance()
        asked.append(made._storage.requests - before)

    assert asked[9] == asked[59]


def test_a_round_lists_nothing_whatever_states_are_kept(tmp_path, monkeypatch):
    made = campaign(small(output=Output(states=3)), tmp_path.name)
    made.advance()
    listed = []
    monkeypatch.setattr(type(made._storage), "list", lambda self, *given, **more: listed.append(given) or iter(()))

    for _ in range(5):
        made.advance()

    assert listed == []


def test_a_run_that_another_took_over_is_not_driven_on(tmp_path):
    def taken_over(note):
        raise FanfoldError(f"taken over at {note}")

    made = campaign(small(), tmp_path.name, check=taken_over)

    with pytest.raises(FanfoldError, match="taken over at round 1 of 40"):
        made.advance()
    assert made.round_number == 0


def test_a_small_state_travels_with_its_segment_and_a_large_one_is_read_where_it_is(tmp_path, monkeypatch):
    asked = {}
    for size in (0, 8 << 10):
        monkeypatch.setattr(segments, "CARRIED", size)
        made = campaign(small(), f"{tmp_path.name}-{size}")
        made.advance()
        workers = process_storage(made._storage.address)
        before = workers.requests
        made.advance()
        asked[size] = workers.requests - before

    assert asked == {0: 3 + 3, 8 << 10: 3}
    whole, carried = (open_storage(f"memory://{tmp_path.name}-{size}") for size in asked)
    names = sorted(info.key for info in whole.list(STATE))
    assert [carried.get(name) for name in names] == [whole.get(name) for name in names]


def test_short_segments_share_an_invocation_and_long_ones_have_their_own(tmp_path, monkeypatch):
    sizes = {}
    for seconds in (1e9, 1e-9):
        monkeypatch.setattr(driving, "INVOCATION", seconds)
        made = campaign(small(), f"{tmp_path.name}-{seconds}")
        sent = sizes.setdefault(seconds, [])
        run = made._executor.map
        made._executor.map = lambda *args, sent=sent, run=run, **options: (
            sent.append(options["batch_size"]) or run(*args, **options)
        )
        for _ in range(3):
            made.advance()

    assert sizes == {1e9: [1, 3, 3], 1e-9: [1, 1, 1]}


def test_states_between_are_let_go_of_where_that_is_asked_for(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "7", "--states", "3", "--output", "a")

    assert sorted(path.name for path in (tmp_path / "a" / "state").iterdir() if any(path.iterdir())) == [
        "00000003", "00000006", "00000007",
    ]  # fmt: skip


def test_a_campaign_that_keeps_few_states_goes_on_after_any_round(remd, tmp_path):
    few = (*HARMONIC, "--dynamics", "langevin", "--states", "3")
    remd("run", *few, "--rounds", "7", "--output", "whole")
    remd("run", *few, "--rounds", "1", "--output", "parts")

    for rounds in range(2, 8):
        assert remd("resume", "parts", "--rounds", str(rounds)) == 0

    assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_a_segment_left_by_a_driver_that_ended_is_not_run_again(tmp_path, monkeypatch):
    params = small()
    whole = campaign(params, f"{tmp_path.name}-whole")
    expected = [whole.advance() for _ in range(3)]
    halted = campaign(params, tmp_path.name)
    halted.advance()
    monkeypatch.setattr(halted, "_commit", lambda record: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        halted.advance()

    again = campaign(params, tmp_path.name)
    records = [again.advance(), again.advance()]

    assert records == expected[1:]
    assert again.ledger.invocations == 3


def test_what_another_driver_has_committed_holds(tmp_path):
    params = small()
    first, second = campaign(params, tmp_path.name), campaign(params, tmp_path.name)

    records = [first.advance(), second.advance(), second.advance(), first.advance()]

    assert records[0] == records[1]
    assert records[2] == records[3]


def test_all_pairs_are_tried_with_gibbs(figures):
    found = figures("run", *HARMONIC, "--scheme", "gibbs", "--sweeps", "2", "--rounds", "5", "--output", "a")

    assert [pair["attempted"] for pair in found["pairs"]] == [10, 10]


def test_an_explicit_ladder_is_kept_to_the_digit(figures):
    found = figures("run", *HARMONIC[:4], "--temperatures", "300.1,333.3333333333333,400", "--rounds", "1")

    assert [state["temperature"] for state in found["states"]] == [300.1, 333.3333333333333, 400.0]


def test_a_ladder_by_acceptance_has_as_many_temperatures_as_it_takes(figures):
    found = figures("run", *HARMONIC[:4], "--acceptance", "0.6", "--rounds", "1", "--output", "a")

    exact = [harmonic_acceptance(12, pair["lower"], pair["upper"]) for pair in found["pairs"]]
    assert min(exact) > 0.55
    ladder = [state["temperature"] for state in found["states"]]
    assert (ladder[0], ladder[-1]) == (300.0, 500.0)
    assert all(low < high for low, high in pairwise(ladder))


def test_a_pilot_proposes_a_ladder_and_leaves_nothing(figures, tmp_path):
    found = figures("ladder", *HARMONIC, "--rounds", "60")

    assert found["proposed"][0] == 300.0
    assert found["proposed"][-1] == 410.0
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_steps_and_tasks_and_writes_nothing(figures, tmp_path):
    found = figures("run", *HARMONIC, "--rounds", "99", "--steps", "10000", "--dry-run")

    assert (found["steps"], found["stages"][0]["tasks"]) == (99 * 3 * 10000, 297)
    assert list(tmp_path.iterdir()) == []


def test_workers_of_another_version_are_refused_and_taken_with_force(tmp_path, monkeypatch):
    params = small()
    campaign(params, tmp_path.name).advance()
    setup = driving.read_setup(open_storage(f"memory://{tmp_path.name}"))
    monkeypatch.setattr(driving, "read_setup", lambda storage: driving.replace(setup, version="numpy 1.0"))

    with pytest.raises(driving.ConfigError, match="workers have numpy .*, and the run was begun with numpy 1.0"):
        campaign(params, tmp_path.name).advance()
    said = []
    forced = campaign(small(force=True), tmp_path.name, warn=said.append)
    assert forced.advance().round_number == 2
    forced.advance()
    assert [sentence for sentence in said if "the history is not that of one engine" in sentence] == said[:1]


def test_a_processor_with_other_bits_is_told_once(tmp_path, monkeypatch):
    said = []
    made = campaign(small(), tmp_path.name, warn=said.append)
    made._foreign.discard(made.setup.canary)

    made.advance()
    made.advance()

    assert len(said) == 1
    assert "statistically valid, and not bit for bit repeatable" in said[0]


def test_the_published_campaign_is_a_preset_that_flags_win_over(figures):
    found = figures("run", *HARMONIC, "--preset", "talk", "--dry-run")
    fewer = figures("run", *HARMONIC, "--preset", "talk", "--rounds", "40", "--dry-run")

    assert found["steps"] == 99 * 100 * 10_000 * 3
    assert found["stages"][0]["tasks"] == 99 * 3
    assert fewer["stages"][0]["tasks"] == 40 * 3


def test_equal_arrays_are_equal_bytes_in_every_release_of_python():
    arrays = {"x": np.arange(6.0).reshape(2, 3), "U": -1.5}

    data = packed(arrays)

    assert hashlib.sha256(data).hexdigest() == "8d678c5844a1633bd0e11df5a04784136246018b005296691793e458ea7595fd"
    found = unpacked(data, "a")
    assert (found["x"].tolist(), float(found["U"])) == (arrays["x"].tolist(), -1.5)


def test_segments_in_which_velocities_forget_nothing_are_told_and_longer_ones_are_not(remd, capsys):
    arguments = (*HARMONIC, "--dynamics", "langevin", "--friction", "1", "--timestep", "2", "--rounds", "1")

    remd("run", *arguments, "--steps", "100", "--output", "short")
    said = capsys.readouterr().err
    remd("run", *arguments, "--steps", "1000", "--output", "long")

    assert "0.2 ps between exchanges are short against 1/friction = 1 ps" in said
    assert "short against" not in capsys.readouterr().err


def test_the_example_of_a_helix_has_its_ladder_and_as_many_rounds_as_it_takes(figures):
    pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

    found = figures("run", "--example", "helix", "--dry-run")

    assert len(found["temperatures"]) == 6
    assert (found["temperatures"][0], found["temperatures"][-1]) == (280.0, 520.0)
    assert found["steps"] == 40 * 6 * 2500


@pytest.mark.parametrize(
    "given", [("--temperatures", "300", "--rounds", "9"), ("--temperatures", "300,350", "--rounds", "4")]
)
def test_a_pilot_that_could_propose_no_ladder_is_refused_before_it_runs(remd, capsys, monkeypatch, given):
    monkeypatch.setattr(Campaign, "advance", lambda self: pytest.fail("it ran"))

    assert remd("ladder", "--engine", "harmonic", *given) == 2
    assert "a ladder is proposed by at least 2 temperatures and 5 rounds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("engine", "lowest", "said"), [("openmm", 25.0, 1), ("openmm", 273.15, 0), ("harmonic", 25.0, 0)]
)
def test_a_ladder_in_degrees_celsius_is_doubted(engine, lowest, said):
    found = doubts(Params(system=System(engine=engine)), (lowest, 400.0))

    assert len(found) == said
    assert all("25 degrees Celsius are 298.15 K" in sentence for sentence in found)
