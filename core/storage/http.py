"""Reading objects from web servers: ``http://host`` and ``https://host``, by byte ranges where the server has them."""

from __future__ import annotations

import http.client
import io
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import BinaryIO

from core.errors import AccessDenied, ConfigError, InputError
from core.storage.base import Chunk, check_range, object_changed
from core.types import ObjectInfo

TIMEOUT = 60.0
"""Seconds without an answer after which a request has failed."""

ATTEMPTS = 4
BACKOFF = 0.5
"""Seconds before the second attempt, doubled for each further one, less up to half by chance."""

_PASSING = (408, 425, 429, 500, 502, 503, 504)
_GONE = (404, 410)
_NO_RANGE = 416
_NO_HEAD = (405, 501)
_SAFE = "%/?=&+,;:@!$'()*~[]"


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
        self._copy: tuple[str, str, BinaryIO] | None = None

    def get(self, key: str, start: int = 0, end: int | None = None, *, etag: str = "") -> bytes:
        """Return bytes ``[start, end)`` of an object."""
        check_range(start, end)
        copy = self._copy
        if copy is None or copy[0] != key or copy[1] != etag or not etag:
            span = f"bytes={start}-" if end is None else f"bytes={start}-{max(start, end - 1)}"
            try:
                with closing(self._ask("GET", key, span)) as response:
                    tag = _tag(response)
                    if response.status == http.client.PARTIAL_CONTENT:
                        data = response.read()[: None if end is None else max(0, end - start)]
                        copy = None
                    else:
                        data = b""
                        copy = self._copy = (key, tag, _saved(response, f"{self.address}/{key}"))
            except _RangePastEnd as error:
                data, tag, copy = b"", error.tag, None
            except (OSError, http.client.HTTPException) as error:
                raise self._typed(error, key) from error
            if etag and tag != etag:
                raise object_changed(self.address, key)
        if copy is not None:
            size = os.fstat(copy[2].fileno()).st_size
            data = os.pread(copy[2].fileno(), max(0, (size if end is None else min(end, size)) - start), start)
        count = len(data)
        self.bytes_in += count
        return data

    def get_stream(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over bytes ``[start, end)``, which are held in memory."""
        return io.BytesIO(self.get(key, start, end))

    def put(self, key: str, data: Chunk | Iterable[Chunk], *, if_absent: bool = False) -> ObjectInfo:
        """Raise ``AccessDenied``: web servers are read only."""
        raise AccessDenied(f"cannot write {self.address}/{key}: web servers are read only; write to another storage")

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size and tag; it is fetched whole if the server does not tell its size."""
        try:
            with closing(self._ask("HEAD", key)) as response:
                length, tag = response.headers.get("Content-Length"), _tag(response)
            if length is None:
                with closing(self._ask("GET", key)) as response:
                    tag = _tag(response)
                    self._copy = (key, tag, _saved(response, f"{self.address}/{key}"))
                    length = str(os.fstat(self._copy[2].fileno()).st_size)
        except (OSError, http.client.HTTPException) as error:
            raise self._typed(error, key) from error
        return ObjectInfo(key, int(length), tag)

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
