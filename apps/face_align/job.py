"""An alignment as a map job: what is to be done, in batches, and what becomes of it."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from apps.face_align import models
from apps.face_align.batches import COMMITS, Batch, Done, Job, align_batch, output_keys
from apps.face_align.dataset import Found, Item, find, natural
from apps.face_align.params import Params
from apps.face_align.result import DECODE_ERROR, PASSING, STATUSES, WRITE_ERROR, Row, from_csv, from_json
from apps.face_align.science.images import MAX_PIXELS
from core import ConfigError, FunctionExecutor, InputError, RetryPolicy, TaskError, open_storage

MANIFEST = "manifest.csv"
RESULTS = (MANIFEST, "manifest.parquet", "contact-sheet.png", "report.html", "result.json")
"""What a run writes beside the crops."""

BATCH_SECONDS = (0.5, 10.0)
"""CPU seconds of a batch, least and most: long against the cost of a call, short against what a lost worker costs."""
SHARE = 0.5
"""Part of what is left that the next batches of all workers take, so that batches shrink and all workers end together.

Source: factoring, Hummel, Schonberg and Flynn, "Factoring: a method for scheduling parallel loops", CACM 35 (1992).
"""
SECONDS_PER_PIXEL = 2.6e-7
"""CPU of detection at --upsample 1, measured on one core of a 2020s server; four times less for each doubling less."""
PIXELS_PER_BYTE = {".jpg": 5.0, ".jpeg": 5.0, ".webp": 8.0, ".png": 0.7}
"""Pixels that a byte of a file stands for, about; 0.33 for formats without compression."""

MEMORY = 3_000_000_000
"""Bytes that a worker may use unless --memory says otherwise: enough for the largest image at --upsample 1."""

RETRIES = RetryPolicy(retries=3, retry_on=(ConnectionError,), backoff=2.0)
"""For workers that die, and for a storage that is away for longer than its client tries."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do.

    `kept` are rows of images done by earlier runs with the same parameters and the same tag.
    """

    source: str
    job: Job
    found: Found
    kept: tuple[Row, ...]
    batches: tuple[Batch, ...]
    cpu_seconds: float

    @property
    def pending(self) -> int:
        """Images still to be aligned."""
        return sum(len(batch.items) for batch in self.batches)


@dataclass(frozen=True, slots=True)
class Result:
    """A finished alignment: all rows in the order of keys, and what it took."""

    plan: Plan
    rows: tuple[Row, ...]
    seconds: dict[str, float]
    wall_seconds: float
    workers: int

    @property
    def counts(self) -> dict[str, int]:
        """Images by status; one with several crops counts once."""
        status = {(row.key, row.etag): row.status for row in reversed(self.rows)}
        counted = Counter(status.values())
        return {name: counted[name] for name in STATUSES}


def align(source: str | os.PathLike[str], destination: str | os.PathLike[str], **options: Any) -> Result:
    """Align the faces of all images of a source, and write the crops, a manifest and a report to a destination.

    Parameters
    ----------
    source : str or path
        Folder, bucket prefix, archive, shards or list of images; see ``dataset.find``.
    destination : str or path
        Folder or bucket prefix.
    options
        Fields of ``Params``; ``executor``, a FunctionExecutor to use instead of one for this call; ``overwrite``, to
        align again what an earlier run has done.

    Raises
    ------
    ConfigError, InputError
        A parameter does not fit, there is no image, or two images would write the same crop. Nothing has been written.
    """
    from apps.face_align.report import publish

    executor, overwrite = options.pop("executor", None), options.pop("overwrite", False)
    known = set(Params.__dataclass_fields__)
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"align has no option {unknown[0]!r}; known: executor, overwrite, {', '.join(sorted(known))}")
    params = Params(**options)
    if executor is None:
        with FunctionExecutor() as own:
            return align(source, destination, executor=own, overwrite=overwrite, **options)
    result = run(plan(os.fspath(source), os.fspath(destination), params, executor, overwrite=overwrite), executor)
    publish(result)
    return result


def plan(source: str, destination: str, params: Params, executor: FunctionExecutor, *, overwrite: bool = False) -> Plan:
    """List a source, take out what is done, and form batches of the rest; writes nothing.

    Raises
    ------
    ConfigError, InputError
        As for ``align``.
    """
    target = open_storage(destination)
    with ThreadPoolExecutor(1) as beside:
        hashed = beside.submit(models.model_hash, params)
        found = find(source, target.address)
    found = replace(found, items=settle_names(found.items, target.address, params))
    if not target.shared and executor.config.compute.partition("?")[0] != "serial":
        raise ConfigError(f"{destination} is seen by this process alone; use --compute serial, or another destination")
    model = hashed.result()
    job = Job(params, model, params.fingerprint(model), target.address, executor.config.memory or MEMORY)
    kept = () if overwrite else tuple(_kept(target, found.items, job))
    done = {(row.key, row.etag) for row in kept}
    pending = [item for item in found.items if (item.name, item.etag) not in done]
    seconds = [estimate_seconds(item, params) for item in pending]
    return Plan(source, job, found, kept, tuple(_batches(pending, seconds, job, executor.workers)), sum(seconds))


def settle_names(items: Sequence[Item], destination: str, params: Params) -> tuple[Item, ...]:
    """Return the images, each with a name for its crops that no other one has.

    Raises
    ------
    InputError
        Several would write the same crop, a result of the run, or an input, and --rename is not given. All are named.
    """
    base = destination.partition("?")[0].rstrip("/")
    inputs = {f"{item.root.partition('?')[0].rstrip('/')}/{item.key}": item.name for item in items}
    taken = dict.fromkeys(RESULTS, "a result of the run")
    settled, clashes = [], []
    for item in items:
        key = output_keys(item.name, params, 1)[0]
        other = taken.get(key) or inputs.get(f"{base}/{key}")
        if other and not item.fault:
            clashes.append(f"{item.name} and {other}: {key}")
            names = (_renamed(item, number) for number in itertools.count(1))
            while key in taken or f"{base}/{key}" in inputs:
                item = replace(item, output=next(names))
                key = output_keys(item.output, params, 1)[0]
        if not item.fault:
            taken[key] = item.name
        settled.append(item)
    if clashes and not params.rename:
        listed = "\n  ".join(clashes)
        raise InputError(
            f"{len(clashes):,} images would write over another crop, an input or a result; nothing was written; add "
            f"--rename, or choose another --format or --output:\n  {listed}"
        )
    return tuple(settled)


def _renamed(item: Item, number: int) -> str:
    """Return another name: ``a.jpg`` is ``a_jpg.jpg``, then ``a_jpg_2.jpg``, whatever its crops' own extension."""
    stem, extension = os.path.splitext(item.name)
    return f"{stem}_{extension[1:].lower()}{f'_{number}' if number > 1 else ''}{extension}"


