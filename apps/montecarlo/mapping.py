"""One way to run a map job, for commands that keep a run and for calls from Python that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from apps._frame import Session
from apps._frame.interrupts import preload
from apps._frame.run import Run
from apps._frame.stages import Stage
from apps._frame.stored import JSON, Codec
from core import FunctionExecutor

DRAWING = preload("apps.montecarlo.drawing")
"""Loads what charts need, while the workers simulate."""
Mapped = Callable[..., Iterator[Any]]
"""Runs the map job `name`, `fn` of each of `tasks` and `params`, with a `codec` for what is returned (JSON unless
given); yields what each task returned, one in memory at a time."""


def on_executor(executor: FunctionExecutor) -> Mapped:
    """Return what runs map jobs on an executor."""

    def mapped(
        name: str, fn: Callable[..., Any], tasks: Sequence[Any], params: Any, codec: Codec = JSON
    ) -> Iterator[Any]:
        futures = executor.map(fn, [(task,) for task in tasks], extra_args=(params,), batch_size=1, label=name)
        for place, future in enumerate(futures):
            result = future.result()
            futures.release(place)
            yield result

    return mapped


def in_run(session: Session, run: Run, names: Sequence[str], meanwhile: Callable[[], object] | None = None) -> Mapped:
    """Return what runs map jobs whose outputs the run keeps.

    Parameters
    ----------
    session, run : Session, Run
    names : sequence of str
        All jobs, in order.
    meanwhile : callable, optional
        Work of the driver that can be done while the first of them runs.
    """
    stages = session.stages(run, names)

    def mapped(
        name: str, fn: Callable[..., Any], tasks: Sequence[Any], params: Any, codec: Codec = JSON
    ) -> Iterator[Any]:
        stage = Stage(name, tasks, fn, params, codec=codec, options={"batch_size": 1})
        return stages.run(stage, meanwhile=meanwhile if name == names[0] else None).values()

    return mapped
