"""What a command does, in its order: list, take out what is done, align the rest, publish."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from apps._frame import Session
from apps._frame.plan import Plan
from apps._frame.run import Run, new_run_path
from apps._frame.stages import Stage, Stages
from apps._frame.stored import Codec, commit
from apps._frame.tables import counted
from apps.face_align import report
from apps.face_align.aligning import align_batch
from apps.face_align.batches import STAGE, Batch, Job, Work, look_for, plan_work
from apps.face_align.dataset import Found
from apps.face_align.demo import write_demonstration
from apps.face_align.naming import RESULTS, first_keys, in_the_way
from apps.face_align.params import Params
from apps.face_align.result import DECODE_ERROR, TOO_LARGE, WRITE_ERROR, Done, Result, Row, from_json, order, to_json
from core import ConfigError, FunctionExecutor, RetryPolicy, TaskError

APP = "apps.face_align"
RUNS = "face-align-runs"

RETRIES = RetryPolicy(retries=3, retry_on=(ConnectionError,), backoff=2.0)
"""For workers that die, and for a storage that is away for longer than its client tries."""
_CODEC = Codec(to_json, from_json)


def align(source: str | os.PathLike[str], destination: str | os.PathLike[str], **options: Any) -> Result:
    """Align the faces of all images of a source, and write the crops, a manifest and a report to a destination.

    Parameters
    ----------
    source : str or path
        Folder, bucket prefix, archive, shards or list of images; see ``dataset.find``.
    destination : str or path
        Folder or bucket prefix: a run, which goes on from what an earlier call with the same parameters did.
    options
        Fields of ``Params``; ``executor``, a FunctionExecutor to use instead of one for this call; ``overwrite``, to
        align again what an earlier run has done, and to replace files that are in the way.

    Raises
    ------
    ConfigError, InputError
        A parameter does not fit, or is not that of the run that is there; there is no image, or two images would write
        the same crop; a file is in the way that no run wrote. Nothing has been written.
    """
    executor, overwrite = options.pop("executor", None), options.pop("overwrite", False)
    known = set(Params.__dataclass_fields__) - {"source"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"align has no option {unknown[0]!r}; known: executor, overwrite, {', '.join(sorted(known))}")
    if executor is None:
        with FunctionExecutor() as own:
            return align(source, destination, executor=own, overwrite=overwrite, **options)
    started = time.perf_counter()
    params = Params(source=os.fspath(source), **options)
    job, found = look_for(params, os.fspath(destination), executor)
    with Run(destination, APP, params, results=RESULTS, overwrite=overwrite, keep_stages=True) as opened:
        work = begin(opened, job, found, executor, overwrite=overwrite)
        return finish(opened, work, executor, Stages(opened, executor, [STAGE]), started)


def run(session: Session, params: Params) -> int:
    """Command: align, or say what is there if all of it is done."""
    started = time.perf_counter()
    if not params.source:
        params = session.params = replace(params, source=_demonstration(session))
    job, found = look_for(params, session.output, session.executor)
    with session.open_run(RESULTS, versions=report.versions(), keep_stages=True) as opened:
        work = begin(opened, job, found, session.executor, overwrite=session.common.overwrite)
        finish(opened, work, session.executor, session.stages(opened, [STAGE]), started)
        figures = opened.figures()
    session.show(figures, report.terminal)
    place = figures["destination"].removeprefix("file://")
    session.say(f"\nReport: {place}/report.html (beside it: manifest, contact sheet)")
    session.show_bill()
    unwritten = figures["status"][WRITE_ERROR]
    if unwritten:
        session.tell(f"crops of {counted(unwritten, 'image')} could not be written; the report says why")
    return 1 if unwritten else 0


def plan(session: Session, params: Params) -> Plan:
    """Command: say what a run would take."""
    with TemporaryDirectory() as folder:
        if not params.source:
            write_demonstration(Path(folder))
            params = replace(params, source=folder)
        job, found = look_for(params, session.output, session.executor)
        work = plan_work(job, found, session.executor.workers, overwrite=session.common.overwrite)
    return report.plan(work)


def _demonstration(session: Session) -> str:
    parent = Path(new_run_path(RUNS))
    write_demonstration(parent / "photographs")
    if session.common.output is None:
        session.output = str(parent / "faces")
    return str(parent.absolute() / "photographs")


def begin(opened: Run, job: Job, found: Found, executor: FunctionExecutor, *, overwrite: bool) -> Work:
    """Find out what is left to do, and make sure that no file of somebody else is where a crop goes.

    Raises
    ------
    ConfigError
        One is.
    """
    work = plan_work(job, found, executor.workers, overwrite=overwrite)
    if work.batches:
        pending = [item for batch in work.batches for item in batch.items]
        first = first_keys(pending, job.params)
        several = job.params.select == "all"
        there = (info.key for info in opened.storage.list()) if several else ()
        opened.claim([*first, *in_the_way(first, there, opened.owned() if several else set())])
    return work


def finish(opened: Run, work: Work, executor: FunctionExecutor, stages: Stages, started: float) -> Result:
    """Align what is left to do, and publish if there is anything new; see ``align_rest``."""
    if work.batches and opened.finished:
        opened.storage.delete([RESULTS[-1]])  # so that it is not taken for finished until it is again
    result = align_rest(opened, work, executor, stages, started)
    if work.batches or not opened.finished or opened.figures()["status"] != result.counts:
        opened.publish(report.files(result, opened.storage))
    return result


def align_rest(opened: Run, work: Work, executor: FunctionExecutor, stages: Stages, started: float) -> Result:
    """Align what is left to do.

    Parameters
    ----------
    started : float
        ``time.perf_counter()`` at which the wall time begins.
    """
    seconds: Counter[str] = Counter()
    rows = [*work.kept, *work.refused]
    fatal = _align(opened, stages, work.job, work.batches, rows, seconds)
    # An image that ends its worker has taken its batch-mates with it; alone it harms nobody.
    alone = [Batch((item,)) for at in fatal for item in work.batches[at].items]
    for at, error in _align(opened, stages, work.job, alone, rows, seconds).items():
        item, status = alone[at].items[0], TOO_LARGE if isinstance(error, MemoryError) else DECODE_ERROR
        why = f"aligning it ended the worker: {str(error).splitlines()[0]}"
        row = Row(item.name, item.etag, status, reason=why, parameters=work.job.stamp(status))
        commit(opened.storage, _stage(work.job, [alone[at]]).bases()[0], to_json(Done((row,), {})))
        rows.append(row)
    return Result(
        params=work.job.params,
        destination=work.job.destination,
        model=work.job.model,
        rows=tuple(order(rows)),
        batches=tuple(len(batch.items) for batch in work.batches),
        kept=len({(row.key, row.etag) for row in work.kept}),
        left_out=work.found.left_out,
        seconds=dict(seconds),
        wall_seconds=time.perf_counter() - started,
        workers=executor.workers,
    )


def _align(
    opened: Run, stages: Stages, job: Job, batches: Sequence[Batch], rows: list[Row], seconds: Counter[str]
) -> dict[int, TaskError]:
    """Align batches, and add what comes out; returns how the workers of others ended, by their index."""
    if not batches:
        return {}
    outputs = stages.run(_stage(job, batches), go_on=True)
    for done in outputs.values():
        rows.extend(done.rows)
        seconds.update(done.seconds)
    return outputs.failures


def _stage(job: Job, batches: Sequence[Batch]) -> Stage:
    options = {"batch_size": 1, "memory": job.memory, "retries": RETRIES, "durable": False}
    return Stage(STAGE, batches, align_batch, job, version=job.fingerprint, codec=_CODEC, options=options)
