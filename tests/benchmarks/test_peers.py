from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks import _peers
from benchmarks._measure import isolated

ROOT = Path(__file__).parents[2]


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """Peers of this test; pip is in every new environment, so that asking for it asks no index."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: dict[str, tuple[str, ...]] = {"bare": ("pip",), "broken": ("fanfold @ file:///nowhere",)}
    monkeypatch.setattr(_peers, "PEERS", made)
    return made


def test_a_peer_has_an_environment_of_its_own_that_is_made_once(peers: dict[str, tuple[str, ...]]) -> None:
    python = Path(_peers.python_of("bare"))
    made = python.stat().st_ctime_ns, (python.parent.parent / "pyvenv.cfg").stat().st_mtime_ns

    again = Path(_peers.python_of("bare"))

    prefix = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(prefix.stdout.strip()) == python.parent.parent != Path(sys.prefix)
    assert again == python
    assert made == (again.stat().st_ctime_ns, (again.parent.parent / "pyvenv.cfg").stat().st_mtime_ns)


def test_other_peers_are_measured_by_this_interpreter() -> None:
    assert _peers.python_of("joblib") == sys.executable


def test_an_environment_that_cannot_be_made_is_a_row_that_says_why(peers: dict[str, tuple[str, ...]]) -> None:
    answer = isolated("benchmarks._contenders", ["fanfold", "cold"], 60.0, peer="broken")

    assert answer["error"].startswith("no environment could be made: ")


def test_what_has_an_environment_of_its_own_is_in_no_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert [line for line in extras["bench"] if line.startswith(tuple(_peers.PEERS))] == []
