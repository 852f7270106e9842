"""Reading objects from web servers: ``http://host`` and ``https://host``, by byte ranges where the server has them."""

from __future__ import annotations

import http.client
import io
import os
import random
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from core.errors import AccessDenied, ConfigError, InputError, StorageError, StorageUnavailable
from core.storage.base import Chunk, check_range, not_found, object_changed
from core.types import ObjectInfo

TIMEOUT = 60.0
"""Seconds without an answer after which a request has failed."""

ATTEMPTS = 4
BACKOFF = 0.5
"""Seconds before the second attempt, doubled for each further one, less up to half by chance."""

_PASSING = (408, 425, 429, 500, 502, 503, 504)
_GONE = (404, 410)
_DENIED = (401, 403)
_RANGE_PAST_END = 416
_NO_HEAD = (405, 501)
_SAFE = "%/?=&+,;:@!$'()*~[]"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Copy:
    key: str
    tag: str
    file: BinaryIO

    def __del__(self) -> None:
        # Only the last thread that reads from a replaced copy may close it.
        self.file.close()

    @property
    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def read(self, start: int, end: int | None) -> bytes:
        stop = self.size if end is None else min(end, self.size)
        return os.pread(self.file.fileno(), max(0, stop - start), start)


class HttpStorage:
    """Objects of one web server, to be read only.

    A server that ignores ranges sends an object whole; the copy of the latest such object is kept in a temporary
    file without name, so that it is sent once and not once a range.

    Parameters
    ----------
    address : str
        ``http://host:port`` or ``https://host``, with or without path.

    Raises
    ------
    ConfigError
        The address has no host, or a password.
    """

    shared = True

    def __init__(self, address: str) -> None:
        host = urllib.parse.urlsplit(address).netloc
        if not host or "@" in host:
            raise ConfigError("a web address is https://HOST/PATH, without user name or password")
        self.address = address.rstrip("/")
        self.requests = self.bytes_in = self.bytes_out = 0
        self._copy: _Copy | None = None

    def get(self, key: str, start: int = 0, end: int | None = None, *, etag: str = "") -> bytes:
        """Return bytes ``[start, end)`` of an object."""
        check_range(start, end)
        copy = self._copy
        if etag and copy is not None and (copy.key, copy.tag) == (key, etag):
            return copy.read(start, end)
        tag, data = self._try(key, lambda: self._range(key, start, end))
        if etag and tag != etag:
            raise object_changed(self.address, key)
        return data

    def get_stream(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over bytes ``[start, end)``, which are held in memory."""
        return io.BytesIO(self.get(key, start, end))

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size and tag; it is fetched whole if the server does not tell its size."""
        return self._try(key, lambda: self._describe(key))

    def put(self, key: str, data: Chunk | Iterable[Chunk], *, if_absent: bool = False) -> ObjectInfo:
        """Raise ``AccessDenied``: web servers are read only."""
        raise AccessDenied(f"cannot write {self.address}/{key}: web servers are read only; write to another storage")

    def list(self, prefix: str = "", start_after: str = "", *, recursive: bool = True) -> Iterator[ObjectInfo]:
        """Raise ``InputError``: web servers have no listing."""
        raise InputError(
            f"no object found at {self.address}/{prefix}: web servers cannot be listed, so give each object's exact URL"
        )

    def delete(self, keys: Iterable[str]) -> None:
        """Raise ``AccessDenied``: web servers are read only."""
        raise AccessDenied(f"cannot delete in {self.address}: web servers are read only")

    def close(self) -> None:
        """Forget the copy of the latest object."""
        self._copy = None

    def _range(self, key: str, start: int, end: int | None) -> tuple[str, bytes]:
        last = "" if end is None else str(max(start, end - 1))
        try:
            response = self._ask("GET", key, f"bytes={start}-{last}")
        except urllib.error.HTTPError as error:
            if error.code != _RANGE_PAST_END:
                raise
            return error.headers.get("ETag") or "", b""
        with closing(response):
            tag = _tag(response)
            if response.status == http.client.PARTIAL_CONTENT:
                data = response.read()
                count = len(data)
                self.bytes_in += count
                return tag, data[: None if end is None else max(0, end - start)]
            return tag, self._keep(key, response).read(start, end)

    def _describe(self, key: str) -> ObjectInfo:
        try:
            with closing(self._ask("HEAD", key)) as response:
                length = response.headers.get("Content-Length")
                if length is not None:
                    return ObjectInfo(key, int(length), _tag(response))
        except urllib.error.HTTPError as error:
            if error.code not in _NO_HEAD:
                raise
        with closing(self._ask("GET", key)) as response:
            copy = self._keep(key, response)
        return ObjectInfo(key, copy.size, copy.tag)

    def _keep(self, key: str, response: http.client.HTTPResponse) -> _Copy:
        copy = _Copy(key, _tag(response), tempfile.TemporaryFile())
        shutil.copyfileobj(response, copy.file)
        copy.file.flush()
        expected = response.headers.get("Content-Length")
        if expected is not None and copy.size != int(expected):
            raise http.client.IncompleteRead(b"", int(expected) - copy.size)
        self.bytes_in += copy.size
        self._copy = copy
        return copy

    def _ask(self, method: str, key: str, span: str = "") -> http.client.HTTPResponse:
        self.requests += 1
        headers = {"Accept-Encoding": "identity"} | ({"Range": span} if span else {})
        url = f"{self.address}/{urllib.parse.quote(key, safe=_SAFE)}"
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers, method=method), timeout=TIMEOUT
        )
        return response

    def _try(self, key: str, request: Callable[[], T]) -> T:
        for attempt in range(ATTEMPTS):
            try:
                return request()
            except (OSError, http.client.HTTPException) as error:
                passing = not isinstance(error, urllib.error.HTTPError) or error.code in _PASSING
                if not passing or attempt == ATTEMPTS - 1:
                    raise self._typed(error, key) from error
                time.sleep(BACKOFF * 2**attempt * random.uniform(0.5, 1))
        raise AssertionError("the last attempt returns or raises")

    def _typed(self, error: Exception, key: str) -> StorageError:
        url = f"{self.address}/{key}"
        status = error.code if isinstance(error, urllib.error.HTTPError) else 0
        if status in _GONE:
            return not_found(self.address, key)
        if status in _DENIED:
            return AccessDenied(f"cannot read {url}: the server answered {error}; give an address that needs no login")
        cause = error.reason if isinstance(error, urllib.error.URLError) and not status else error
        return StorageUnavailable(f"cannot read {url}: {cause}; check the address and the network, or try again later")


def _tag(response: http.client.HTTPResponse) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
