"""Uploads in parts: what is too long for one request, or of unknown length."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from core.errors import FanfoldError
from core.storage.base import Chunk, pieces
from core.storage.s3_client import crc32, threads
from core.storage.s3_requests import NONCE, Bucket, tag_of
from core.types import MiB, ObjectInfo

SMALLEST_PART, LARGEST_PART = 8 * MiB, 64 * MiB
DOUBLED_AFTER = 1000
"""Parts of one size: so 10,000 parts, the most there may be, hold 500 GB, and short objects take little memory."""

WAITING = 4
"""Parts in memory at the same time."""


def cut(data: Chunk | Iterable[Chunk]) -> Iterator[bytes]:
    """Yield what ``put`` was given in parts of the size that their number asks for."""
    if isinstance(data, bytes) and len(data) <= SMALLEST_PART:
        yield data
        return
    buffer = bytearray()
    number = 0
    size = SMALLEST_PART
    for piece in pieces(data):
        view = memoryview(piece).cast("B")
        while view:
            taken = view[: size - len(buffer)]
            view = view[len(taken) :]
            if len(taken) < size:  # else it is a part by itself, and copied once
                buffer += taken
                if len(buffer) < size:
                    continue
            yield bytes(buffer or taken)
            buffer = bytearray()
            number += 1
            size = min(SMALLEST_PART << (number // DOUBLED_AFTER), LARGEST_PART)
    if buffer or not number:
        yield bytes(buffer)


def upload(bucket: Bucket, key: str, parts: Iterable[bytes], nonce: str) -> ObjectInfo:
    """Write an object from its parts, several at a time; what was sent is thrown away if anything fails."""
    names = bucket.names(key)
    options = {**names, "Metadata": {NONCE: nonce}, "ChecksumAlgorithm": "CRC32"}
    made = bucket.attempt(key, lambda: bucket.client.create_multipart_upload(**options))
    names["UploadId"] = made["UploadId"]

    def send(number: int, body: bytes) -> dict[str, Any]:
        options = {**names, "PartNumber": number, "Body": body, "ChecksumCRC32": crc32(body)}
        sent = bucket.attempt(key, lambda: bucket.client.upload_part(**options))
        return {"PartNumber": number} | {name: sent[name] for name in ("ETag", "ChecksumCRC32") if name in sent}

    pool = threads(os.getpid())
    flying: deque[Future[dict[str, Any]]] = deque()
    done: list[dict[str, Any]] = []
    size = 0
    try:
        for number, part in enumerate(parts, 1):
            if len(flying) == WAITING:
                done.append(flying.popleft().result())
            flying.append(pool.submit(send, number, part))
            size += len(part)
        done += [each.result() for each in flying]
        options = {**names, "MultipartUpload": {"Parts": done}}
        written = bucket.write(key, nonce, False, lambda: bucket.client.complete_multipart_upload(**options))
    except BaseException:
        for each in flying:
            each.cancel()
        wait(flying)
        with suppress(FanfoldError):
            bucket.attempt(key, lambda: bucket.client.abort_multipart_upload(**names))
        raise
    return ObjectInfo(key, size, tag_of(written))
