"""Objects that tasks put beside what they return, which names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps._frame.stages import TaskOutput
from apps._frame.stored import Stored, sha256


def put_part(output: TaskOutput, name: str, data: bytes | memoryview) -> dict[str, Any]:
    """Write an object of a task; returns what the task has to return of it."""
    return {"key": output.put(name, data), "size": memoryview(data).nbytes, "tag": sha256(data)}


def stored(address: str, found: Mapping[str, Any]) -> Stored:
    """Return the object that a task has put, from what it returned."""
    return Stored(address, found["key"], found["size"], found["tag"])
