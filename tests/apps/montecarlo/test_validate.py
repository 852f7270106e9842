from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from apps.montecarlo import validate
from apps.montecarlo.mapping import on_executor
from apps.montecarlo.science import checks
from apps.montecarlo.validate_params import ValidateParams
from core import FunctionExecutor

Main = Callable[[Sequence[str]], tuple[int, str, str]]


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    with FunctionExecutor("serial") as executor:
        return validate.run(ValidateParams(paths=8192), on_executor(executor))


def test_everything_agrees_with_what_is_known(figures: dict[str, list[dict[str, object]]]) -> None:
    assert [row["what"] for row in figures["checks"] if not row["agrees"]] == []
    assert len(figures["checks"]) == figures["agree"]
    assert {row["against"] for row in figures["checks"]} >= {"lognormal law", "QuantLib 1.44", "stored hash"}


@pytest.mark.slow
def test_another_seed_agrees_too() -> None:
    with FunctionExecutor("serial") as executor:
        found = validate.run(ValidateParams(paths=8192, seed=5), on_executor(executor))

    assert found["agree"] == len(found["checks"])


def test_all_files_are_written(figures: dict[str, object]) -> None:
    files = validate.run_files(figures, ValidateParams(paths=8192))

    assert set(files) == set(validate.RESULTS)


def test_one_table_says_what_was_checked_against_what(main: Main, tmp_path: Path) -> None:
    status, out, _ = main(["validate", "--paths", "1024", "--compute", "serial", "--output", f"{tmp_path}/run"])

    assert status == 0
    assert re.search(r"^  median after 250 days +lognormal law +105\.1271", out, re.M)
    assert "39 of 39 results agree" in out


def test_a_result_that_is_off_ends_with_status_1(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = checks.Finding("a price", "a book", 5.0, 6.0, 0.1)
    monkeypatch.setattr(checks, "CHECKS", {"wrong": lambda paths, seed: [wrong]})

    status, out, _ = main(["validate", "--compute", "serial", "--output", f"{tmp_path}/run", "--json"])

    assert status == 1
    assert json.loads(out)["checks"][0]["agrees"] is False
    assert json.loads(out)["checks"][0]["deviation"] == pytest.approx(10.0)


@pytest.mark.parametrize(("found", "agrees"), [(5.0, True), (5.39, True), (5.41, False), (4.55, True), (4.49, False)])
def test_a_finding_agrees_within_its_errors_and_what_the_method_leaves_out(found: float, agrees: bool) -> None:
    assert checks.Finding("a price", "a book", 5.0, found, 0.1, below=0.1, above=0.0).agrees is agrees
