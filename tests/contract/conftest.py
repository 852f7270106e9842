"""Addresses of every storage, and the servers behind them."""

from __future__ import annotations

import base64
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.ports import free_port

numbers = itertools.count()

START = 90.0
CEPH_PROGRAMS = ("ceph-mon", "ceph-osd", "ceph-mgr", "radosgw", "radosgw-admin", "monmaptool")
CEPH_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}]
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail warn = 2
mon data avail crit = 1
mon max pg per osd = 1000
run dir = {folder}/run
log file = {folder}/log/$name.log
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
keyring = {folder}/keyring
setuser match path =
[mon.a]
mon data = {folder}/mon
[mgr.x]
mgr data = {folder}/mgr
mgr initial modules =
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
[client.rgw.a]
ms mon client mode = crc secure
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw dns name = localhost
"""


class Ceph:
    """One monitor, one store in memory and one gateway, each a child of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = ""
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, key: str, secret: str) -> None:
        """Start a cluster with the bucket ``fanfold`` of one user, and wait until the gateway serves it."""
        import boto3

        for name in ("mon", "mgr", "osd", "rgw", "run", "log"):
            (self.folder / name).mkdir()
        fsid, monitor, gateway = str(uuid.uuid4()), free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{gateway}"
        (self.folder / "ceph.conf").write_text(
            CEPH_CONFIGURATION.format(fsid=fsid, folder=self.folder, monitor=monitor, gateway=gateway)
        )
        (self.folder / "keyring").touch()
        monitors = str(self.folder / "monmap")
        self.call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{monitor}]", monitors)
        self.call("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors)
        self.serve("ceph-mon", "-i", "a")
        store = str(uuid.uuid4())
        self.call("ceph", "osd", "new", store)
        self.call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        self.serve("ceph-osd", "-i", "0")
        self.serve("ceph-mgr", "-i", "x")
        self.serve("radosgw", "-n", "client.rgw.a")
        user = ["--uid=fanfold", "--display-name=fanfold", f"--access-key={key}", f"--secret={secret}"]
        self.call("radosgw-admin", "user", "create", *user)
        _wait_for(gateway, self.running[-1], self.folder / "log" / "radosgw.out")
        boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1").create_bucket(Bucket="fanfold")

    def call(self, program: str, *arguments: str) -> None:
        """Run one of Ceph's commands to its end."""
        command = self.command(program, *arguments)
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=START, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"

    def serve(self, program: str, *arguments: str) -> None:
        """Start one of Ceph's servers, which `stop` ends."""
        with open(self.folder / "log" / f"{program}.out", "ab") as log:
            # -f keeps it in the foreground, where its process number is known.
            self.running.append(subprocess.Popen(self.command(program, "-f", *arguments), stdout=log, stderr=log))

    def command(self, program: str, *arguments: str) -> list[str]:
        configuration = [] if program == "monmaptool" else ["-c", str(self.folder / "ceph.conf")]
        return [program, *configuration, *arguments]

    def stop(self) -> None:
        """End every server; the store is in their memory, so nothing is worth waiting for."""
        for process in reversed(self.running):
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture(
    params=[
        "file",
        "memory",
        "fsspec",
        "s3",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ceph", "az")),
    ]
)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of a storage that no other test uses."""
    number = next(numbers)
    if request.param == "fsspec":
        pytest.importorskip("fsspec", reason="needs fsspec: pip install '.[fsspec]'")
        return f"fsspec+file://{tmp_path}/store"
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        return f"s3://fanfold/contract-{number}"
    if request.param == "az":
        request.getfixturevalue("azurite")
        return f"az://fanfold/contract-{number}"
    if request.param == "ceph":
        return f"s3://fanfold/contract-{number}?endpoint={request.getfixturevalue('ceph').endpoint}"
    return {"file": f"file://{tmp_path}/store", "memory": f"memory://contract-{number}"}[request.param]


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """Return a running Ceph with an S3 gateway."""
    pytest.importorskip("boto3", reason="needs boto3: pip install '.[s3]'")
    missing = [name for name in (*CEPH_PROGRAMS, "ceph") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs Ceph ({missing[0]}): apt-get install ceph-mon ceph-mgr ceph-osd radosgw")
    cluster = Ceph(tmp_path_factory.mktemp("ceph"))
    try:
        cluster.start(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run Microsoft's emulator of its blob storage, with the container ``fanfold``."""
    pytest.importorskip("adlfs", reason="needs adlfs: pip install adlfs")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("needs Azurite: npm install -g azurite")
    from azure.storage.blob import BlobServiceClient

    port = free_port()
    account = "AccountName=devstoreaccount1;AccountKey=" + base64.b64encode(b"fanfold" * 9).decode()
    where = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
    environment = os.environ | {"AZURITE_ACCOUNTS": account.replace("AccountName=", "").replace(";AccountKey=", ":")}
    with _serving([program, *options, "--disableTelemetry"], port, tmp_path_factory.mktemp("azurite"), environment):
        BlobServiceClient.from_connection_string(where).create_container("fanfold")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AZURE_STORAGE_CONNECTION_STRING", where)
            yield


@contextmanager
def _serving(command: list[str], port: int, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a server until the block ends."""
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        _wait_for(port, process, folder / "log")
        yield
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a server takes connections."""
    deadline = time.monotonic() + START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
