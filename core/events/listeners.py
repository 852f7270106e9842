"""What watches an executor: progress bar, event log, timeline. Listeners; no part of the executor."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from core.errors import ConfigError, InputError, MissingExtra
from core.types import (
    BatchInvoked,
    Event,
    JobCreated,
    JobDone,
    TaskDone,
    TaskFailed,
    TaskRetried,
    TaskStats,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_logger = logging.getLogger(__name__)

_DELAY = 0.5
"""Seconds a job may run before it gets a bar, so that short jobs leave no litter."""


@dataclass(slots=True)
class _Bar:
    bar: Any
    grows: bool
    failed: int = 0
    retried: int = 0
    together: bool = False


class ProgressBar:
    """Listener that draws one progress bar a job on standard error, with failures and retries.

    Parameters
    ----------
    show : bool, optional
        Whether to draw; by default when standard error is a terminal.
    file : text stream, optional
        Where to draw instead of standard error.
    """

    def __init__(self, show: bool | None = None, file: IO[str] | None = None) -> None:
        self._file = file
        self._show = (file or sys.stderr).isatty() if show is None else show
        self._delay = _DELAY if show is None else 0.0
        self._bars: dict[str, _Bar] = {}
        self._together: _Bar | None = None

    @contextmanager
    def together(self, label: str, total: int, done: int = 0) -> Iterator[None]:
        """Draw one bar for all jobs that begin within a ``with`` block.

        Parameters
        ----------
        label : str
            What stands before the bar.
        total, done : int
            Tasks of all of them, and how many are done already.
        """
        if not self._show:
            yield
            return
        bar = self._together = _Bar(self._draw(label, total, done), grows=False, together=True)
        try:
            yield
        finally:
            self._together = None
            bar.bar.close()

    def __call__(self, event: Event) -> None:
        """Receive an event of the executor."""
        if not self._show:
            return
        if isinstance(event, JobCreated):
            self._bars[event.job_id] = self._open(event)
        elif (state := self._bars.get(event.job_id)) is not None:
            self._advance(state, event)

    def close(self) -> None:
        """Leave every bar as it stands."""
        while self._bars:
            self._bars.popitem()[1].bar.close()

    def _open(self, event: JobCreated) -> _Bar:
        return self._together or _Bar(self._draw(event.name, event.tasks), grows=event.tasks is None)

    def _draw(self, label: str, total: int | None, done: int = 0) -> Any:
        from tqdm.auto import tqdm

        return tqdm(
            total=total,
            initial=done,
            desc=label,
            unit="task",
            file=self._file,
            delay=self._delay,
            dynamic_ncols=True,
        )

    def _advance(self, state: _Bar, event: Event) -> None:
        if isinstance(event, TaskDone):
            state.bar.update()
        elif isinstance(event, BatchInvoked):
            if state.grows and event.tasks:
                state.bar.total = max(state.bar.total or 0, max(event.tasks) + 1)
        elif isinstance(event, TaskFailed):
            state.failed += 1
            self._note(state)
            state.bar.update()
        elif isinstance(event, TaskRetried):
            state.retried += 1
            self._note(state)
        elif isinstance(event, JobDone):
            del self._bars[event.job_id]
            if not state.together:
                state.bar.close()

    @staticmethod
    def _note(state: _Bar) -> None:
        counts = {"failed": state.failed, "retried": state.retried}
        state.bar.set_postfix({name: count for name, count in counts.items() if count}, refresh=False)


class EventLog:
    """Listener that appends every event to a file or stream as JSON Lines.

    Each line is one object: ``event`` (its type), ``time`` (seconds since the epoch), ``job_id`` and the event's own
    fields; a line is written whole before the next event is taken. When writing fails, on a full disk for instance, one
    warning is logged, the broken line is taken back, and the job goes on unlogged.

    Parameters
    ----------
    target : path or text stream
        A file to append to, created if missing, or an open stream, which is left open.

    Raises
    ------
    ConfigError
        The file cannot be opened for writing.
    """

    def __init__(self, target: str | Path | IO[str]) -> None:
        self._stream: IO[str] | None = None
        self._file: IO[bytes] | None = None
        if not isinstance(target, str | Path):
            self._stream = target
            return
        try:
            # Unbuffered: a line that does not fit on the disk is not tried again when the file is closed.
            self._file = open(target, "ab", buffering=0)
        except OSError as error:
            raise ConfigError(f"cannot write the event log {target}: {error.strerror}") from None

    def __call__(self, event: Event) -> None:
        """Receive an event of the executor."""
        if self._file is None and self._stream is None:
            return
        line = json.dumps({"event": type(event).__name__, **asdict(event)}, separators=(",", ":")) + "\n"
        try:
            if self._stream is not None:
                self._stream.write(line)
                self._stream.flush()
            elif self._file is not None:
                self._append(self._file, line.encode())
        except (OSError, ValueError) as error:
            _logger.warning("the event log ends here: %s", error)
            self.close()

    @staticmethod
    def _append(file: IO[bytes], line: bytes) -> None:
        start = file.tell()
        written = 0
        try:
            while written < len(line):
                written += file.write(line[written:])
        except OSError:
            if written:
                file.truncate(start)
            raise

    def close(self) -> None:
        """Stop logging; close the file if this log opened it."""
        self._stream = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_FIRST_COLOUR = "#3b6ea5"
_AGAIN_COLOUR = "#d1495b"
_RUNNING_COLOUR = "#8a8f98"
_ROW_INCHES = 0.28
_MAX_NAMED_WORKERS = 24
_MAX_OUTLINED_TASKS = 200
"""Tasks of the busiest worker up to which each is set off by a gap; beyond, the gaps would be all there is to see."""


@dataclass(slots=True)
class _Lane:
    first: list[tuple[float, float]] = field(default_factory=list)
    requeue: list[tuple[float, float]] = field(default_factory=list)


def timeline(rows: Sequence[TaskStats], path: str | Path) -> None:
    """Draw when each worker ran which task, and how many tasks ran at a time.

    Parameters
    ----------
    rows : sequence of TaskStats
        One row a finished task.
    path : path
        Picture to write; its suffix says the format (png, svg, pdf).

    Raises
    ------
    InputError
        No task has finished.
    MissingExtra
        matplotlib is not installed.
    ConfigError
        The picture cannot be written.
    """
    if not rows:
        raise InputError("no task has finished, so there is no timeline to draw")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("the timeline needs matplotlib: pip install matplotlib") from None
    start = min(row.started for row in rows)
    lanes = {worker: _Lane() for worker in sorted({row.worker for row in rows}, key=_natural)}
    for row in rows:
        lane = lanes[row.worker]
        (lane.requeue if row.attempts > 1 else lane.first).append((row.started - start, row.duration))
    height = 1.9 + _ROW_INCHES * min(len(lanes), _MAX_NAMED_WORKERS)
    figure = Figure(figsize=(9, height), layout="constrained", dpi=120)
    _draw(figure, rows, lanes, start)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot write the timeline {path}: {reason}") from None


def _draw(figure: Figure, rows: Sequence[TaskStats], lanes: Mapping[str, _Lane], start: float) -> None:
    named = min(len(lanes), _MAX_NAMED_WORKERS)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.0, _ROW_INCHES * named])
    times, running = _running(rows, start)
    top.fill_between(times, running, step="post", color=_RUNNING_COLOUR, alpha=0.4, linewidth=0)
    top.set_ylabel("running")
    top.set_ylim(bottom=0)
    top.yaxis.get_major_locator().set_params(integer=True)
    requeue = sum(len(lane.requeue) for lane in lanes.values())
    tasks, workers = len(rows), len(lanes)
    title = f"{tasks:,} task{'s' * (tasks != 1)} on {workers:,} worker{'s' * (workers != 1)} in {times[-1]:.3g} s"
    top.set_title(title, loc="left", fontsize="medium")
    busiest = max(len(lane.first) + len(lane.requeue) for lane in lanes.values())
    gap = 0.4 if busiest <= _MAX_OUTLINED_TASKS else 0.0
    for index, lane in enumerate(lanes.values()):
        for spans, colour in ((lane.first, _FIRST_COLOUR), (lane.requeue, _AGAIN_COLOUR)):
            bottom.broken_barh(spans, (index - 0.4, 0.8), facecolor=colour, edgecolor="white", linewidth=gap)
    bottom.set_ylim(len(lanes) - 0.5, -0.5)
    bottom.set_xlim(left=0)
    bottom.set_xlabel("seconds since the first task started")
    if len(lanes) <= _MAX_NAMED_WORKERS:
        bottom.set_yticks(range(len(lanes)), list(lanes), fontsize="small")
    else:
        bottom.set_ylabel("worker")
    if requeue:
        top.set_title(f"{requeue:,} tried more than once", loc="right", fontsize="medium", color=_AGAIN_COLOUR)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _running(rows: Sequence[TaskStats], start: float) -> tuple[list[float], list[int]]:
    changes = sorted(
        change for row in rows for change in ((row.started - start, 1), (row.started - start + row.duration, -1))
    )
    times, running, now = [], [], 0
    for time, change in changes:
        now += change
        times.append(time)
        running.append(now)
    return times, running
