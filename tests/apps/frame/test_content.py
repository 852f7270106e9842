from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from apps._frame.content import code_version, content_of, source_hash
from apps._frame.params import MISSING, setting, whole
from apps._frame.stored import Stored


@dataclass(frozen=True)
class Point:
    x: float
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class Settings:
    days: int = setting(1, whole(1), "a whole number", "days")
    tasks: int = setting(1, whole(1), "a whole number", "tasks", identity=False)


DIFFERENT = [
    1, 1.0, "1", True, None, b"1", (1,), ((1,),), ["1"], {"a": 1}, {"a": 2}, {1}, Path("1"), 0.1, 0.1 + 1e-17 + 0.2,
    float("nan"), Point(1.0), Point(2.0), Settings(), Settings(days=2), np.zeros(2), np.zeros(2, np.float32),
    np.zeros((2, 1)), np.ones(2), Stored("s3://b", "k", 1, "etag"), Stored("s3://b", "k", 1, "etag2"),
    Stored("s3://b", "k", 1, "sha256:1"),
]  # fmt: skip


def text(value: object) -> str:
    return json.dumps(content_of(value))


def test_different_contents_have_different_texts() -> None:
    assert len({text(value) for value in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"b", "a", "c"}, {"c", "b", "a"}),
        (Point(1.0, "seen"), Point(1.0)),
        (Settings(tasks=9), Settings()),
        (np.zeros((2, 3)).T, np.zeros((3, 2))),
        (Stored("s3://b", "k", 1, "sha256:1"), Stored("file:///x", "other", 1, "sha256:1", b"held")),
    ],
    ids=["tuple and list", "order of a dict", "order of a set", "no part of comparison", "not of the identity",
         "order in memory", "an output anywhere"],
)  # fmt: skip
def test_what_says_the_same_has_the_same_text(one: object, other: object) -> None:
    assert text(one) == text(other)


@pytest.mark.parametrize("value", [object(), lambda x: x, np.array([object()]), iter([1]), MISSING])
def test_what_has_no_content_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no content that a task could be known by"):
        content_of(value)


FILES = {
    "shop/__init__.py": "",
    "shop/stages.py": "import json\nfrom shop.prices import (\n    price,\n)\ndef work(x):\n    from . import tools\n",
    "shop/prices.py": "import shop.deep.table, sys\nprice = 1\n",
    "shop/deep/__init__.py": "",
    "shop/deep/table.py": "from ..more import rate\n",
    "shop/more.py": "rate = 1\n",
    "shop/tools.py": "tool = 1\n",
    "shop/report.py": "from shop import stages\n",
    "elsewhere.py": "",
}


@pytest.fixture
def version(tmp_path: Path) -> Callable[..., str]:
    """Return a function that gives the version of ``shop.stages.work`` with some files changed."""

    def of(**changes: str) -> str:
        for name, source in {
            **FILES,
            **{f"{name.replace('__', '/')}.py": text for name, text in changes.items()},
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        code = "from apps._frame.content import code_version\nfrom shop.stages import work\nprint(code_version(work))"
        paths = [str(tmp_path), str(Path(__file__).parents[3])]
        script = f"import sys; sys.path[:0] = {paths!r}\n{code}"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    return of


@pytest.mark.parametrize("name", ["shop__stages", "shop__prices", "shop__deep__table", "shop__more", "shop__tools"])
def test_a_change_in_any_module_that_a_function_leads_to_is_another_version(
    version: Callable[..., str], name: str
) -> None:
    before = version()

    assert version(**{name: f"{FILES[name.replace('__', '/') + '.py']}# changed\n"}) != before


@pytest.mark.parametrize("name", ["shop__report", "elsewhere"])
def test_a_change_elsewhere_is_none(version: Callable[..., str], name: str) -> None:
    assert version(**{name: "changed = 1\n"}) == version()


def test_of_an_application_its_own_package_counts_and_no_other(tmp_path: Path) -> None:
    sources = {
        "apps/shop/stages.py": "from apps.shop import prices\nfrom apps.other.tools import tool\nimport core.errors\n",
        "apps/shop/prices.py": "", "apps/other/tools.py": "", "core/errors.py": "",
    }  # fmt: skip

    def version(changed: str) -> str:
        for name, source in sources.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(source + ("# changed" if name == changed else ""))
        return source_hash("apps.shop.stages", tmp_path)

    assert version("apps/shop/prices.py") != version("")
    assert version("apps/other/tools.py") == version("core/errors.py") == version("")


def test_a_function_without_a_file_is_known_by_its_code() -> None:
    spaces: list[dict[str, object]] = [{}, {}, {}]
    for space, source in zip(spaces, ["def f(x): return x + 1"] * 2 + ["def f(x): return x + 2"], strict=True):
        exec(source, space)
    one, same, other = (space["f"] for space in spaces)

    assert code_version(one) == code_version(same)  # type: ignore[arg-type]
    assert code_version(one) != code_version(other)  # type: ignore[arg-type]


def test_a_partial_function_is_known_by_what_it_calls() -> None:
    assert code_version(functools.partial(content_of, 1)) == code_version(content_of)
