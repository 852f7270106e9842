"""One batch of images, in a worker: read ahead, align, write behind, and commit last."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from apps.face_align import models
from apps.face_align.dataset import MAX_BYTES, Item, read
from apps.face_align.params import Params
from apps.face_align.result import (
    DECODE_ERROR,
    MULTIPLE,
    NO_FACE,
    OK,
    READ_ERROR,
    TOO_LARGE,
    WRITE_ERROR,
    Row,
    from_json,
    to_json,
)
from apps.face_align.science.aligner import Aligner, Face, Stages
from apps.face_align.science.headers import BadImage
from apps.face_align.science.images import MAX_PIXELS, decode, encode, written_as
from core import FanfoldError, open_storage, worker_resource

AHEAD = 8
"""Images read before they are needed, and crops being written, at most."""
AHEAD_BYTES = 64_000_000
"""Bytes of images read before they are needed, at most, but for one image."""
READERS = 4
DETECT_BYTES = 12.5
"""Memory of detection for a pixel of the image, measured; four times that for each doubling."""
MODEL_BYTES = 300_000_000
"""Memory of a worker with its models and small images."""
COMMIT_SECONDS = 2.0
"""Work that a killed process loses at most, about."""
COMMITS = ".face-align/"
"""Where batches are committed, below the destination."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one task, and what the keys of its commits begin with."""

    items: tuple[Item, ...]
    commit: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a batch returns: its rows, and CPU seconds by stage (``storage`` holds what is left)."""

    rows: tuple[Row, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Job:
    """What all batches of a job share."""

    params: Params
    model: str
    fingerprint: str
    destination: str
    memory: int


@worker_resource(keep=32)
def storage_at(address: str) -> Any:
    """Return this worker's connection to a storage."""
    return open_storage(address)


def most_pixels(params: Params, memory: int) -> int:
    """Return the pixels of the largest image that a worker with so many bytes can look for faces in."""
    each = DETECT_BYTES * 4**params.upsample
    return min(MAX_PIXELS, int(max(0, memory - MODEL_BYTES) / each))


def output_keys(name: str, params: Params, faces: int) -> list[str]:
    """Return the keys of an image's crops."""
    stem, extension = os.path.splitext(name)
    extension = written_as(extension) if params.format == "keep" else f".{params.format}"
    if params.select != "all":
        return [stem + extension] * min(faces, 1)
    digits = len(str(faces))  # so that face 2 comes before face 10 wherever names are sorted as text
    return [f"{stem}.face{number:0{digits}d}{extension}" for number in range(1, faces + 1)]


def align_batch(batch: Batch, job: Job, attempt: int) -> Done:
    """Map function: align the images of a batch.

    Whatever is wrong with one image is written in its row. A storage that does not answer fails the whole batch, so
    that it is tried again; a further `attempt` begins after what earlier ones committed.
    """
    cpu = time.process_time()
    stages = Stages()
    aligner = models.aligner(job.params, job.model)
    stages.end("start")
    destination = storage_at(job.destination)
    rows = _committed(destination, batch) if attempt else []
    known = {(row.key, row.etag) for row in rows}
    items = [item for item in batch.items if (item.name, item.etag) not in known]
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(READERS) as writers:
        behind = _Behind(batch.commit, destination, writers, rows)
        try:
            for item, content in _read_ahead(items, readers):
                behind.add(*_align_one(item, content, aligner, job, stages))
            behind.commit()
        except BaseException:
            readers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=False, cancel_futures=True)
            raise
    seconds = dict(stages.seconds)
    seconds["storage"] = max(0.0, time.process_time() - cpu - sum(seconds.values()))
    return Done(tuple(rows), seconds)


