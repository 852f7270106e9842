"""A conformance server for the OpenWhisk client: the public REST API of one namespace, and no OpenWhisk.

What it does follows OpenWhisk's documentation of its REST API and of its Docker actions: actions, blocking and
non-blocking invocations, activations, Basic authentication, limits. Actions are real: each is run by processes of the
product's own entry point (``python -m core.worker.entry openwhisk``), initialised, invoked and held to the end-of-log
lines as OpenWhisk does with containers.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.worker.http import WHISK_END
from tests.servers.ports import free_port

KEY = "23bc46b1-71f6:whisk-secret-aa71"
NAMESPACE = "guest"
ENTITY_LIMIT = 1 << 20
START = 60.0


class ActionContainer:
    """A process of the action's image."""

    def __init__(self) -> None:
        self.port = free_port()
        # As OpenWhisk does: with the image's own argument, and the variable that tells a container where it is.
        command = [sys.executable, "-m", "core.worker.entry", "http"]
        environment = {**os.environ, "PORT": str(self.port), "__OW_API_HOST": "https://whisk.example.org"}
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            command, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + START
        while True:
            try:
                assert self.post("/init", {"value": {"name": "fanfold", "code": "", "binary": False}}, 30)[0] == 200
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None, "the action's process ended"
                assert time.monotonic() < deadline, "the action's process does not answer"
                time.sleep(0.05)

    def post(self, path: str, body: dict[str, Any], timeout: float) -> tuple[int, Any]:
        """Call the action's interface; its log must end as OpenWhisk expects."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            while WHISK_END not in stream.readline():
                assert self.process.poll() is None
        return answer.status, content

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@dataclass
class Whisk:
    """One namespace: its actions, its activations, and the containers that are warm."""

    concurrency: int = 4
    blocking_limit: float = 60.0
    action_timeout: float | None = None
    actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    activations: dict[str, dict[str, Any]] = field(default_factory=dict)
    idle: list[ActionContainer] = field(default_factory=list)
    busy: set[ActionContainer] = field(default_factory=set)
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        assert self.server is not None
        return f"openwhisk://127.0.0.1:{self.server.server_port}/{NAMESPACE}?plain=yes"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"whisk": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()
        for container in [*self.idle, *self.busy]:
            container.kill()

    def invoke(self, name: str, given: dict[str, Any]) -> tuple[str, threading.Event] | None:
        """Begin an activation; None if the namespace has no room."""
        with self.lock:
            running = len(self.busy)
            if running >= self.concurrency:
                self.refused += 1
                return None
            container = self.idle.pop() if self.idle else None
            placeholder = container or object()
            self.busy.add(placeholder)  # type: ignore[arg-type]
        ident, done = uuid.uuid4().hex, threading.Event()
        arguments = (ident, name, given, container, placeholder, done)
        threading.Thread(target=self._run, args=arguments, daemon=True).start()
        return ident, done

    def _run(
        self,
        ident: str,
        name: str,
        given: dict[str, Any],
        container: ActionContainer | None,
        placeholder: Any,
        done: threading.Event,
    ) -> None:
        limits = self.actions[name]["limits"]
        limit = self.action_timeout or limits["timeout"] / 1000
        made = container or ActionContainer()
        with self.lock:
            self.busy.discard(placeholder)
            self.busy.add(made)
        status, result = "success", None
        try:
            code, result = made.post("/run", {"value": given, "action_name": name, "activation_id": ident}, limit)
            if code != 200:
                status = "action developer error"
        except TimeoutError:
            result = {"error": f"The action exceeded its time limits of {round(1000 * limit)} milliseconds."}
            status = "action developer error"
        except (OSError, http.client.HTTPException, AssertionError):
            result = {"error": "The action did not produce a valid response and exited unexpectedly."}
            status = "action developer error"
        with self.lock:
            self.busy.discard(made)
            if status == "success":
                self.idle.append(made)
            else:
                made.kill()
        response = {"status": status, "success": status == "success", "result": result}
        self.activations[ident] = {"activationId": ident, "name": name, "namespace": NAMESPACE, "response": response}
        done.set()


class _Handler(BaseHTTPRequestHandler):
    whisk: Whisk
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        expected = f"Basic {base64.b64encode(KEY.encode()).decode()}"
        if self.headers.get("Authorization") != expected:
            return self.answer(401, {"error": "The supplied authentication is invalid"})
        if length > ENTITY_LIMIT:
            return self.answer(413, {"error": "The entity is too large"})
        path, _, query = self.path.partition("?")
        match = re.fullmatch(rf"/api/v1/namespaces/({NAMESPACE}|_)/(actions|activations)/([^/]+)", path)
        if match is None:
            return self.answer(403, {"error": "The supplied authentication is not authorized to access this resource"})
        kind, name = match[2], match[3]
        if kind == "activations":
            record = self.whisk.activations.get(name)
            return (
                self.answer(200, record)
                if record
                else self.answer(404, {"error": "The requested resource does not exist."})
            )
        if self.command == "PUT":
            given = json.loads(body)
            assert given["exec"]["kind"] == "blackbox"
            assert given["exec"]["image"]
            self.whisk.actions[name] = given
            return self.answer(200, {"name": name, "namespace": NAMESPACE, **given})
        if name not in self.whisk.actions:
            return self.answer(404, {"error": "The requested resource does not exist."})
        if self.command == "DELETE":
            return self.answer(200, self.whisk.actions.pop(name))
        if self.command == "GET":
            return self.answer(200, self.whisk.actions[name])
        return self.invoke(name, json.loads(body or b"{}"), "blocking=true" in query)

    def invoke(self, name: str, given: dict[str, Any], blocking: bool) -> None:
        begun = self.whisk.invoke(name, given)
        if begun is None:
            return self.answer(429, {"error": "Too many concurrent requests in flight (count: 4, allowed: 4)."})
        ident, done = begun
        if not blocking or not done.wait(self.whisk.blocking_limit):
            return self.answer(202, {"activationId": ident})
        record = self.whisk.activations[ident]
        return self.answer(200 if record["response"]["success"] else 502, record)

    do_GET = do_PUT = do_POST = do_DELETE = handle_request


@pytest.fixture
def whisk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Whisk]:
    """Return a conformance server of its own, and put its key into the environment."""
    monkeypatch.setenv("OPENWHISK_AUTH", KEY)
    server = Whisk()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def openwhisk_site(s3_environment: None) -> Iterator[dict[str, object]]:
    """Return settings of an executor on a conformance server."""
    # A cancelled task goes on until its action's time limit, and would take the processor from other tests.
    server = Whisk(concurrency=6, action_timeout=15.0)
    server.start()
    os.environ["OPENWHISK_AUTH"] = KEY
    try:
        yield {"compute": server.address, "workers": 2, "runtime": "registry.example.org/fanfold-base:1"}
    finally:
        server.stop()
        del os.environ["OPENWHISK_AUTH"]
