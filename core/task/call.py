"""How an item becomes the arguments of the user's function."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from core import serialization
from core.errors import ConfigError, InputError
from core.types import Partition, RetryPolicy

FILLED = ("storage", "boto3_client", "task_id", "task_key", "attempt")
"""Parameters that a worker fills when the function declares them and the item does not."""

Kind = Literal["item", "call", "value"]


@dataclass(frozen=True, slots=True)
class Call:
    """A function with everything a worker needs to apply it to items; pickled once per job.

    Parameters
    ----------
    function : callable
    kind : "item", "call" or "value"
        With "call", items are (args, kwargs) and are passed as they are; with "value", each is the one argument.
    fewest, most : int
        How many positional arguments an item may supply; `most` is a large number for ``*args``.
    keywords : frozenset, or None for ``**kwargs``
        Names that a dict item may supply.
    required : frozenset
        Names that it must supply.
    positional : tuple of str
        Parameters that take positional arguments, in order.
    filled : tuple of str
        Parameters of `FILLED` that the function declares.
    keyword_extras : tuple of (str, value)
        Added to every call by name.
    positional_extras : tuple
        Added to every call after the item's own arguments.
    folder : str, optional
        Working folder of the tasks, where driver and workers share files.
    """

    function: Callable[..., Any]
    kind: Kind
    fewest: int = 0
    most: int = 1
    keywords: frozenset[str] | None = frozenset()
    required: frozenset[str] = frozenset()
    positional: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    positional_extras: tuple[Any, ...] = ()
    keyword_extras: tuple[tuple[str, Any], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    retry: RetryPolicy = RetryPolicy()
    storage: str | None = None
    name: str = ""
    folder: str | None = None


def working_folder() -> str | None:
    """Return the working folder, None if it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


class _ImportPath:
    """Unpickles into an extension of ``sys.path``: comes before a function whose modules it leads to."""

    def __reduce__(self) -> Any:
        return _extend_path, ([path for entry in sys.path if (path := entry or working_folder())],)


def _extend_path(entries: list[str]) -> None:
    sys.path.extend(entry for entry in entries if entry not in sys.path)


def dump_call(
    call: Call, include: Iterable[ModuleType | str], shares_files: bool, exclude: Iterable[ModuleType | str] = ()
) -> bytes:
    """Pickle a call for workers, which find the driver's modules if they share its files.

    Raises
    ------
    SerializationError
        The function, or something it refers to, cannot be pickled.
    """
    path = _ImportPath() if shares_files else None
    return serialization.dump_function((path, call), include, not shares_files, exclude)


def load_call(data: serialization.Buffer) -> Call:
    """Inverse of `dump_call`."""
    call: Call = serialization.loads(data)[1]
    return call


_UNLIMITED = 1 << 30