class _Behind:
    """Writes crops while others are made; commits rows when their crops are there."""

    def __init__(self, name: str, destination: Any, pool: ThreadPoolExecutor, rows: list[Row]) -> None:
        self._name, self._destination, self._pool, self._rows = name, destination, pool, rows
        self._writing: deque[tuple[int, Future[Any]]] = deque()
        self._first, self._since = len(rows), time.monotonic()

    def add(self, rows: Sequence[Row], crops: Sequence[bytes]) -> None:
        for row, crop in zip(rows, crops, strict=True):
            if crop:
                self._writing.append((len(self._rows), self._pool.submit(self._destination.put, row.output, crop)))
            self._rows.append(row)
        if time.monotonic() - self._since > COMMIT_SECONDS:
            self.commit()
        self._wait(AHEAD)

    def commit(self) -> None:
        self._wait(0)
        if self._first < len(self._rows):
            self._destination.put(f"{self._name}-{self._first:06d}.json", to_json(self._rows[self._first :]))
        self._first, self._since = len(self._rows), time.monotonic()

    def _wait(self, most: int) -> None:
        while len(self._writing) > most:
            position, write = self._writing.popleft()
            try:
                write.result()
            except ConnectionError:
                raise
            except (FanfoldError, OSError) as error:
                self._rows[position] = replace(self._rows[position], status=WRITE_ERROR, reason=str(error), output="")


def _committed(destination: Any, batch: Batch) -> list[Row]:
    """Return the rows that earlier attempts at a batch have committed."""
    parts = [info.key for info in destination.list(f"{batch.commit}-")]
    rows = {(row.key, row.etag, row.face): row for key in parts for row in from_json(destination.get(key))}
    return list(rows.values())


def _read_ahead(items: Sequence[Item], pool: ThreadPoolExecutor) -> Iterator[tuple[Item, Future[bytes]]]:
    waiting: deque[tuple[Item, Future[bytes]]] = deque()
    ahead = 0
    for item in items:
        while waiting and (len(waiting) > AHEAD or ahead + _bytes(item) > AHEAD_BYTES):
            ahead -= _bytes(waiting[0][0])
            yield waiting.popleft()
        waiting.append((item, pool.submit(_read, item)))
        ahead += _bytes(item)
    yield from waiting


def _bytes(item: Item) -> int:
    """Return the bytes that an image takes once it is read: none if it is refused before."""
    size = item.member.unpacked if item.member else item.size
    return 0 if item.fault or size > MAX_BYTES else size


def _read(item: Item) -> bytes:
    return read(item, storage_at(item.root))


def _align_one(
    item: Item, content: Future[bytes], aligner: Aligner, job: Job, stages: Stages
) -> tuple[list[Row], list[bytes]]:
    """Return an image's rows, and the encoded crop of each, empty where there is none."""
    row = Row(item.name, item.etag, OK, parameters=job.fingerprint)
    try:
        data = content.result()
    except BadImage as error:
        return [replace(row, status=error.status, reason=str(error))], [b""]
    except ConnectionError:
        raise
    except Exception as error:  # of whatever kind, it is this image's alone
        return [replace(row, status=READ_ERROR, reason=str(error) or type(error).__name__)], [b""]
    started = time.perf_counter()
    stages.start()
    try:
        image = decode(data, job.params.max_side, most_pixels(job.params, job.memory))
        stages.end("decode")
        found = aligner.align(image, stages)
        row = replace(row, faces=found.count, width=found.width, height=found.height, turn=found.turn)
        faces = found.faces
        if not faces:
            return [replace(row, status=MULTIPLE if found.count else NO_FACE, ms=_ms(started))], [b""]
        keys = output_keys(item.output or item.name, job.params, len(faces))
        extension = os.path.splitext(keys[0])[1]
        crops = [encode(face.crop, extension, job.params.quality) for face in faces]
        stages.end("encode")
    except BadImage as error:
        return [replace(row, status=error.status, reason=str(error))], [b""]
    except MemoryError:
        return [replace(row, status=TOO_LARGE, reason="out of memory; try --max-side")], [b""]
    except Exception as error:  # whatever a decoder or detector makes of a file stays that file's matter
        return [replace(row, status=DECODE_ERROR, reason=f"{type(error).__name__}: {error}")], [b""]
    numbered = enumerate(zip(faces, keys, strict=True), 1)
    row = replace(row, ms=_ms(started))
    return [_face_row(row, number, face, key) for number, (face, key) in numbered], crops


def _face_row(row: Row, number: int, face: Face, key: str) -> Row:
    left, top, right, bottom = face.box
    return replace(
        row, face=number, left=left, top=top, right=right, bottom=bottom, cut=face.cut, output=key,
        points=tuple(face.points.reshape(-1).tolist()), matrix=tuple(face.matrix.reshape(-1).tolist()),
    )  # fmt: skip


def _ms(started: float) -> float:
    return round(1e3 * (time.perf_counter() - started), 3)
