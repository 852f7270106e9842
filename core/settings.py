"""Settings of an executor, and addresses.

A setting comes from, first to last: an argument or flag; the environment (``FANFOLD_WORKERS=4``); ``fanfold.toml`` in
the working folder; ``config.toml`` in the user's configuration folder; the default in the table below.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.fields import parse_field, read_settings, row_of, rows, setting
from core.parsers import number, switch, whole
from core.types import RetryPolicy

ENVIRONMENT_PREFIX = "FANFOLD_"
STATE_VARIABLE = "FANFOLD_STATE_DIR"
_OTHER_VARIABLES = (STATE_VARIABLE, "FANFOLD_CACHE_DIR", "FANFOLD_NO_MEMFD")
WORKER_PREFIX = "FANFOLD_WORKER_"
"""Variables that a worker reads, and drivers for the token that they share with it."""
FILE_NAME = "fanfold.toml"

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)\s*", re.IGNORECASE)
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?\s*", re.IGNORECASE)
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_REDIS = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(:\d{1,5})?(/\d+)?", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+._-]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """A place to compute or to store: ``scheme://where?option=value``, or ``scheme?option=value``."""

    scheme: str
    where: str = ""
    options: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_address(text: str) -> Address:
    """Split an address into its scheme, place and options.

    Raises
    ------
    ConfigError
        The address is empty or malformed, gives an option twice, or carries a password.
    """
    from urllib.parse import parse_qsl

    head, _, query = text.strip().partition("?")
    scheme, separator, where = head.partition("://")
    if re.match(r"[^/@]*:[^/@]*@", where):
        raise ConfigError(
            f"the {scheme}:// address carries a password; leave it out and use the environment, a profile or the "
            "platform's identity"
        )
    if not _SCHEME.fullmatch(scheme):
        raise ConfigError(f"{head!r} is not an address; expected a name such as 'process', or scheme://where")
    if separator and not where and query:
        raise ConfigError(f"address {scheme}:// names no place before '?'")
    options: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ConfigError(f"options of address {head!r} are malformed; expected ?option=value&option=value") from None
    for name, value in pairs:
        if name in options:
            raise ConfigError(f"address {head!r} gives option {name!r} twice")
        options[name] = value
    return Address(scheme.lower(), where, options)


def parse_size(value: object) -> int:
    """Return bytes from a number or text such as ``512MB`` (10**6) or ``2GiB`` (2**30)."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None or (match[3] and not match[2]):
            raise ValueError
        step = 1024 if match[3] else 1000
        value = float(match[1]) * step ** " kmgt".index(match[2].lower() or " ")
    return math.ceil(_positive(value))


def parse_duration(value: object) -> float:
    """Return seconds from a number or text such as ``250ms``, ``30s``, ``5m``, ``2h``, ``1d``."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ValueError
        value = float(match[1]) * _SECONDS[(match[2] or "s").lower()]
    return _positive(value)


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError
    return value


def _retries(value: object) -> RetryPolicy:
    return value if isinstance(value, RetryPolicy) else RetryPolicy(retries=whole(0)(value))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def _compute(value: object) -> str:
    text = _text(value)
    parse_address(text)
    return text


def _notify(value: object) -> str:
    text = _text(value)
    address = parse_address(text)
    if address.scheme not in ("redis", "rediss") or address.options or not _REDIS.fullmatch(address.where):
        raise ValueError
    return text


def _path(value: object) -> Path:
    return value if isinstance(value, Path) else Path(_text(value)).expanduser()


