"""What ``fanfold doctor`` finds out: software, settings and their origins, and whether what is configured works."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from core.compute.base import backend_names
from core.errors import ComputeUnavailable, ConfigError, FanfoldError
from core.images.engines import find_engine
from core.settings import ExecutorConfig, default_storage, describe, resolve, unknown_variables
from core.storage.base import open_storage, storage_names
from core.storage.probe import check_put_if_absent
from core.types import RetryPolicy

ANSWER_TIMEOUT = 120.0
"""Seconds that a platform may take to answer for the first time."""

UNAVAILABLE_TIMEOUT = 10.0
"""Seconds for which a platform may refuse every request: a job waits longer, but somebody waits for this answer."""

REDIS_TIMEOUT = 5.0
"""Seconds that Redis may take to answer."""

_NEEDED = ("cloudpickle", "numpy", "scipy", "pandas", "matplotlib", "arch", "tqdm", "platformdirs")
_OPTIONAL = {
    "boto3": ("s3", "data and jobs at s3:// and cos:// addresses, and compute at lambda://"),
    "distributed": ("dask", "compute at dask://"),
    "dlib-bin": ("faces", "face alignment, with opencv-python-headless, pillow and scikit-image"),
    "fsspec": ("fsspec", "gs://, az://, sftp:// and other stores"),
    "kubernetes": ("kubernetes", "compute at kubernetes://"),
    "numba": ("fast", "compiled kernels for large Monte Carlo jobs"),
    "pyarrow": ("parquet", "Parquet files beside CSV"),
    "redis": ("redis", "notices of results and queues over redis://"),
}


@dataclass(frozen=True, slots=True)
class Package:
    """A package, its version if it is installed, and if not, what it would add and the command that adds it."""

    name: str
    version: str | None
    adds: str = ""
    install: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """An effective setting, where its value came from, and what it means."""

    name: str
    value: Any
    origin: str
    doc: str


@dataclass(frozen=True, slots=True)
class Check:
    """Something tried for real, whether it worked, and how fast or why not."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything found; `ok` is False if something configured does not work."""

    ok: bool
    system: str
    packages: list[Package]
    backends: list[str]
    storages: list[str]
    settings: list[Value]
    warnings: list[str]
    checks: list[Check]


def examine(config_file: str | None = None, **explicit: object) -> Report:
    """Find out what is installed and configured, and try it.

    Parameters
    ----------
    config_file : str, optional
        The configuration file to read instead of the usual ones.
    **explicit
        Settings given as flags.
    """
    settings: list[Value] = []
    try:
        resolved = resolve(config_file, **explicit)
    except ConfigError as error:
        checks = [Check("configuration", False, str(error))]
    else:
        config = resolved.config
        for row in describe():
            value = getattr(config, row.name)
            settings.append(Value(row.name, _plain(value), resolved.origins[row.name], row.doc))
        checks = _checks(config, config_file)
    return Report(
        ok=all(check.ok for check in checks),
        system=_system(),
        packages=_packages(),
        backends=backend_names(),
        storages=storage_names(),
        settings=settings,
        warnings=[f"{name} is set but is no setting" for name in unknown_variables()],
        checks=checks,
    )


def _plain(value: object) -> object:
    if isinstance(value, RetryPolicy):
        return value.retries
    return str(value) if isinstance(value, Path) else value


def _system() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    large = "shared memory" if hasattr(os, "memfd_create") else "pipes (slower; this system has no memfd)"
    return f"{platform.system()} {platform.release()}, {cores} cores, large results travel through {large}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _packages() -> list[Package]:
    return [
        Package("python", platform.python_version()),
        Package("fanfold", _version("fanfold"), "the installed distribution", "pip install ."),
        *(Package(name, _version(name), "the default set-up", f"pip install {name}") for name in _NEEDED),
        *(
            Package(name, _version(name), adds, f"pip install 'fanfold[{extra}]'")
            for name, (extra, adds) in _OPTIONAL.items()
        ),
        Package("container engine", _engine(), "container:// and 'fanfold runtime'", "install podman or docker"),
    ]


def _engine() -> str | None:
    try:
        return find_engine().command
    except ConfigError:
        return None


