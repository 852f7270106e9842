"""Classes and functions that travel by value travel once for each call; values refer to them.

Each has a token, by which a process knows it again. A call's pickle defines what the call refers to, and what its
items turn out to need is added behind it; items and results then name tokens. So an arriving value changes nothing
that is here already: a driver gets instances of its own classes back, whatever their state is by now. What a worker
made itself it defines within the value. A worker that has a class from an earlier call keeps it, since what it holds
may be instances of it, and gives it the state that the call it runs was sent with.
"""

from __future__ import annotations

import copyreg
import hashlib
import importlib
import io
import pickle
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import IO, Any, ParamSpec, TypeVar, TypeVarTuple

import cloudpickle

from core.errors import ConfigError, SerializationError
from core.serialization import by_value
from core.serialization.failures import reduce_exception
from core.serialization.modules import is_local
from core.serialization.own import reducers
from core.serialization.tokens import MAIN, registry

Buffer = bytes | bytearray | memoryview

REMEDY = "open files, locks and connections cannot leave their process: leave them out or make them inside the function"
"""What helps where something cannot be pickled."""

_LENGTH = struct.Struct("<Q")
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: classes that are not structures of the interpreter
_PICKLES = 32
"""What a call defines, at most, piece by piece: each makes it travel again."""

_CACHED = by_value.CACHED
_VARIABLES = (TypeVar, ParamSpec, TypeVarTuple)
_TREATED = (type, FunctionType, MethodType, ModuleType, BaseException, _CACHED, *_VARIABLES, by_value.Space)


def _names(modules: Iterable[ModuleType | str]) -> set[str]:
    return {item if isinstance(item, str) else item.__name__ for item in modules}


