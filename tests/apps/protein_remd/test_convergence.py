"""The verdict on a campaign: its measures against independent ones, and that it says what would help."""

from __future__ import annotations

import html
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from apps.protein_remd import convergence, evaluations, mbar
from apps.protein_remd.history import History
from apps.protein_remd.science import statistics
from apps.protein_remd.science.units import BOLTZMANN
from apps.protein_remd.until import Condition
from core import ConfigError, open_storage
from tests.apps.protein_remd.conftest import HARMONIC

pytest.importorskip("pymbar", reason="needs pymbar: pip install 'fanfold[remd]'")

LADDER = (300.0, 340.0, 390.0)
DEGREES = 20


def oscillators(rounds: int, *, drift: float = 0.0, moving: bool = True, ladder: tuple[float, ...] = LADDER) -> History:
    """A campaign of independent draws, whose energies drift by a part of their mean; replicas move, or never do."""
    rng = np.random.default_rng(8)
    states = len(ladder)
    scale = BOLTZMANN * np.array(ladder)
    potential = rng.gamma(DEGREES / 2, scale, (rounds, states)) * np.linspace(1, 1 + drift, rounds)[:, None]
    kinetic = rng.gamma(DEGREES / 2, scale, (rounds, states))
    order = [rng.permutation(states) if moving else np.arange(states) for _ in range(rounds)]
    attempted = np.diag(np.full(states - 1, rounds), 1)
    accepted = attempted * 6 // 10 if moving else 0 * attempted
    return History(
        ladder,
        np.array(order),
        potential,
        kinetic,
        attempted,
        accepted,
        (),
        ("a",),
        potential * math.nan,
        potential,
        None,
    )


def test_energies_and_heat_capacities_are_the_exact_ones_within_their_errors():
    found = convergence.measured(oscillators(400))

    for row in found["states"]:
        exact = 0.5 * DEGREES * BOLTZMANN
        assert abs(row["heat_capacity"] - exact) < 4 * row["heat_capacity_error"] < 0.5 * exact
        assert abs(row["potential"] - exact * row["temperature"]) < 4 * row["potential_error"]
        for value in row["halves_heat_capacity"]:
            assert value == pytest.approx(exact, rel=0.5)


def test_the_errors_by_mbar_are_those_of_repeated_campaigns():
    exact = -0.5 * DEGREES * math.log(LADDER[-1] / LADDER[0])
    rng = np.random.default_rng(3)
    scale = BOLTZMANN * np.array(LADDER)
    missed, errors = [], []
    for _ in range(60):
        base = oscillators(50)
        potential = rng.gamma(DEGREES / 2, scale, (50, 3))
        history = replace(base, potential=potential, exchanged=potential)
        last = convergence.measured(history, 0)["states"][-1]
        missed.append(last["free_energy"] - exact)
        errors.append(last["free_energy_error"])

    assert abs(np.mean(missed)) < 4 * np.std(missed) / math.sqrt(60)
    assert np.std(missed) == pytest.approx(np.mean(errors), rel=0.4)


def test_the_effective_sample_size_is_that_of_the_weights_that_mbar_gives():
    from pymbar import MBAR

    history = oscillators(100)
    found = convergence.measured(history, 0)

    thinned = history.reduced(every=found["every"])
    solved = MBAR(thinned.transpose(0, 2, 1).reshape(3, -1), np.full(3, thinned.shape[1]))
    by_mbar = solved.compute_effective_sample_number()
    assert [row["effective_samples"] for row in found["states"]] == pytest.approx(by_mbar, rel=1e-6)
    assert found["effective_samples"] == pytest.approx(min(by_mbar), rel=1e-6)
    matrix = solved.compute_overlap()["matrix"]
    assert found["overlap"] == pytest.approx([matrix[0, 1], matrix[1, 2]], rel=1e-6)
    differences = solved.compute_free_energy_differences()
    assert found["error"] == pytest.approx(differences["dDelta_f"][0].max(), rel=1e-6)


def test_mbar_gets_rounds_that_are_spread_over_a_campaign_that_is_too_long_for_it(monkeypatch):
    history = oscillators(400)
    monkeypatch.setattr(convergence, "MOST_ENERGIES", 9 * 200)

    found = convergence.measured(history, 0)

    assert (found["every"], found["samples"]) == (2, 600)
    assert found["halves"] == convergence.measured(history, 0, by_mbar=False)["halves"]


