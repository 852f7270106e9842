"""Data beside the project, which is not part of it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public test data; tests that need it are skipped without it."""
    beside = Path(__file__).parents[4] / "shared" / "data" / "metabolomics"
    if not beside.is_dir():
        pytest.skip("needs the test data beside the project: ../shared/data/metabolomics")
    return beside
