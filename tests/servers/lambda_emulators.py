"""AWS Lambda of this test run: the runtime interface emulators of AWS, behind a front with the rules of the service.

Each emulator runs one call at a time in the runtime interface client, as an instance of a function does. The front has
what the emulators leave to the service: many instances of one function, throttling, the limits on payloads, events,
and the form of errors.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import platform
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.servers.processes import end_with_parent

START = 60.0
LARGEST = 6 * 1024 * 1024
LARGEST_EVENT = 1024 * 1024
INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
MISSING = (
    "needs AWS's runtime interface emulator and client: pip install awslambdaric; pip install --no-deps aws-sam-cli"
)


def emulator_program() -> str | None:
    """Return AWS's runtime interface emulator, which the SAM command line brings along."""
    if found := shutil.which("aws-lambda-rie"):
        return found
    package = importlib.util.find_spec("samcli")
    if package is None or not package.submodule_search_locations:
        return None
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), "")
    program = Path(package.submodule_search_locations[0]) / "local" / "rapid" / f"aws-lambda-rie-{machine}"
    return str(program) if program.exists() else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Emulator:
    """One instance of a function."""

    program: str
    handler: str
    timeout: int
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "PYTHONPATH": f"{Path(__file__).parents[2]}:{self.folder}",
        }
        command = [self.program, "--runtime-interface-emulator-address", f"127.0.0.1:{self.port}"]
        command += ["--runtime-api-address", f"127.0.0.1:{free_port()}", "--log-level", "error"]
        command += [sys.executable, "-m", "awslambdaric", self.handler]
        with open(self.folder / f"{self.port}.log", "ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent
            )
        deadline = time.monotonic() + START
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / f"{self.port}.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        """End the emulator and all that it started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def invoke(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout + 30)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class EmulatedLambda:
    """The service: one function with as many instances as its reserved concurrency.

    Attributes
    ----------
    calls : list of str
        The kind of every invocation so far.
    refusals : queue
        Answers to give to the next requests, instead of serving them: (status, error type, headers, body).
    told : dict
        Answers to questions about function and account, by the end of their path; others are refused.
    events_lost : int
        Events to accept and then lose.
    """

    def __init__(
        self, folder: Path, count: int = 4, timeout: int = 15, handler: str = "core.worker.entry.lambda_handler"
    ):
        program = emulator_program()
        if program is None or importlib.util.find_spec("awslambdaric") is None:
            pytest.skip(MISSING)
        self.calls: list[str] = []
        self.refusals: queue.SimpleQueue[tuple[int, str, dict[str, str], bytes]] = queue.SimpleQueue()
        self.events_lost = 0
        self.told: dict[str, dict[str, object]] = {}
        self.ended = False
        self.idle: queue.SimpleQueue[Emulator] = queue.SimpleQueue()
        self.emulators = [Emulator(program, handler, timeout, folder) for _ in range(count)]
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        # An emulator ends with the thread that started it, and those that answer requests are short-lived.
        self.starter = ThreadPoolExecutor(1)

    def start(self) -> None:
        for emulator in self.emulators:
            emulator.start()
            self.idle.put(emulator)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.ended = True
        self.server.shutdown()
        self.server.server_close()
        self.starter.shutdown()
        for emulator in self.emulators:
            emulator.stop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def address(self, **options: str) -> str:
        """Return the compute address of the function."""
        rest = "".join(f"&{name}={value}" for name, value in options.items())
        return f"lambda://fanfold?endpoint={self.endpoint}&region=eu-west-1{rest}"

    def answer(self, body: bytes, emulator: Emulator) -> tuple[bytes, str]:
        """Have an instance run a call; returns what the service answers, and the kind of error that it is."""
        try:
            status, said = emulator.invoke(body)
        except (OSError, http.client.HTTPException):
            # Of an emulator that ended with its function, the service would start another.
            if not self.ended:
                emulator.stop()
                self.starter.submit(emulator.start).result()
            status, said = 502, b""
        finally:
            self.idle.put(emulator)
        if said.startswith(b"Task timed out"):
            return json.dumps({"errorType": "Sandbox.Timedout", "errorMessage": said.decode()}).encode(), "Unhandled"
        if status != 200:
            told = (
                said if said.startswith(b"{") else b'{"errorType":"Runtime.ExitError","errorMessage":"Runtime exited"}'
            )
            return told, "Unhandled"
        if len(said) > LARGEST:
            told = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": "Response payload size exceeded"}
            return json.dumps(told).encode(), "Unhandled"
        is_error = said.startswith(b"{") and b'"errorType"' in said[:100_000] and b'"body"' not in said[:10]
        return said, "Unhandled" if is_error else ""

    def run_event(self, body: bytes) -> None:
        self.answer(body, self.idle.get())


def _handler_of(service: EmulatedLambda) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or the body of an answer waits 40 ms for the receipt of its head

        def log_message(self, *arguments: object) -> None:
            return None

        def reply(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def refuse(self, status: int, kind: str, **fields: str) -> None:
            self.reply(status, json.dumps({"Message": kind, **fields}).encode(), x_amzn_errortype=kind)

        def do_GET(self) -> None:
            told = next((told for end, told in service.told.items() if self.path.rstrip("/").endswith(end)), None)
            if told is None:
                return self.refuse(403, "AccessDeniedException")
            return self.reply(200, json.dumps(told).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = self.headers.get("X-Amz-Invocation-Type", "RequestResponse")
            service.calls.append(kind)
            if not service.refusals.empty():
                status, name, headers, answer = service.refusals.get()
                return self.reply(status, answer, x_amzn_errortype=name, **headers)
            named = INVOKE.fullmatch(self.path)
            if named is None or named[1] != "fanfold":
                return self.refuse(404, "ResourceNotFoundException")
            if len(body) > (LARGEST_EVENT if kind == "Event" else LARGEST):
                return self.refuse(413, "RequestTooLargeException")
            if kind == "Event":
                if service.events_lost:
                    service.events_lost -= 1
                else:
                    threading.Thread(target=service.run_event, args=(body,), daemon=True).start()
                return self.reply(202, b"")
            try:
                emulator = service.idle.get_nowait()
            except queue.Empty:
                return self.refuse(
                    429, "TooManyRequestsException", Reason="ReservedFunctionConcurrentInvocationLimitExceeded"
                )
            said, error = service.answer(body, emulator)
            extra = {"X_Amz_Function_Error": error} if error else {}
            self.reply(200, said, **extra)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:  # the caller waits no more; the function ran on
                self.close_connection = True

    return Handler


@pytest.fixture(scope="session")
def emulated_lambda(s3_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedLambda]:
    """Return a running service with one function of four instances, which reach the S3 server if there is one."""
    service = EmulatedLambda(tmp_path_factory.mktemp("lambda"))
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="session")
def lambda_site(emulated_lambda: EmulatedLambda) -> dict[str, object]:
    """Return settings of an executor that calls the function and waits."""
    return {"compute": emulated_lambda.address(), "workers": 2}


@pytest.fixture(scope="session")
def lambda_async_site(emulated_lambda: EmulatedLambda) -> dict[str, object]:
    """Return settings of an executor that sends events."""
    return {"compute": emulated_lambda.address(call="async"), "workers": 2}
