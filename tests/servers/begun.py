"""Waiting for a task to begin, and for no clock when it never will."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def await_begun(future: Any, mark: Path | None = None) -> None:
    """Wait until a task runs, or has made its mark; that it ended before is the test's failure, at once."""
    while not (future.running() if mark is None else mark.exists()):
        assert not future.done() or (mark is not None and mark.exists()), repr(future.exception())
        time.sleep(0.01)