def _checks(config: ExecutorConfig, config_file: str | None) -> list[Check]:
    others = []
    works = True
    if config.storage is not None or config.durable:
        address = config.storage or default_storage()
        others.append(_attempt(f"storage {address}", lambda: _try_storage(address)))
        works = others[0].ok
    if config.notify is not None:
        notify = config.notify
        others.append(_attempt(f"notify {notify}", lambda: _try_notify(notify)))
    if config.log is not None:
        folder = config.log.absolute().parent
        writable = os.access(config.log if config.log.exists() else folder, os.W_OK)
        others.append(Check(f"event log {config.log}", writable, "can be written" if writable else "cannot be written"))
    return [_attempt(f"compute {config.compute}", lambda: _try_compute(config, config_file, works)), *others]


def _attempt(name: str, work: Callable[[], str]) -> Check:
    try:
        return Check(name, True, work())
    except (FanfoldError, OSError) as error:
        return Check(name, False, str(error) or type(error).__name__)
    except Exception as error:  # a worker's environment may be broken in any way
        return Check(name, False, f"{type(error).__name__}: {error}")


def greet() -> tuple[str, str]:
    """Say which Python answers, and on which machine: the task that is sent to every backend."""
    return platform.python_version(), platform.node()


def _greet(_: int) -> None:
    return None


def _try_compute(config: ExecutorConfig, config_file: str | None, storage_works: bool) -> str:
    """Have a task run twice, and once more with its input and result in the configured storage, if there is one."""
    from core.compute.remote.base import RemoteBackend
    from core.executor import FunctionExecutor

    with FunctionExecutor(
        config.compute,
        config.storage,
        workers=1,
        runtime=config.runtime,
        notify=config.notify,
        timeout=ANSWER_TIMEOUT,
        config=config_file,
    ) as executor:
        backend = executor._backend
        if isinstance(backend, RemoteBackend):
            backend.unavailable_timeout = UNAVAILABLE_TIMEOUT
        times = [time.perf_counter()]

        def timed(future: Any) -> Any:
            try:
                answer = future.result(ANSWER_TIMEOUT)
            except TimeoutError:
                raise ComputeUnavailable(
                    f"no answer within {ANSWER_TIMEOUT:g} s; see whether the platform has room for one more task, "
                    "and what its own log says of the worker"
                ) from None
            times.append(time.perf_counter())
            return answer

        python, node = timed(executor.call_async(greet))
        timed(executor.call_async(greet))
        went_through = backend.capabilities.results_in_storage or config.durable
        if config.storage is not None and storage_works and not went_through and _is_shared(config.storage):
            timed(executor.map(_greet, [0], durable=True)[0])
    first, second, *third = (1e3 * (end - start) for start, end in zip(times, times[1:], strict=False))
    last = f", and through the storage in {third[0]:.1f} ms" if third else ""
    return f"Python {python} on {node} answered in {first:.0f} ms, then in {second:.1f} ms{last}"


def _is_shared(address: str | None) -> bool:
    assert address is not None
    with closing(open_storage(address)) as storage:
        return storage.shared


def _try_storage(address: str) -> str:
    key, content = f"doctor/{uuid4().hex}", os.urandom(1024)
    with closing(open_storage(address)) as storage:
        started = time.perf_counter()
        storage.put(key, content)
        try:
            if storage.get(key) != content:
                raise ConfigError("it returned other bytes than were written")
            took = time.perf_counter() - started
            check_put_if_absent(storage, key)
        finally:
            started = time.perf_counter()
            storage.delete([key])
            took += time.perf_counter() - started
    return f"1 KiB written, read and deleted in {1e3 * took:.1f} ms"


def _try_notify(address: str) -> str:
    """Send a word through Redis and hear it."""
    from core.task.notices import connect

    client = connect(address, REDIS_TIMEOUT)
    import redis

    try:
        with client, client.pubsub() as hearing:  # type: ignore[no-untyped-call]
            channel = f"fanfold:doctor:{uuid4().hex}"
            started = time.perf_counter()
            hearing.subscribe(channel)
            while (message := hearing.get_message(timeout=REDIS_TIMEOUT)) is not None:
                if message["type"] == "message":
                    return f"a word came back in {1e3 * (time.perf_counter() - started):.1f} ms"
                client.publish(channel, b"word")
    except redis.AuthenticationError as error:
        raise ConfigError(f"Redis refuses these credentials: {error}; set REDIS_PASSWORD, and REDIS_USERNAME") from None
    except (redis.RedisError, OSError) as error:
        raise ComputeUnavailable(
            f"Redis does not answer: {error}; start it, or leave notify out: results are then looked for in storage"
        ) from None
    raise ComputeUnavailable("Redis took a word and did not deliver it")
