"""Swaps before and after a resume: noted beside the records, compared, and flagged beyond chance."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from apps.protein_remd import resumes
from apps.protein_remd.science.exchange import Attempt
from tests.apps.protein_remd.conftest import HARMONIC, history


def played(shares: list[float], length: int, stay: float = 0.0) -> resumes.Accepted:
    """Rounds of one pair that is accepted with one share after the other; of slow ones most say what the last did."""
    rng = np.random.default_rng(5)
    accepted = resumes.Accepted([length * at for at in range(1, len(shares))])
    now = False
    for number in range(length * len(shares)):
        if rng.random() >= stay:
            now = bool(rng.random() < shares[number // length])
        attempts = [Attempt(0, 1, 0, 1, 0.0, 0.5, now), Attempt(0, 2, 0, 2, 0.0, 0.5, True)]
        record = SimpleNamespace(round_number=number + 1, attempts=attempts)
        accepted.look(record)
    return accepted


def test_swaps_that_are_accepted_less_often_since_a_resume_are_flagged():
    (found,) = played([0.5, 0.2], 200).comparisons()

    assert (found.after, found.pair, found.before[1], found.since[1]) == (200, 0, 200, 200)
    assert found.flagged
    (said,) = resumes.warnings([found], (300.0, 350.0))
    assert said.startswith("Swaps between 300 and 350 K were accepted in 55.5% of the")
    assert "before the resume after round 200" in said


def test_swaps_that_are_accepted_as_often_are_not_flagged_however_often_a_run_was_resumed():
    found = played([0.3] * 40, 50).comparisons()

    assert len(found) == 39
    assert not any(one.flagged for one in found)


def test_swaps_that_say_what_the_last_one_did_count_as_fewer():
    shares = [0.45, 0.25]
    quick, slow = played(shares, 400).comparisons()[0], played(shares, 400, stay=0.95).comparisons()[0]

    assert quick.flagged
    assert slow.chance > quick.chance
    assert not slow.flagged


def test_a_resume_is_noted_beside_the_records_which_are_those_of_an_undisturbed_run(remd, figures, tmp_path):
    remd("run", *HARMONIC, "--rounds", "40", "--output", "whole")
    remd("run", *HARMONIC, "--rounds", "20", "--output", "a")

    remd("resume", "a", "--rounds", "40")
    remd("resume", "a")

    assert [path.name for path in (tmp_path / "a" / "resumes").iterdir()] == ["00000020.json"]
    assert not (tmp_path / "whole" / "resumes").exists()
    assert history(tmp_path / "a") == history(tmp_path / "whole")
    assert figures("status", "whole")["resumes"] == []


@pytest.mark.parametrize("command", ["status", "analyze"])
def test_swaps_before_and_after_a_resume_are_told(remd, figures, command):
    if command == "analyze":
        pytest.importorskip("pymbar", reason="needs pymbar: pip install 'fanfold[remd]'")
    remd("run", *HARMONIC, "--rounds", "20", "--output", "a")
    remd("resume", "a", "--rounds", "40")

    found = figures(command, "a")["resumes"]

    assert [(one["after"], one["pair"], one["before"][1], one["since"][1]) for one in found] == [
        (20, 0, 10, 10), (20, 1, 10, 10),
    ]  # fmt: skip


def test_a_run_begun_anew_forgets_where_it_was_taken_up(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "12", "--output", "a")
    remd("resume", "a", "--rounds", "14")

    remd("run", *HARMONIC, "--rounds", "11", "--output", "a", "--overwrite")

    assert not list((tmp_path / "a" / "resumes").glob("*"))
    assert [path.name for path in (tmp_path / "a" / "verdicts").iterdir()] == ["00000010.json"]
