"""What a dry run says: of stated sizes, of files, and of what is in the cache already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LARGE = ("annotate", "--dry-run", "--plan-size", "50GB", "--plan-rows", "1e8")


def test_fifty_gigabytes_and_a_hundred_million_formulas_are_planned_without_files(annotate):
    found = annotate(*LARGE)

    tasks = {stage["name"]: stage["tasks"] for stage in found["stages"]}
    assert found["ions"] > 4e8
    assert 300 <= tasks["ds-map"] <= 500
    assert 900 <= tasks["ds-reduce"] <= 1100
    assert all(stage["memory"] <= 2 << 30 for stage in found["stages"])
    assert max(stage["cpu_seconds"] for stage in found["stages"]) < 900  # the longest that a cloud function runs
    assert not list(Path().iterdir())


def test_twice_the_data_is_twice_the_indexing_and_no_more_memory(annotate):
    one = annotate(*LARGE)
    two = annotate("annotate", "--dry-run", "--plan-size", "100GB", "--plan-rows", "1e8")

    def seconds(found):
        return next(each["tasks"] * each["cpu_seconds"] for each in found["stages"] if each["name"] == "ds-map")

    assert seconds(two) == pytest.approx(2 * seconds(one), rel=0.01)
    assert two["memory"] == one["memory"]


def test_of_files_the_tasks_are_those_that_run(annotate, planted):
    said = annotate("annotate", planted[0], "--db", planted[1], "--dry-run")
    assert not Path("metabolomics-cache").exists()

    annotate("index", planted[0])
    annotate("ions", "--db", planted[1], "--polarity", "+")
    segments = list(Path("metabolomics-cache").glob("spots-*/segments/*"))
    patterns = list(Path("metabolomics-cache").glob("ions-*/patterns/*"))

    tasks = {stage["name"]: stage["tasks"] for stage in said["stages"]}
    assert (tasks["ds-reduce"], tasks["ions"]) == (len(segments), len(patterns))


def test_what_is_in_the_cache_is_not_planned_again(annotate, planted):
    annotate("index", planted[0])

    found = annotate("annotate", planted[0], "--db", planted[1], "--polarity", "+", "--dry-run")

    assert [each["name"] for each in found["stages"]] == [
        "rows", "formulas", "centroids", "ions", "score", "chaos", "fdr", "render", "molecules",
    ]  # fmt: skip


def test_what_was_indexed_before_annotate_is_used(annotate, planted):
    annotate("index", planted[0])
    annotate("ions", "--db", planted[1], "--polarity", "+")
    entries = sorted(Path("metabolomics-cache").iterdir())

    annotate("annotate", planted[0], "--db", planted[1], "--output", "run")

    assert sorted(Path("metabolomics-cache").iterdir()) == entries
    assert json.loads(Path("run/result.json").read_text())["accepted"] > 0


def test_stated_sizes_are_no_dataset(annotate, planted):
    found = annotate("annotate", planted[0], "--plan-size", "50GB", status=2)

    assert "--dry-run alone" in found["error"]
