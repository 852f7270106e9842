"""Campaigns of oscillators, which are quick and of which everything is known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apps.protein_remd.__main__ import APP

ROOT = Path(__file__).parents[3]
HARMONIC = ("--engine", "harmonic", "--dof", "12", "--temperatures", "300,350,410")

Remd = Callable[..., int]


PICTURES = ("acceptance", "energies", "helix", "kinetic", "paths", "slopes", "transitions", "trips")


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave pictures undrawn, which take most of the time of a short campaign, where they are not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        for name in () if "drawn" in request.fixturenames else PICTURES:
            patch.setattr(f"apps.protein_remd.plots.{name}", lambda found: b"")
        yield


@pytest.fixture
def drawn() -> None:
    """Ask for pictures to be drawn."""


@pytest.fixture
def remd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remd:
    """Return a function that runs a command in this process, on its serial backend unless it names another."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        chosen = () if "--compute" in arguments else ("--compute", "serial")
        return APP.main([*arguments, *chosen])

    return run


@pytest.fixture
def figures(remd: Remd, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a function that runs a command to its end and returns the JSON object it prints."""

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        status = remd(*arguments, "--json")
        said = capsys.readouterr()
        assert status == 0, said.err
        return json.loads(said.out)

    return run


def started_in(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "apps.protein_remd", *arguments], cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts a command in a process of its own."""
    return partial(started_in, tmp_path)


def ended(process: subprocess.Popen[str]) -> bool:
    """Whether a process ends within a moment; whoever waits for what it does leaves it the processor."""
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return False
    return True


def history(folder: Path) -> dict[str, bytes]:
    """Return every record, state and frame of a run by name."""
    found = [path for name in ("rounds", "state", "frames") for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def published(folder: Path, *names: str) -> dict[str, bytes]:
    """Return results of a run by name; without what the report says of the time that was taken."""
    account = re.compile(rb"<h2>Time and cost</h2>.*?</table></div>", re.DOTALL)
    return {name: account.sub(b"", (folder / name).read_bytes()) for name in names}
