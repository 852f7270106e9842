"""Tables that are written record by record hold what whole ones would."""

from __future__ import annotations

import csv
import io
import tracemalloc

import numpy as np
import pytest

from apps.protein_remd import tables
from apps.protein_remd.records import RoundRecord, SegmentRecord
from apps.protein_remd.result import COLUMNS, exchange_rows
from apps.protein_remd.science.exchange import exchange

LADDER = (300.0, 350.0, 410.0)


def records(count: int, ladder: tuple[float, ...] = LADDER) -> list[RoundRecord]:
    rng = np.random.default_rng(1)
    states = len(ladder)
    now, found = tuple(range(states)), []
    for number in range(1, count + 1):
        energies = [float(each) for each in rng.normal(0.0, 9.0, states)]
        after, attempts = exchange(now, ladder, energies, seed=1, round_number=number, scheme="even-odd", sweeps=1)
        segments = tuple(SegmentRecord(r, u, 1.0, 0, "a", "b", {}, None) for r, u in enumerate(energies))
        reduced = tuple(tuple(u / (0.0083 * t) for t in ladder) for u in energies)
        found.append(RoundRecord(number, ladder, now, tuple(after), segments, reduced, tuple(attempts)))
        now = tuple(after)
    return found


def written(folder, found: list[RoundRecord]) -> dict[str, bytes]:
    made = tables.Tables(folder, found[0].temperatures, len(found))
    for record in found:
        made.add(record)
    return {name: b"".join(pieces) for name, pieces in made.files().items()}


@pytest.fixture(params=["a piece at a time", "all at once"])
def found(request, tmp_path, monkeypatch) -> dict[str, bytes]:
    if request.param == "a piece at a time":
        monkeypatch.setattr(tables, "HELD", 4)
        monkeypatch.setattr(tables, "HELD_BYTES", 3 * 8 * len(LADDER) ** 2)
    return written(tmp_path, records(20))


def test_reduced_potentials_are_grouped_by_the_state_that_they_were_sampled_at(found):
    with np.load(io.BytesIO(found["u_kn.npz"])) as arrays:
        u_kn, counts, ladder = arrays["u_kn"], arrays["N_k"], arrays["temperatures"]

    whole = np.array([[record.reduced[replica] for replica in record.replica_at] for record in records(20)])
    assert u_kn.tobytes() == np.ascontiguousarray(whole.transpose(2, 1, 0)).reshape(3, 60).tobytes()
    assert (counts.tolist(), ladder.tolist()) == ([20, 20, 20], list(LADDER))


def test_the_table_of_exchanges_is_the_same_as_csv_and_as_parquet(found):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'fanfold[remd]'")

    rows = [row for record in records(20) for row in exchange_rows(record)]
    assert list(csv.reader(io.StringIO(found["exchange.csv"].decode()))) == [
        list(COLUMNS),
        *([repr(value) for value in row] for row in rows),
    ]
    table = parquet.read_table(io.BytesIO(found["exchange.parquet"]))
    assert list(zip(*table.to_pydict().values(), strict=True)) == rows


def test_one_temperature_alone_has_tables_without_rows(tmp_path):
    found = written(tmp_path, records(3, (300.0,)))

    assert found["exchange.csv"].decode().splitlines() == [",".join(COLUMNS)]
    with np.load(io.BytesIO(found["u_kn.npz"])) as arrays:
        assert arrays["u_kn"].shape == (1, 3)


def test_tables_of_ten_times_the_rounds_take_no_more_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "HELD", 64)
    monkeypatch.setattr(tables, "HELD_BYTES", 1 << 13)
    peaks = []
    (one,) = records(1)
    for rounds in (300, 300, 3000):
        made = tables.Tables(tmp_path, LADDER, rounds)
        tracemalloc.start()
        for _ in range(rounds):
            made.add(one)
        for pieces in made.files().values():
            for _ in pieces:
                pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[2] < 2 * peaks[1]
