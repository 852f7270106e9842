"""The infrastructure that backends are measured on: ``python -m benchmarks._backend_sites NAME``.

Starts one, prints where it is as a JSON object, and ends it when standard input ends. It is started as the tests start
theirs, by a process of its own, so that a contender shares no interpreter with the servers it uses.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

Place = dict[str, Any]
INSTANCES = 2


@contextmanager
def processes(folder: Path) -> Iterator[Place]:
    yield {"compute": "process"}


@contextmanager
def containers(folder: Path) -> Iterator[Place]:
    from tests.servers.containers import container_engine

    with container_engine(folder) as engine:
        names = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")
        place = {"compute": f"container://{engine.runtime('base')}", "env": {name: os.environ[name] for name in names}}
        (folder / "lithops.txt").write_text("lithops\n")
        more = ("--base", engine.python, "--engine", "podman", "--json", "--requirements", str(folder / "lithops.txt"))
        built = engine.fanfold("runtime", "build", "base", *more)
        yield place | ({"lithops": json.loads(built.stdout)["image"]} if built.returncode == 0 else {})


@contextmanager
def http(folder: Path) -> Iterator[Place]:
    from tests.servers.http import TOKEN, HttpWorker

    worker = HttpWorker(INSTANCES)
    try:
        worker.start()
        yield {"compute": worker.url, "env": {"FANFOLD_WORKER_TOKEN": TOKEN}}
    finally:
        worker.stop()


@contextmanager
def functions(folder: Path, handler: str = "core.worker.entry.lambda_handler") -> Iterator[Place]:
    from tests.servers.lambda_emulators import EmulatedLambda

    names = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}
    os.environ |= names
    service = EmulatedLambda(folder, INSTANCES, handler=handler)
    try:
        service.start()
        yield {"compute": service.address(), "storage": f"file://{folder / 'store'}", "env": names}
    finally:
        service.stop()


@contextmanager
def events(folder: Path) -> Iterator[Place]:
    with functions(folder) as place:
        yield place | {"compute": f"{place['compute']}&call=async"}


@contextmanager
def told_events(folder: Path) -> Iterator[Place]:
    from tests.servers.redis import PASSWORD, RedisServer

    program = shutil.which("redis-server", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("needs the program redis-server: apt-get install redis-server")
    os.environ["REDIS_PASSWORD"] = PASSWORD
    server = RedisServer(program, folder)
    try:
        server.start()
        with events(folder) as place:
            yield place | {"notify": server.address, "env": place["env"] | {"REDIS_PASSWORD": PASSWORD}}
    finally:
        server.kill()


@contextmanager
def slurm(folder: Path) -> Iterator[Place]:
    from tests.servers.slurm import running_slurm

    with running_slurm() as cluster:
        os.environ["SLURM_CONF"] = str(cluster.configuration)
        names = {"SLURM_CONF": str(cluster.configuration), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        yield {"compute": "slurm://main", "storage": f"file://{folder / 'store'}", "env": names}


@contextmanager
def dask(folder: Path) -> Iterator[Place]:
    from tests.servers.dask import DaskCluster

    cluster = DaskCluster(folder)
    try:
        cluster.start(INSTANCES)
        yield {"compute": cluster.address}
    finally:
        cluster.stop()


SITES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "processes": processes,
    "containers": containers,
    "http": http,
    "functions": functions,
    "events": events,
    "told events": told_events,
    "slurm": slurm,
    "dask": dask,
}


def main(name: str) -> None:
    # Servers are found by the variables that are set for them here, not by those of whoever runs the benchmark.
    with tempfile.TemporaryDirectory(prefix="fanfold-bench-") as folder:
        os.environ["FANFOLD_STATE_DIR"] = f"{folder}/state"
        try:
            with SITES[name](Path(folder)) as place:
                shared = {"FANFOLD_STATE_DIR": os.environ["FANFOLD_STATE_DIR"]}
                print(json.dumps(place | {"env": shared | place.get("env", {})}), flush=True)
                sys.stdin.read()
        except pytest.skip.Exception as missing:
            print(json.dumps({"missing": str(missing)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
