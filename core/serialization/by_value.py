"""How code, functions, classes and modules are taken apart where they cannot be imported, and made again elsewhere.

Every ``reduce_*`` returns (make, args, state, fill): ``make(*args)`` gives the bare object and ``fill(it, state)`` the
rest, so that what refers to itself can be pickled. What is done when a class is made (by a metaclass or by
``__init_subclass__``) is not done again if that travels too: its effects are in the state.
"""

from __future__ import annotations

import abc
import builtins
import contextlib
import dataclasses
import dis
import enum
import functools
import importlib
import linecache
import operator
import os
import sys
import threading
import types
import typing
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

from core.serialization.tokens import MAIN

Reduced = tuple[Callable[..., Any], tuple[Any, ...], Any, Callable[[Any, Any], None]]

CACHED = type(functools.cache(len))
"""What `functools.lru_cache` makes."""

_DISPATCH_CODE = functools.singledispatch(len).__code__  # type: ignore[attr-defined]

# What `CodeType.replace` takes, in a fixed order, so that a code object is pickled without the names of its fields.
_FIELDS = (
    *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize", "co_flags"),
    *("co_code", "co_consts", "co_names", "co_varnames", "co_filename", "co_name", "co_qualname"),
    *("co_firstlineno", "co_linetable", "co_exceptiontable", "co_freevars", "co_cellvars"),
)
_read_fields = operator.attrgetter(*_FIELDS)
_TEMPLATE = (lambda: None).__code__

# The body of a class inside a function looks globals up by the last two.
_GLOBAL_OPS = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}

_SPACE = ("__name__", "__package__", "__path__", "__file__")
"""What relative imports and tracebacks want of a module."""

_NOT_OF_A_CLASS = ("_abc_impl", "__annotate_func__", "__annotations_cache__")
_OF_AN_ENUM = ("_missing_", "_numeric_repr_")


def reduce_code(code: CodeType) -> tuple[Callable[..., CodeType], tuple[Any, ...]]:
    """Take a code object apart, with its file name, which cloudpickle leaves behind."""
    return _make_code, _read_fields(code)


def _make_code(*fields: Any) -> CodeType:
    return _TEMPLATE.replace(**dict(zip(_FIELDS, fields, strict=True)))


def reduce_cell(cell: types.CellType) -> tuple[Any, ...]:
    """Take a variable of enclosing functions apart, empty first: what it holds may refer to it."""
    try:
        return types.CellType, (), (cell.cell_contents,), None, None, _fill_cell
    except ValueError:
        return types.CellType, ()


def _fill_cell(cell: types.CellType, state: tuple[Any]) -> None:
    cell.cell_contents = state[0]


def _code_and_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if type(const) is CodeType:
            yield from _code_and_inner(const)


