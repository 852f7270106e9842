"""Requests of HTTP/1.1 as a worker reads them: whole and beyond doubt, or refused.

A proxy in front may check who calls and hand the rest on. Whatever it and this reader could take for different things
(where a request ends, above all) lets a caller slip a request past that check, so nothing is guessed: what is not plain
is refused, and the connection ends with it. What is plain follows RFC 9112.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

HEAD_LARGEST = 32 << 10
"""Bytes of a request line with its headers: four times what common servers take."""

IDLE_TIMEOUT = 620.0
"""Seconds that a connection may be quiet: longer than the balancers in front keep theirs, so that they close first."""

HEAD_TIMEOUT = 30.0
"""Seconds in which a head is whole after its first byte, and that a body may take beside what its bytes need."""

SLOWEST = 16 << 10
"""Bytes of a body a second: a caller that is slower holds a thread, and is refused."""

FAREWELL_TIMEOUT = 2.0
"""Seconds for which a caller that was refused may go on to send."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(%s) ([!-~]+) HTTP/1\.([01])" % _TOKEN)
_FIELD = re.compile(rb"(%s):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*" % _TOKEN)
_LONE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
_SINGLE = ("content-length", "host", "authorization", "transfer-encoding", "expect")


class Refused(Exception):
    """A request is not taken; the connection cannot be used again."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """What comes before a body: `headers` by lower-case name; `is_last` says that no request follows."""

    method: str
    target: str
    headers: Mapping[str, str]
    is_last: bool

    @property
    def length(self) -> int | None:
        """Bytes of the body, None if it does not say.

        Raises
        ------
        Refused
            It says so in a way that may be read as another.
        """
        if "transfer-encoding" in self.headers:
            raise Refused(411, "a body in chunks is not taken; send its Content-Length")
        given = self.headers.get("content-length")
        if given is None:
            return None
        if not re.fullmatch(r"[0-9]{1,19}", given):
            raise Refused(400, "Content-Length is no plain number")
        return int(given)


def parse_head(data: bytes) -> Head:
    """Read a head, without the empty line that ends it.

    Raises
    ------
    Refused
        It is not exactly as HTTP/1.1 has it.
    """
    first, *lines = data.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise Refused(400, "the first line is none of HTTP/1.1")
    headers: dict[str, str] = {}
    for text in lines:
        field = _FIELD.fullmatch(text)
        if field is None:
            raise Refused(400, "a header is not 'name: value' on one line")
        name, value = field[1].decode("ascii").lower(), field[2].decode("latin-1")
        if name in headers and name in _SINGLE:
            raise Refused(400, f"{name} is given twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
    return Head(line[1].decode("ascii"), line[2].decode("ascii"), headers, "close" in options or line[3] == b"0")


class Wire:
    """One connection, from the worker's side."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = bytearray()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read_head(self) -> Head | None:
        """Return the next request's head; None if the caller is gone, or was quiet for too long.

        Raises
        ------
        Refused
            It is too long, too slow or in doubt.
        """
        if not self._buffer and not self._receive(time.monotonic() + IDLE_TIMEOUT):
            return None
        until, seen = time.monotonic() + HEAD_TIMEOUT, 0
        while (end := self._buffer.find(b"\r\n\r\n", max(0, seen - 3))) < 0 or end > HEAD_LARGEST:
            if len(self._buffer) > HEAD_LARGEST:
                raise Refused(431, f"the headers have more than {HEAD_LARGEST} bytes")
            if _LONE.search(self._buffer, max(0, seen - 1)):
                raise Refused(400, "a line does not end in CR LF")
            seen = len(self._buffer)
            if not self._receive(until):
                if time.monotonic() < until:
                    return None
                raise Refused(408, "the headers came too slowly")
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return parse_head(head)

    def read_body(self, length: int) -> bytes | None:
        """Return a body, None if the caller breaks off.

        Raises
        ------
        Refused
            It came too slowly.
        """
        until = time.monotonic() + HEAD_TIMEOUT + length / SLOWEST
        body = bytearray(self._buffer[:length])
        del self._buffer[:length]
        while len(body) < length:
            data = self._next(until, length - len(body))
            if not data:
                if time.monotonic() < until:
                    return None
                raise Refused(408, "the body came too slowly")
            body += data
        return bytes(body)

    def _receive(self, until: float) -> bool:
        data = self._next(until, 1 << 16)
        self._buffer += data
        return bool(data)

    def _next(self, until: float, most: int) -> bytes:
        left = until - time.monotonic()
        if left <= 0:
            return b""
        self.connection.settimeout(left)
        try:
            return self.connection.recv(min(most, 1 << 20))
        except TimeoutError:
            return b""

    def send(self, status: int, body: bytes, headers: Mapping[str, str], *, silent: bool = False) -> None:
        """Send an answer; of one that is `silent`, to HEAD, the headers alone."""
        given = {**headers, "Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {given[name]}" for name in given)]
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        self.connection.settimeout(IDLE_TIMEOUT)
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.connection.sendall(head if silent else head + body)

    def invite(self) -> None:
        """Ask for a body that waits for it (RFC 9110, "Expect")."""
        with contextlib.suppress(OSError):
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def part(self) -> None:
        """Throw away what a refused caller still sends: unread, it would make the system withdraw the answer."""
        until = time.monotonic() + FAREWELL_TIMEOUT
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while self._next(until, 1 << 16):
                pass
