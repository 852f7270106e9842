"""Data beside the project, which is not part of it, and runs of made-up values."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apps.metabolomics.__main__ import APP
from apps.metabolomics.annotated import Annotated
from tests.apps.metabolomics.made_run import made_run
from tests.apps.metabolomics.planted import write_database, write_dataset


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public test data; tests that need it are skipped without it."""
    beside = Path(__file__).parents[4] / "shared" / "data" / "metabolomics"
    if not beside.is_dir():
        pytest.skip("needs the test data beside the project: ../shared/data/metabolomics")
    return beside


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Annotated]:
    """Return a function that writes a finished annotation below the test's folder, and reads it."""
    return partial(made_run, tmp_path)


Annotate = Callable[..., Any]


@pytest.fixture
def annotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Annotate:
    """Return a function that runs a command, serially unless told otherwise; it returns figures, or the error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, status: int = 0) -> Any:
        capsys.readouterr()
        chosen = () if "--compute" in arguments else ("--compute", "serial")
        found = APP.main([*map(str, arguments), *chosen, "--json"])
        said = capsys.readouterr()
        assert found == status, said.err
        return json.loads(said.out)

    return run


@pytest.fixture
def planted(tmp_path: Path) -> tuple[str, str]:
    """Return the addresses of a dataset with planted molecules, and of its database."""
    write_dataset(str(tmp_path / "spots.imzML"))
    return str(tmp_path / "spots.imzML"), str(write_database(tmp_path / "molecules.tsv"))
