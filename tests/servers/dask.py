"""A Dask scheduler and two workers of this test run, each a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers.processes import end_with_parent

START = 90.0


@dataclass
class DaskCluster:
    """A scheduler, and workers that their nannies start again."""

    folder: Path
    port: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"dask://127.0.0.1:{self.port}"

    def start(self, workers: int = 2) -> None:
        """Start everything, and wait until the workers are there."""
        from distributed import Client

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._run("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        for index in range(workers):
            self.add_worker(index)
        deadline = time.monotonic() + START
        while True:
            try:
                with Client(f"tcp://127.0.0.1:{self.port}", timeout=5, set_as_default=False) as client:
                    if workers:
                        client.wait_for_workers(workers, timeout=START)
                    return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()

    def add_worker(self, index: int = 0) -> None:
        """Start a worker."""
        scheduler = f"tcp://127.0.0.1:{self.port}"
        common = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder / str(index))]
        self._run("worker", scheduler, *common, "--name", f"w{index}", "--death-timeout", "60")

    def _run(self, *arguments: str) -> None:
        root = str(Path(__file__).parents[2])
        # Its statistical profile of the workers takes a fiftieth of a processor as long as they are there.
        environment = {**os.environ, "PYTHONPATH": root, "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
        with open(self.folder / "log", "ab") as log:
            command = [sys.executable, "-m", "dask", *arguments]
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, preexec_fn=end_with_parent
            )
            self.processes.append(process)

    def stop(self) -> None:
        """End everything, with the workers behind their nannies."""
        while self.processes:
            process = self.processes.pop()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def dask_cluster(s3_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Return a running cluster."""
    pytest.importorskip("distributed", reason="needs Dask: pip install '.[dask]'")
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def dask_site(dask_cluster: DaskCluster) -> dict[str, object]:
    """Return settings of an executor on the cluster."""
    return {"compute": dask_cluster.address, "workers": 2}
