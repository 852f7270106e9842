"""What is to be done: the images of a source that no earlier run has aligned, in batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from apps._frame.stages import outputs_left
from apps.face_align import models
from apps.face_align.dataset import Found, Item, find
from apps.face_align.naming import output_keys, settle_names
from apps.face_align.params import Params
from apps.face_align.result import PASSING, TOO_LARGE, Row, from_json
from apps.face_align.science.images import MAX_PIXELS
from core import ConfigError, FunctionExecutor
from core.storage import process_storage

STAGE = "align"

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
MODEL_BYTES = 300_000_000
"""Memory of a worker with its models and small images."""
DETECT_BYTES = 12.5
"""Memory of detection for a pixel of the image, measured; four times that for each doubling."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all batches share. `fingerprint` is the hash of what determines crops; workers have `memory` bytes each."""

    params: Params
    model: str
    fingerprint: str
    destination: str
    memory: int

    @property
    def max_pixels(self) -> int:
        """Pixels of the largest image that a worker can look for faces in."""
        return min(MAX_PIXELS, int(max(0, self.memory - MODEL_BYTES) / (DETECT_BYTES * 4**self.params.upsample)))

    def stamp(self, status: str) -> str:
        """Return what a row of this status holds for: what was too large is not, in a worker with more memory."""
        return f"{self.fingerprint}+{self.memory}" if status == TOO_LARGE else self.fingerprint


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one task."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What a run has to do.

    `kept` are rows of images done by earlier runs with the same parameters and the same tag, `refused` those of images
    that there is no use in reading.
    """

    job: Job
    found: Found
    kept: tuple[Row, ...]
    refused: tuple[Row, ...]
    batches: tuple[Batch, ...]
    cpu_seconds: float

    @property
    def pending(self) -> int:
        """Images still to be aligned."""
        return sum(len(batch.items) for batch in self.batches)


def look_for(params: Params, destination: str, executor: FunctionExecutor) -> tuple[Job, Found]:
    """List a source, once, and settle what its crops are called; writes nothing.

    Raises
    ------
    ConfigError, InputError
        A parameter does not fit, workers cannot reach source or destination, there is no image, or two images would
        write the same crop.
    """
    target = process_storage(destination)
    with ThreadPoolExecutor(1) as beside:
        hashed = beside.submit(models.model_hash, params)
        found = find(params.source, target.address)
    found = replace(found, items=settle_names(found.items, target.address, params))
    for place in dict.fromkeys([target.address, *(item.root for item in found.items)]):
        if not executor.reaches(process_storage(place)):
            raise ConfigError(
                f"workers of {executor.config.compute} do not see {place}; use a bucket, or a --compute that does"
            )
    model = hashed.result()
    return Job(params, model, params.fingerprint(model), target.address, executor.config.memory or MEMORY), found


def plan_work(job: Job, found: Found, workers: int, *, overwrite: bool = False) -> Work:
    """Take out what earlier runs have done, and form batches of the rest; writes nothing."""
    kept = () if overwrite else tuple(_kept(found.items, job))
    done = {(row.key, row.etag) for row in kept}
    refused = tuple(_refused(item, job) for item in found.items if item.fault)
    pending = [item for item in found.items if not item.fault and (item.name, item.etag) not in done]
    seconds = [estimate_seconds(item, job.params) for item in pending]
    return Work(job, found, kept, refused, tuple(form_batches(pending, seconds, workers)), sum(seconds))


def _refused(item: Item, job: Job) -> Row:
    return Row(item.name, item.etag, item.status, reason=item.fault, parameters=job.stamp(item.status))


def _kept(items: Sequence[Item], job: Job) -> Iterator[Row]:
    """Yield rows of earlier runs, finished or not, that still hold: same tag, same parameters, crops in place."""
    target = process_storage(job.destination)
    rows: dict[tuple[str, str], list[Row]] = {}
    for content in outputs_left(target, STAGE):
        fresh: dict[tuple[str, str], list[Row]] = {}
        for row in from_json(content).rows:
            if row.parameters == job.stamp(row.status):
                fresh.setdefault((row.key, row.etag), []).append(row)
        rows |= {image: of_it for image, of_it in fresh.items() if not any(row.status in PASSING for row in of_it)}
    if not rows:
        return
    there = {info.key for info in target.list()}
    for item in items:
        known = rows.get((item.name, item.etag), []) if item.etag else []
        named = set(output_keys(item.output or item.name, job.params, len(known)))
        if all(not row.output or (row.output in there and row.output in named) for row in known):
            yield from known


def estimate_seconds(item: Item, params: Params) -> float:
    """Return the CPU seconds an image will take, from its bytes and format."""
    pixels = min(item.size * PIXELS_PER_BYTE.get(os.path.splitext(item.name)[1].lower(), 0.33), MAX_PIXELS)
    if params.max_side is not None:
        pixels = min(pixels, params.max_side**2)
    return 1e-3 + pixels * SECONDS_PER_PIXEL * 4.0 ** (params.upsample - 1)


def form_batches(items: Sequence[Item], seconds: Sequence[float], workers: int) -> Iterator[Batch]:
    """Yield images in batches of about as much work as suits the workers; `seconds` are those of each image."""
    least, most = BATCH_SECONDS
    held: list[Item] = []
    total, left = 0.0, sum(seconds)
    for item, cost in zip(items, seconds, strict=True):
        if held and total + cost > min(most, max(least, left * SHARE / workers)):
            yield Batch(tuple(held))
            left -= total
            held, total = [], 0.0
        held.append(item)
        total += cost
    if held:
        yield Batch(tuple(held))
