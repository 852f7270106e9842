"""Reading objects from web servers: ``http://host`` and ``https://host``, by byte ranges where the server has them."""

from __future__ import annotations

import functools
import http.client
import io
import os
import random
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from core.errors import AccessDenied, ConfigError, FanfoldError, InputError, StorageError, StorageUnavailable
from core.storage.base import Chunk, check_content_range, check_range, not_found, object_changed
from core.types import MiB, ObjectInfo

TIMEOUT = 60.0
"""Seconds without an answer after which a request has failed."""

LONGEST_UNTOLD = 1 << 30
"""Bytes taken of an answer that does not tell its length, which may have no end."""

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


_CODINGS = ("identity", "gzip", "x-gzip", "zstd")
"""Content encodings of objects that are recognised by how they begin, when their lines are read."""


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
        try:
            place = urllib.parse.urlsplit(address)
            valid = place.hostname and place.port != 0 and "@" not in place.netloc
        except ValueError:  # of the port, or of what is in brackets
            valid = False
        if not valid:
            raise ConfigError("a web address is https://HOST/PATH, without user name or password")
        self.address = address.rstrip("/")
        self.requests = self.bytes_in = self.bytes_out = 0
        self.left_out: dict[str, int] = {}
        self.codings: dict[str, str] = {}
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
        stop = end if end is None else max(start + 1, end)  # a range of nothing cannot be asked for
        try:
            response = self._ask("GET", key, f"bytes={start}-{'' if stop is None else stop - 1}")
        except urllib.error.HTTPError as error:
            if error.code != _RANGE_PAST_END:
                raise
            error.close()
            return error.headers.get("ETag") or "", b""
        with closing(response):
            if response.status != http.client.PARTIAL_CONTENT:
                return _tag(response), self._keep(key, response).read(start, end)
            try:
                length = check_content_range(response.headers.get("Content-Range") or "", start, stop)
            except ValueError as error:
                raise StorageError(f"{self.address}/{key} cannot be read in parts: {error}") from None
            data = response.read(length)
            self.bytes_in += len(data)
            if len(data) != length:
                raise http.client.IncompleteRead(data, length - len(data))
            return _tag(response), data[: None if end is None else max(0, end - start)]

    def _describe(self, key: str) -> ObjectInfo:
        try:
            with closing(self._ask("HEAD", key)) as response:
                length = response.headers.get("Content-Length") or ""
                if length.isascii() and length.isdigit():
                    return ObjectInfo(key, int(length), _tag(response))
        except urllib.error.HTTPError as error:
            if error.code not in _NO_HEAD:
                raise
            error.close()
        with closing(self._ask("GET", key)) as response:
            copy = self._keep(key, response)
        return ObjectInfo(key, copy.size, copy.tag)

    def _keep(self, key: str, response: http.client.HTTPResponse) -> _Copy:
        """Copy a whole answer: as many bytes as it says, or if it does not say no endless ones."""
        copy, told, size = _Copy(key, _tag(response), tempfile.TemporaryFile()), response.length, 0
        while piece := response.read(min(MiB, LONGEST_UNTOLD if told is None else told - size)):
            size += copy.file.write(piece)
            if told is None and size > LONGEST_UNTOLD:
                raise StorageError(
                    f"{self.address}/{key} does not tell its length and has more than {LONGEST_UNTOLD} bytes; "
                    "download it by another program"
                )
        copy.file.flush()
        self.bytes_in += size
        if told is not None and size != told:
            raise http.client.IncompleteRead(b"", told - size)
        self._copy = copy
        return copy

    def _ask(self, method: str, key: str, span: str = "") -> http.client.HTTPResponse:
        self.requests += 1
        headers = {"Accept-Encoding": "identity"} | ({"Range": span} if span else {})
        url = f"{self.address}/{urllib.parse.quote(key, safe=_SAFE)}"
        request = urllib.request.Request(url, headers=headers, method=method)
        response: http.client.HTTPResponse = _opener(os.getpid()).open(request, timeout=TIMEOUT)
        coding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
        if coding not in _CODINGS:
            response.close()
            raise InputError(
                f"{self.address}/{key} comes encoded ({ascii(coding[:40])}) though it was asked for as it is; download "
                "and unpack it by another program"
            )
        return response

    def _try(self, key: str, request: Callable[[], T]) -> T:
        for attempt in range(ATTEMPTS):
            try:
                return request()
            except FanfoldError:
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, urllib.error.HTTPError):
                    error.close()  # it holds the connection
                final = isinstance(error, ValueError | http.client.InvalidURL) or _status(error) not in (0, *_PASSING)
                if final or attempt == ATTEMPTS - 1:
                    raise self._typed(error, key) from error
                time.sleep(BACKOFF * 2**attempt * random.uniform(0.5, 1))
        raise AssertionError("the last attempt returns or raises")

    def _typed(self, error: Exception, key: str) -> FanfoldError:
        url, status = f"{self.address}/{key}", _status(error)
        if status in _GONE:
            return not_found(self.address, key)
        if status in _DENIED:
            return AccessDenied(f"cannot read {url}: the server answered {error}; give an address that needs no login")
        if isinstance(error, ValueError | http.client.InvalidURL):
            return InputError(f"cannot read {url}: {error}; correct the address")
        cause = error.reason if isinstance(error, urllib.error.URLError) and not status else error
        return StorageUnavailable(f"cannot read {url}: {cause}; check the address and the network, or try again later")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects on the web alone, and asks there in the same way."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(newurl, code, "redirected to what is no web address", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.method = req.get_method()
        return request


@functools.lru_cache(maxsize=1)
def _opener(process: int) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)


def _status(error: Exception) -> int:
    return error.code if isinstance(error, urllib.error.HTTPError) else 0


def _tag(response: http.client.HTTPResponse) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