def _kept(target: Any, items: Sequence[Item], job: Job) -> Iterator[Row]:
    """Yield rows of earlier runs, finished or not, that still hold: same tag, same parameters, crops in place."""
    rows: dict[tuple[str, str], list[Row]] = {}
    commits = [info.key for info in target.list(COMMITS)]
    with ThreadPoolExecutor(16) as pool:
        earlier = [from_json(content) for content in pool.map(target.get, commits)]
    try:
        earlier.insert(0, from_csv(target.get(MANIFEST)))
    except FileNotFoundError:
        pass
    for batch in earlier:
        fresh: dict[tuple[str, str], list[Row]] = {}
        for row in batch:
            if row.parameters == job.fingerprint:
                fresh.setdefault((row.key, row.etag), []).append(row)
        rows |= fresh
    if not rows:
        return
    there = {info.key for info in target.list()}
    for item in items:
        known = rows.get((item.name, item.etag), []) if item.etag else []
        named = set(output_keys(item.output or item.name, job.params, len(known)))
        if known and all(
            row.status not in PASSING and (not row.output or row.output in there and row.output in named)
            for row in known
        ):
            yield from known


def estimate_seconds(item: Item, params: Params) -> float:
    """Return the CPU seconds an image will take, from its bytes and format."""
    pixels = min(item.size * PIXELS_PER_BYTE.get(os.path.splitext(item.name)[1].lower(), 0.33), MAX_PIXELS)
    if params.max_side is not None:
        pixels = min(pixels, params.max_side**2)
    return 1e-3 + pixels * SECONDS_PER_PIXEL * 4.0 ** (params.upsample - 1)


def _batches(items: Sequence[Item], seconds: Sequence[float], job: Job, workers: int) -> Iterator[Batch]:
    least, most = BATCH_SECONDS
    held: list[Item] = []
    total, left = 0.0, sum(seconds)
    for item, cost in zip(items, seconds, strict=True):
        if held and total + cost > min(most, max(least, left * SHARE / workers)):
            yield _batch(held, job)
            left -= total
            held, total = [], 0.0
        held.append(item)
        total += cost
    if held:
        yield _batch(held, job)


def _batch(items: Sequence[Item], job: Job) -> Batch:
    named = "\n".join([job.fingerprint, *(f"{item.name}\t{item.etag}" for item in items)])
    ident = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return Batch(tuple(items), f"{COMMITS}{ident}")


def run(planned: Plan, executor: FunctionExecutor, *, started: float | None = None) -> Result:
    """Align what a plan has left to do.

    Parameters
    ----------
    planned : Plan
        What ``plan`` returned.
    executor : FunctionExecutor
        Where it runs; the crops are the same wherever that is.
    started : float, optional
        ``time.perf_counter()`` at which the wall time begins; now unless given.
    """
    started = time.perf_counter() if started is None else started
    seconds: Counter[str] = Counter()
    rows = list(planned.kept)
    fatal: list[Item] = []
    for batch, done in _done(planned.batches, planned.job, executor):
        if isinstance(done, TaskError):
            fatal.extend(batch.items)
            continue
        rows.extend(done.rows)
        seconds.update(done.seconds)
    # An image that ends its worker has taken its batch-mates with it; alone it harms nobody.
    for batch, done in _done([_batch([item], planned.job) for item in fatal], planned.job, executor):
        if isinstance(done, TaskError):
            item = batch.items[0]
            reason = f"aligning it ended the worker: {str(done).splitlines()[0]}"
            rows.append(Row(item.name, item.etag, DECODE_ERROR, reason=reason, parameters=planned.job.fingerprint))
            continue
        rows.extend(done.rows)
        seconds.update(done.seconds)
    rows.sort(key=lambda row: (natural(row.key), row.face))
    return Result(planned, tuple(rows), dict(seconds), time.perf_counter() - started, executor.workers)


def _done(todo: Sequence[Batch], shared: Job, executor: FunctionExecutor) -> Iterator[tuple[Batch, Done | TaskError]]:
    """Align batches; yields what each returned, or how its worker ended."""
    if not todo:
        return
    futures = executor.map(
        align_batch, todo, extra_args=(shared,), batch_size=1, memory=shared.memory, retries=RETRIES, durable=False
    )
    for position, (batch, future) in enumerate(zip(todo, futures, strict=True)):
        try:
            yield batch, future.result()
        except TaskError as error:
            yield batch, error
        futures.release(position)


def failed_writes(result: Result) -> int:
    """Return the number of images whose crops could not be written."""
    return result.counts[WRITE_ERROR]
