"""Processes of this machine, as /proc tells them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
"""Source: Linux, include/uapi/linux/prctl.h."""


def end_with_parent() -> None:
    """Have this process killed when the tests are, even if they are killed themselves."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the processes that one has started and that have not ended."""
    found = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in found for child in text.split()]


def workers_of(pid: int) -> list[int]:
    """Return the processes below one, however deep."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def processes(*words: str) -> list[int]:
    """Return the other processes of this machine whose command lines have these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words) and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


def peak_of(pid: int) -> int:
    """Return the most memory that a process has had so far, in bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def peaks_until_done(driver: subprocess.Popen[Any]) -> tuple[int, int]:
    """Wait for a process; returns the most memory that it had, and that the largest of those below it had."""
    peak = largest = 0
    while driver.poll() is None:
        peak = max(peak, peak_of(driver.pid))
        largest = max([largest, *map(peak_of, workers_of(driver.pid))])
        with suppress(subprocess.TimeoutExpired):
            driver.wait(0.1)
    return peak, largest
