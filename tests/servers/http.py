"""HTTP workers of this test run: ``python -m core.worker.entry http``, each a process of this machine."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers.ports import free_port

TOKEN = "worker-secret-5f2b90"
START = 60.0


@dataclass
class HttpWorker:
    """One HTTP worker as a process."""

    slots: int = 2
    environment: dict[str, str] = field(default_factory=dict)
    kind: str = "http"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def command(kind: str = "http") -> list[str]:
        return [sys.executable, "-m", "core.worker.entry", kind]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/run"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        environment = {
            **os.environ,
            "PORT": str(self.port),
            "FANFOLD_WORKER_SLOTS": str(self.slots),
            "FANFOLD_WORKER_TOKEN": TOKEN,
            **self.environment,
        }
        self.process = subprocess.Popen(self.command(self.kind), env=environment, cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + START
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health")
                assert connection.getresponse().status == 200
                return
            except OSError:
                assert self.process.poll() is None, "the HTTP worker ended"
                assert time.monotonic() < deadline, "the HTTP worker does not answer"
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def http_site(s3_environment: None) -> Iterator[dict[str, object]]:
    """Return settings of an executor that calls one HTTP worker with two slots."""
    worker = HttpWorker()
    os.environ["FANFOLD_WORKER_TOKEN"] = TOKEN
    worker.start()
    try:
        yield {"compute": worker.url, "workers": 2}
    finally:
        worker.stop()
        del os.environ["FANFOLD_WORKER_TOKEN"]
