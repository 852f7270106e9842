"""Where the cache lies: beside the output, so that workers that reach one reach the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.metabolomics.cache import cache_address, entry
from apps.metabolomics.params import ReadingParams


@pytest.mark.parametrize(
    ("output", "cache"),
    [
        ("runs/a", "{}/runs/metabolomics-cache"),
        ("a", "{}/metabolomics-cache"),
        (None, "{}/metabolomics-cache"),
        (".", "{}/metabolomics-cache"),
        ("/data/a/", "/data/metabolomics-cache"),
        ("s3://bucket/runs/a", "s3://bucket/runs/metabolomics-cache"),
        ("s3://bucket/a?endpoint=http://h", "s3://bucket/metabolomics-cache?endpoint=http://h"),
        ("s3://bucket", "s3://bucket/metabolomics-cache"),
    ],
)
def test_it_is_beside_the_output(tmp_path, monkeypatch, output, cache):
    monkeypatch.chdir(tmp_path)

    assert cache_address("", output) == cache.format(tmp_path)


def test_one_that_is_given_is_taken():
    assert cache_address("s3://bucket/cache/", "runs/a") == "s3://bucket/cache"


def test_an_entry_is_named_by_its_content():
    one, two = ReadingParams(source="s3://b/x.imzML"), ReadingParams(source="s3://b/x.imzML", z=1)

    names = {entry("c?e=1", "a b/ä", params, {"x": tag}) for params in (one, two) for tag in ("1", "2")}

    assert len(names) == 4
    assert all(name.startswith("c/a_b-") and name.endswith("?e=1") for name in names)


@pytest.mark.parametrize("name", ["index.json", "tic.parquet", "library.json"])
@pytest.mark.parametrize("change", ["flipped", "cut"])
def test_a_damaged_object_is_named_with_its_remedy(annotate, planted, tmp_path, name, change):
    annotate(planted[0], "--db", planted[1], "--output", "first")
    (path,) = Path("metabolomics-cache").glob(f"*/{name}")
    data = path.read_bytes()
    middle = data.index(b"width") + 11 if name == "index.json" else len(data) // 3
    path.write_bytes(data[:middle] + (bytes([data[middle] ^ 1]) + data[middle + 1 :] if change == "flipped" else b""))

    said = annotate(planted[0], "--db", planted[1], "--output", "second", status=2)

    assert f"{name} in file://{path.parent.absolute()} is damaged; remove file://" in said["error"]


@pytest.mark.parametrize("place", ["/proc/nowhere", "afile/cache"])
def test_a_cache_that_cannot_be_written_is_told_with_its_flag(annotate, planted, tmp_path, place):
    (tmp_path / "afile").write_text("")

    said = annotate(
        planted[0], "--db", planted[1], "--output", "run", "--cache", place, status=1 if place[0] == "/" else 2
    )

    assert "cannot write" in said["error"]
    assert "choose a place that can be written, with --cache" in said["error"]
    assert "made anew" not in said["error"]


def test_an_entry_without_its_manifest_is_told_with_the_remedy_of_a_cache(annotate, planted, tmp_path):
    annotate(planted[0], "--db", planted[1], "--output", "first")
    (path,) = Path("metabolomics-cache").glob("spots-*/manifest.json")
    path.unlink()

    said = annotate(planted[0], "--db", planted[1], "--output", "second", status=2)

    assert f"remove {path.parent.absolute()}, which will be made anew, or choose another --cache" in said["error"]
