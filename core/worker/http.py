"""The HTTP servers of a remote worker: for services that scale containers, and for OpenWhisk actions."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.settings import parse_size
from core.task.messages import HTTP_LARGEST, WHISK_LARGEST, WORKER_TOKEN
from core.worker.agent import Agent

TOKEN_FILE, AUTH = "FANFOLD_WORKER_TOKEN_FILE", "FANFOLD_WORKER_AUTH"
"""Variables of the worker: a file that holds its secret, and ``platform`` where the platform checks callers."""

SLOTS, LARGEST = "FANFOLD_WORKER_SLOTS", "FANFOLD_WORKER_LARGEST"
"""Variables of the worker: batches that run at the same time, and bytes that a request or reply may have."""

MOST_SLOTS = 1024
"""Batches at the same time that one worker can be asked to run: more are a slip of the pen."""

IDLE = 620.0
"""Seconds that a connection may be quiet: longer than the balancers in front keep theirs, so that they close first."""

FAREWELL = 2.0
"""Seconds for which a caller that was refused may go on to send."""

PATIENCE = 0.05
"""Seconds that a request waits for a worker to be free before it is sent elsewhere."""

WHISK_END = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
"""Line that ends the log of an activation (OpenWhisk, "Creating and invoking Docker actions")."""


class Server(ThreadingHTTPServer):
    """Hands requests to agents, one at a time each.

    Parameters
    ----------
    token : str
        What callers must show, empty if anybody may call.
    slots : int
        Number of agents.
    largest, body : int
        Bytes of a message, and of the body that carries it.
    """

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(
        self, port: int, handler: type[BaseHTTPRequestHandler], token: str, slots: int, largest: int, body: int
    ) -> None:
        super().__init__(("0.0.0.0", port), handler)
        self.token, self.largest = token, body
        self.ending = False
        self.quiet: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.agents: queue.Queue[Agent] = queue.Queue()
        for index in range(slots):
            self.agents.put(Agent(f"{socket.gethostname()}-{index}", largest, agents=slots))

    def run(self) -> int:
        """Serve until the platform asks the worker to end; what runs may finish."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=self.end).start())
        self.serve_forever(poll_interval=0.1)
        self.server_close()
        while not self.agents.empty():
            self.agents.get_nowait().close()
        return 0

    def server_bind(self) -> None:
        """Take the port, or say why it cannot be had."""
        try:
            super().server_bind()
        except OSError as error:
            port = self.server_address[1]
            raise ConfigError(f"port {port} cannot be served: {error.strerror}; choose another with PORT") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers that are gone: balancers look in and leave without a word."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def end(self) -> None:
        """Take no further connection, and close those on which no request is under way."""
        self.shutdown()
        with self.lock:
            self.ending = True
            for connection in self.quiet:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)


