"""When a campaign stops by itself: the conditions, when they are looked at, and that it stops at the same round."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from apps.protein_remd.campaign import Campaign
from apps.protein_remd.until import Condition, canonical, checkpoints, is_checkpoint, parse
from core import ConfigError
from tests.apps.protein_remd.conftest import HARMONIC, history, published


def test_conditions_are_joined_with_and():
    assert parse(" error < 0.2 and round_trips>=1e1") == (
        Condition("error", "<", 0.2), Condition("round_trips", ">=", 10.0),
    )  # fmt: skip
    assert parse("  ") == ()


def test_a_setting_is_written_in_one_way_and_read_back_as_the_same():
    written = canonical("round_trips  >=10 and error<0.1")

    assert written == "round_trips>=10 and error<0.1"
    assert canonical(written) == written


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("error", "'error' is no condition"),
        ("error<0.2 or halves<3", "no condition"),
        ("error<0.2 and", "'' is no condition"),
        ("error<0.2, halves<3", "'0.2,' is no number|no condition"),
        ("eror<0.2", r"there is no measure 'eror' \(is it 'error'\?\)"),
        ("rounds>100", "there is no measure 'rounds'"),
        ("error==0.2", "no condition|is no number"),
        ("error<nan", "'nan' is no number that error could reach"),
        ("error<inf", "'inf' is no number"),
        ("round_trips>=1_0", "'1_0' is no number"),
        ("error>0.2", "error falls as a campaign converges .*write error<0.2"),
        ("round_trips<10", "round_trips grows as a campaign converges .*write round_trips>=10"),
        ("error<0", "error never falls to that"),
        ("second_eigenvalue<-1", "second_eigenvalue never falls to that"),
        ("second_eigenvalue<1.5", "holds from the beginning"),
        ("round_trips>=0", "holds from the beginning"),
        ("error<0.2 and error<0.1", "has error twice"),
        ("__import__('os')<1", "no condition"),
    ],
)
def test_what_is_no_condition_is_named(text, said):
    with pytest.raises(ConfigError, match=said):
        parse(text)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_fulfils_no_condition(value):
    assert not Condition("error", "<", 0.2).holds({"error": value})
    assert not Condition("round_trips", ">=", 1.0).holds({"round_trips": value})


def test_a_bound_itself_is_reached_only_with_an_equals_sign():
    assert Condition("round_trips", ">=", 3.0).holds({"round_trips": 3})
    assert not Condition("round_trips", ">", 3.0).holds({"round_trips": 3})
    assert Condition("halves", "<=", 3.0).holds({"halves": 3.0})
    assert not Condition("halves", "<", 3.0).holds({"halves": 3.0})


def test_evaluations_grow_apart_so_that_all_together_cost_a_few_times_the_last():
    rounds = list(itertools.takewhile(lambda at: at < 100_000, checkpoints()))

    assert rounds[:6] == [10, 12, 15, 18, 22, 27]
    assert sum(rounds) < 5.5 * rounds[-1]
    assert [at for at in range(1, 30) if is_checkpoint(at)] == [10, 12, 15, 18, 22, 27]


UNTIL = ("--until", "round_trips>=3 and halves<50")


def committed(folder) -> int:
    return len(list((folder / "rounds").iterdir()))


def test_a_campaign_stops_at_the_first_evaluation_at_which_all_conditions_hold(remd, figures, tmp_path, capsys):
    found = figures("run", *HARMONIC, "--rounds", "200", *UNTIL, "--output", "a")
    remd("run", *HARMONIC, "--rounds", str(found["rounds"]), "--output", "plain")

    assert found["rounds"] < 200
    assert is_checkpoint(found["rounds"])
    assert found["complete"]
    assert sum(found["round_trips"]) >= 3
    assert history(tmp_path / "a") == history(tmp_path / "plain")
    capsys.readouterr()
    assert remd("status", "a") == 0
    assert "finished" in capsys.readouterr().out


def test_a_campaign_that_was_killed_at_any_round_stops_at_the_round_of_an_undisturbed_one(remd, tmp_path, monkeypatch):
    remd("run", *HARMONIC, "--rounds", "200", *UNTIL, "--output", "whole")
    last = committed(tmp_path / "whole")
    advance = Campaign.advance
    for stop in (5, last - 1, last):
        name = f"killed-{stop}"

        def stopped(self, stop=stop):
            record = advance(self)
            if record.round_number == stop:
                raise KeyboardInterrupt
            return record

        monkeypatch.setattr(Campaign, "advance", stopped)
        assert remd("run", *HARMONIC, "--rounds", "200", *UNTIL, "--output", name) == 130
        monkeypatch.setattr(Campaign, "advance", advance)

        assert remd("resume", name) == 0

        assert history(tmp_path / name) == history(tmp_path / "whole")
        files = ("result.json", "exchange.csv", "report.html")
        assert published(tmp_path / name, *files) == published(tmp_path / "whole", *files)


def test_a_campaign_that_has_stopped_goes_on_when_more_is_asked_of_it(remd, figures, tmp_path, capsys):
    remd("run", *HARMONIC, "--rounds", "200", *UNTIL, "--output", "a")
    stopped = committed(tmp_path / "a")

    assert remd("resume", "a", "--rounds", "300") == 0
    assert "holds after" in capsys.readouterr().err
    assert committed(tmp_path / "a") == stopped
    assert figures("resume", "a", "--until", "", "--rounds", str(stopped + 2))["rounds"] == stopped + 2


def test_rounds_are_the_most_that_a_campaign_takes_and_that_it_did_not_converge_is_told(remd, figures, capsys):
    found = figures("run", *HARMONIC, "--rounds", "11", "--until", "round_trips>=1000", "--output", "a")

    assert found["rounds"] == 11
    assert found["complete"]
    capsys.readouterr()
    remd("resume", "a")
    said = capsys.readouterr()
    assert "round_trips>=1000 was not reached in 11 rounds" in said.out + said.err


def test_a_bad_condition_ends_the_command_before_anything_is_written(remd, tmp_path, capsys):
    assert remd("run", *HARMONIC, "--until", "eror<0.2", "--output", "a") == 2

    assert "--exchange-until: there is no measure 'eror' (is it 'error'?)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_temperature_alone_has_no_such_measures(remd, capsys):
    arguments = ("--engine", "harmonic", "--dof", "12", "--temperatures", "300", "--rounds", "30")

    assert remd("run", *arguments, "--until", "error<0.2", "--output", "a") == 2

    assert "at least two temperatures" in capsys.readouterr().err


def test_the_evaluations_of_a_run_are_kept_with_it(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "20", "--output", "a")

    kept = sorted((tmp_path / "a" / "verdicts").iterdir())
    assert [path.name for path in kept] == [f"{at:08d}.json" for at in (10, 12, 15, 18)]
    assert json.loads(kept[-1].read_text())["rounds"] == 18
