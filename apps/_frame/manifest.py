"""What a run says of itself to whoever finds it: its manifest, and how far it is."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from apps._frame.stored import REFERENCE, VALUE
from core import ConfigError, InputError, __version__, open_storage
from core.fields import as_settings, leaves
from core.storage import LeaseLock, NotFound, Storage

MANIFEST = "manifest.json"
INTERNAL = ".run/"
"""Below it is everything that a run keeps for itself."""
STAGES = f"{INTERNAL}stages/"
LEASE = f"{INTERNAL}lease/"
CLAIMS = f"{INTERNAL}claims/"
NOTES = f"{INTERNAL}notes/"
STAGING = f"{INTERNAL}new/"

FORMAT = 1
LONGEST = 8 << 20
"""Bytes of a manifest at most; what is cut there is none."""
MANY = 1000
"""Inputs that a manifest names one by one at most."""
Manifest = dict[str, Any]
_KINDS = {"app": str, "command": str, "params": dict, "inputs": dict, "results": list, "versions": dict, "created": str}
DAMAGED = f" (if a run was here, its {MANIFEST} is damaged: restore it, for --overwrite discards what was done)"
_REMEDY = "choose another --output, or add --overwrite to start anew"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What can be said of a run from anywhere.

    Attributes
    ----------
    state : str
        "running", "interrupted" or "finished".
    holder : str
        Who drives it, or drove it last, if that is known.
    note : str
        What the driver last said of its work, such as ``2/7 centroids: 41 of 100``.
    stages : dict
        Outputs committed so far, by stage.
    """

    address: str
    app: str
    command: str
    created: str
    state: str
    holder: str
    note: str
    stages: dict[str, int]
    params: dict[str, Any]


def new_manifest(app: str, command: str, params: Any, **more: Any) -> Manifest:
    """Return the manifest of a new run; `more` are its inputs, results and versions."""
    versions = {"fanfold": __version__, "python": sys.version.partition(" ")[0], **more.pop("versions")}
    about = {"params": as_settings(params), "params_hash": params_hash(params), **more, "versions": versions}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"fanfold_run": FORMAT, "app": app, "command": command, **about, "created": created}


def tags_of(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the tag of each input for a manifest; of very many one for all of them together."""
    if len(inputs) <= MANY:
        return dict(inputs)
    together = hashlib.sha256(json.dumps(sorted(inputs.items())).encode()).hexdigest()
    return {"(one of many)": f"{len(inputs)} {together}"}


def params_hash(params: Any) -> str:
    """Return a short hash of the settings that decide what is computed."""
    named = {leaf.name: leaf.of(params) for leaf in leaves(params) if leaf.row.metadata["identity"]}
    return hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()[:16]


def find_manifest(storage: Storage) -> Manifest | None:
    """Return the manifest of a run; None if there is none, or a file of that name that is something else."""
    try:
        found = json.loads(storage.get(MANIFEST, 0, LONGEST))
    except (NotFound, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("fanfold_run") != FORMAT:
        return None
    fits = all(isinstance(found.get(name), kind) for name, kind in _KINDS.items())
    return found if fits and found["results"] and all(isinstance(name, str) for name in found["results"]) else None


def read_manifest(address: str) -> Manifest:
    """Return the manifest of the run at an address.

    Raises
    ------
    ConfigError
        There is none.
    """
    storage = open_storage(address)
    found = find_manifest(storage)
    if found is None and exists(storage, MANIFEST):
        raise ConfigError(f"there is no run in {address}: its {MANIFEST} is damaged, or none of a run; restore it")
    if found is None:
        raise ConfigError(f"there is no run in {address}: it has no {MANIFEST} of one; check the address")
    return found


def status(address: str) -> RunStatus:
    """Return how far a run is, live, killed or finished, from any machine that reaches its storage.

    Raises
    ------
    ConfigError
        There is no run.
    """
    manifest, storage = read_manifest(address), open_storage(address)
    last = LeaseLock(storage, LEASE).last()
    state = "running" if last is not None and last.alive() else "interrupted"
    if exists(storage, manifest["results"][-1]):
        state = "finished"
    stages: dict[str, int] = {}
    for info in storage.list(STAGES):
        name, _, rest = info.key.removeprefix(STAGES).partition("/")
        stages[name] = stages.get(name, 0) + rest.endswith((VALUE, REFERENCE))
    head = (manifest["app"], manifest["command"], manifest["created"])
    holder, note = (str(last), last.note) if last is not None else ("", "")
    return RunStatus(storage.address, *head, state, holder, note, stages, manifest["params"])


def compare(before: Manifest, mine: Manifest, params: Any, place: str) -> None:
    """Refuse a manifest that is not of this run.

    Raises
    ------
    ConfigError
        Application, command, a setting or an input differs; the message names it.
    """
    for name in ("app", "command"):
        if before[name] != mine[name]:
            raise ConfigError(f"{place} holds a run of {before[name]}, not of {mine[name]}; {_REMEDY}")
    for leaf in leaves(params):
        was, now = _value_at(before["params"], leaf.path, leaf.row.default), _value_at(mine["params"], leaf.path)
        if was != now and leaf.row.metadata["identity"]:
            raise ConfigError(f"{leaf.flag} {_shown(now)}: run {place} was begun with {_shown(was)}; {_REMEDY}")
    was, now = before["inputs"], mine["inputs"]
    for name in sorted({*was, *now}) if now else ():
        if was.get(name) != now.get(name):
            how = "is new" if name not in was else "is gone" if name not in now else "has changed"
            raise ConfigError(f"input {name} {how} since run {place} was begun; {_REMEDY}")


def changed_versions(before: Manifest, mine: Mapping[str, str]) -> str:
    """Return which releases differ from those that a run was begun with, in words; empty if none does."""
    was = before["versions"]
    changed = [name for name in mine if name in was and was[name] != mine[name]]
    return ", ".join(f"{name} {was[name]} and goes on with {mine[name]}" for name in changed)


def exists(storage: Storage, key: str) -> bool:
    """Whether there is an object, or with a trailing ``/`` one below."""
    if key.endswith("/"):
        return next(storage.list(key), None) is not None
    try:
        storage.head(key)
        return True
    except (NotFound, InputError):  # not there, or what no object can be called
        return False


def _value_at(values: Mapping[str, Any], path: Sequence[str], default: Any = None) -> Any:
    found: Any = values
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return list(default) if isinstance(default, tuple) else default
        found = found[name]
    return found


def _shown(value: Any) -> str:
    if value in (None, "", []):
        return "(nothing)"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