def first_parameter(function: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that an item goes to, or None if the signature cannot be read."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return next((p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)), None)


def name_of(function: Callable[..., Any]) -> str:
    """Return a function's name for people."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__qualname__", type(inner).__qualname__)).rpartition(".<locals>.")[2]


def make_call(
    function: Any,
    *,
    kind: Kind,
    extra_args: Any = (),
    env: Mapping[str, str] | None = None,
    retry: RetryPolicy | None = None,
    storage: str | None = None,
    folder: str | None = None,
) -> Call:
    """Read a function's signature once, in the driver.

    Raises
    ------
    ConfigError
        It is not callable, or takes too few parameters for an item and the extra arguments.
    """
    if not callable(function):
        raise ConfigError(f"map and call_async need a function, not {type(function).__name__} {function!r:.60}")
    if isinstance(extra_args, Mapping):
        positional_extras: tuple[Any, ...] = ()
        keyword_extras = dict(extra_args)
    elif isinstance(extra_args, tuple | list):
        positional_extras, keyword_extras = tuple(extra_args), {}
    else:
        raise ConfigError(f"extra_args must be a tuple or a dict of arguments, not {type(extra_args).__name__}")
    common = {
        "positional_extras": positional_extras,
        "keyword_extras": tuple(keyword_extras.items()),
        "env": tuple((str(name), str(value)) for name, value in (env or {}).items()),
        "retry": retry or RetryPolicy(),
        "storage": storage,
        "name": name_of(function),
        "folder": folder,
    }
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature: they get the item as it is
        return Call(function, kind, **common)  # type: ignore[arg-type]
    filled = tuple(p.name for p in parameters if p.name in FILLED and p.kind is not p.VAR_KEYWORD)
    taken = {*filled, *keyword_extras}
    positional = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in taken
    ]
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    keywords = named - taken
    spread = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    most = _UNLIMITED if spread else len(positional) - len(positional_extras)
    fewest = max(0, sum(p.default is p.empty for p in positional) - len(positional_extras))
    by_name = open_ended or len(keywords) > len(positional_extras)
    if kind == "item" and most < 1 and (most < 0 or not by_name):
        raise ConfigError(
            f"{common['name']} takes no parameter for an item"
            + (f" beside {len(positional_extras)} extra arguments" if positional_extras else "")
        )
    if not open_ended and (strange := sorted(keyword_extras.keys() - named)):
        raise ConfigError(f"extra_args names {', '.join(strange)}, which {common['name']} does not take")
    required = {p.name for p in parameters if p.default is p.empty and p.name in keywords}
    names = tuple(p.name for p in positional)
    accepted = None if open_ended else frozenset(keywords)
    return Call(function, kind, fewest, most, accepted, frozenset(required), names, filled, **common)  # type: ignore[arg-type]


def arguments(call: Call, item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments that an item stands for.

    A tuple is spread when the function takes that many positional parameters, a dict when its keys are the
    function's keywords (the convention of PyWren); anything else is the one argument.
    """
    extras = dict(call.keyword_extras)
    if call.kind == "call":
        args, kwargs = item
        return args, {**extras, **kwargs}
    if type(item) is tuple and item and call.fewest <= len(item) <= call.most:
        return item + call.positional_extras, extras
    if type(item) is dict and item and _are_names(item, call.keywords):
        rest = [name for name in call.positional if name not in item]
        supplied = {**extras, **item, **dict(zip(rest, call.positional_extras, strict=False))}
        if call.required <= supplied.keys() and len(rest) >= len(call.positional_extras):
            return (), supplied
    return (item, *call.positional_extras), extras


def _are_names(item: dict[Any, Any], keywords: frozenset[str] | None) -> bool:
    return all(isinstance(key, str) for key in item) if keywords is None else item.keys() <= keywords


def apply(call: Call, item: Any, task_id: int, task_key: str, attempt: int) -> Any:
    """Run the function on one item."""
    if call.kind == "value":
        return call.function(item)
    own = None
    if isinstance(item, Partition):
        from core.data.objects import open_handle

        own, item = item.address, open_handle(item)
    if call.kind == "item" and not call.filled and not call.keyword_extras and not call.positional_extras:
        kind = type(item)
        if kind is not tuple and kind is not dict:
            return call.function(item)
    args, kwargs = arguments(call, item)
    for name in call.filled:
        if name not in kwargs:
            kwargs[name] = _fill(call, name, own, task_id, task_key, attempt)
    return call.function(*args, **kwargs)


def _fill(call: Call, name: str, own: str | None, task_id: int, task_key: str, attempt: int) -> Any:
    if name == "storage":
        if call.storage is None:
            raise InputError(
                f"{call.name} asks for storage, but the executor has none; "
                'name one with FunctionExecutor(storage="file:///some/folder")'
            )
        from core.data.buckets import StorageHandle
        from core.data.objects import process_storage

        return StorageHandle(process_storage(call.storage))
    if name == "boto3_client":
        return _boto3_client(call, own)
    return {"task_id": task_id, "task_key": task_key, "attempt": attempt}[name]


def _boto3_client(call: Call, own: str | None) -> Any:
    """Return this process's client for the storage of the item, else of the executor, else of the environment."""
    from core.data.objects import process_storage
    from core.storage.s3 import S3Storage

    for address in (own, call.storage):
        if address is not None and isinstance(storage := process_storage(address), S3Storage):
            return storage.lent_client()
    somewhere = process_storage("s3://any-bucket")  # a client is that of a service; requests name their own buckets
    assert isinstance(somewhere, S3Storage)
    return somewhere.lent_client()
