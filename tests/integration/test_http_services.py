"""What may answer a driver that calls a service: nothing it says costs memory, hangs, or reaches the terminal raw."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from core import FunctionExecutor, InputError
from core.compute.remote.connection import Connection
from core.compute.remote.slot import WorkerEnded
from core.errors import FanfoldError, WorkerDied
from tests.servers.http import TOKEN, HttpWorker

MOST = 1 << 20


class Service(socketserver.ThreadingTCPServer):
    """Answers every request with the same bytes, and then, if it is `endless`, with more and more."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: bytes, endless: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), Speaker)
        self.answer, self.endless, self.sent, self.closed = answer, endless, 0, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/run"


class Speaker(socketserver.BaseRequestHandler):
    server: Service

    def handle(self) -> None:
        with self.request.makefile("rb") as lines:
            length = next(int(line.split()[1]) for line in lines if line.startswith(b"Content-Length"))
            while lines.readline().strip():
                pass
            lines.read(length)
        try:
            self.request.sendall(self.server.answer)
            while self.server.endless:
                self.request.sendall(self.server.endless)
                self.server.sent += len(self.server.endless)
        except OSError:
            self.server.closed.set()


@pytest.fixture
def serve() -> Iterator:
    made: list[Service] = []

    def start(answer: bytes, endless: bytes = b"") -> Service:
        made.append(Service(answer, endless))
        return made[-1]

    yield start
    for service in made:
        service.shutdown()
        service.server_close()


def error_of(url: str) -> BaseException | None:
    with FunctionExecutor(url, workers=1, retries=0) as executor:
        try:
            return executor.call_async(abs, -1).exception(60)
        except FanfoldError as error:  # some services are asked before the first task is taken
            return error


PIECE = b"x" * (64 << 10)
ENDLESS = {
    "without a length": (b"HTTP/1.1 200 OK\r\n\r\n", PIECE),
    "in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + PIECE + b"\r\n"),
    "with a great length": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", PIECE),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_without_end_is_read_to_the_limit_and_no_further(serve, kind):
    service = serve(*ENDLESS[kind])

    error = error_of(f"{service.url}?largest=1MiB")

    assert isinstance(error, InputError)
    assert "has more than 1.0 MB" in str(error)
    assert service.closed.wait(60)
    assert service.sent < 16 * MOST  # what the sockets between here and there hold comes on top


def test_a_failure_without_end_is_read_as_far_as_it_is_shown(serve):
    service = serve(b"HTTP/1.1 500 Oh\r\n\r\n", b"no " * 10_000)

    error = error_of(service.url)

    assert isinstance(error, WorkerDied)
    assert "answered 500: no no no" in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: 3\r\nContent-Length: 3",
        b"Content-Length: +3",
        b"Content-Length: -3",
        b"Content-Length: 3, 3",
        b"Content-Length: three",
        b"Content-Length: \xb3",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ],
)
def test_an_answer_whose_end_is_in_doubt_is_not_read_and_its_connection_not_used_again(serve, headers):
    service = serve(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n")
    connection = Connection(urlsplit(service.url), 60, None)

    with pytest.raises(WorkerEnded, match="does not say plainly where it ends"):
        connection.ask("POST", "/run", b"", {})

    assert connection._http is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 17) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff",
        b"\x1b]0;owned\x07\x1b[2J\r\n\r\n",
        b"HTTP/1.1 500 \x1b[2J\r\nContent-Length: 9\r\n\r\n\x1b[2J\x1b[31m\xff",
        b"HTTP/1.1 404 no\r\nContent-Length: 6\r\n\r\n\x1b]0;a\x07",
        b"HTTP/1.1 302 no\r\nLocation: /\x1b]0;a\x07\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + b"[" * 4000,
        b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"response": [1]}',
        b'HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{"activationId": "\\u001b"}',
    ],
)
@pytest.mark.parametrize("kind", ["http", "openwhisk"])
def test_whatever_a_service_says_ends_in_a_typed_error_of_printable_text(serve, answer, kind, monkeypatch):
    monkeypatch.setenv("OPENWHISK_AUTH", "user:key")
    service = serve(answer)
    url = service.url if kind == "http" else f"openwhisk://127.0.0.1:{service.server_address[1]}/guest?plain=yes"

    error = error_of(url)

    assert isinstance(error, FanfoldError)
    assert str(error).isprintable()


def test_a_token_that_was_renewed_while_it_was_shown_is_read_again(tmp_path, monkeypatch):
    worker = HttpWorker()
    worker.start()
    file = tmp_path / "token"
    file.write_text("outdated")
    real = Connection.ask

    def renewing(self, *arguments):
        answer = real(self, *arguments)
        file.write_text(TOKEN)
        return answer

    monkeypatch.setattr(Connection, "ask", renewing)
    try:
        with FunctionExecutor(f"{worker.url}?token_file={file}", workers=1) as executor:
            assert executor.call_async(abs, -7).result(60) == 7
    finally:
        worker.stop()
