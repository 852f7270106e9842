"""Tables of a campaign for other programs, written record by record: a long campaign takes disk, not memory."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.protein_remd.records import RoundRecord
from apps.protein_remd.result import columns, exchange_rows
from apps.protein_remd.segments import streamed

HELD = 1 << 14
"""Rows of a table that are in memory at a time."""
HELD_BYTES = 8 << 20
"""Of reduced potentials that are."""
WHOLE = ("round", "lower", "upper", "replica_lower", "replica_upper")
"""Columns of whole numbers; `accepted` is true or false, others are floats."""


class Tables:
    """``exchange.csv``, ``exchange.parquet`` where there is pyarrow, and ``u_kn.npz``, in a folder.

    Parameters
    ----------
    folder : Path
    temperatures : sequence of float
        K.
    rounds : int
        Records that will be added.
    """

    def __init__(self, folder: Path, temperatures: Sequence[float], rounds: int) -> None:
        self._csv = open(folder / "exchange.csv", "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._rows = csv.writer(self._csv, lineterminator="\n")
        self._columns: tuple[str, ...] = ()
        self._parquet: Any = None
        self._held: list[tuple[Any, ...]] = []
        self._reduced = Reduced(folder / "u_kn.npy", len(temperatures), rounds)
        self._folder, self._temperatures, self._counted = folder, temperatures, rounds

    def add(self, record: RoundRecord) -> None:
        """Take in a round."""
        if not self._columns:
            self._columns = columns(record)
            self._rows.writerow(self._columns)
            self._parquet = _parquet(self._folder / "exchange.parquet", self._columns)
        rows = list(exchange_rows(record))
        self._rows.writerows(rows)
        self._reduced.add([record.reduced[replica] for replica in record.replica_at])
        if self._parquet is not None:
            self._held += rows
            if len(self._held) >= HELD:
                self._write_held()

    def files(self) -> dict[str, Iterator[bytes]]:
        """Finish the files, and return them by name, to be read once while the folder is there."""
        self._csv.close()
        names = ["exchange.csv"]
        if self._parquet is not None:
            self._write_held()
            self._parquet.close()
            names.append("exchange.parquet")
        self._reduced.close()
        counts = np.full(len(self._temperatures), self._counted, dtype=np.int64)
        small = {"N_k": counts, "temperatures": np.array(self._temperatures)}
        _write_npz(self._folder / "u_kn.npz", self._folder / "u_kn.npy", small)
        return {name: streamed(self._folder / name) for name in (*names, "u_kn.npz")}

    def _write_held(self) -> None:
        import pyarrow

        schema = self._parquet.schema
        values = list(zip(*self._held, strict=True)) if self._held else [()] * len(schema)
        self._parquet.write_table(pyarrow.table(list(map(_column, values, schema.types)), schema=schema))
        self._held = []


def _column(values: Sequence[Any], kind: Any) -> Any:
    """Return values as a column of Arrow; from buffers, since ``pyarrow.array`` loads all of pandas first."""
    import pyarrow

    raw = np.array(values, dtype=kind.to_pandas_dtype())
    buffer = np.packbits(raw, bitorder="little") if kind == pyarrow.bool_() else raw
    return pyarrow.Array.from_buffers(kind, len(raw), [None, pyarrow.py_buffer(buffer.tobytes())])


def _parquet(path: Path, names: Sequence[str]) -> Any:
    """Return a writer of Parquet, None where pyarrow is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    kinds = dict.fromkeys(WHOLE, pyarrow.int64()) | {"accepted": pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in names])
    return pyarrow.parquet.ParquetWriter(path, schema)


class Reduced:
    """``u_kn`` as a ``.npy`` file, shape (states, states x rounds): columns by state sampled, then round.

    Rounds come one by one, and each belongs to as many places as there are pairs of states.
    """

    def __init__(self, path: Path, states: int, rounds: int) -> None:
        self._file = open(path, "wb")  # noqa: SIM115
        about = {"descr": "<f8", "fortran_order": False, "shape": (states, states * rounds)}
        np.lib.format.write_array_header_1_0(self._file, about)
        self._begin, self._done, self._rounds = self._file.tell(), 0, rounds
        self._most = max(1, HELD_BYTES // (8 * states * states))
        self._held: list[Sequence[Sequence[float]]] = []

    def add(self, sampled: Sequence[Sequence[float]]) -> None:
        """Take in a round: reduced potentials of what was sampled at each state (row), in each state (column)."""
        self._held.append(sampled)
        if len(self._held) >= self._most:
            self._write()

    def close(self) -> None:
        """Write what is left."""
        self._write()
        self._file.close()

    def _write(self) -> None:
        if not self._held:
            return
        block = np.ascontiguousarray(np.array(self._held, dtype="<f8").transpose(2, 1, 0))
        for number, run in enumerate(block.reshape(-1, len(self._held))):
            self._file.seek(self._begin + 8 * (number * self._rounds + self._done))
            self._file.write(run.tobytes())
        self._done += len(self._held)
        self._held = []


def _write_npz(path: Path, large: Path, small: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an ``npz`` file of one array that is in a file, and others; equal arrays give equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        big = large.stat().st_size > zipfile.ZIP64_LIMIT
        with archive.open(zipfile.ZipInfo(large.name), "w", force_zip64=big) as member:
            for piece in streamed(large):
                member.write(piece)
        for name, values in small.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
