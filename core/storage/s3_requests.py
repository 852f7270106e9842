"""Requests to one bucket: tried until they work, counted, and safe where an answer gets lost."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from core.errors import StorageError, StorageUnavailable
from core.storage.base import check_content_range, count_left_out, exists_already, object_changed, sealed_coding
from core.storage.s3_client import Connection, connection, header_of, parse, turn
from core.storage.s3_direct import Direct
from core.storage.s3_errors import Damaged, is_ambiguous, is_gone, is_past_end, is_precondition
from core.storage.s3_listing import Page
from core.types import ObjectInfo

NONCE = "fanfold-put"
"""Name of the metadata that tells the writer of an object."""

_MD5 = re.compile(r"[0-9a-f]{32}")

T = TypeVar("T")


class Bucket:
    """Requests to one bucket below a prefix; what they cost is counted.

    An instance holds no connection: each process makes one client for a service when it first needs it.
    """

    def __init__(self, address: str) -> None:
        self._service, self.bucket, self.prefix, self.address = parse(address)
        self.requests = self.bytes_in = self.bytes_out = 0
        self.left_out: dict[str, int] = {}
        self.codings: dict[str, str] = {}

    @property
    def client(self) -> Any:
        """The boto3 client of this process."""
        return self._connection.client

    def lent_client(self) -> Any:
        """Return the client for a function that makes requests of its own; they are counted here too."""
        return self._connection.client_for(self._count)

    @property
    def direct(self) -> Direct:
        """What does the same as the client for reads and short writes, with less work."""
        return self._connection.direct

    @property
    def endpoint(self) -> str:
        """Where the service is."""
        return self._connection.endpoint

    @property
    def sorts_by_directory(self) -> bool:
        """Whether the server is known to list directory by directory."""
        return self._connection.sorts_by_directory

    @property
    def _connection(self) -> Connection:
        process = os.getpid()
        with turn(process):
            return connection(self._service, process)

    def attempt(self, key: str, request: Callable[[], T]) -> T:
        """Return what a request returns, repeated while its failures are passing ones; see `Connection.attempt`."""
        return self._connection.attempt(self.address, key, self._count, request)

    def _count(self) -> None:
        self.requests += 1

    def names(self, key: str) -> dict[str, str]:
        """Return the parameters by which requests name an object."""
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def describe(self, key: str) -> dict[str, Any]:
        """Return all that the service tells of an object without sending it."""
        found: dict[str, Any] = self.attempt(key, lambda: self.direct.head_object(**self.names(key)))
        if not isinstance(found.get("ContentLength"), int):
            raise StorageError(f"{self.address} does not tell the size of {key!r}")
        return found

    def open(self, key: str, start: int, end: int | None, etag: str) -> dict[str, Any] | None:
        """Return the answer to a read, None if the range begins behind the object's end."""
        from botocore.exceptions import ClientError

        options = self.names(key)
        if start or end is not None:
            options["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if etag:
            options["IfMatch"] = f'"{etag}"'
        try:
            response: dict[str, Any] = self.direct.get_object(**options)
        except ClientError as error:
            if is_precondition(error):
                raise object_changed(self.address, key) from None
            if is_past_end(error):
                return None
            raise
        try:
            length, told = response.get("ContentLength"), response.get("ContentRange") or ""
            if not isinstance(length, int) or told.endswith("*"):
                raise ValueError("the service does not tell its size")
            if "Range" in options and length != check_content_range(told, start, end):
                raise ValueError(f"the service sends {length} bytes as {told}")
        except ValueError as error:
            response["Body"].close()
            raise StorageError(f"object {key!r} in {self.address} cannot be read: {error}") from None
        if coding := sealed_coding(response.get("ContentEncoding") or ""):
            self.codings[key] = coding
        else:
            self.codings.pop(key, None)
        return response

    def write(self, key: str, nonce: str, if_absent: bool, request: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the answer to a write; where an answer got lost, look whether the object is this write's."""
        from botocore.exceptions import BotoCoreError, ClientError

        ambiguous = False

        def once() -> dict[str, Any]:
            nonlocal ambiguous
            try:
                return request()
            except (BotoCoreError, ClientError) as error:
                refused = (if_absent and is_precondition(error)) or is_gone(error)
                if not refused:
                    ambiguous |= is_ambiguous(error)
                    raise
                found = self.describe(key) if ambiguous else {}
                if nonce and found.get("Metadata", {}).get(NONCE) == nonce:
                    return found
                if is_gone(error):
                    raise StorageError(f"the upload of {key!r} to {self.address} was ended by somebody else") from None
                raise exists_already(self.address, key) from None

        return self.attempt(key, once)

    def page(self, prefix: str, start_after: str, folders: bool, token: str | None) -> Page:
        """Return one page of a listing; with `folders`, what is further down shows as its folder alone."""
        options = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        if token is not None:
            options["ContinuationToken"] = token
        elif start_after:
            options["StartAfter"] = self.prefix + start_after
        if folders:
            options["Delimiter"] = "/"
        answer = self.attempt("", lambda: self.client.list_objects_v2(**options))
        further = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
        try:
            if "Name" not in answer or (answer.get("IsTruncated") and further in (None, token)):
                raise ValueError
            objects = [self._info(each) for each in answer.get("Contents", ())]
            below = [each["Prefix"][len(self.prefix) :] for each in answer.get("CommonPrefixes", ())]
        except (KeyError, TypeError, ValueError):
            raise StorageError(f"cannot list {self.address}: {self.endpoint} answers with no proper listing") from None
        return Page([info for info in objects if self._is_listed(info, prefix)], below, further)

    def _info(self, entry: dict[str, Any]) -> ObjectInfo:
        return ObjectInfo(entry["Key"][len(self.prefix) :], int(entry["Size"]), tag_of(entry))

    def _is_listed(self, info: ObjectInfo, prefix: str) -> bool:
        # Some tools and servers mark a folder by an object whose key ends in '/'.
        if not info.key or (info.key.endswith("/") and not info.size):
            count_left_out(self.left_out, "empty objects whose key ends in '/', which mark folders")
            return False
        return info.key.startswith(prefix)


class Body(io.RawIOBase):
    """The body of a read that goes on, if its connection breaks, with another read of what is left."""

    def __init__(self, storage: Bucket, key: str, start: int, end: int | None, response: dict[str, Any]) -> None:
        self._storage, self._key = storage, key
        self._position, self._end = start, end
        self._tag = tag_of(response)
        self._body: Any = response["Body"]
        self._left = int(response["ContentLength"])
        whole = start == 0 and end is None
        # Kept here rather than by boto3, whose sum ends with the connection.
        self._checksum = str(response.get("ChecksumCRC32", "-")) if whole else "-"
        self._sum = 0
        md5 = whole and "-" in self._checksum and tag_is_md5(response)
        self._digest = hashlib.md5(usedforsecurity=False) if md5 else None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read up to ``len(buffer)`` bytes."""
        if self._left <= 0:
            return 0
        data = self._read(min(len(buffer), self._left))
        count = len(data)
        buffer[:count] = data
        self._left -= count
        self._position += count
        self._storage.bytes_in += count
        if "-" not in self._checksum:
            self._sum = zlib.crc32(data, self._sum)
        if self._digest is not None:
            self._digest.update(data)
        if self._left == 0 and not self._is_sound():
            raise damaged(self._storage.address, self._key)
        return count

    def close(self) -> None:
        """Give the connection back."""
        self._body.close()
        super().close()

    def _is_sound(self) -> bool:
        if self._digest is not None:
            return self._digest.hexdigest() == self._tag
        return "-" in self._checksum or header_of(self._sum) == self._checksum

    def _read(self, most: int) -> bytes:
        from botocore.exceptions import BotoCoreError

        try:
            data: bytes = self._body.read(most)
            if data:
                return data
        except (BotoCoreError, OSError):
            pass
        return self._storage.attempt(self._key, lambda: self._again(most))

    def _again(self, most: int) -> bytes:
        self._body.close()
        response = self._storage.open(self._key, self._position, self._end, self._tag)
        if response is None:
            raise object_changed(self._storage.address, self._key)
        self._body = response["Body"]
        data: bytes = self._body.read(most)
        if not data:
            raise Damaged("the body ended early")
        return data


def damaged(address: str, key: str) -> StorageUnavailable:
    """Return the error for a body that is not what was stored, when it is too late to repeat the request."""
    return StorageUnavailable(
        f"object {key!r} of {address} arrived damaged: it does not have the checksum it was stored with; read it again"
    )


def is_checked(response: dict[str, Any]) -> bool:
    """Whether boto3 compares the body, when all of it was read, with a checksum in the answer."""
    from botocore.httpchecksum import StreamingChecksumBody

    return isinstance(response["Body"], StreamingChecksumBody)


def tag_of(answer: dict[str, Any]) -> str:
    """Return the tag in an answer, without its quotes."""
    return str(answer.get("ETag", "")).strip('"')


def tag_is_md5(answer: dict[str, Any]) -> bool:
    """Whether the tag is the MD5 of the object: not if it was written in parts or with a key of its own."""
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return bool(_MD5.fullmatch(tag_of(answer))) and not encrypted


def agrees(tag: str, data: bytes) -> bool:
    """Whether a tag is the MD5 of these bytes."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == tag