@dataclass(frozen=True, slots=True)
class ExecutorConfig:
    """Every setting of an executor: its type, default, parser and meaning, in one table.

    Flags, environment, files and ``fanfold doctor`` all read this table; see ``describe``.
    """

    compute: str = setting(
        "process",
        _compute,
        "an address such as process (this machine), container://IMAGE, https://HOST, lambda://FUNCTION, "
        "kubernetes://NAMESPACE, slurm://PARTITION or dask://HOST:PORT",
        "where tasks run",
        "ADDRESS",
    )
    storage: str | None = setting(
        None,
        _text,
        "an address such as file:///folder or s3://bucket/prefix",
        "where durable jobs and large objects are kept",
        "ADDRESS",
    )
    runtime: str | None = setting(
        None,
        _text,
        "the name of an image, such as fanfold-montecarlo",
        "image that remote workers run, where the address names none",
        "IMAGE",
    )
    workers: int | None = setting(
        None, whole(1), "a whole number of at least 1", "tasks that run at the same time", "N"
    )
    memory: int | None = setting(None, parse_size, "a size such as 512MB or 2GiB", "memory a task may use", "SIZE")
    timeout: float | None = setting(
        None, parse_duration, "a time such as 30s, 5m or 2h", "time a task may take", "TIME"
    )
    retries: RetryPolicy = setting(
        RetryPolicy(), _retries, "a whole number of at least 0", "attempts after the first", "N"
    )
    durable: bool = setting(False, switch, "true or false", "keep jobs in storage, to outlive their driver")
    speculation: bool | None = setting(
        None, switch, "true or false", "run backup copies of slow tasks (by default for durable jobs)"
    )
    notify: str | None = setting(
        None,
        _notify,
        "redis://HOST:PORT/DB or rediss://HOST:PORT/DB",
        "Redis over which workers tell of results in storage, and send what tasks put into queues",
        "ADDRESS",
    )
    machine_price: float | None = setting(
        None,
        number(0.0, open_ends=True),
        "US dollars an hour",
        "price of one worker of your own machines, for bills and estimates",
    )
    log: Path | None = setting(None, _path, "a file path", "JSON Lines file that every event is appended to")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the settings table: what it is called, expects, does and defaults to."""

    name: str
    expects: str
    doc: str
    default: object


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration, and for each setting where its value came from."""

    config: ExecutorConfig
    origins: Mapping[str, str]


def describe() -> list[Setting]:
    """Return the settings table."""
    found = rows(ExecutorConfig).values()
    return [Setting(row.name, row.metadata["expects"], row.metadata["doc"], row.default) for row in found]


def parse_setting(name: str, value: object, origin: str) -> Any:
    """Return the checked value of one setting.

    Raises
    ------
    ConfigError
        There is no such setting, or the value does not fit; the message names `origin` and what is valid.
    """
    return parse_field(row_of(ExecutorConfig, name, origin), value, f"{origin}: {name} =")


def resolve(path: str | Path | None = None, **explicit: object) -> Resolved:
    """Settle every setting, and say where each value came from.

    Parameters
    ----------
    path : path, optional
        The one configuration file to read, instead of those in the working and user folders.
    **explicit
        Settings given as arguments or flags; None means not given.

    Raises
    ------
    ConfigError
        A file is missing, unreadable or malformed, a setting is unknown or its value does not fit.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(rows(ExecutorConfig), "default")
    files = [Path(path)] if path is not None else [file for file in search_path() if os.path.isfile(file)]
    for file in reversed(files):
        layer = read_settings(ExecutorConfig, file)
        values |= layer
        origins |= dict.fromkeys(layer, str(file))
    variables = {name: ENVIRONMENT_PREFIX + name.upper() for name in origins}
    given = [(name, os.environ.get(variable) or None, variable) for name, variable in variables.items()]
    for name, value, origin in [*given, *((name, value, "argument") for name, value in explicit.items())]:
        if value is not None:
            values[name], origins[name] = parse_setting(name, value, origin), origin
    return Resolved(ExecutorConfig(**values), origins)


def load_config(path: str | Path | None = None, **explicit: object) -> ExecutorConfig:
    """Return the effective configuration; see ``resolve``."""
    return resolve(path, **explicit).config


def search_path() -> list[Path]:
    """Return the configuration files that are looked for, the stronger first."""
    from platformdirs import user_config_path

    return [Path(FILE_NAME), user_config_path("fanfold") / "config.toml"]


def unknown_variables() -> list[str]:
    """Return environment variables that look like settings and are none, for a warning about misspelling."""
    known = {ENVIRONMENT_PREFIX + name.upper() for name in rows(ExecutorConfig)} | set(_OTHER_VARIABLES)
    return sorted(
        name
        for name in os.environ
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known and not name.startswith(WORKER_PREFIX)
    )


def state_dir() -> Path:
    """Return the folder for what must outlive a process; it is not created here."""
    override = os.environ.get(STATE_VARIABLE)
    if override:
        return Path(override).expanduser().absolute()
    from platformdirs import user_state_path

    return user_state_path("fanfold")


def default_storage() -> str:
    """Return the address of the storage used when none is configured; it is not created here."""
    return f"file://{state_dir() / 'storage'}"
