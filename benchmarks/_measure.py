"""Measuring: wall and CPU time of a piece of work with all its processes, and isolation of a measurement."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks._peers import python_of

ROOT = Path(__file__).resolve().parents[1]
OWN_PYTHON = "FANFOLD_BENCHMARK_PYTHON"
"""Variable that names the interpreter with this product, for measurements in the environment of a peer."""

_TICK = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one repetition: median wall time, mean CPU time of the process and all its descendants."""

    wall: float
    cpu: float


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends, so that none escapes the accounting."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tree_cpu() -> float:
    """Return CPU seconds used so far by this process and its descendants, dead ones included."""
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry))
        ticks[int(entry)] = sum(map(int, fields[11:15]))
    total, pending = 0, [os.getpid()]
    while pending:
        pid = pending.pop()
        total += ticks.get(pid, 0)
        pending += parents.get(pid, [])
    return total / _TICK


def repeated(work: Callable[[], None], seconds: float = 2.0, least: int = 1, most: int = 50) -> Sample:
    """Repeat work for about so many seconds; CPU clocks tick every 10 ms, so short work needs many repetitions."""
    walls: list[float] = []
    cpu = tree_cpu()
    while len(walls) < least or (sum(walls) < seconds and len(walls) < most):
        started = time.perf_counter()
        work()
        walls.append(time.perf_counter() - started)
    return Sample(statistics.median(walls), (tree_cpu() - cpu) / len(walls))


def isolated(module: str, arguments: Sequence[str], timeout: float, peer: str = "") -> dict[str, Any]:
    """Run a module in a fresh interpreter; returns the JSON object on its last line, or what went wrong.

    The interpreter is the one that has `peer`. Nothing that the module started outlives it.
    """
    try:
        python = python_of(peer)
    except (OSError, RuntimeError) as error:
        return {"error": str(error)}
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        OWN_PYTHON: sys.executable,
        # Lithops starts its workers as "python", which must be its own.
        "PATH": os.pathsep.join([os.path.dirname(python), os.environ.get("PATH", os.defpath)]),
    }
    # Files, not pipes: workers that outlive the measurement would hold a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [python, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {timeout:.0f} s"}
        finally:
            _end_session(process)
        out.seek(0)
        err.seek(0)
        try:
            return dict(json.loads(out.read().strip().splitlines()[-1]))
        except (IndexError, ValueError):
            lines = [line for line in err.read().splitlines() if line.strip()]
            return {"error": lines[-1][:120] if lines else f"ended with status {process.returncode}"}


def _end_session(process: subprocess.Popen[bytes]) -> None:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == process.pid:
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue
    process.wait()


def machine() -> str:
    """Return the first line of a report: date, Python, processor and cores."""
    named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = f"{named[1]}, {platform.machine()}" if named else platform.machine()
    return f"{date.today()}, Python {platform.python_version()}, {processor}, {len(os.sched_getaffinity(0))} cores"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
