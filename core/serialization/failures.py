"""Exceptions travel as their own type, whatever their ``__init__`` takes: it is not called again."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: classes that are not structures of the interpreter

_LINKS = ("__cause__", "__context__", "__suppress_context__")


_PROTOCOL = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def _builtin_base(kind: type) -> Any:
    return next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)


def reduce_exception(error: BaseException) -> Any:
    """Take an exception apart, with what caused it, unless its class says how to."""
    kind: Any = type(error)
    base = _builtin_base(kind)
    if kind in copyreg.dispatch_table or any(getattr(kind, n, None) is not getattr(base, n, None) for n in _PROTOCOL):
        return NotImplemented
    reduced: Any = error.__reduce__()
    state = object.__getstate__(error)
    held = {**(reduced[2] if len(reduced) > 2 else {}), **(state[1] if isinstance(state, tuple) else {})}
    links = {name: getattr(error, name) for name in _LINKS}
    return _make, (kind, base, reduced[1]), (held, links), None, None, _fill


def _make(kind: type, base: Any, args: tuple[Any, ...]) -> BaseException:
    error: BaseException = base.__new__(kind, *args)
    base.__init__(error, *args)
    return error


def _fill(error: BaseException, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    held, links = state
    for name, value in held.items():
        try:
            setattr(error, name, value)
        except AttributeError:  # a property without a setter is over it
            vars(error)[name] = value
    for name, value in links.items():
        setattr(error, name, value)


class Unsent:
    """Stands for something that an exception held and that cannot leave its process; shows as that did."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


class Spared:
    """Is pickled as an exception without what cannot be; notes on the exception say what that was."""

    def __init__(self, error: BaseException, reason: Callable[[Any], str | None]) -> None:
        self._error, self._reason = error, reason
        self._known: dict[int, Spared] = {id(error): self}

    def _spare(self, value: Any) -> Any:
        """Return a value as it can be sent."""
        if isinstance(value, BaseException):
            if id(value) not in self._known:
                spared = self._known[id(value)] = Spared(value, self._reason)
                spared._known = self._known
            return self._known[id(value)]
        if isinstance(value, list | tuple) and any(isinstance(item, BaseException) for item in value):
            return type(value)([self._spare(item) for item in value])
        return value if self._reason(value) is None else Unsent(repr(value))

    def __reduce__(self) -> Any:
        kind = type(self._error)
        base = _builtin_base(kind)
        held, notes = {}, list(getattr(self._error, "__notes__", ()))
        for name, value in vars(self._error).items():
            reason = self._reason(value)
            if reason is None:
                held[name] = value
            else:
                notes.append(f"its attribute {name!r} stayed in the worker: {reason}")
        if notes:
            held["__notes__"] = notes
        links = {name: self._spare(getattr(self._error, name)) for name in _LINKS}
        args = tuple(map(self._spare, base.__reduce__(self._error)[1]))
        return _make, (kind, base, args), (held, links), None, None, _fill
