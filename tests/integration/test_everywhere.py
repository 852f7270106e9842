"""One command, one result, wherever it runs: the published example and a batch of faces on every platform."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core import open_storage
from tests.conftest import S3_KEY, S3_SECRET

FORECAST = ("apps.montecarlo", "--preset", "talk", "--forecasts", "100000")
ROOT = Path(__file__).parents[2]
CONTAINER_REACHES_S3 = "network=host&env=AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY"
TIMED = (".run/", "manifest.", "report.html", "result.json")
"""What a run of face_align writes that says how long it took, and when."""

PLATFORMS = [
    "process",
    "container",
    "http",
    "lambda",
    "slurm",
    "dask",
    pytest.param("lambda_async", marks=pytest.mark.slow),
    pytest.param("openwhisk", marks=pytest.mark.slow),
]
numbers = itertools.count()


def run(tmp_path: Path, *command: str) -> dict[str, Any]:
    """Run an application as a user does, with its keys in a file; returns the JSON object that it prints."""
    keys = tmp_path / "aws-credentials"
    keys.write_text(f"[default]\naws_access_key_id = {S3_KEY}\naws_secret_access_key = {S3_SECRET}\n")
    environment = {**os.environ, "AWS_SHARED_CREDENTIALS_FILE": str(keys), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command, "--json", "--workers", "2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def address_of(platform: str, request: pytest.FixtureRequest, image: str) -> str:
    """Return the compute address of a platform whose workers reach the S3 server."""
    if platform == "container":
        return f"container://{request.getfixturevalue('containers').runtime(image)}?{CONTAINER_REACHES_S3}"
    if platform == "process":
        return platform
    site = request.getfixturevalue(f"{platform}_site")
    if "runtime" in site:
        request.getfixturevalue("monkeypatch").setenv("FANFOLD_RUNTIME", site["runtime"])
    return str(site["compute"])


@pytest.fixture
def place(s3_server: Any) -> str:
    """Return the address of a prefix that no other test uses, which says where its server is."""
    return f"s3://fanfold/everywhere-{next(numbers)}?endpoint={s3_server.endpoint}"


@pytest.fixture(scope="module")
def result_here(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the result that this machine computes without any storage."""
    return str(run(tmp_path_factory.mktemp("here"), *FORECAST)["result_sha256"])


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_published_forecast_has_the_same_hash_everywhere(platform, request, place, tmp_path, result_here):
    compute = address_of(platform, request, "montecarlo")

    figures = run(tmp_path, *FORECAST, "--compute", compute, "--storage", place)

    assert figures["result_sha256"] == result_here
    assert figures["forecasts"] == 100_000
    assert [info.key for info in open_storage(place).list()] == []


@pytest.fixture(scope="module")
def photographs(s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of the demonstration batch in the S3 server."""
    pytest.importorskip("dlib", reason="needs dlib: pip install '.[faces]'")
    demo = pytest.importorskip("apps.face_align.demo", reason="needs the photographs: pip install '.[faces]'")
    folder = tmp_path_factory.mktemp("photographs")
    demo.write_demonstration(folder)
    address = f"s3://fanfold/everywhere-photographs?endpoint={s3_server.endpoint}"
    bucket = open_storage(address)
    for path in filter(Path.is_file, folder.rglob("*")):
        bucket.put(str(path.relative_to(folder)), path.read_bytes())
    return address


def aligned(compute: str, source: str, place: str, tmp_path: Path) -> tuple[dict[str, bytes], list[Any]]:
    """Align the demonstration batch; returns every object written that has no times, and the manifest without them."""
    run(tmp_path, "apps.face_align", source, "--output", place, "--compute", compute)
    store = open_storage(place)
    written = {info.key: store.get(info.key) for info in store.list()}
    rows = [row | {"ms": ""} for row in csv.DictReader(io.StringIO(written["manifest.csv"].decode()))]
    return {key: content for key, content in written.items() if not key.startswith(TIMED)}, rows


@pytest.fixture(scope="module")
def faces_here(photographs: str, s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what this machine's processes write."""
    place = f"s3://fanfold/everywhere-faces?endpoint={s3_server.endpoint}"
    return aligned("process", photographs, place, tmp_path_factory.mktemp("faces"))


@pytest.mark.parametrize("platform", ["container", "lambda"])
def test_faces_are_aligned_to_the_same_bytes_everywhere(platform, request, photographs, place, tmp_path, faces_here):
    compute = address_of(platform, request, "face_align")

    written, rows = aligned(compute, photographs, place, tmp_path)

    assert len(written) > 10
    assert rows == faces_here[1]
    assert written == faces_here[0]