class Handler(BaseHTTPRequestHandler):
    """Answers ``GET /health``, and ``POST`` with a request of the driver as its body."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests that went well."""

    def handle_one_request(self) -> None:
        """Wait for a request, unless the worker is about to end."""
        with self.server.lock:
            if self.server.ending:
                self.close_connection = True
                return
            self.server.quiet.add(self.connection)
        try:
            super().handle_one_request()
        finally:
            self.server.quiet.discard(self.connection)

    def do_GET(self) -> None:
        """Say that the worker is there."""
        self.say(200, "ok") if self.path.split("?")[0] == "/health" else self.say(404, "GET /health, or POST /run")

    def do_POST(self) -> None:
        """Run a batch."""
        body = self.body()
        if body is None:
            return
        answer = self.answer(body)
        if answer is not None:
            self.reply(200, answer, "application/octet-stream")

    def body(self) -> bytes | None:
        """Return the body of a request that may be read; else refuse it and return None."""
        with self.server.lock:
            self.server.quiet.discard(self.connection)
        offered = self.headers.get("Authorization", "").encode()
        if self.server.token and not hmac.compare_digest(offered, f"Bearer {self.server.token}".encode()):
            self.refuse(401, "the bearer token is missing or is not this worker's")
            return None
        if "Transfer-Encoding" in self.headers:  # beside a length it hides a second request from a proxy
            self.refuse(411, "a body in chunks is not taken; send its Content-Length")
            return None
        try:
            length = int(self.headers["Content-Length"])
        except (KeyError, TypeError, ValueError):
            self.refuse(411, "Content-Length is missing")
            return None
        if not 0 <= length <= self.server.largest:
            self.refuse(413, f"{length} bytes are more than the {self.server.largest} that this worker takes")
            return None
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def answer(self, body: bytes) -> bytes | None:
        """Have an agent answer; None if none is free, or nobody listens any more."""
        try:
            agent = self.server.agents.get(timeout=PATIENCE)
        except queue.Empty:
            self.say(503, "every worker is busy", {"Retry-After": "1"})
            return None
        try:
            return agent.answer(body, self.is_heard)
        finally:
            self.server.agents.put(agent)

    def is_heard(self) -> bool:
        """Whether the caller still waits for the answer."""
        line = select.poll()  # select() refuses descriptors above 1023
        line.register(self.connection, select.POLLIN)
        if not line.poll(0):
            return True
        with contextlib.suppress(OSError):
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        return False

    def refuse(self, status: int, why: str) -> None:
        """Answer without having read the body; the connection cannot be used again."""
        self.close_connection = True
        self.say(status, why, {"Connection": "close"})
        # What is unread when a connection closes makes the system withdraw the answer, so it is thrown away first.
        until = time.monotonic() + FAREWELL
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while (left := until - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv(1 << 16):
                    break

    def say(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        """Answer with a sentence."""
        self.reply(status, text.encode() + b"\n", "text/plain; charset=utf-8", headers)

    def reply(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)


class WhiskHandler(Handler):
    """The interface of an OpenWhisk action's container: ``POST /init`` once, then ``POST /run`` for each activation."""

    def do_POST(self) -> None:
        """Run an activation."""
        body = self.body()
        if body is None:
            return
        try:
            given = json.loads(body)["value"] if self.path == "/run" else {}
            message = base64.b64decode(given["body"]) if given else b""
        except (ValueError, KeyError, TypeError):
            return self.whisk(400, {"error": "expected JSON with value.body, a request in base64"})
        if self.path == "/init":
            return self.whisk(200, {"ok": True})
        answer = self.answer(message)
        if answer is not None:
            self.whisk(200, {"body": base64.b64encode(answer).decode()})

    def is_heard(self) -> bool:
        """Assume so: the platform keeps the connection as it likes."""
        return True

    def whisk(self, status: int, answer: dict[str, Any]) -> None:
        """Answer with JSON, and end the activation's log."""
        for stream in (sys.stdout, sys.stderr):
            print(WHISK_END, file=stream, flush=True)
        self.reply(status, json.dumps(answer).encode(), "application/json")


def http() -> int:
    """Serve a driver's requests on ``$PORT``.

    Raises
    ------
    ConfigError
        Nothing says who may call, or a setting does not fit.
    """
    try:
        largest = parse_size(os.environ.get(LARGEST, HTTP_LARGEST))
    except ValueError:
        raise ConfigError(f"{LARGEST} must be a size such as 32MiB, not {os.environ[LARGEST]!r}") from None
    return _server(Handler, _token(), largest, largest).run()


def openwhisk() -> int:
    """Serve activations of an OpenWhisk action on ``$PORT``; only the platform can reach it."""
    return _server(WhiskHandler, "", WHISK_LARGEST * 3 // 4, 2 * WHISK_LARGEST).run()


def _server(handler: type[Handler], token: str, largest: int, body: int) -> Server:
    port, slots = _number("PORT", 8080, 65535), _number(SLOTS, 1, MOST_SLOTS)
    return Server(port, handler, token, slots, largest, body)


def _number(variable: str, default: int, most: int) -> int:
    given = os.environ.get(variable, str(default))
    if not given.isdecimal() or not 1 <= int(given) <= most:
        raise ConfigError(f"{variable} must be a whole number from 1 to {most}, not {given!r}")
    return int(given)


def _token() -> str:
    """Return the secret that callers must show, empty if the platform checks them."""
    if os.environ.get(AUTH) == "platform":
        return ""
    path = os.environ.get(TOKEN_FILE)
    try:
        token = (Path(path).read_text("utf-8") if path else os.environ.get(WORKER_TOKEN, "")).strip()
    except OSError as error:
        raise ConfigError(f"the worker's token cannot be read from {path}: {error.strerror}") from None
    if not token:
        raise ConfigError(
            f"anybody could run code here: give the worker a secret in {WORKER_TOKEN} or a file named by {TOKEN_FILE}, "
            f"or set {AUTH}=platform where the platform itself checks who calls"
        )
    return token
