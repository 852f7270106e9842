"""Objects that tasks read and write: inputs with their tags, outputs with the hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core import InputError
from core.storage import NotFound, PreconditionFailed, Storage, join_address, process_storage, split_address

INLINE = 64 << 10
"""Bytes of an output up to which it is its own commit, and also comes back with the task."""
VALUE, REFERENCE = ".out", ".ref"
"""What commits are called after: an output itself, or where a large one is."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that tasks read: an input, or what an earlier stage wrote.

    Attributes
    ----------
    address, key : str
        The storage and the object in it.
    size : int
        Bytes.
    tag : str
        ``sha256:...`` of an output's content, or the tag that the storage gives an input.
    data : bytes, optional
        The content itself, where it is small or workers cannot reach the storage.
    """

    address: str
    key: str
    size: int
    tag: str
    data: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def url(self) -> str:
        """The object's address."""
        return join_address(self.address, self.key)

    @property
    def is_output(self) -> bool:
        """Whether a stage wrote it, so that it is known by its content."""
        return self.tag.startswith("sha256:")

    def read(self) -> bytes:
        """Return the content.

        Raises
        ------
        InputError
            It is not what it was.
        """
        if self.data is not None:
            return self.data
        data = process_storage(self.address).get(self.key, etag="" if self.is_output else self.tag)
        if self.is_output and sha256(data) != self.tag:
            raise InputError(f"{self.url} is damaged: its content has changed; delete it, and resume the run")
        return data


@dataclass(frozen=True, slots=True)
class Codec:
    """How what a task returns becomes an object, and the object that value again."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _to_json(value: Any) -> bytes:
    _check_keys(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _check_keys(value: Any) -> None:
    """Refuse keys that JSON would turn into text without a word."""
    if isinstance(value, dict):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"key {strange[0]!r} is no text, as JSON wants it; give the stage a codec of its own")
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for each in value:
        _check_keys(each)


JSON = Codec(_to_json, json.loads)
"""Numbers, text, lists and dicts with text for keys; numbers come back to the bit, tuples as lists."""
BYTES = Codec(bytes, bytes)


def find_inputs(address: str, leave_out: str = "") -> list[Stored]:
    """Return the objects at an address in the order of their keys, hidden ones left out.

    Parameters
    ----------
    address : str
        An object, or a folder or prefix.
    leave_out : str, optional
        A folder or prefix within the other, such as that of a run, whose objects are no inputs.

    Raises
    ------
    InputError
        There is none.
    """
    root, key = split_address(address)
    storage = process_storage(root)
    folder = key if not key or key.endswith("/") else f"{key}/"
    try:
        found = [storage.head(key)] if folder != key else []
    except NotFound:
        found = []
    below = found or storage.list(folder)
    shown = [info for info in below if not any(name.startswith(".") for name in info.key[len(folder) :].split("/"))]
    inputs = [Stored(storage.address, info.key, info.size, info.etag) for info in shown]
    if leave_out:
        inputs = _outside(inputs, join_address(storage.address, folder), process_storage(leave_out).address)
    if not inputs:
        raise InputError(f"there is no object at {address}; check the address")
    return inputs


def find_input(address: str) -> Stored:
    """Return the one object at an address.

    Raises
    ------
    InputError
        There is none, or it is a folder or prefix.
    """
    found = find_inputs(address)[0]
    if found.key != split_address(address)[1]:
        raise InputError(f"{address} is a folder; give one file in it, such as {found.url}")
    return found


def _outside(inputs: list[Stored], source: str, place: str) -> list[Stored]:
    """Return the inputs that are not below a place within their source."""
    (source, _, _), (place, _, _) = source.partition("?"), place.partition("?")
    if not place.startswith(source) or place == source.rstrip("/"):
        return inputs
    return [one for one in inputs if not one.url.startswith(f"{place}/")]


def commit(storage: Storage, base: str, data: bytes) -> Stored | None:
    """Write the output of a task, if no other attempt has; returns it, or None if one has.

    What is large is written first, under a name with its hash, and then where it is.

    Parameters
    ----------
    storage : Storage
    base : str
        What the keys of the task's objects begin with.
    data : bytes
    """
    tag = sha256(data)
    try:
        if len(data) <= INLINE:
            storage.put(f"{base}{VALUE}", data, if_absent=True)
            return Stored(storage.address, f"{base}{VALUE}", len(data), tag, data)
        key = f"{base}.{tag[7:23]}.data"
        storage.put(key, data)
        storage.put(f"{base}{REFERENCE}", _to_json({"key": key, "size": len(data), "tag": tag}), if_absent=True)
        return Stored(storage.address, key, len(data), tag)
    except PreconditionFailed:
        return None


def look_up(storage: Storage, base: str) -> Stored:
    """Return an output that was committed.

    Raises
    ------
    InputError
        The commit is none that a task wrote.
    """
    try:
        data = storage.get(f"{base}{VALUE}")
        return Stored(storage.address, f"{base}{VALUE}", len(data), sha256(data), data)
    except NotFound:
        commit = storage.get(f"{base}{REFERENCE}")
    try:
        found = json.loads(commit)
        return Stored(storage.address, str(found["key"]), int(found["size"]), str(found["tag"]))
    except (ValueError, TypeError, KeyError):
        where = join_address(storage.address, f"{base}{REFERENCE}")
        raise InputError(f"{where} is damaged; delete it, and resume the run") from None


def sha256(data: bytes | memoryview) -> str:
    """Return the tag of a content."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
