"""Runs cut by bins of m/z and merged by range are one stable sort of everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps._frame.stages import TaskOutput
from apps.metabolomics import runs
from core import InputError, open_storage

RECORD = np.dtype([("mz", "<f8"), ("pixel", "<i4")])
MASSES = st.lists(st.sampled_from([0.5, 99.99, 100.0, 100.001, 250.0, 250.2, 2e5]), max_size=60)


def put(storage, number: int, mz: np.ndarray):
    records = np.empty(len(mz), RECORD)
    records["mz"], records["pixel"] = mz, np.arange(len(mz)) + 1000 * number
    records = records[np.argsort(mz, kind="stable")]
    found = runs.put_run(TaskOutput(storage.address, f"run{number}", 0), records, records["mz"])
    return {**found, "totals": {"records": len(mz)}}


@given(st.lists(MASSES, min_size=1, max_size=5), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_merged_parts_are_one_stable_sort(tmp_path_factory, masses, target):
    storage = open_storage(str(tmp_path_factory.mktemp("runs")))
    arrays = [np.array(each) for each in masses]
    found = [put(storage, number, mz) for number, mz in enumerate(arrays)]
    written = runs.gathered(storage.address, found)
    ranges = runs.cut(written.counts, target)

    parts = runs.parts_of(found, ranges) if ranges else []
    merged = []
    for part in parts:
        records = runs.read_part(part, written.objects, RECORD)
        merged.append(records[np.argsort(records["mz"], kind="stable")])

    everything = np.concatenate([np.arange(len(mz)) + 1000 * number for number, mz in enumerate(arrays)])
    order = np.argsort(np.concatenate(arrays), kind="stable")
    assert (
        np.concatenate([np.zeros(0, int), *(each["pixel"] for each in merged)]).tolist() == everything[order].tolist()
    )
    for left, right in zip(merged, merged[1:], strict=False):
        assert left["mz"][-1] < right["mz"][0]


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_each_mz_is_counted_in_its_bin(dtype):
    mz = np.sort(np.random.default_rng(1).uniform(5, 2000, 5000)).astype(dtype)

    counts = runs.count_bins(mz)

    assert counts.sum() == len(mz)
    if dtype == "<f8":
        assert np.array_equal(counts, np.bincount(runs.bin_of(mz), minlength=runs.BINS))


def test_ranges_are_of_equal_weight_and_leave_nothing_out():
    weights = np.random.default_rng(2).uniform(0, 1, runs.BINS)

    ranges = runs.cut(weights, weights.sum() / 49.5)

    sums = [weights[slice(*each)].sum() for each in ranges]
    assert [first for first, _ in ranges[1:]] == [stop for _, stop in ranges[:-1]]
    assert (ranges[0][0], ranges[-1][1], len(ranges)) == (0, runs.BINS, 50)
    assert max(sums) <= weights.sum() / 49.5
    assert min(sums[:-1]) > weights.sum() / 49.5 - 1


def test_no_weight_is_no_range():
    assert runs.cut(np.zeros(runs.BINS), 1) == []


def test_a_run_that_was_cut_off_is_named(tmp_path):
    storage = open_storage(str(tmp_path))
    found = put(storage, 0, np.array([100.0, 200.0]))
    storage.put(found["key"], storage.get(found["key"])[:-1])
    parts = runs.parts_of([found], runs.cut(runs.counts_of(found), 10))

    with pytest.raises(InputError, match="is damaged: it ends too soon"):
        runs.read_part(parts[0], runs.gathered(storage.address, [found]).objects, RECORD)


def test_a_bin_that_has_more_than_a_range_may_is_a_range_alone():
    weights = np.zeros(runs.BINS)
    weights[[5, 6, 7, 900]] = 1, 50, 1, 3

    assert runs.cut(weights, 10) == [(5, 6), (6, 7), (7, 900 + 1)]
