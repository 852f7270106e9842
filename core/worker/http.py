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
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.settings import parse_size
from core.task.messages import HTTP_LARGEST, WHISK_LARGEST, WORKER_TOKEN
from core.worker.agent import Agent
from core.worker.wire import Head, Refused, Wire

TOKEN_FILE, AUTH = "FANFOLD_WORKER_TOKEN_FILE", "FANFOLD_WORKER_AUTH"
"""Variables of the worker: a file that holds its secret, and ``platform`` where the platform checks callers."""

SLOTS, LARGEST = "FANFOLD_WORKER_SLOTS", "FANFOLD_WORKER_LARGEST"
"""Variables of the worker: batches that run at the same time, and bytes that a request or reply may have."""

MOST_SLOTS = 1024
"""Batches at the same time that one worker can be asked to run: more are a slip of the pen."""

FREE_TIMEOUT = 0.05
"""Seconds that a request waits for a worker to be free before it is sent elsewhere."""

LEAST_CONNECTIONS = 256
"""Connections that are held open at the same time, at least; further callers are turned away unheard."""

PLAIN = {"Content-Type": "text/plain; charset=utf-8"}

WHISK_END = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX"
"""Line that ends the log of an activation (OpenWhisk, "Creating and invoking Docker actions")."""


class Server(socketserver.ThreadingTCPServer):
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
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, handler: type[Handler], token: str, slots: int, largest: int, body: int) -> None:
        try:
            super().__init__(("0.0.0.0", port), handler)
        except OSError as error:
            raise ConfigError(f"port {port} cannot be served: {error.strerror}; choose another with PORT") from None
        self.token, self.largest = token, body
        self.ending = False
        self.quiet: set[socket.socket] = set()
        self.room = threading.Semaphore(max(LEAST_CONNECTIONS, 2 * slots))
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

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn a caller away when there are too many."""
        return self.room.acquire(blocking=False)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and make room for the next."""
        try:
            super().finish_request(request, client_address)
        finally:
            self.room.release()

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


class Handler(socketserver.BaseRequestHandler):
    """Answers ``GET /health``, and ``POST`` with a request of the driver as its body."""

    server: Server

    def handle(self) -> None:
        """Answer the requests of one connection, one after the other."""
        self.wire = Wire(self.request)
        while self.take_turn():
            pass

    def take_turn(self) -> bool:
        """Wait for a request, unless the worker is about to end, and answer it; returns whether another may follow."""
        with self.server.lock:
            if self.server.ending:
                return False
            self.server.quiet.add(self.request)
        try:
            head = self.wire.read_head()
            self._begin()
            return head is not None and self.serve(head) and not head.is_last
        except Refused as refused:
            self.say(refused.status, str(refused), {"Connection": "close"})
            self.wire.part()
            return False
        finally:
            self._begin()

    def _begin(self) -> None:
        with self.server.lock:
            self.server.quiet.discard(self.request)

    def serve(self, head: Head) -> bool:
        """Answer a request; returns False if its caller is gone.

        Raises
        ------
        Refused
            It is not taken.
        """
        if head.method == "POST":
            body = self.body(head)
            if body is not None:
                self.run(head, body)
            return body is not None
        if head.length:
            raise Refused(400, f"{head.method} takes no body here")
        if head.method not in ("GET", "HEAD"):
            raise Refused(405, "GET /health, or POST /run")
        found = head.target.partition("?")[0] == "/health"
        text = b"ok\n" if found else b"GET /health, or POST /run\n"
        self.wire.send(200 if found else 404, text, PLAIN, silent=head.method == "HEAD")
        return True

    def body(self, head: Head) -> bytes | None:
        """Return the body of a request that may be read, None if its caller breaks off.

        Raises
        ------
        Refused
            The caller may not send it, or it does not fit.
        """
        offered = head.headers.get("authorization", "").encode("latin-1")
        if self.server.token and not hmac.compare_digest(offered, f"Bearer {self.server.token}".encode()):
            raise Refused(401, "the bearer token is missing or is not this worker's")
        length = head.length
        if length is None:
            raise Refused(411, "Content-Length is missing")
        if length > self.server.largest:
            raise Refused(413, f"{length} bytes are more than the {self.server.largest} that this worker takes")
        expected = head.headers.get("expect", "").lower()
        if expected not in ("", "100-continue"):
            raise Refused(417, "no such expectation is met here")
        if expected and length:
            self.wire.invite()
        return self.wire.read_body(length)

    def run(self, head: Head, body: bytes) -> None:
        """Run a batch."""
        answer = self.answer(body)
        if answer is not None:
            self.wire.send(200, answer, {"Content-Type": "application/octet-stream"})

    def answer(self, body: bytes) -> bytes | None:
        """Have an agent answer; None if none is free."""
        try:
            agent = self.server.agents.get(timeout=FREE_TIMEOUT)
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
        line.register(self.request, select.POLLIN)
        if not line.poll(0):
            return True
        with contextlib.suppress(OSError):
            return bool(self.request.recv(1, socket.MSG_PEEK))
        return False

    def say(self, status: int, text: str, headers: dict[str, str]) -> None:
        """Answer with a sentence."""
        self.wire.send(status, text.encode() + b"\n", {**PLAIN, **headers})


class WhiskHandler(Handler):
    """The interface of an OpenWhisk action's container: ``POST /init`` once, then ``POST /run`` for each activation."""

    def run(self, head: Head, body: bytes) -> None:
        """Run an activation."""
        try:
            given = json.loads(body)["value"] if head.target == "/run" else {}
            message = base64.b64decode(given["body"]) if given else b""
        except (ValueError, KeyError, TypeError, RecursionError):
            return self.whisk(400, {"error": "expected JSON with value.body, a request in base64"})
        if head.target == "/init":
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
        self.wire.send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})


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