class Definitions:
    """The classes and functions of one call, as one of its two ends knows them.

    Parameters
    ----------
    include : modules or module names
        Taken apart as ``__main__`` is, for workers that cannot import them.
    ship_local : bool
        Treat every module outside the Python installation as included, but for those in `exclude`.

    Attributes
    ----------
    reducers : mapping
        What values of a type are pickled as, as in ``copyreg``: large arrays may travel otherwise.
    """

    def __init__(
        self,
        include: Iterable[ModuleType | str] = (),
        ship_local: bool = False,
        exclude: Iterable[ModuleType | str] = (),
    ) -> None:
        self._included = _names(include) | cloudpickle.list_registry_pickle_by_value()
        for name in _names(include) - sys.modules.keys():
            raise ConfigError(f"the module {name!r}, which should travel with the function, is not imported here")
        self._excluded = _names(exclude)
        self.ship_local = ship_local
        self.reducers: Mapping[type, Callable[[Any], Any]] = {}
        self.grows = True
        self.objects: dict[str, Any] = {}
        self.modules: dict[int, ModuleType] = {}
        self.held: list[dict[str, Any]] = []
        self.hashes: list[str] = []
        self._pickles: list[bytes] = []
        self._data: bytes | None = None
        self._is_hashed = False
        self._unread: bytes | None = None
        self._spaces: dict[int, by_value.Space] = {}
        self._states: list[tuple[str, type, Any]] = []
        self._mark = object()
        self._lock = threading.RLock()

    @property
    def data(self) -> bytes:
        """Everything that was defined, as the other end reads it."""
        with self._lock:
            if self._data is None:
                parts = [part for pickled in self._pickles for part in (_LENGTH.pack(len(pickled)), pickled)]
                self._data = b"".join([registry.process, *parts])
            return self._data

    @property
    def hash(self) -> str:
        """Name of `data` as it is now; `hashes` are all that were asked for."""
        with self._lock:
            if not self._is_hashed:
                self.hashes.append(hashlib.sha256(self.data).hexdigest())
                self._is_hashed = True
                if self.grows:
                    registry.calls[self.hashes[-1]] = self
            return self.hashes[-1]

    def define(self, value: Any) -> None:
        """Pickle a value together with every definition that it needs and that has not been sent yet."""
        with self._lock:
            stream = io.BytesIO()
            pickler = Pickler(stream, definitions=self, defining=True)
            pickler.dump(value)
            self.objects.update(pickler.defined)
            self._pickles.append(stream.getvalue())
            self._data, self._is_hashed = None, False

    def space(self, held: dict[str, Any]) -> by_value.Space:
        """Return what stands for the globals of functions in every pickle of this call."""
        space = self._spaces.get(id(held))
        if space is None:
            space = self._spaces[id(held)] = by_value.Space(held, len(self.held))
            self.held.append(held)
        return space

    @property
    def has_room(self) -> bool:
        """Whether more can be defined: items that bring ever new classes define them themselves."""
        return self.grows and len(self._pickles) < _PICKLES

    @property
    def includes_some(self) -> bool:
        """Whether any module is taken apart, beside ``__main__``."""
        return self.ship_local or bool(self._included)

    def includes(self, module: str) -> bool:
        """Whether what a module defines is taken apart."""
        if self._included and any(module == name or module.startswith(f"{name}.") for name in self._included):
            return True
        return self.ship_local and module not in self._excluded and is_local(sys.modules[module])

    @classmethod
    def unread(cls, data: bytes) -> Definitions:
        """Return the definitions of a call of another process, which are made when one is needed."""
        made = cls()
        made.grows, made._data, made._unread = False, data, data
        return made

    @classmethod
    def read(cls, data: Buffer) -> tuple[Any, Definitions]:
        """Make everything that was defined; returns the first value, and the definitions."""
        made = cls()
        made.grows = False
        return made._read(data), made

    def _read(self, data: Buffer) -> Any:
        view, start, values = memoryview(data), len(registry.process), []
        is_own = view[:start] == registry.process
        loading = Loading(self, True, registry.calls.get(hashlib.sha256(view).hexdigest()) if is_own else None)
        while start < len(view):
            (length,) = _LENGTH.unpack_from(view, start)
            start += _LENGTH.size
            values.append(loading.read(view[start : start + length]))
            start += length
        return values[0]

    def find(self, token: str) -> Any:
        """Return what a token stands for in this call, None if nothing does."""
        found = self.objects.get(token)
        if found is None and token not in registry.objects:
            with self._lock:
                data, self._unread = self._unread, None
                if data is not None:
                    self._read(data)
                found = self.objects.get(token)
        return found

    def give_state(self, token: str, cls: type, state: Any) -> None:
        """Give a class the state that this call was sent with, now and whenever the call is run after another."""
        self._states.append((token, cls, state))
        registry.states[token] = self._mark
        by_value.fill_class(cls, state)

    def activate(self) -> None:
        """See to it that classes are in the state that this call was sent with."""
        for token, cls, state in self._states:
            if registry.states.get(token) is not self._mark:
                registry.states[token] = self._mark
                by_value.fill_class(cls, state)


