"""What the documents name is there: files, modules to run, tests, targets of links."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
FILE = re.compile(
    r"`((?:core|apps|docs|runtimes|benchmarks|notebooks|tests|integration|contract)/[a-z_/.-][\w./-]*)(?:::\w+)*`"
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MODULE = re.compile(r"python3? -m ((?:core|apps|benchmarks)[\w.]*)")
TEST = re.compile(r"::(test_\w+)")


@pytest.fixture(scope="module")
def tests() -> set[str]:
    return set(re.findall(r"def (test_\w+)", "\n".join(file.read_text() for file in ROOT.glob("tests/**/test_*.py"))))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_is_there(document: Path, tests: set[str]) -> None:
    text = document.read_text()
    places = [ROOT, ROOT / "tests"]

    assert [name for name in FILE.findall(text) if not any((place / name).exists() for place in places)] == []
    assert [target for target in LINK.findall(text) if not (document.parent / target).exists()] == []
    assert [name for name in MODULE.findall(text) if importlib.util.find_spec(name.rstrip(".")) is None] == []
    assert [name for name in TEST.findall(text) if name not in tests] == []
