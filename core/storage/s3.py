"""Objects of S3 services: ``s3://bucket/prefix`` and ``cos://bucket/prefix``, by boto3."""

from __future__ import annotations

import io
import itertools
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO

from core.errors import InputError, StorageError
from core.storage.base import Chunk, check_given, check_key, check_range, object_changed
from core.storage.s3_client import crc32, header_of, threads
from core.storage.s3_errors import Damaged
from core.storage.s3_listing import listed, walked
from core.storage.s3_requests import NONCE, Body, Bucket, agrees, damaged, is_checked, tag_is_md5, tag_of
from core.storage.s3_upload import cut, upload
from core.types import MiB, ObjectInfo

LARGE = 32 * MiB
"""Ranges longer than this are read in parts of `PART` bytes by several threads."""

PART = 8 * MiB
STREAM_BUFFER = MiB // 4
LONGEST_BODY = 5 << 30
"""Bytes that S3 takes in one request."""

DELETE_AT_ONCE = 1000
"""What S3 takes in one request."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer to a read: its body, or if that is too long for one request its first part."""

    data: bytes
    tag: str
    total: int
    md5: bool


class S3Storage(Bucket):
    """Objects of one bucket, below a prefix.

    Bodies are checked by length, and whole objects by the service's checksum or the MD5 that their tag is. Passing
    failures (throttling, 5xx, lost connections, damaged bodies) are repeated for up to a minute.

    Parameters
    ----------
    address : str
        ``s3://BUCKET``, ``s3://BUCKET/PREFIX``, or ``cos://...``, with options such as
        ``?endpoint=http://HOST:PORT&profile=NAME&region=NAME&path_style=true&anonymous=true``.

    Raises
    ------
    ConfigError
        The address is malformed or has an unknown option.
    """

    shared = True

    def __reduce__(self) -> tuple[object, ...]:
        return S3Storage, (self.address,)

    def get(self, key: str, start: int = 0, end: int | None = None, *, etag: str = "") -> bytes:
        """Return bytes ``[start, end)`` of an object; long ranges are read by several threads."""
        check_range(start, end)
        check_given(key)
        if end is not None and end <= start:
            return self._nothing(key, etag)
        # Asked for all of a long range, the service would prepare to send what other requests then fetch.
        reach = end if end is None or end - start <= LARGE else start + PART
        answer = self.attempt(key, lambda: self._read(key, start, reach, etag))
        stop = answer.total if end is None else min(end, answer.total)
        if start + len(answer.data) >= stop:
            return answer.data
        ranges = [(at, min(at + PART, stop)) for at in range(start + len(answer.data), stop, PART)]
        pool = threads(os.getpid())
        parts = [pool.submit(self.get, key, *range_, etag=answer.tag) for range_ in ranges]
        try:
            data = b"".join([answer.data, *(part.result() for part in parts)])
        finally:
            for part in parts:
                part.cancel()
        if len(data) != stop - start:
            raise object_changed(self.address, key)
        if len(data) == answer.total and answer.md5 and not agrees(answer.tag, data):
            raise damaged(self.address, key)
        return data

    def get_stream(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over bytes ``[start, end)``, resumed where a connection breaks."""
        check_range(start, end)
        check_given(key)
        if end is not None and end <= start:
            return io.BytesIO(self._nothing(key, ""))
        response = self.attempt(key, lambda: self.open(key, start, end, ""))
        if response is None:
            return io.BytesIO()
        return io.BufferedReader(Body(self, key, start, end, response), STREAM_BUFFER)

    def put(self, key: str, data: Chunk | Iterable[Chunk], *, if_absent: bool = False) -> ObjectInfo:
        """Write an object whole or not at all; what is large or a stream goes in parts, by several threads.

        With `if_absent` it goes in one request of up to 5 GiB, since not every service has conditional uploads of
        parts: Ceph 16 ignores the condition. A long stream waits in a temporary file for it.
        """
        check_key(key)
        check_given(key)
        parts = cut(data)
        first = next(parts, b"")
        second = next(parts, None)
        # By this the writer of an object is known where an answer got lost.
        nonce = os.urandom(12).hex() if if_absent or second is not None else ""
        if second is None:
            info = self._put_whole(key, first, crc32(first), len(first), nonce if if_absent else "")
        elif if_absent:
            info = self._put_waiting(key, itertools.chain((first, second), parts), nonce)
        else:
            info = upload(self, key, itertools.chain((first, second), parts), nonce)
        self.bytes_out += info.size
        return info

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size and tag."""
        check_given(key)
        found = self.describe(key)
        return ObjectInfo(key, found["ContentLength"], tag_of(found))

    def list(self, prefix: str = "", start_after: str = "", *, recursive: bool = True) -> Iterator[ObjectInfo]:
        """Yield objects in key order, a page of up to 1000 at a time."""
        # Every key below the prefix comes after a text that sorts before it.
        after = start_after if start_after >= prefix else ""
        if not self.sorts_by_directory:
            page = self.page(prefix, after, not recursive, None)
            if not self.sorts_by_directory:
                yield from listed(self.page, page, prefix, after, recursive)
                return
        yield from walked(self.page, prefix, after, recursive)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, a thousand a request."""
        waiting = iter(keys)
        while batch := list(itertools.islice(waiting, DELETE_AT_ONCE)):
            for key in batch:
                check_given(key)
            self.attempt("", lambda batch=batch: self._delete(batch))  # type: ignore[misc]

    def close(self) -> None:
        """Keep the client, which other storages of this process use too."""

    def _nothing(self, key: str, etag: str) -> bytes:
        """Return no bytes of an object, which must be there and have the tag all the same."""
        found = self.head(key)
        if etag and etag != found.etag:
            raise object_changed(self.address, key)
        return b""

    def _read(self, key: str, start: int, end: int | None, etag: str) -> _Answer:
        response = self.open(key, start, end, etag)
        if response is None:
            return _Answer(b"", etag, 0, False)
        tag, length = tag_of(response), response["ContentLength"]
        total = int(response.get("ContentRange", f"/{length}").rpartition("/")[2])
        whole = length <= LARGE
        with closing(response["Body"]) as body:
            data: bytes = body.read(length if whole else PART)
            # Reading on at the end has the checksum compared, and finds what is longer than it says.
            more = body.read(1) if whole else b""
        if more or len(data) != (length if whole else PART):
            raise Damaged(f"{len(data)} bytes of {length}")
        md5 = tag_is_md5(response)
        if length == total and whole and md5 and not is_checked(response) and not agrees(tag, data):
            raise Damaged("the body does not have the checksum that its tag is")
        count = len(data)
        self.bytes_in += count
        return _Answer(data, tag, total, md5)

    def _put_whole(self, key: str, body: bytes | BinaryIO, checksum: str, size: int, nonce: str) -> ObjectInfo:
        """Write an object in one request, if there is a nonce only if it is absent."""
        options: dict[str, Any] = {**self.names(key), "Body": body, "ChecksumCRC32": checksum}
        if nonce:
            options |= {"IfNoneMatch": "*", "Metadata": {NONCE: nonce}}

        def send() -> dict[str, Any]:
            if not isinstance(body, bytes):
                body.seek(0)
            answer: dict[str, Any] = self.direct.put_object(**options)
            return answer

        return ObjectInfo(key, size, tag_of(self.write(key, nonce, bool(nonce), send)))

    def _put_waiting(self, key: str, parts: Iterable[bytes], nonce: str) -> ObjectInfo:
        with tempfile.TemporaryFile() as waiting:
            checksum = 0
            for part in parts:
                waiting.write(part)
                checksum = zlib.crc32(part, checksum)
                if waiting.tell() > LONGEST_BODY:
                    raise InputError(
                        f"object {key!r} is longer than the {LONGEST_BODY} bytes that {self.address} takes at once, "
                        "as it must be to be written only if it is absent; write it without that condition"
                    )
            return self._put_whole(key, waiting, header_of(checksum), waiting.tell(), nonce)

    def _delete(self, batch: Sequence[str]) -> None:
        names = [{"Key": self.prefix + key} for key in batch]
        answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": names, "Quiet": True})
        faults = [fault for fault in answer.get("Errors", ()) if fault.get("Code") != "NoSuchKey"]
        if any(fault.get("Code") in ("InternalError", "SlowDown", "ServiceUnavailable") for fault in faults):
            raise Damaged(f"{len(faults)} of {len(batch)} objects were not deleted")
        if faults:
            first = faults[0]
            raise StorageError(
                f"{len(faults)} of {len(batch)} objects in {self.address} were not deleted; the first is "
                f"{first.get('Key')!r}: {first.get('Code')}, {first.get('Message')}"
            )
