"""Importing must cost little and do nothing, so each test asks a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"numpy", "scipy", "pandas", "matplotlib", "tqdm", "boto3", "botocore", "arch", "numba", "pyarrow", "IPython"}
APPLICATIONS = sorted(path.parent.name for path in (ROOT / "apps").glob("[!_]*/__init__.py"))


def loaded_by(statement: str, folder: Path) -> set[str]:
    """Top-level packages in sys.modules after a statement, run in an empty home and working folder."""
    script = f"{statement}\nimport sys, json; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "FANFOLD_STATE_DIR": str(folder / "state"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    return set(json.loads(run.stdout))


@pytest.mark.parametrize("statement", ["import core", "from core import *", "import core.cli.main", "import apps"])
def test_importing_loads_nothing_heavy_and_leaves_nothing_behind(statement: str, tmp_path: Path) -> None:
    loaded = loaded_by(statement, tmp_path)

    assert loaded & HEAVY == set()
    assert list(tmp_path.rglob("*")) == []


STARTS_NOTHING = """
import atexit, concurrent.futures.thread, logging, os, threading

def state():
    return atexit._ncallbacks(), threading.active_count(), logging.getLogger().handlers[:]

before = state()
import core
assert state() == before, (before, state())
assert not os.path.exists("/proc/self/task") or len(os.listdir("/proc/self/task")) == 1
"""

COMMAND_HELP = """
import contextlib, io
from core.cli.main import main

with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
"""

APPLICATION_HELP = """
import contextlib, io, runpy, sys

sys.argv = ["{app}", "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    runpy.run_module("apps.{app}", run_name="__main__")
"""


def test_importing_starts_nothing(tmp_path: Path) -> None:
    assert "core" in loaded_by(STARTS_NOTHING, tmp_path)


def test_the_help_of_the_command_needs_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_by(COMMAND_HELP, tmp_path)

    assert "argparse" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("app", APPLICATIONS)
def test_the_help_of_an_application_needs_nothing_heavy(app: str, tmp_path: Path) -> None:
    loaded = loaded_by(APPLICATION_HELP.format(app=app), tmp_path)

    assert "argparse" in loaded
    assert loaded & HEAVY == set()
    assert list(tmp_path.rglob("*")) == []
