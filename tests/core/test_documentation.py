"""The examples of the documentation run, and print what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
NEEDS = ("joblib",)


def examples():
    for page in ("pool.md", "from-lithops.md"):
        for number, code in enumerate(BLOCK.findall((DOCS / page).read_text())):
            if "import lithops" not in code:
                yield pytest.param(code, id=f"{page}-{number}")


@pytest.mark.parametrize("code", list(examples()))
def test_an_example_runs_and_prints_what_it_says(code, tmp_path):
    for name in NEEDS:
        if f"import {name}" in code:
            pytest.importorskip(name, reason="pip install '.[compat]'")
    (tmp_path / "data" / "texts").mkdir(parents=True)
    (tmp_path / "data" / "texts" / "moby.txt").write_text("call me ishmael\nthe whale\n" * 200)
    (tmp_path / "example.py").write_text(code)

    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    said = re.findall(r"print\(.*\)  # (.*)", code) or ["200"]
    assert done.stdout.splitlines() == said
