"""What ``fanfold doctor`` finds out: software, settings and their origins, and whether what is configured works."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from core.compute.base import backend_names
from core.config import ExecutorConfig, default_storage, describe, resolve, unknown_variables
from core.errors import ConfigError, FanfoldError
from core.storage.base import open_storage, storage_names
from core.types import RetryPolicy

_ROUND_TRIP_LIMIT = 120.0
"""Seconds that a platform may take to answer for the first time."""

_NEEDED = ("cloudpickle", "numpy", "scipy", "pandas", "matplotlib", "arch", "tqdm", "platformdirs")
_OPTIONAL = {
    "boto3": ("s3", "data and jobs at s3:// and cos:// addresses"),
    "fsspec": ("fsspec", "gs://, az://, sftp:// and other stores"),
    "numba": ("fast", "compiled kernels for large Monte Carlo jobs"),
    "pyarrow": ("parquet", "Parquet files beside CSV"),
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
        checks = _checks(config)
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
    ]


def _checks(config: ExecutorConfig) -> list[Check]:
    checks = [_attempt(f"compute {config.compute}", lambda: _try_compute(config))]
    if config.storage is not None or config.durable:
        address = config.storage or default_storage()
        checks.append(_attempt(f"storage {address}", lambda: _try_storage(address)))
    if config.log is not None:
        folder = config.log.absolute().parent
        writable = os.access(config.log if config.log.exists() else folder, os.W_OK)
        checks.append(Check(f"event log {config.log}", writable, "can be written" if writable else "cannot be written"))
    return checks


def _attempt(name: str, work: Callable[[], str]) -> Check:
    try:
        return Check(name, True, work())
    except (FanfoldError, TimeoutError, OSError) as error:
        return Check(name, False, str(error) or type(error).__name__)


def _try_compute(config: ExecutorConfig) -> str:
    from core.executor import FunctionExecutor

    started = time.perf_counter()
    with FunctionExecutor(compute=config.compute, workers=1) as executor:
        there = executor.call_async(platform.python_version).result(_ROUND_TRIP_LIMIT)
        first = time.perf_counter()
        executor.call_async(platform.python_version).result(_ROUND_TRIP_LIMIT)
        second = time.perf_counter()
    return f"Python {there} answered in {1e3 * (first - started):.0f} ms, then in {1e3 * (second - first):.1f} ms"


def _try_storage(address: str) -> str:
    key, content = f"doctor/{uuid4().hex}", os.urandom(1024)
    storage = open_storage(address)
    try:
        started = time.perf_counter()
        storage.put(key, content)
        try:
            if storage.get(key) != content:
                raise ConfigError("it returned other bytes than were written")
        finally:
            storage.delete([key])
        return f"1 KiB written, read and deleted in {1e3 * (time.perf_counter() - started):.1f} ms"
    finally:
        storage.close()
