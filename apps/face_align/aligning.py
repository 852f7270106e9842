"""One batch of images, in a worker: read ahead, align, write behind, and commit last."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from apps._frame.stages import TaskOutput
from apps.face_align import models
from apps.face_align.batches import Batch, Job
from apps.face_align.dataset import MAX_BYTES, Item, read
from apps.face_align.naming import output_keys
from apps.face_align.result import (
    DECODE_ERROR,
    MULTIPLE,
    NO_FACE,
    OK,
    READ_ERROR,
    TOO_LARGE,
    WRITE_ERROR,
    Done,
    Row,
    from_json,
    to_json,
)
from apps.face_align.science.aligner import Aligner, Face, Stages
from apps.face_align.science.headers import BadImage
from apps.face_align.science.images import decode, encode
from core import FanfoldError
from core.storage import process_storage

AHEAD = 8
"""Images read before they are needed, and crops being written, at most."""
AHEAD_BYTES = 64_000_000
"""Bytes of images read before they are needed, at most, but for one image."""
READERS = 4
COMMIT_SECONDS = 2.0
"""Work that a killed process loses at most, about."""


def align_batch(batch: Batch, params: Job, output: TaskOutput) -> Done:
    """Map function: align the images of a batch.

    Whatever is wrong with one image is written in its row. A storage that does not answer fails the whole batch, so
    that it is tried again; a further attempt begins after what earlier ones put beside.
    """
    cpu = time.process_time()
    stages = Stages()
    aligner = models.aligner(params.params, params.model)
    stages.end("start")
    rows = [row for part in output.earlier().values() for row in from_json(part).rows] if output.attempt else []
    known = {(row.key, row.etag) for row in rows}
    items = [item for item in batch.items if (item.name, item.etag) not in known]
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(READERS) as writers:
        behind = _Behind(output, process_storage(params.destination), writers, rows)
        try:
            for item, content in _read_ahead(items, readers):
                found, crops = _align_one(item, content, aligner, params, stages)
                behind.add([replace(row, parameters=params.stamp(row.status)) for row in found], crops)
            behind.wait()
        except BaseException:
            readers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=False, cancel_futures=True)
            raise
    seconds = dict(stages.seconds)
    seconds["storage"] = max(0.0, time.process_time() - cpu - sum(seconds.values()))
    return Done(tuple(rows), seconds)


class _Behind:
    """Writes crops while others are made; puts rows beside when their crops are there."""

    def __init__(self, output: TaskOutput, destination: Any, pool: ThreadPoolExecutor, rows: list[Row]) -> None:
        self._output, self._destination, self._pool, self._rows = output, destination, pool, rows
        self._writing: deque[tuple[int, Future[Any]]] = deque()
        self._first, self._since = len(rows), time.monotonic()

    def add(self, rows: Sequence[Row], crops: Sequence[bytes]) -> None:
        for row, crop in zip(rows, crops, strict=True):
            if crop:
                self._writing.append((len(self._rows), self._pool.submit(self._destination.put, row.output, crop)))
            self._rows.append(row)
        if time.monotonic() - self._since > COMMIT_SECONDS:
            self.wait()
            self._output.put(f"{self._first:06d}", to_json(Done(tuple(self._rows[self._first :]), {})))
            self._first, self._since = len(self._rows), time.monotonic()
        self.wait(AHEAD)

    def wait(self, most: int = 0) -> None:
        while len(self._writing) > most:
            position, write = self._writing.popleft()
            try:
                write.result()
            except ConnectionError:
                raise
            except (FanfoldError, OSError) as error:
                self._rows[position] = replace(self._rows[position], status=WRITE_ERROR, reason=str(error), output="")


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
    return read(item, process_storage(item.root))


def _align_one(
    item: Item, content: Future[bytes], aligner: Aligner, job: Job, stages: Stages
) -> tuple[list[Row], list[bytes]]:
    """Return an image's rows, and the encoded crop of each, empty where there is none."""
    row = Row(item.name, item.etag, OK)
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
        image = decode(data, job.params.max_side, job.max_pixels)
        stages.end("decode")
        found = aligner.align(image, stages)
        row = replace(row, faces=found.count, width=found.width, height=found.height, turn=found.turn)
        if not found.faces:
            return [replace(row, status=MULTIPLE if found.count else NO_FACE, ms=_ms(started))], [b""]
        keys = output_keys(item.output or item.name, job.params, len(found.faces))
        extension = os.path.splitext(keys[0])[1]
        crops = [encode(face.crop, extension, job.params.quality) for face in found.faces]
        stages.end("encode")
    except BadImage as error:
        return [replace(row, status=error.status, reason=str(error))], [b""]
    except MemoryError:
        return [replace(row, status=TOO_LARGE, reason="out of memory; try --max-side")], [b""]
    except Exception as error:  # whatever a decoder or detector makes of a file stays that file's matter
        return [replace(row, status=DECODE_ERROR, reason=f"{type(error).__name__}: {error}")], [b""]
    numbered = enumerate(zip(found.faces, keys, strict=True), 1)
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
