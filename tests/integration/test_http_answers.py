"""Services that are no worker, proxies in front of one, callers that misbehave, and settings that cannot be."""

import fcntl
import http.client
import json
import os
import resource
import socket
import struct
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core import ConfigError, FunctionExecutor
from core.compute.remote.connection import Connection, is_readable
from core.compute.remote.http import HttpBackend
from core.errors import WorkerDied
from core.settings import ExecutorConfig, parse_address
from core.worker.http import Handler
from tests.servers.http import TOKEN, HttpWorker
from tests.servers.ports import free_port

PAGE = b"<!DOCTYPE html>\n<html><head><title>\n Sign in\n</title></head><body>\n<p>Who are you?</p></body></html>"


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", TOKEN)


@pytest.fixture
def worker():
    started = HttpWorker()
    started.start()
    yield started
    started.stop()


class Proxy(ThreadingHTTPServer):
    """Gives the answers it was told: (status, headers, body) or a function of the request; then the worker's."""

    daemon_threads = True

    def __init__(self, behind=0):
        super().__init__(("127.0.0.1", 0), Forward)
        self.behind, self.answers, self.paths = behind, [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/run"


class Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        if self.server.answers:
            told = self.server.answers.pop(0)
            status, headers, content = told(self) if callable(told) else told
        else:
            behind = http.client.HTTPConnection("127.0.0.1", self.server.behind)
            behind.request("POST", "/run", body, {"Authorization": self.headers["Authorization"]})
            answer = behind.getresponse()
            status, headers, content = answer.status, {}, answer.read()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def echo(status):
    return lambda request: (status, {}, json.dumps(dict(request.headers)).encode())


@pytest.fixture
def proxy(worker, secret):
    with Proxy(worker.port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def error_of(url):
    with FunctionExecutor(url, workers=1, retries=0) as executor:
        return executor.call_async(abs, -1).exception(60)


def test_a_page_in_place_of_an_answer_is_named_by_its_title(proxy):
    proxy.answers = [(200, {"Content-Type": "text/html; charset=utf-8"}, PAGE)]

    error = error_of(proxy.url)

    assert isinstance(error, ConfigError)
    assert "answered 200: Sign in; is this the address of a worker" in str(error)


def test_a_redirection_says_where_it_leads_without_what_it_carries(proxy):
    proxy.answers = [(302, {"Location": "https://login.example.org/start?state=private"}, b"")]

    error = error_of(proxy.url)

    assert isinstance(error, ConfigError)
    assert "answered 302, a redirection to https://login.example.org/start; is this" in str(error)
    assert "private" not in str(error)


def test_a_page_of_a_proxy_that_finds_no_worker_is_one_line(proxy):
    proxy.answers = [(502, {"Content-Type": "text/html"}, PAGE)]

    error = error_of(proxy.url)

    assert isinstance(error, WorkerDied)
    assert str(error).endswith("answered 502: Sign in")


@pytest.mark.parametrize("status", [404, 500])
def test_a_token_that_a_service_repeats_is_not_shown(proxy, status):
    proxy.answers = [echo(status)]

    error = error_of(proxy.url)

    assert "Bearer ***" in str(error)
    assert TOKEN not in str(error)


@pytest.mark.parametrize("wait", ["0", "\xb2", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", ""])
def test_a_busy_service_is_asked_again_whatever_it_says_of_when(proxy, wait):
    proxy.answers = [(503, {"Retry-After": wait}, b"busy")]

    assert error_of(proxy.url) is None


@pytest.mark.parametrize(
    "answer",
    [(200, {}, b""), (200, {}, b"abc"), (200, {"Content-Length": "500", "Connection": "close"}, b"abc")],
    ids=["empty", "strange", "cut off"],
)
def test_an_answer_that_cannot_be_read_costs_an_attempt_and_no_result(proxy, answer):
    proxy.answers = [answer]

    with FunctionExecutor(proxy.url, workers=1, retries=1) as executor:
        assert executor.map(abs, [-1, -2]).results(60) == [1, 2]


def test_a_path_is_sent_as_addresses_are_written(proxy):
    assert error_of(proxy.url.replace("/run", "/mit Käse")) is None

    assert proxy.paths == ["/mit%20K%C3%A4se"]


def test_a_token_file_that_is_written_anew_is_waited_for(worker, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)

    with FunctionExecutor(f"{worker.url}?token_file={file}", workers=1) as executor:
        assert executor.call_async(abs, -1).result(60) == 1
        file.write_text("")
        waiting = executor.call_async(abs, -2)
        while not executor._backend.reach.struggling:
            threading.Event().wait(0.01)
        file.write_text(TOKEN)
        assert waiting.result(60) == 2


def test_a_token_file_that_is_empty_from_the_start_is_named(tmp_path):
    (tmp_path / "token").touch()
    backend = HttpBackend(parse_address(f"http://127.0.0.1:9/?token_file={tmp_path}/token"), ExecutorConfig())

    with pytest.raises(ConfigError, match=r"token holds no token"):
        backend.prepare()


@pytest.fixture
def pair():
    """Return two ends of a connection, the first with a descriptor above those that select() takes."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], min(4096, limits[1])), limits[1]))
    near, far = socket.socketpair()
    high = socket.socket(fileno=fcntl.fcntl(near.fileno(), fcntl.F_DUPFD, 1500))
    near.close()
    yield high, far
    high.close()
    far.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_driver_with_more_than_a_thousand_open_files_sees_what_was_closed(pair):
    high, far = pair

    assert not is_readable(high)
    far.close()
    assert is_readable(high)


def test_a_worker_with_more_than_a_thousand_callers_sees_who_is_gone(pair):
    high, far = pair
    handler = Handler.__new__(Handler)
    handler.request = high

    assert handler.is_heard()
    far.close()
    assert not handler.is_heard()


def test_a_connection_that_closes_while_it_is_interrupted_breaks_nothing(worker):
    class Closing(Connection):
        """Is closed by its own thread as soon as somebody has looked whether it is open."""

        @property
        def _http(self):
            seen, self._seen = self.__dict__.get("_seen"), None
            return seen

        @_http.setter
        def _http(self, made):
            self._seen = made

    backend = HttpBackend(parse_address(worker.url), ExecutorConfig())
    connection = Closing(backend.url, 30, None)
    opened = connection._connected()

    connection._http = opened
    connection.interrupt()

    assert opened.sock.recv(1) == b""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "none"),
        ("PORT", "70000"),
        ("FANFOLD_WORKER_SLOTS", "0"),
        ("FANFOLD_WORKER_SLOTS", "two"),
        ("FANFOLD_WORKER_LARGEST", "wide"),
    ],
)
def test_a_worker_with_a_setting_that_cannot_be_says_which(variable, value):
    ended = start({variable: value})

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"fanfold: {variable} must be a ")
    assert value in ended.stderr


def test_a_port_that_is_taken_is_named():
    with socket.socket() as other:
        other.bind(("0.0.0.0", free_port()))
        other.listen()
        port = other.getsockname()[1]
        ended = start({"PORT": str(port)})

    assert ended.returncode == 2
    assert ended.stderr == (
        f"fanfold: port {port} cannot be served: Address already in use; choose another with PORT\n"
    )


def start(variables):
    environment = {**os.environ, "FANFOLD_WORKER_TOKEN": TOKEN, **variables}
    return subprocess.run(HttpWorker.command(), env=environment, capture_output=True, text=True, timeout=60)


def test_callers_that_break_off_leave_no_trace_in_the_log(capfd):
    worker = HttpWorker()
    worker.start()
    for _ in range(5):
        caller = socket.create_connection(("127.0.0.1", worker.port))
        caller.sendall(b"POST")
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
        caller.close()
    later = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
    later.request("GET", "/health")
    later.getresponse().read()
    worker.process.terminate()
    worker.process.wait(60)

    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("length", ["", "Content-Length: 3\r\n"])
def test_a_body_in_chunks_is_refused_whatever_length_it_names(worker, length):
    head = f"POST /run HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n{length}\r\n"
    with socket.create_connection(("127.0.0.1", worker.port), 30) as caller:
        caller.sendall(head.encode() + b"3\r\nabc\r\n0\r\n\r\n")

        assert caller.recv(12) == b"HTTP/1.1 411"