def test_a_long_campaign_that_mixes_has_converged():
    found = convergence.final(oscillators(400))

    assert found["converged"], found["verdict"]
    assert found["verdict"] == "Converged by every check after 400 rounds."


def test_energies_that_drift_are_seen_in_the_halves_and_more_rounds_are_advised():
    found = convergence.measured(oscillators(400, drift=0.5), 0)

    assert not found["converged"]
    assert "'the halves of the run agree' does not hold" in found["verdict"]
    assert "more rounds would help, about 800 in all" in found["verdict"]


def test_a_heat_capacity_that_changes_is_seen_where_the_mean_does_not():
    history = oscillators(400)
    mean = history.potential.mean(axis=0)
    widened = history.potential.copy()
    widened[200:] = mean + 1.8 * (widened[200:] - mean)

    found = convergence.measured(replace(history, potential=widened, exchanged=widened), 0, by_mbar=False)

    (first, second), _, _ = (row["halves_potential"] for row in found["states"])
    assert first == pytest.approx(second, rel=0.1)
    assert found["halves"] > convergence.most_errors(6)


def test_replicas_that_never_move_are_no_converged_campaign_and_a_ladder_is_advised():
    found = convergence.measured(oscillators(100, moving=False))

    assert found["second_eigenvalue"] == pytest.approx(1.0)
    assert "'every pair swaps' does not hold (0.0% of " in found["verdict"]
    assert "'ladder' proposes a ladder" in found["verdict"]


@pytest.mark.parametrize(
    "energies",
    [
        np.full((12, 3), 5.0),
        np.zeros((12, 3)),
        np.random.default_rng(1).normal(0, 1, (12, 3)) * 1e12,
        np.full((12, 3), -1e9) + np.random.default_rng(1).normal(0, 1e-9, (12, 3)),
        np.array([0, 1e5, 2e5]) + np.random.default_rng(1).normal(0, 1, (20, 3)),
        np.array([2e5, 1e5, 0]) + np.random.default_rng(1).normal(0, 1, (20, 3)),
    ],
    ids=["constant", "zero", "huge", "hardly differing", "far apart", "upside down"],
)
def test_energies_that_tell_nothing_end_no_campaign_and_fulfil_no_condition(energies):
    history = replace(oscillators(len(energies)), potential=energies, exchanged=energies)

    found = convergence.final(history)

    assert not found["converged"]
    assert not Condition("error", "<", 0.2).holds(found)


def test_an_error_over_a_gap_in_the_ladder_is_not_known():
    found = convergence.measured(oscillators(100, ladder=(300.0, 330.0, 3000.0)), 0)

    assert found["overlap"][0] > mbar.LEAST_OVERLAP > found["overlap"][1]
    assert [math.isfinite(row["free_energy_error"]) for row in found["states"]] == [True, True, False]
    assert math.isinf(found["error"])


def test_few_rounds_are_too_few_samples_and_as_many_as_it_takes_are_advised():
    found = convergence.measured(oscillators(10))

    failed = {check["name"] for check in found["checks"] if not check["ok"]}
    assert "there are enough samples" in failed
    assert "more rounds would help, about " in found["verdict"]


def test_one_temperature_is_judged_by_its_samples_alone():
    found = convergence.measured(oscillators(200, ladder=(300.0,)))

    assert [check["name"] for check in found["checks"]] == ["the halves of the run agree", "there are enough samples"]


def test_without_mbar_the_verdict_says_so(monkeypatch):
    monkeypatch.setattr(mbar, "find_spec", lambda name: None)

    found = convergence.final(oscillators(400))

    assert "error" not in found
    assert found["verdict"] == "Converged by every check after 400 rounds, as far as can be told without MBAR."
    with pytest.raises(ConfigError, match="--until error<0.2 needs pymbar: pip install"):
        evaluations.check_conditions((Condition("error", "<", 0.2),))


def test_too_few_rounds_have_no_verdict():
    assert convergence.final(oscillators(9)) is None


