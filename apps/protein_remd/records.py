"""The commit record of a round: one object, written once, that holds all that the next round needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from apps._frame.manifest import exists
from apps._frame.stored import Stored
from apps.protein_remd.science import exchange
from apps.protein_remd.science.exchange import Attempt
from core import InputError
from core.storage import Storage, join_address

ROUNDS = "rounds/"
FORMAT = 1
READERS = 8
"""Requests for records that wait for the storage at a time."""
READ_AHEAD = 64
"""Records in memory at a time."""

_NAME = re.compile(rf"{ROUNDS}(\d{{8}})\.json")


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """What a record says of one replica: energies in kJ/mol, volume of the box in nm^3 if it has one.

    `state` and `frames` are key, size and tag.
    """

    replica: int
    potential: float
    kinetic: float
    salt: int
    canary: str
    version: str
    state: dict[str, Any]
    frames: dict[str, Any] | None
    volume: float | None = None


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A committed round.

    Attributes
    ----------
    round_number : int
        From 1.
    temperatures : tuple of float
        K, by state.
    replica_at : tuple of int
        Which replica was at each temperature during the round.
    replica_after : tuple of int
        And which is after the exchange, in the next round.
    segments : tuple of Segment
        By replica.
    reduced : tuple of tuple of float
        Reduced potential of each replica (row) in each state (column).
    attempts : tuple of Attempt
    pressure : float, optional
        bar; None at constant volume.
    """

    round_number: int
    temperatures: tuple[float, ...]
    replica_at: tuple[int, ...]
    replica_after: tuple[int, ...]
    segments: tuple[SegmentRecord, ...]
    reduced: tuple[tuple[float, ...], ...]
    attempts: tuple[Attempt, ...]
    pressure: float | None = None

    def exchanged(self) -> list[float]:
        """Return what the swaps compared, in kJ/mol by replica: U, or U + pV at constant pressure."""
        return [exchange.enthalpy(one.potential, self.pressure, one.volume) for one in self.segments]


def record_key(round_number: int) -> str:
    """Return where the record of a round is."""
    return f"{ROUNDS}{round_number:08d}.json"


def encoded(record: RoundRecord) -> bytes:
    """Return a record as JSON; numbers come back to the bit, and equal records are equal bytes."""
    named = {"format": FORMAT, **_fields(record)}
    return json.dumps(named, default=_fields, sort_keys=True, allow_nan=False).encode()


def _fields(record: Any) -> dict[str, Any]:
    """Return a record's fields as they are: ``asdict`` would copy every number, which takes longer than all else."""
    return {name: getattr(record, name) for name in record.__slots__}


def decoded(data: bytes, where: str) -> RoundRecord:
    """Return a record.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        found = json.loads(data)
        if found.pop("format") != FORMAT:
            raise InputError(f"{where} was written by another release of fanfold; use that one, or begin a new run")
        return RoundRecord(
            found["round_number"],
            tuple(found["temperatures"]),
            tuple(found["replica_at"]),
            tuple(found["replica_after"]),
            tuple(SegmentRecord(**each) for each in found["segments"]),
            tuple(tuple(row) for row in found["reduced"]),
            tuple(Attempt(**each) for each in found["attempts"]),
            found.get("pressure"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} is damaged: {error!r}; restore it, or begin a new run") from None


def last_round(storage: Storage) -> int:
    """Return the number of the last committed round, 0 if there is none.

    Raises
    ------
    InputError
        A record before it is missing.
    """
    numbers = [int(found[1]) for info in storage.list(ROUNDS) if (found := _NAME.fullmatch(info.key))]
    if numbers != list(range(1, len(numbers) + 1)):
        missing = min(set(range(1, numbers[-1])) - set(numbers))
        if exists(storage, record_key(missing)):
            return last_round(storage)  # committed while a long folder was listed, which is not done at one moment
        raise InputError(
            f"{join_address(storage.address, record_key(missing))} is missing, and later rounds are there; restore it, "
            "or begin a new run"
        )
    return len(numbers)


def read_record(storage: Storage, round_number: int) -> RoundRecord:
    """Return the record of a round."""
    key = record_key(round_number)
    return decoded(storage.get(key), join_address(storage.address, key))


def read_records(storage: Storage, rounds: Sequence[int]) -> Iterator[RoundRecord]:
    """Yield the records of some rounds in order, a few in memory at a time."""
    with ThreadPoolExecutor(READERS) as readers:
        for first in range(0, len(rounds), READ_AHEAD):
            yield from readers.map(lambda number: read_record(storage, number), rounds[first : first + READ_AHEAD])


def stored(storage: Storage, named: dict[str, Any]) -> Stored:
    """Return the object that a record names."""
    return Stored(storage.address, str(named["key"]), int(named["size"]), str(named["tag"]))
