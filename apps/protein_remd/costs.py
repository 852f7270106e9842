"""What a campaign has taken: time, CPU and money; noted beside the rounds, whose records must not depend on it."""

from __future__ import annotations

import json
import resource
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from apps._frame.tables import counted, duration
from apps.protein_remd.params import Params
from core import FunctionExecutor
from core.storage import Storage

COSTS = "costs/"
"""Below it is an object of each driver."""
NOTED = 30.0
"""Seconds between two notes: as much is not accounted for of a driver that is killed."""
LET_GO = 100
"""Rounds whose jobs an executor remembers, with what they keep in its storage."""
_DAY = 86400.0
_NS_PER_FS = 1e-6


def cpu_clock() -> float:
    """Return CPU seconds of this process, and of programs that it ran and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@dataclass(frozen=True, slots=True)
class Spent:
    """What drivers have taken.

    Attributes
    ----------
    rounds : int
        Those that they committed.
    wall_seconds, driver_seconds, segment_seconds : float
        From their beginning to their last commit; CPU of the drivers, and of the segments.
    slot_seconds : float
        Wall seconds times the workers that there was work for.
    invocations : int
        Segments that were run, those that came to nothing too.
    cost : float, optional
        US dollars by the list price of `price_date`; None where the price is not known.
    """

    rounds: int = 0
    wall_seconds: float = 0.0
    driver_seconds: float = 0.0
    segment_seconds: float = 0.0
    slot_seconds: float = 0.0
    invocations: int = 0
    cost: float | None = 0.0
    price_date: str = ""


class Ledger:
    """The account of one driver.

    Parameters
    ----------
    storage : Storage
        The run.
    executor : FunctionExecutor
        Its jobs are let go of now and then, and with them what they keep in memory and storage.
    width : int
        Segments that can run at a time.

    Attributes
    ----------
    invocations : int
        Segments that were run, those that came to nothing too.
    """

    def __init__(self, storage: Storage, executor: FunctionExecutor, width: int) -> None:
        self._storage, self._executor = storage, executor
        self._key = f"{COSTS}{time.time():.0f}-{secrets.token_hex(4)}.json"
        self._slots = max(1, min(width, executor.workers))
        self._known = executor.estimate(1, 1.0).cost is not None
        self._cost, self._price_date = 0.0, ""
        self._rounds = self.invocations = 0
        self._segments = 0.0
        self._began, self._cpu, self._noted = time.monotonic(), time.process_time(), time.monotonic()
        self._last = self._began

    def ran(self, cpu_seconds: Iterable[float]) -> None:
        """Take in segments by their CPU seconds."""
        for seconds in cpu_seconds:
            self.invocations += 1
            self._segments += seconds

    def committed(self) -> None:
        """Take in a round; every now and then the account is written."""
        self._rounds += 1
        self._last = time.monotonic()
        if self._rounds % LET_GO == 0:
            bill = self._executor.bill()
            self._cost, self._price_date = self._cost + bill.cost, bill.price_date
            self._executor.clean()
        if self._last - self._noted > NOTED:
            self.write()

    def spent(self) -> Spent:
        """Return the account."""
        bill = self._executor.bill()
        wall = self._last - self._began
        return Spent(
            self._rounds, wall, time.process_time() - self._cpu, self._segments, wall * self._slots, self.invocations,
            self._cost + bill.cost if self._known else None, bill.price_date or self._price_date,
        )  # fmt: skip

    def write(self) -> None:
        """Write the account, if there is anything in it."""
        self._noted = time.monotonic()
        if self.invocations:
            self._storage.put(self._key, json.dumps(asdict(self.spent())).encode())


def read_spent(storage: Storage) -> Spent:
    """Return what all drivers of a run have taken together; notes that nobody can have written are passed over."""
    return _together([found for info in storage.list(COSTS) if (found := _read(storage.get(info.key))) is not None])


def _read(data: bytes) -> Spent | None:
    try:
        found = Spent(**json.loads(data))
    except (ValueError, TypeError):
        return None
    numbers = [getattr(found, each.name) for each in fields(Spent) if each.name not in ("cost", "price_date")]
    return found if all(isinstance(one, int | float) for one in numbers) else None


def _together(parts: list[Spent]) -> Spent:
    costs = [part.cost for part in parts]
    known = [cost for cost in costs if cost is not None]
    return Spent(
        sum(part.rounds for part in parts),
        sum(part.wall_seconds for part in parts),
        sum(part.driver_seconds for part in parts),
        sum(part.segment_seconds for part in parts),
        sum(part.slot_seconds for part in parts),
        sum(part.invocations for part in parts),
        sum(known) if len(known) == len(costs) else None,
        max((part.price_date for part in parts), default=""),
    )


def spent_figures(spent: Spent, params: Params) -> dict[str, Any]:
    """Return what a campaign has taken for programs, with the speed that follows."""
    steps = params.md.steps * params.md.segments
    simulated = spent.rounds * steps * params.md.timestep * _NS_PER_FS
    ran = spent.invocations * steps
    return {
        **asdict(spent),
        "ns_per_replica": simulated,
        "ns_per_day_and_replica": simulated / spent.wall_seconds * _DAY if spent.wall_seconds else None,
        "steps_per_cpu_second": ran / spent.segment_seconds if spent.segment_seconds else None,
        "overhead": 1.0 - spent.segment_seconds / spent.slot_seconds if spent.slot_seconds else None,
        "wall_seconds_per_100_rounds": 100 * spent.wall_seconds / spent.rounds if spent.rounds else None,
    }


def spent_rows(found: Mapping[str, Any], rounds: int) -> list[tuple[str, str]]:
    """Return what a campaign has taken for people; `rounds` are those that are committed."""
    if not found["rounds"]:
        return []
    part = "" if found["rounds"] == rounds else f", of {found['rounds']:,} of {rounds:,} rounds: others left no account"
    each = found["segment_seconds"] / found["invocations"]
    rows = [
        ("Time", f"{duration(found['wall_seconds'])}{part}"),
        ("100 rounds", duration(found["wall_seconds_per_100_rounds"])),
        ("Simulated", f"{found['ns_per_replica']:.4g} ns a replica, {found['ns_per_day_and_replica']:.3g} ns a day"),
        ("CPU of segments", f"{duration(found['segment_seconds'])}, {duration(each)} each of {found['invocations']:,}"),
        ("CPU of the driver", duration(found["driver_seconds"])),
        ("Speed", f"{found['steps_per_cpu_second']:,.3g} steps a CPU second"),
        ("Workers' time not in segments", f"{max(0.0, found['overhead']):.0%}"),
        ("Billed", billed(found)),
    ]
    return rows


def billed(found: Mapping[str, Any]) -> str:
    """Return the price of a campaign, or that it is not known."""
    if found["cost"] is None:
        return "not known: the table has no price of this backend"
    if not found["cost"]:
        return "nothing on one's own machines"
    listed = f", by the list price of {found['price_date']}" if found["price_date"] else ""
    return f"about ${found['cost']:.2g} for {counted(found['invocations'], 'segment')}{listed}"
