"""How long to wait, and for how many: deadlines, and what users say instead of a number."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from typing import Any

from core.types import ReturnWhen

ANY = -1
"""Stands for one future, among percentages of them."""

_SHARES: dict[object, int] = {"ANY": ANY, "ANY_COMPLETED": ANY, "ALWAYS": 0, "ALL": 100, "ALL_COMPLETED": 100}


def share_of(return_when: ReturnWhen) -> int:
    """Return the percentage that has to be done, or `ANY`."""
    share = return_when if type(return_when) is int else _SHARES.get(return_when)
    if share is None or not ANY <= share <= 100:
        raise ValueError(
            f"return_when must be 'ALL', 'ANY', 'ALWAYS' or a percentage from 0 to 100, not {return_when!r}"
        )
    return share


def await_some(futures: Sequence[Future[Any]], count: int, timeout: float | None) -> None:
    """Wait until `count` of some futures have ended, or for `timeout` seconds."""
    if count and sum(future.done() for future in futures) < min(count, len(futures)):
        with contextlib.suppress(TimeoutError):
            for _ in itertools.islice(as_completed(futures, timeout), count):
                pass


def needed(index: int | slice) -> float:
    """Return how many futures must be made before an index or slice of them means what it will in the end."""
    if not isinstance(index, slice):
        return index + 1 if index >= 0 else math.inf
    ends = (index.start or 0, index.stop, index.step or 1)
    return ends[1] if ends[1] is not None and min(ends) >= 0 else math.inf


def deadline_of(timeout: float | None) -> float | None:
    """Return the monotonic time at which a wait ends."""
    return None if timeout is None else time.monotonic() + timeout


def time_left(deadline: float | None) -> float | None:
    """Return the seconds until a deadline, none of them negative."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
