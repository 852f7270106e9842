"""The keys of durable jobs, which this user keeps in files that nobody else can read or write."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

from core.errors import ConfigError, InputError, IntegrityError, printable
from core.settings import STATE_VARIABLE, state_dir
from core.storage.reading import LARGEST_TEXT, is_text, read_fields
from core.task import keys
from core.trust import distrust, make_private, read_private

_KEY = re.compile(r"[0-9a-f]{64}")
_LONGEST_ADDRESS = 4096
_FIELDS = {
    "storage": is_text(_LONGEST_ADDRESS),
    "key": lambda value: isinstance(value, str) and _KEY.fullmatch(value) is not None,
}


def _path(job_id: str) -> Path:
    return state_dir() / "jobs" / f"{job_id}.json"


def keep_key(job_id: str, address: str, key: bytes) -> None:
    """Remember a job's key and place for this user.

    Raises
    ------
    ConfigError
        The folder for it cannot be made, or others can write there.
    """
    path = _path(job_id)
    folder, fresh = path.parent, path.with_suffix(".new")
    try:
        make_private(folder)
        if (reason := distrust(folder)) is not None:
            raise ConfigError(
                f"keys of jobs cannot be kept in {folder}: {reason}; mend that, or set {STATE_VARIABLE} to a folder "
                "that is yours alone"
            )
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"storage": address, "key": key.hex()}, file)
        os.replace(fresh, path)
    except OSError as error:
        raise ConfigError(f"keys of jobs cannot be kept in {folder}: {error}; set {STATE_VARIABLE}") from error


def find_key(job_id: str) -> tuple[str, bytes]:
    """Return (storage address, key) of a job.

    Raises
    ------
    InputError
        This user has no key of such a job, or none that can be read.
    ConfigError
        Others could have written it.
    """
    path = _path(job_id)
    try:
        if not keys.is_job_id(job_id):
            raise FileNotFoundError
        known = read_fields(read_private(path, LARGEST_TEXT), str(path), _FIELDS)
    except FileNotFoundError:
        raise InputError(
            f"no job {printable(job_id)!r} is known to this user: its key would be {printable(path)}; "
            "'fanfold jobs' lists those that are, and a finished job is forgotten when its executor closes"
        ) from None
    except (OSError, IntegrityError) as error:
        raise InputError(f"the key of job {job_id!r} in {path} cannot be read: {error}") from error
    return known["storage"], bytes.fromhex(known["key"])


def forget_key(job_id: str) -> None:
    """Delete a job's key, if there is one."""
    if keys.is_job_id(job_id):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(_path(job_id))
