"""How an item becomes the arguments of the user's function."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from types import ModuleType
from typing import Any, Literal

from core.data.buckets import StorageHandle
from core.data.objects import open_handle
from core.data.partition import Listing
from core.errors import ConfigError, InputError, SerializationError
from core.serialization.definitions import REMEDY, Buffer, Definitions
from core.serialization.modules import LocalModules
from core.storage.clients import process_storage
from core.task.signature import OBJECT, Signature, read_signature, refuse_missing
from core.types import Partition, RetryPolicy

Kind = Literal["item", "call", "value"]


@dataclass(frozen=True, slots=True)
class Call:
    """A function with everything a worker needs to apply it to items; pickled once per job.

    Parameters
    ----------
    function : callable
    kind : "item", "call" or "value"
        With "call", items are (args, kwargs) and are passed as they are; with "value", each is the one argument.
    takes : Signature
        What items may supply, and what the worker fills.
    keyword_extras : tuple of (str, value)
        Added to every call by name.
    positional_extras : tuple
        Added to every call after the item's own arguments.
    folder : str, optional
        Working folder of the tasks, where driver and workers share files.
    definitions : Definitions, optional
        Classes and functions that came with it, once it has come.
    """

    function: Callable[..., Any]
    kind: Kind
    takes: Signature = Signature()
    positional_extras: tuple[Any, ...] = ()
    keyword_extras: tuple[tuple[str, Any], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    retry: RetryPolicy = RetryPolicy()
    storage: str | None = None
    name: str = ""
    folder: str | None = None
    definitions: Definitions | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> Any:
        differs = {name: value for name, usual in _USUAL.items() if (value := getattr(self, name)) != usual}
        return _remake, (self.function, self.kind, differs)  # most calls differ in little: a submit must be cheap

    @property
    def is_plain(self) -> bool:
        """Whether the function is called with the item alone."""
        return self.kind == "item" and not (self.takes.filled or self.keyword_extras or self.positional_extras)


_USUAL = {one.name: one.default for one in fields(Call) if one.default is not MISSING and one.name != "definitions"}


def _remake(function: Any, kind: Any, differs: dict[str, Any]) -> Call:
    return Call(function, kind, **differs)


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
    call: Call,
    include: Iterable[ModuleType | str],
    shares_files: bool,
    exclude: Iterable[ModuleType | str] = (),
    modules: LocalModules | None = None,
) -> Definitions:
    """Pickle a call for workers, which find the driver's modules if they share its files.

    Parameters
    ----------
    exclude : modules or module names
        Not taken along, though workers do not share files: their image has them.
    modules : LocalModules, optional
        Where one of them has changed, all travel as the driver has them.

    Raises
    ------
    SerializationError
        The function, or something it refers to, cannot be pickled.
    """
    changed = modules.note() if modules is not None else []
    made = Definitions(include, bool(changed) or not shares_files, exclude)
    path = _ImportPath() if shares_files else None
    try:
        made.define(((path, modules.renewal() if modules is not None and changed else None), call))
    except Exception as error:
        remedy = f"{changed[0]} has changed since the workers started: make a new executor" if changed else REMEDY
        raise SerializationError(
            f"the function cannot be sent to workers: {type(error).__name__}: {error}; {remedy}"
        ) from error
    return made


def load_call(data: Buffer) -> Call:
    """Inverse of `dump_call`; the call knows what it defined."""
    call: Call
    (_, call), made = Definitions.read(data)
    return replace(call, definitions=made)


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
    if not isinstance(extra_args, Mapping | tuple | list):
        raise ConfigError(f"extra_args must be a tuple or a dict of arguments, not {type(extra_args).__name__}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(
            f"what {name_of(function)} gives, a coroutine or generator, cannot leave its process; wrap it in a "
            "function that runs it and returns what comes of it, by asyncio.run(...) or list(...)"
        )
    named = dict(extra_args) if isinstance(extra_args, Mapping) else {}
    placed = () if named else tuple(extra_args)
    name = name_of(function)
    return Call(
        function,
        kind,
        read_signature(function, name, len(placed), named) if kind == "item" else Signature(),
        placed,
        tuple(named.items()),
        tuple((str(variable), str(value)) for variable, value in (env or {}).items()),
        retry or RetryPolicy(),
        storage,
        name,
        folder,
    )


def check_items(call: Call, items: Any) -> None:
    """Refuse, as ``ConfigError``, a function of more parameters than any of its items could give it."""
    is_object = isinstance(items, Listing)
    missing = call.takes.missing(len(call.positional_extras), is_object) if call.kind == "item" else []
    if not missing or not (is_object or isinstance(items, list | range)):
        return
    if is_object or not any(type(item) in (tuple, dict) for item in items):
        raise refuse_missing(call.name, missing)


def arguments(call: Call, item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments that an item stands for.

    A tuple is spread when the function takes that many positional parameters, a dict when its keys are the
    function's keywords (the convention of PyWren); anything else is the one argument.
    """
    extras, takes = dict(call.keyword_extras), call.takes
    if call.kind == "call":
        args, kwargs = item
        return args, kwargs
    if type(item) is tuple and item and takes.fewest <= len(item) <= takes.most:
        return item + call.positional_extras, extras
    if type(item) is dict and item and _are_names(item, takes.keywords):
        rest = [name for name in takes.own if name not in item]
        supplied = {**extras, **item, **dict(zip(rest, call.positional_extras, strict=False))}
        if takes.required <= supplied.keys() and len(rest) >= len(call.positional_extras):
            return (), supplied
    return (item, *call.positional_extras), extras


