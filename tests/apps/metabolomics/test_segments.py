"""Of a segment only the slices that windows meet are read, and exactly the rows in the windows come back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.segments import _footer, merge_windows, put_segment, read_windows, segment
from core import InputError, open_storage
from core.errors import StorageUnavailable
from core.storage import process_storage

COLUMNS = ("mz", "pixel", "intensity")


def write(folder, parts, slice_rows=7):
    storage = open_storage(str(folder))
    found = []
    for mz in parts:
        table = pa.table(
            {"mz": mz, "pixel": np.arange(len(mz), dtype=np.int32), "intensity": np.ones(len(mz), np.float32)}
        )
        found.append(segment(storage.address, put_segment(storage.address, "segments/", table, "mz", slice_rows)))
    return found


@given(
    st.lists(st.floats(100, 101), min_size=1, max_size=120),
    st.lists(st.tuples(st.floats(99.9, 101.1), st.floats(0, 0.1)), max_size=8),
    st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=60, deadline=None)
def test_exactly_the_rows_in_the_windows_come_back(tmp_path_factory, masses, windows, dtype):
    mz = np.sort(np.array(masses, dtype))
    half = len(mz) // 2
    while 0 < half < len(mz) and mz[half] == mz[half - 1]:
        half += 1
    segments = write(tmp_path_factory.mktemp("s"), [each for each in (mz[:half], mz[half:]) if len(each)])
    lows = np.array([low for low, _ in windows])
    highs = np.array([low + width for low, width in windows])

    found = read_windows(segments, lows, highs, COLUMNS)

    wide = mz.astype(np.float64)
    inside = ((wide[:, None] >= lows) & (wide[:, None] <= highs)).any(axis=1)
    assert found["mz"].tolist() == mz[inside].tolist()


def test_float32_stays_float32(tmp_path):
    segments = write(tmp_path, [np.array([100.0, 100.5], np.float32)])

    found = read_windows(segments, np.array([99.0]), np.array([102.0]), COLUMNS)

    assert [found[name].dtype for name in COLUMNS] == [np.float32, np.int32, np.float32]


def test_a_narrow_window_reads_a_fraction_of_a_large_segment(tmp_path):
    mz = np.sort(np.random.default_rng(0).uniform(100, 1000, 400_000))
    segments = write(tmp_path, [mz], slice_rows=4096)
    storage = process_storage(segments[0].object.address)
    read_windows(segments, np.array([1.0]), np.array([2.0]), COLUMNS)
    before = storage.bytes_in

    found = read_windows(segments, np.array([500.0]), np.array([500.01]), COLUMNS)

    assert len(found["mz"]) > 0
    assert storage.bytes_in - before < segments[0].object.size / 10


def test_a_flipped_byte_is_an_error_and_no_other_number(tmp_path):
    segments = write(tmp_path, [np.sort(np.random.default_rng(0).uniform(100, 1000, 5000))])
    path = tmp_path / segments[0].object.key
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)

    with pytest.raises(InputError, match="is damaged"):
        read_windows(segments, np.array([0.0]), np.array([2000.0]), COLUMNS)


def test_a_flipped_byte_of_a_footer_is_an_error(tmp_path):
    segments = write(tmp_path, [np.sort(np.random.default_rng(0).uniform(100, 1000, 5000))], slice_rows=100)
    path = tmp_path / segments[0].object.key
    data = path.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8

    for at in range(len(data) - footer, len(data), 97):
        _footer.cache_clear()
        path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        with pytest.raises(InputError, match="is damaged"):
            read_windows(segments, np.array([150.0]), np.array([155.0]), COLUMNS)


def test_a_storage_that_does_not_answer_is_not_called_damage(tmp_path, monkeypatch):
    segments = write(tmp_path, [np.array([100.0, 200.0])])

    def unavailable(*_: object) -> bytes:
        raise StorageUnavailable("no answer")

    monkeypatch.setattr(process_storage(segments[0].object.address), "get", unavailable)

    with pytest.raises(StorageUnavailable, match="no answer"):
        read_windows(segments, np.array([0.0]), np.array([2000.0]), COLUMNS)


def test_windows_that_overlap_or_touch_are_one():
    lows, highs = merge_windows(np.array([5.0, 1.0, 1.5, 2.0]), np.array([6.0, 2.0, 1.6, 3.0]))

    assert (lows.tolist(), highs.tolist()) == ([1.0, 5.0], [3.0, 6.0])


def test_equal_content_is_one_object(tmp_path):
    first, second = write(tmp_path, [np.array([100.0]), np.array([100.0])])

    assert first.object == second.object