class Loading:
    """What is known while a pickle is read; `origin` is what this very process defined for the call that it runs."""

    __slots__ = ("definitions", "fresh", "is_call", "made", "origin", "untouched")

    def __init__(
        self, definitions: Definitions | None, is_call: bool = False, origin: Definitions | None = None
    ) -> None:
        self.definitions, self.is_call, self.origin = definitions, is_call, origin
        self._start()

    def _start(self) -> None:
        self.made: dict[str, Any] = {}
        self.fresh: set[str] = set()
        self.untouched: set[str] = set()

    def read(self, data: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
        """Unpickle one value."""
        current = _current.__dict__
        before = current.get("loading")
        current["loading"] = self
        try:
            return pickle.loads(data, buffers=buffers)
        except BaseException:
            for token in self.fresh:  # what is half made must not be taken for whole by the next value
                registry.objects.pop(token, None)
            raise
        finally:
            current["loading"] = before
            if self.made:
                self._start()


class _Current(threading.local):
    loading: Loading | None = None


_current = _Current()


def loads(data: Buffer, definitions: Definitions | None = None, buffers: Sequence[Buffer] = ()) -> Any:
    """Unpickle a value, which changes nothing that is here; `definitions` are those of the call it belongs to."""
    return Loading(definitions).read(data, buffers)


def _define(token: str, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Make a class, function or module unless this process has it; a call has functions and modules of its own.

    A process that runs a call of its own uses what it has: methods and functions must read the same globals.
    """
    loading = _current.loading or Loading(None)
    thing = loading.made.get(token)
    if thing is not None:
        return thing
    with registry.lock:
        if loading.origin is not None:
            thing = loading.origin.objects.get(token)
        elif not loading.is_call or make is by_value.make_class or make is by_value.make_type_variable:
            thing = registry.objects.get(token)
        if thing is None:
            thing = _made(make, args)
            registry.add(thing, token)
            loading.fresh.add(token)
        elif not loading.is_call or loading.origin is not None or token in registry.made_here:
            loading.untouched.add(token)
    loading.made[token] = thing
    if loading.is_call and loading.definitions is not None:
        loading.definitions.objects[token] = thing
    return thing


def _made(make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        return make(*args)
    except Exception as error:
        name = next((arg for arg in args if isinstance(arg, str)), "what was sent")
        raise SerializationError(
            f"{name} cannot be made again in another process: {type(error).__name__}: {error}; "
            "define it in a module that workers can import"
        ) from error


def _fill(thing: Any, state: tuple[str, Callable[[Any, Any], None], Any]) -> None:
    token, fill, held = state
    loading = _current.loading or Loading(None)
    if token in loading.untouched:
        return
    if loading.is_call and loading.definitions is not None and fill is by_value.fill_class:
        loading.definitions.give_state(token, thing, held)
    else:
        fill(thing, held)


def _resolve(token: str) -> Any:
    """Return what a token stands for."""
    definitions = _current.loading.definitions if _current.loading is not None else None
    thing = definitions.find(token) if definitions is not None else None
    if thing is None:
        thing = registry.objects.get(token)
    if thing is None:
        raise SerializationError("it refers to a class or function that its process does not hold any more")
    return thing


def _space(number: int | None, base: dict[str, Any]) -> dict[str, Any]:
    origin = None if _current.loading is None else _current.loading.origin
    if origin is not None and number is not None:
        return origin.held[number]
    return vars(_module(number, base))


def _module(number: int | None, base: dict[str, Any]) -> ModuleType:
    """Return the module whose dictionary is the globals of some functions."""
    loading = _current.loading
    if number is None or loading is None or not loading.is_call or loading.definitions is None:
        return by_value.make_space(base)
    modules = loading.definitions.modules
    if number not in modules:
        modules[number] = by_value.make_space(base)
    return modules[number]


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    **{kind: how for kind, how in cloudpickle.Pickler.dispatch_table.items() if kind not in copyreg.dispatch_table},
    **by_value.REDUCERS,
}


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles classes and functions that can be imported by name, others by token, or defines them.

    Parameters
    ----------
    definitions : Definitions, optional
        Those of the call that the values belong to.
    defining : bool
        Define what is not known to `definitions` here; otherwise those grow, where they can.
    """

    def __init__(
        self,
        file: IO[bytes],
        buffer_callback: Callable[[Any], object] | None = None,
        definitions: Definitions | None = None,
        defining: bool = False,
    ) -> None:
        own = {} if definitions is None else definitions.reducers
        self.dispatch_table = {**copyreg.dispatch_table, **_REDUCERS, **reducers(defining), **own}  # a chain is slow
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self.defined: dict[str, Any] = {}
        self._definitions, self._defining = definitions, defining
        self._is_selective = definitions is not None and definitions.includes_some
        self._verdicts = _OWN.copy()
        self._spaces: dict[int, by_value.Space] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Return what stands for a class, function, module or exception; all else is pickled as usual."""
        kind = type(obj)
        if not issubclass(kind, _TREATED):
            return NotImplemented
        if kind is by_value.Space:
            return _space, obj.args
        if issubclass(kind, BaseException):
            return reduce_exception(obj)
        if kind is MethodType:
            return by_value.reduce_method(obj, self._is_named)
        verdict = self._verdicts.get(id(obj))
        return self._reduce(obj) if verdict is None else verdict[1]

    def _reduce(self, obj: Any) -> Any:
        if self._is_importable(obj):
            verdict: Any = (importlib.import_module, (obj.__name__,)) if isinstance(obj, ModuleType) else NotImplemented
            self._verdicts[id(obj)] = obj, verdict
            return verdict
        if isinstance(obj, type) and not obj.__flags__ & _HEAP_TYPE:
            return super().reducer_override(obj)
        if (type(obj) is FunctionType or type(obj) is _CACHED) and "<locals>" in _name(obj):
            make, args, state, fill = self._take_apart(obj)
            return make, args, state, None, None, fill
        token, definitions = registry.token(obj), self._definitions
        if definitions is not None and not self._defining and token not in definitions.objects and definitions.has_room:
            definitions.define(obj)
        if definitions is not None and token in definitions.objects:
            verdict = _resolve, (token,)
            self._verdicts[id(obj)] = obj, verdict
            return verdict
        self.defined[token] = obj
        make, args, state, fill = self._take_apart(obj)
        return _define, (token, make, args), (token, fill, state), None, None, _fill

    def _is_named(self, obj: Any) -> bool:
        """Whether an object is not taken apart here, but named."""
        if self._defining:
            return self._is_importable(obj)
        self.reducer_override(obj)
        return id(obj) in self._verdicts

    def _is_importable(self, obj: Any) -> bool:
        if isinstance(obj, ModuleType):
            return obj.__name__ not in MAIN and obj.__name__ in sys.modules and not self._is_included(obj.__name__)
        module = getattr(obj, "__module__", None)
        found: Any = sys.modules.get(module) if isinstance(module, str) else None
        if found is None or module is None or module in MAIN:
            return False
        for part in _name(obj).split("."):
            found = getattr(found, part, None)
        return found is obj and not self._is_included(module)

    def _is_included(self, module: str) -> bool:
        return self._is_selective and self._definitions is not None and self._definitions.includes(module)

    def _space(self, held: dict[str, Any]) -> by_value.Space:
        if self._defining and self._definitions is not None:
            return self._definitions.space(held)
        space = self._spaces.get(id(held))
        if space is None:
            space = self._spaces[id(held)] = by_value.Space(held)
        return space

    def _take_apart(self, obj: Any) -> by_value.Reduced:
        kind = type(obj)
        if kind is FunctionType and by_value.is_dispatch(obj):
            return by_value.reduce_dispatch(obj)
        if kind is FunctionType:
            call = self._definitions if self._defining else None
            source = None if call is None else by_value.source_of(obj, call.ship_local)
            return by_value.reduce_function(obj, self._space(obj.__globals__), source)
        if issubclass(kind, ModuleType):
            return _module, self._space(vars(obj)).args, by_value.module_state(obj), by_value.fill_module
        if kind is _CACHED:
            return by_value.reduce_cached(obj)
        if kind in _VARIABLES:
            return by_value.reduce_type_variable(obj)
        return by_value.reduce_class(obj, self._is_importable)


# What every pickle names need not be looked for again.
_OWN: dict[int, tuple[Any, Any]] = {
    id(found): (found, NotImplemented)
    for found in (*vars(by_value).values(), *globals().copy().values())
    if type(found) is FunctionType and found.__module__ in (by_value.__name__, __name__)
}


def _name(obj: Any) -> str:
    """Return the path of an object in its module; of a partial function that is cached there is none."""
    return str(obj.__name__ if type(obj) in _VARIABLES else getattr(obj, "__qualname__", "<locals>"))
