"""A third application, built from the page alone, does what every application does."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apps.frame.conftest import Words

Figures = Callable[..., Any]
TOP = [["the", 10], ["Whale", 5], ["call", 5], ["ishmael", 5], ["me", 5], ["whale", 5], ["Ångström", 5]]


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_command_leaves_a_table_a_report_and_figures(words: Words, home: Path) -> None:
    done = words("texts", "--output", "counts", "--workers", "2")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "      10  the"
    assert done.stdout.endswith("\nReport: counts/report.html\n")
    assert listing(home / "counts") == ["manifest.json", "report.html", "result.json", "words.csv"]
    rows = list(csv.reader(io.StringIO((home / "counts" / "words.csv").read_text())))
    assert rows[:2] == [["word", "times"], ["the", "10"]]
    assert json.loads((home / "counts" / "result.json").read_text())["top"] == TOP


def test_each_run_without_an_output_has_a_folder_of_its_own(figures: Figures, home: Path) -> None:
    figures("texts")
    figures("texts")

    assert len(list((home / "words-runs").glob("*/result.json"))) == 2


def test_a_file_says_what_flags_say_and_flags_win(figures: Figures, home: Path) -> None:
    (home / "counts.toml").write_text(
        'source = "texts"\noutput = "counts"\ntop = 9\n[counting]\nfold-case = true\n[execution]\ncompute = "serial"\n'
    )

    found = figures("--config", "counts.toml", "--top", "2", "--compute", "process")

    assert found["top"] == [["the", 10], ["whale", 10]]
    assert (home / "counts" / "report.html").exists()


def test_a_sub_command_has_its_own_parameters(figures: Figures) -> None:
    assert figures("find", "texts", "--word", "whale") == {
        "word": "whale",
        "texts": {f"texts/{n}.txt": 1 for n in range(5)},
    }


def test_a_dry_run_tells_tasks_requests_and_price_and_does_nothing(figures: Figures, home: Path) -> None:
    plan = figures("texts", "--output", "counts", "--dry-run")

    assert (plan["texts"], plan["dry_run"]) == (5, True)
    assert [(stage["name"], stage["tasks"]) for stage in plan["stages"]] == [("count", 5), ("add", 3)]
    assert plan["charged"]["requests"] == 5 + 5 + 3 + 15
    assert plan["charged"]["cost"] == 0
    assert not (home / "counts").exists()


def test_a_dry_run_for_people_has_a_line_a_stage(words: Words) -> None:
    said = words("texts", "--dry-run").stdout

    assert said.startswith("Dry run: nothing was computed and nothing written.\n")
    assert "\n  count      5" in said


def test_the_same_command_again_shows_what_there_is_and_computes_nothing(
    figures: Figures, words: Words, home: Path
) -> None:
    first = figures("texts", "--output", "counts")
    before = (home / "counts" / "result.json").stat().st_mtime_ns

    again = words("texts", "--output", "counts", "--json")

    assert json.loads(again.stdout) == first
    assert re.fullmatch(
        r"words: run counts was finished before \(begun .*, fanfold .*\); --overwrite .*\n", again.stderr
    )
    assert (home / "counts" / "result.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--top", "3"], "--top 3: run counts was begun with 10"),
        (["--fold-case"], "--counting-fold-case True: run counts was begun with False"),
    ],
)
def test_a_parameter_that_differs_is_refused_by_name(
    figures: Figures, words: Words, arguments: list[str], named: str
) -> None:
    figures("texts", "--output", "counts")

    done = words("texts", "--output", "counts", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"words: {named}; choose another --output, or add --overwrite to start anew\n"


def test_an_input_that_has_changed_is_refused_by_name(figures: Figures, words: Words, home: Path) -> None:
    figures("texts", "--output", "counts")
    (home / "texts" / "3.txt").write_text("the end\n")

    done = words("texts", "--output", "counts")

    assert done.returncode == 2
    assert f"input file://{home}/texts/3.txt has changed" in done.stderr


def test_a_run_is_replaced_on_demand(figures: Figures) -> None:
    figures("texts", "--output", "counts")

    assert len(figures("texts", "--output", "counts", "--top", "3", "--overwrite")["top"]) == 3


@pytest.mark.parametrize("name", ["words.csv", "report.html", "result.json", "manifest.json", "report-files/mine.png"])
def test_a_file_of_the_users_own_is_never_replaced(figures: Figures, words: Words, home: Path, name: str) -> None:
    mine = home / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("{}")

    done = words("texts", "--output", ".", "--workers", "2")
    untouched = mine.read_text()
    figures("texts", "--output", ".", "--overwrite")

    assert done.returncode == 2
    assert (
        f"words: . has {name.rpartition('/')[0] and 'report-files/' or name}, which no run of words wrote"
        in done.stderr
    )
    assert untouched == "{}"
    assert (home / "result.json").exists()


def test_a_run_in_the_working_folder_leaves_what_is_there_alone(figures: Figures, home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}

    figures("texts", "--output", ".")

    assert {path: path.read_bytes() for path in before} == before


def test_a_run_within_its_own_source_takes_no_result_of_its_own_for_an_input(figures: Figures) -> None:
    first = figures("texts", "--output", "texts/counts")

    assert figures("texts", "--output", "texts/counts") == first
    assert first["texts"] == 5


def test_status_of_a_finished_run_is_known_to_programs(figures: Figures, words: Words) -> None:
    figures("texts", "--output", "counts")

    found = json.loads(words("status", "counts", "--json").stdout)

    assert (found["app"], found["command"], found["state"]) == ("words", "run", "finished")
    assert found["params"]["counting"] == {"fold_case": False, "longest": 40}


def test_a_program_hears_which_stage_begins(words: Words) -> None:
    done = words("texts", "--output", "counts", "--json", "--compute", "serial")

    begun = [json.loads(line) for line in done.stderr.splitlines() if '"StageBegun"' in line]
    assert [(event["name"], event["tasks"], event["done"]) for event in begun] == [
        ("1/2 count", 5, 0),
        ("2/2 add", 3, 0),
    ]
