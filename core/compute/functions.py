"""The functions that a worker was sent, loaded when they are needed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from core.serialization import Buffer
from core.task.call import Call, load_call


@dataclass(slots=True)
class _Function:
    data: Buffer
    generation: str = ""
    call: Call | None = None
    is_stateless: bool = False


class Functions:
    """Loads each function anew for every generation of jobs, unless it can carry nothing from one to the next.

    What a function keeps, in default arguments, a closure or attributes, is so what it was when the job was made,
    whatever ran here before. Jobs that use one function at the same time are of one generation.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Function] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, call_hash: str) -> bool:
        return call_hash in self._held

    def put(self, call_hash: str, data: Buffer) -> None:
        """Keep a pickled call under its hash."""
        self._held[call_hash] = _Function(data)

    def get(self, call_hash: str, generation: str) -> Call:
        """Return a call for the tasks of one generation of jobs.

        Raises
        ------
        KeyError
            It was never put, or was dropped.
        """
        held = self._held[call_hash]
        if held.call is None or (held.generation != generation and not held.is_stateless):
            held.call, held.generation = load_call(held.data), generation
            held.is_stateless = _is_stateless(held.call)
        return held.call

    def drop(self, call_hash: str) -> None:
        """Forget a call, if it is known."""
        self._held.pop(call_hash, None)


def _is_stateless(call: Call) -> bool:
    """Whether a call is nothing but the name of what a module has, which a new pickle would lead to again."""
    found: Any = sys.modules.get(getattr(call.function, "__module__", None) or "")
    for name in getattr(call.function, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is call.function and not (call.positional_extras or call.keyword_extras)
