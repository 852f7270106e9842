"""A proxy before the S3 server that counts requests and, when told to, spoils some."""

from __future__ import annotations

import http.client
import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from core import open_storage

FAULTS = ("500", "503", "lost 500", "reset", "lost reset", "truncated", "slow")
"""What may happen to a request; one that is lost was served, but its answer does not arrive."""

SLOW = 0.2
HOP = ("connection", "expect", "transfer-encoding", "keep-alive")
numbers = itertools.count()


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server; keeps (method, target) of each in `seen`, and (fault, method) in `spoiled`.

    The header `ignored` is not passed on.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: list[tuple[str, str]] = []
        self.spoiled: list[tuple[str, str]] = []
        self.ignored = ""
        self.choose: Callable[[str, str], str] = lambda method, target: ""
        self._lock = threading.Lock()

    def spoil(self, rate: float, seed: int = 0) -> None:
        """Spoil this part of the requests, each in a way drawn by chance."""
        drawn = random.Random(seed)
        self.choose = lambda method, target: drawn.choice(FAULTS) if drawn.random() < rate else ""

    def spoil_first(self, fault: str, method: str, part: str = "", times: int = 1) -> None:
        """Spoil the first requests with this method and this text in their target."""
        left = [fault] * times
        self.choose = lambda verb, target: left.pop() if left and verb == method and part in target else ""

    def fault_of(self, method: str, target: str) -> str:
        with self._lock:
            self.seen.append((method, target))
            fault = self.choose(method, target)
            if fault:
                self.spoiled.append((fault, method))
            return fault

    def count(self, method: str, part: str = "") -> int:
        """Return how many requests had this method and this text in their target."""
        return sum(verb == method and part in target for verb, target in self.seen)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy
    _upstream: http.client.HTTPConnection | None = None

    def log_message(self, format: str, *args: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def finish(self) -> None:
        super().finish()
        if self._upstream is not None:
            self._upstream.close()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault_of(self.command, self.path)
        if fault in ("403", "500", "503"):
            self._fail(int(fault))
        elif fault == "reset":
            self._reset()
        elif fault == "slow":
            time.sleep(SLOW)
            self._pass_on(body, "")
        else:
            self._pass_on(body, fault)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815

    def _pass_on(self, body: bytes, fault: str) -> None:
        if self._upstream is None:
            self._upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in (*HOP, self.server.ignored)
        }
        self._upstream.request(self.command, self.path, body, headers)
        answer = self._upstream.getresponse()
        content = answer.read()
        if fault == "lost 500":
            self._fail(500)
            return
        if fault == "lost reset":
            self._reset()
            return
        if fault == "flipped" and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in (*HOP, "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        if fault == "truncated":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content)

    def _fail(self, status: int) -> None:
        code = {403: "ExpiredToken", 500: "InternalError", 503: "SlowDown"}[status]
        content = f"<Error><Code>{code}</Code><Message>made by the test</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


@pytest.fixture
def proxy(s3_server) -> Iterator[Proxy]:
    started = Proxy(s3_server.endpoint)
    thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield started
    started.shutdown()
    started.server_close()
    thread.join()


@pytest.fixture
def place(s3_server) -> str:
    """Return the address of a prefix that no other test uses."""
    return f"s3://fanfold/integration-{next(numbers)}"


@pytest.fixture
def through(proxy, place):
    """Return a storage behind the proxy, which has answered before, so that boto3 is no longer asked to read."""
    storage = open_storage(f"{place}?endpoint={proxy.endpoint}")
    storage.put("first", b"1")
    storage.head("first")
    storage.get("first")
    storage.delete(["first"])
    list(storage.list())
    proxy.seen.clear()
    storage.requests = 0
    return storage