def test_the_bound_on_differences_lets_chance_pass_as_often_as_it_says():
    most = convergence.most_errors(12)

    assert 1 - (1 - 2 * stats.norm.sf(most)) ** 12 == pytest.approx(convergence.FALSE_ALARMS, rel=0.01)


def test_the_relaxation_time_is_that_of_a_walk_with_this_eigenvalue():
    matrix = np.array([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9]])
    second = statistics.second_eigenvalue(matrix)
    left = [np.linalg.matrix_power(matrix, n)[0] - 1 / 3 for n in (200, 201)]

    assert np.exp(-1 / statistics.relaxation(second)) == pytest.approx(left[1][0] / left[0][0], rel=1e-6)
    assert statistics.relaxation(1.0) == math.inf
    assert statistics.relaxation(-0.2) == 0.0


@pytest.mark.parametrize(
    ("first", "second"), [((3, 40), (11, 40)), ((0, 5), (5, 5)), ((7, 7), (20, 20)), ((1, 9), (60, 400))]
)
def test_the_chance_of_two_shares_is_that_of_fishers_test(first, second):
    table = [[first[0], first[1] - first[0]], [second[0], second[1] - second[0]]]

    assert statistics.fisher(first, second) == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-6)


def test_status_and_report_tell_the_verdict_of_a_run(remd, figures, tmp_path, capsys):
    remd("run", *HARMONIC, "--rounds", "60", "--output", "a")
    capsys.readouterr()

    remd("status", "a")

    said = " ".join(capsys.readouterr().out.split())
    found = figures("resume", "a")["convergence"]
    assert found["rounds"] == 60
    assert found["verdict"] in said
    assert found["verdict"] in html.unescape((tmp_path / "a" / "report.html").read_text())
    assert figures("analyze", "a")["verdict"] == found["verdict"]


def test_status_of_a_run_that_was_killed_tells_the_last_evaluation(remd, figures, tmp_path):
    remd("run", *HARMONIC, "--rounds", "60", "--output", "a")
    for name in ("result.json", "rounds/00000060.json"):
        (tmp_path / "a" / name).unlink()

    assert figures("status", "a")["convergence"]["rounds"] == 51


def test_an_evaluation_knows_nothing_of_later_rounds_and_who_only_reads_keeps_none(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "20", "--output", "a")
    storage = open_storage(str(tmp_path / "a"))
    before = evaluations.evaluation(storage, 12)
    storage.delete(["verdicts/00000012.json"])

    read = evaluations.reached(storage, 12, (Condition("halves", "<", 1e9),), keep=False)
    assert (read, "verdicts/00000012.json" in {info.key for info in storage.list("verdicts/")}) == (True, False)
    again = evaluations.evaluation(storage, 12)

    assert again["rounds"] == 12
    assert again == before


def test_an_evaluation_that_is_damaged_is_made_again(remd, figures, tmp_path):
    until = ("--until", "round_trips>=3 and halves<50 and error<2")
    remd("run", *HARMONIC, "--rounds", "100", *until, "--output", "whole")
    remd("run", *HARMONIC, "--rounds", "11", "--output", "a")
    for at, content in zip((10, 12, 15, 18, 22, 27), (b"", b"[]", b"{}", b'{"rounds": 15}', b"\xff", b""), strict=True):
        (tmp_path / "a" / "verdicts" / f"{at:08d}.json").write_bytes(content)

    assert figures("status", "a")["rounds"] == 11
    found = figures("resume", "a", "--rounds", "100", *until)

    assert found["rounds"] == len(list((tmp_path / "whole" / "rounds").iterdir()))


@pytest.mark.parametrize(
    ("accepted", "attempted", "predicted", "rounds", "said"),
    [
        (0, 1, 0.2, 2, False), (0, 1, 0.0, 2, False), (0, 58, 0.2, 200, False), (0, 59, 0.2, 200, True),
        (0, 5, 0.01, 10, True), (1, 20, 0.0, 40, False), (0, 0, 0.0, 40, False), (2, 200, 0.3, 400, True),
    ],
)  # fmt: skip
def test_a_pair_is_a_bottleneck_by_its_energies_or_beyond_chance(accepted, attempted, predicted, rounds, said):
    assert convergence.is_bottleneck(accepted, attempted, predicted, rounds) == said