def _are_names(item: dict[Any, Any], keywords: frozenset[str] | None) -> bool:
    return all(isinstance(key, str) for key in item) if keywords is None else item.keys() <= keywords


def apply(call: Call, item: Any, task_id: int, task_key: str, attempt: int) -> Any:
    """Run the function on one item."""
    kind = type(item)
    plain = kind is not tuple and kind is not dict and kind is not Partition and call.is_plain
    if plain or call.kind == "value":
        return call.function(item)
    own = None
    if isinstance(item, Partition):
        own, handle = item.address, open_handle(item)
        if call.takes.object_by_name:
            args, kwargs = call.positional_extras, {OBJECT: handle, **dict(call.keyword_extras)}
        else:
            args, kwargs = arguments(call, handle)
    else:
        args, kwargs = arguments(call, item)
    if call.takes.filled or call.takes.leading:
        args = _complete(call, args, kwargs, {"task_id": task_id, "task_key": task_key, "attempt": attempt}, own)
    return call.function(*args, **kwargs)


def _complete(
    call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], known: dict[str, Any], own: str | None
) -> tuple[Any, ...]:
    """Return positional arguments, with values put where their parameters stand; the others are added to `kwargs`."""
    takes, bound = call.takes, tuple[str, ...]()
    spread = len(args) > len(takes.own)  # more than the function's own parameters: in the order of all
    if takes.leading and args:
        placed = list(args)
        for at, name in takes.leading:
            if at <= len(placed) and (name in kwargs or not spread):
                value = kwargs.pop(name) if name in kwargs else _fill(call, name, known, own)
                placed.insert(at, value)
        args = tuple(placed)
    if takes.leading or spread:
        bound = takes.positional[: len(args)]
    for name in takes.filled:
        if name not in kwargs and name not in bound:
            kwargs[name] = _fill(call, name, known, own)
    return args


def _fill(call: Call, name: str, known: dict[str, Any], own: str | None) -> Any:
    """Return what a function asks for: what is known of its task, or a client; `own` is its object's address."""
    if name in known:
        return known[name]
    if name == "boto3_client":
        return _boto3_client(call, own)
    if call.storage is None:
        raise InputError(
            f"{call.name} asks for storage, but the executor has none; "
            'name one with FunctionExecutor(storage="file:///some/folder")'
        )
    return StorageHandle(process_storage(call.storage))


def _boto3_client(call: Call, own: str | None) -> Any:
    """Return this process's client for the storage of the item, else of the executor, else of the environment."""
    from core.storage.s3 import S3Storage

    for address in (own, call.storage):
        if address is not None and isinstance(storage := process_storage(address), S3Storage):
            return storage.lent_client()
    somewhere = process_storage("s3://any-bucket")  # a client is that of a service; requests name their own buckets
    assert isinstance(somewhere, S3Storage)
    return somewhere.lent_client()
