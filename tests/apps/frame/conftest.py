"""The word count of docs/new-application.md: its files are cut out of that page, and run as a user would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "new-application.md"
FILE = re.compile(r"`(words/\w+\.py)`\n\n```python\n(.*?)```", re.DOTALL)

Words = Callable[..., "subprocess.CompletedProcess[str]"]


def write_application(folder: Path) -> None:
    """Write the files of the page."""
    for name, code in FILE.findall(PAGE.read_text()):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with the application of the page, and texts to count."""
    write_application(tmp_path)
    (tmp_path / "texts").mkdir()
    for number in range(5):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"call me ishmael the whale the Whale Ångström {number}\n")
    return tmp_path


def environment() -> dict[str, str]:
    """Return the environment as it is now, in which the application is found."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def words(home: Path) -> Words:
    """Return a function that runs the application in its folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "words", *arguments]
        return subprocess.run(command, cwd=home, env=environment(), capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def figures(words: Words) -> Callable[..., Any]:
    """Return a function that runs the application to its end, and returns the JSON object it prints."""

    def run(*arguments: str) -> Any:
        done = words(*arguments, "--json", "--workers", "2")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