@functools.lru_cache(maxsize=4096)  # asked of each function of each call
def _names_in(code: CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names that a code object may look up as globals, and all its names."""
    found: dict[str, None] = {}
    every: set[str] = set()
    for inner in _code_and_inner(code):
        every.update(inner.co_names)
        found.update((op.argval, None) for op in dis.get_instructions(inner) if op.opname in _GLOBAL_OPS)
    return tuple(found), frozenset(every)


def _submodules(value: Any, names: frozenset[str]) -> list[str]:
    """Return the loaded submodules of a package that a function can reach by attributes."""
    if type(value) is not ModuleType or not hasattr(value, "__path__"):
        return []
    found = [value.__name__]
    for parent in found:
        found += [child for name in names if (child := f"{parent}.{name}") in sys.modules and child not in found]
    return found[1:]


def reduce_function(function: FunctionType, space: Any, source: tuple[str, int, str] | None) -> Reduced:
    """Take a function apart; `space` stands for its globals, `source` is what `show_source` takes."""
    names, every = _names_in(function.__code__)
    held = function.__globals__
    used = {name: held[name] for name in names if name in held}
    reached = [*used.values(), *(cell.cell_contents for cell in function.__closure__ or () if _is_full(cell))]
    if any(type(value) is ModuleType and vars(value) is held for value in reached):  # import __main__; __main__.LIMIT
        used.update((name, held[name]) for name in sorted(every) if name in held)
    state = (
        used,
        [name for value in reached for name in _submodules(value, every)],
        vars(function),
        {
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__defaults__": function.__defaults__,
            "__kwdefaults__": function.__kwdefaults__,
            "__annotations__": _annotations(function),
            **({"__type_params__": kinds} if (kinds := getattr(function, "__type_params__", ())) else {}),
        },
    )
    return (
        _make_function,
        (function.__code__, space, function.__name__, function.__closure__, source),
        state,
        _fill_function,
    )


def _is_full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _annotations(thing: Any) -> dict[str, Any]:
    try:
        return dict(thing.__annotations__)
    except Exception:  # since Python 3.14 they are worked out when asked for
        return {}


def _make_function(
    code: CodeType, space: dict[str, Any], name: str, closure: Any, source: tuple[str, int, str] | None
) -> FunctionType:
    if source is not None:
        show_source(*source)
    return FunctionType(code, space, name, None, closure)


def _fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    used, submodules, attributes, fields = state
    for name in submodules:
        importlib.import_module(name)
    for name, value in used.items():  # another function may have been there before, and changed it
        function.__globals__.setdefault(name, value)
    vars(function).update(attributes)
    for name, value in fields.items():
        setattr(function, name, value)


class Space:
    """Stands for the globals of functions: those that share a dictionary here share one there.

    `number` tells it from others of the same call, and is None where nothing that comes later shares it.
    """

    def __init__(self, held: dict[str, Any], number: int | None = None) -> None:
        self.args = number, {name: held[name] for name in _SPACE if name in held}


def make_space(base: dict[str, Any]) -> ModuleType:
    """Return a module that nobody can import; its dictionary is the globals of functions."""
    module = ModuleType(base.get("__name__", ""))
    vars(module).update(base, __builtins__=builtins)
    return module


def module_state(module: ModuleType) -> dict[str, Any]:
    """Return what a module holds, without what importing has put there."""
    if module.__name__ in MAIN:
        return {}  # what functions reach of it comes with them
    left = ("__builtins__", "__loader__", "__spec__", "__cached__", *_SPACE)
    return {name: value for name, value in vars(module).items() if name not in left}


def fill_module(module: ModuleType, state: dict[str, Any]) -> None:
    """Give a module what it lacks of a state."""
    for name, value in state.items():
        vars(module).setdefault(name, value)


def reduce_cached(function: Any) -> Reduced:
    """Take a function with a cache apart: the cache stays behind."""
    kept = {name: value for name, value in vars(function).items() if name not in ("__wrapped__", "cache_parameters")}
    return _make_cached, (function.__wrapped__, function.cache_parameters()), kept, _update


def _make_cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _update(thing: Any, attributes: dict[str, Any]) -> None:
    vars(thing).update(attributes)


def is_dispatch(function: FunctionType) -> bool:
    """Whether `functools.singledispatch` made a function."""
    return function.__code__ is _DISPATCH_CODE


def reduce_dispatch(function: Any) -> Reduced:
    """Take a single-dispatch function apart into its implementations."""
    registry = dict(function.registry)
    return functools.singledispatch, (registry.pop(object),), registry, _register_all


def _register_all(function: Any, registry: dict[type, Any]) -> None:
    for kind, implementation in registry.items():
        function.register(kind, implementation)


def reduce_dispatch_method(value: Any) -> tuple[Any, ...]:
    """Take a single-dispatch method apart: since Python 3.13 it has a cache by instance, which stays behind."""
    return _make_dispatch_method, (value.func, value.dispatcher)


def _make_dispatch_method(function: Any, dispatcher: Any) -> Any:
    made: Any = functools.singledispatchmethod(function)
    made.dispatcher = dispatcher
    return made


def reduce_cached_property(value: Any) -> tuple[Any, ...]:
    """Take a cached property apart: before Python 3.12 it has a lock."""
    return _make_cached_property, (value.func, value.attrname)


def _make_cached_property(function: Any, name: str | None) -> Any:
    made: Any = functools.cached_property(function)
    made.attrname = name
    return made


def reduce_method(method: Any, is_named: Callable[[type], bool]) -> tuple[Any, ...]:
    """Take a bound method apart: by name where its class is whole at the other end, and finds it."""
    holder = method.__self__ if isinstance(method.__self__, type) else type(method.__self__)
    name = method.__func__.__name__
    if is_named(holder) and getattr(holder, name, None) in (method.__func__, method):
        return getattr, (method.__self__, name)
    return types.MethodType, (method.__func__, method.__self__)


def reduce_type_variable(variable: Any) -> Reduced:
    """Take a type variable apart."""
    options = {name: getattr(variable, f"__{name}__", None) for name in ("bound", "covariant", "contravariant")}
    given = {name: value for name, value in options.items() if value}
    args = type(variable), variable.__name__, getattr(variable, "__constraints__", ()), given
    return make_type_variable, args, {"__module__": variable.__module__}, _set


def make_type_variable(kind: Any, name: str, constraints: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Make a type variable again."""
    return kind(name, *constraints, **options)


def reduce_new_type(kind: Any) -> Any:
    """Take a distinct type apart, unless it can be imported."""
    name = str(kind.__qualname__)
    if kind.__module__ != "__main__" and getattr(sys.modules.get(kind.__module__), name, None) is kind:
        return name
    return typing.NewType, (name, kind.__supertype__)


def _set(thing: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(thing, name, value)


def reduce_class(cls: Any, is_importable: Callable[[type], bool]) -> Reduced:
    """Take a class apart."""
    meta, held = type(cls), vars(cls)
    maker = next(kind for kind in meta.__mro__ if is_importable(kind))
    hook = next((base for base in cls.__mro__[1:] if "__init_subclass__" in vars(base)), object)
    start = {name: held[name] for name in ("__module__", "__slots__", "__orig_bases__") if name in held}
    bases = (
        cls.__bases__ if meta is type else start.pop("__orig_bases__", cls.__bases__)
    )  # what its metaclass was given
    members, details, options = _members(cls) if isinstance(cls, enum.EnumMeta) else ({}, {}, {})
    registered = [kind() for kind in abc._get_dump(cls)[0]] if "_abc_impl" in held else []  # type: ignore[attr-defined]
    state = cls.__qualname__, _attributes(cls), [kind for kind in registered if kind is not None], details
    args = meta, maker, cls.__name__, bases, start, None if is_importable(hook) else hook, members, options
    return make_class, args, state, fill_class


def _members(cls: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the values of an enumeration's members, aliases too, what else each holds, and options of the class."""
    if cls._member_type_ is not object and type(vars(cls).get("__new_member__")) is FunctionType:
        raise TypeError(
            f"the members of {cls.__qualname__} are made by its own __new__; define it in a module of its own"
        )
    values = {name: member.value for name, member in cls.__members__.items()}
    details = {name: found for name, member in cls.__members__.items() if (found := _of_a_member(member))}
    boundary = getattr(cls, "_boundary_", None)
    return values, details, {} if boundary is None else {"boundary": boundary}


def _attributes(cls: Any) -> dict[str, Any]:
    """Return what a class itself holds, but for what making it puts there."""
    members: Any = cls.__members__ if isinstance(cls, enum.EnumMeta) else None
    found: dict[str, Any] = {}
    for name, value in vars(cls).items():
        is_slot = type(value) is MemberDescriptorType or type(value) is GetSetDescriptorType
        if (is_slot and value.__objclass__ is cls) or name in _NOT_OF_A_CLASS:
            continue
        if members is None or not (name in members or (_is_sunder(name) and name not in _OF_AN_ENUM)):
            found[name] = value
    if "__annotate_func__" in vars(cls):
        found["__annotations__"] = _annotations(cls)
    if "__firstlineno__" in found:  # setting any other attribute may remove it
        found["__firstlineno__"] = found.pop("__firstlineno__")
    return found


def _is_sunder(name: str) -> bool:
    return name[:1] == name[-1:] == "_" and name[1:2] != "_"


def _of_a_member(member: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(member).items() if not _is_sunder(k) and k != "__objclass__"}


def make_class(
    meta: type,
    maker: Any,
    name: str,
    bases: tuple[Any, ...],
    start: dict[str, Any],
    hook: Any,
    members: dict[str, Any],
    options: dict[str, Any],
) -> type:
    """Make a bare class again: by a metaclass that can be imported, and unnoticed by the base that has the hook."""
    resolved = types.resolve_bases(bases)
    with _unnoticed(hook) if hook is not None else contextlib.nullcontext():
        space = maker.__prepare__(name, resolved)
        for key, value in {**start, **members}.items():
            space[key] = value
        if resolved is not bases:
            space["__orig_bases__"] = bases
        made: type = maker.__new__(meta, name, resolved, space, **options)
        maker.__init__(made, name, resolved, space)
    return made


@contextlib.contextmanager
def _unnoticed(base: type) -> Iterator[None]:
    """Keep this thread's new subclasses from a class's `__init_subclass__`."""
    own, thread = vars(base).get("__init_subclass__"), threading.get_ident()

    def notice(cls: type, /, **options: Any) -> None:
        if own is not None and threading.get_ident() != thread:
            own.__get__(None, cls)(**options)

    type.__setattr__(base, "__init_subclass__", classmethod(notice))
    try:
        yield
    finally:
        if own is None:
            type.__delattr__(base, "__init_subclass__")
        else:
            type.__setattr__(base, "__init_subclass__", own)


def fill_class(cls: Any, state: tuple[str, dict[str, Any], list[type], dict[str, dict[str, Any]]]) -> None:
    """Give a class exactly the attributes of a state."""
    qualname, attributes, registered, details = state
    for name in _attributes(cls).keys() - attributes.keys():
        with contextlib.suppress(AttributeError, TypeError):
            type.__delattr__(cls, name)
    type.__setattr__(cls, "__qualname__", qualname)
    for name, value in attributes.items():
        type.__setattr__(cls, name, value)
    for kind in registered:
        cls.register(kind)
    for name, found in details.items():
        vars(cls[name]).update(found)


def source_of(function: FunctionType, everywhere: bool) -> tuple[str, int, str] | None:
    """Return (file name, first line, text) of a function.

    None where there is no text, or, unless it is wanted `everywhere`, if the file is on this machine.
    """
    code = function.__code__
    name = code.co_filename
    if not everywhere and _is_on_disk(name):
        return None
    first = code.co_firstlineno
    linecache.checkcache(name)
    lines = linecache.getlines(name, function.__globals__)[first - 1 : _last_line(code)]
    return (name, first, "".join(lines)) if lines else None


@functools.lru_cache(maxsize=1024)  # asked for each function of each call
def _is_on_disk(name: str) -> bool:
    return os.path.isfile(name)


@functools.lru_cache(maxsize=1024)
def _last_line(code: CodeType) -> int:
    ends = (end for inner in _code_and_inner(code) for _, end, _, _ in inner.co_positions() if end is not None)
    return max(ends, default=code.co_firstlineno)


def show_source(name: str, first: int, text: str) -> None:
    """Have tracebacks and `inspect.getsource` find some lines of a file, whatever of it is on this machine."""
    lines, given = list(linecache.getlines(name)), text.splitlines(keepends=True)
    last = first - 1 + len(given)
    if lines[first - 1 : last] == given:
        return
    lines += ["\n"] * (last - len(lines))
    lines[first - 1 : last] = given
    # Without a time of modification, linecache never compares the entry with a file.
    linecache.cache[name] = (sum(map(len, lines)), None, lines, name)


REDUCERS: dict[type, Callable[[Any], Any]] = {
    CodeType: reduce_code,
    types.CellType: reduce_cell,
    typing.NewType: reduce_new_type,
    functools.cached_property: reduce_cached_property,
    functools.singledispatchmethod: reduce_dispatch_method,
    # What `dataclasses` tells by identity goes by name.
    type(dataclasses.MISSING): lambda _: "MISSING",
    type(dataclasses.KW_ONLY): lambda _: "KW_ONLY",
    type(dataclasses._HAS_DEFAULT_FACTORY): lambda _: "_HAS_DEFAULT_FACTORY",  # type: ignore[attr-defined]
}
"""How values of these types are taken apart, wherever they are."""
