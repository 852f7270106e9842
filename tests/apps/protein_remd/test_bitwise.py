"""Runs that give up repeating to the bit for several threads, and runs that are not gone on with otherwise."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

FEW = ("--temperatures", "300,350", "--steps", "10")


def test_threads_make_a_run_that_says_that_its_bits_do_not_repeat(remd, capsys, tmp_path):
    few = ("--temperatures", "300,350", "--steps", "10", "--rounds", "2", "--output", "a")

    assert remd("run", "--threads", "2", "--no-bitwise", *few) == 0

    assert "gave up repeating to the bit" in capsys.readouterr().err
    found = json.loads((tmp_path / "a" / "manifest.json").read_text())["found"]
    assert (found["threads"], found["bitwise"]) == (2, False)
    assert found["version"].endswith("CPU platform, 2 threads")
    assert "gave up repeating to the bit" in (tmp_path / "a" / "report.html").read_text()
    assert remd("verify", "a") == 0
    said = capsys.readouterr()
    assert "0 segments computed again" in said.out
    assert "segments are not computed again" in said.err


def test_a_run_without_repeatable_bits_says_that_a_lost_state_cannot_be_computed_again(remd, capsys, tmp_path):
    remd("run", "--no-bitwise", *FEW, "--rounds", "1", "--output", "a")
    state = next((tmp_path / "a" / "state" / "00000001").iterdir())
    record = tmp_path / "a" / "rounds" / "00000001.json"
    # As if it had been computed in another order.
    record.write_text(record.read_text().replace(state.name[5:21], "0" * 16))
    state.unlink()

    assert remd("resume", "a", "--rounds", "2") == 2

    assert "a run with --no-bitwise computes nothing twice in the same way" in capsys.readouterr().err


@pytest.mark.parametrize("changed", [("--platform", "CPU"), ("--threads", "2", "--no-bitwise"), ("--no-bitwise",)])
def test_a_run_is_not_gone_on_with_on_another_platform_or_with_more_threads(remd, capsys, changed):
    few = ("--temperatures", "300,350", "--steps", "10", "--output", "a")
    remd("run", *few, "--rounds", "1", "--platform", "Reference")

    assert remd("run", *few, "--rounds", "2", *changed) == 2

    assert "was begun with" in capsys.readouterr().err
