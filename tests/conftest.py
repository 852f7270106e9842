"""Every test runs with no configuration but its own, and keeps its state in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FANFOLD_")]:
            patch.delenv(name)
        patch.setenv("FANFOLD_STATE_DIR", str(home / "state"))
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("MPLBACKEND", "Agg")
        yield
