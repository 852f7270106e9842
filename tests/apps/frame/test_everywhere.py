"""The same bytes from every backend, whether its workers reach the run's storage or not."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from core import open_storage
from tests.apps.frame.conftest import Words
from tests.conftest import S3Server

numbers = itertools.count()


def address_of(platform: str, request: pytest.FixtureRequest) -> str:
    if platform in ("serial", "process"):
        return platform
    if platform == "container":
        image = request.getfixturevalue("containers").runtime("base")
        return f"container://{image}?network=host&env=AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY"
    return str(request.getfixturevalue(f"{platform}_site")["compute"])


def written(place: str) -> dict[str, bytes]:
    storage = open_storage(place)
    return {info.key: storage.get(info.key) for info in storage.list() if info.key != "manifest.json"}


@pytest.fixture
def here(words: Words, home: Path) -> dict[str, bytes]:
    words("texts", "--output", "here", "--compute", "serial")
    return written(str(home / "here"))


@pytest.mark.parametrize("platform", ["process", "http", "container", "lambda"])
def test_texts_and_a_run_in_folders_of_this_machine(
    platform: str, request: pytest.FixtureRequest, words: Words, home: Path, here: dict[str, bytes]
) -> None:
    done = words("texts", "--output", "there", "--compute", address_of(platform, request), "--workers", "2")

    assert done.returncode == 0, done.stderr
    assert len(here) == 3
    assert written(str(home / "there")) == here


@pytest.mark.parametrize("platform", ["serial", "process", "http", "container", "lambda"])
def test_texts_and_a_run_in_a_bucket(
    platform: str, request: pytest.FixtureRequest, words: Words, home: Path, s3_server: S3Server
) -> None:
    place = f"s3://fanfold/words-everywhere-{next(numbers)}"
    bucket = open_storage(place)
    for path in (home / "texts").iterdir():
        bucket.put(f"texts/{path.name}", path.read_bytes())
    arguments = [
        f"{place}/texts?endpoint={s3_server.endpoint}",
        "--output",
        f"{place}/run?endpoint={s3_server.endpoint}",
    ]

    done = words(*arguments, "--compute", address_of(platform, request))

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("      10  the\n       5  Whale\n")
    assert sorted(written(f"{place}/run")) == ["report.html", "result.json", "words.csv"]
