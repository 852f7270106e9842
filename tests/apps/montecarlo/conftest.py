from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

from apps.montecarlo.params import Params
from apps.montecarlo.preparation import prepare
from apps.montecarlo.result import Result
from apps.montecarlo.stages import run
from core import FunctionExecutor

CsvWriter = Callable[..., Path]


@pytest.fixture
def write_csv(tmp_path: Path) -> CsvWriter:
    """Write a price file of `rows` rows that rise by a small, uneven step; `edits` replaces whole lines by number."""

    def write(rows: int = 40, edits: dict[int, str] | None = None, header: str = "Date,Close") -> Path:
        lines = [header]
        for row in range(rows):
            price = 100.0 + row + (row % 3) * 0.5
            lines.append(",".join([str(date(2020, 1, 1) + timedelta(days=row)), *[f"{price}"] * header.count(",")]))
        for number, line in (edits or {}).items():
            lines[number - 1] = line
        path = tmp_path / "prices.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture(scope="session")
def forecast() -> Callable[..., Result]:
    """Run a small forecast in this process."""

    def forecast_of(**settings: object) -> Result:
        given: dict[str, object] = {"forecasts": 2000, "days": 40} | settings
        with FunctionExecutor("serial") as executor:
            return run(prepare(Params(**given)), executor)  # type: ignore[arg-type]

    return forecast_of


@pytest.fixture
def main(capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], tuple[int, str, str]]:
    """Run the command line in this process; gives its exit status, standard output and standard error."""
    from apps.montecarlo.__main__ import main as entry

    def call(argv: Sequence[str]) -> tuple[int, str, str]:
        try:
            status = entry(argv)
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call
