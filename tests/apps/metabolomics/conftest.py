"""Data beside the project, which is not part of it, and runs of made-up values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from apps.metabolomics.annotated import Annotated
from tests.apps.metabolomics.made_run import made_run


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
