"""How functions and classes travel by value: with the file names and source lines that tracebacks show."""

from __future__ import annotations

import functools
import linecache
import operator
import os
from collections import ChainMap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import IO, Any, Literal

import cloudpickle

Sources = Literal["all", "absent"]
"""Whose lines of source travel: of every function that goes by value, or of those whose file is not on this machine."""

# What `CodeType.replace` takes, in a fixed order, so that a code object is pickled without the names of its fields.
_FIELDS = (
    *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize", "co_flags"),
    *("co_code", "co_consts", "co_names", "co_varnames", "co_filename", "co_name", "co_qualname"),
    *("co_firstlineno", "co_linetable", "co_exceptiontable", "co_freevars", "co_cellvars"),
)
_read_fields = operator.attrgetter(*_FIELDS)
_TEMPLATE = (lambda: None).__code__


def _reduce_code(code: CodeType) -> tuple[Callable[..., CodeType], tuple[Any, ...]]:
    return _make_code, _read_fields(code)


def _make_code(*fields: Any) -> CodeType:
    return _TEMPLATE.replace(**dict(zip(_FIELDS, fields, strict=True)))


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles functions and classes of ``__main__`` and of modules that are shipped by value, all else as usual.

    Parameters
    ----------
    sources : "all" or "absent", optional
        Send lines of source along; by default none.
    """

    dispatch_table = ChainMap({CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table)

    def __init__(
        self,
        file: IO[bytes],
        buffer_callback: Callable[[Any], object] | None = None,
        sources: Sources | None = None,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._sources = sources

    def reducer_override(self, obj: Any) -> Any:
        """Reduce as cloudpickle does, and put a function's source beside its code."""
        reduced = super().reducer_override(obj)
        if self._sources is None or type(obj) is not FunctionType or reduced is NotImplemented:
            return reduced
        source = source_of(obj, self._sources)
        if source is None:
            return reduced
        make, args, *rest = reduced
        return _make_with_source, (source, make, args), *rest


def _make_with_source(source: tuple[str, int, str], make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    show_source(*source)
    return make(*args)


def source_of(function: FunctionType, which: Sources = "all") -> tuple[str, int, str] | None:
    """Return (file name, first line, text) of a function, None where there is no text or it need not travel."""
    code = function.__code__
    name = code.co_filename
    if which == "absent" and _is_on_disk(name):
        return None
    first = code.co_firstlineno
    lines = linecache.getlines(name, function.__globals__)[first - 1 : _last_line(code)]
    return (name, first, "".join(lines)) if lines else None


@functools.lru_cache(maxsize=1024)  # asked for each function of each call
def _is_on_disk(name: str) -> bool:
    return os.path.isfile(name)


@functools.lru_cache(maxsize=1024)
def _last_line(code: CodeType) -> int:
    own = [end for _, end, _, _ in code.co_positions() if end is not None]
    return max([code.co_firstlineno, *own, *(_last_line(const) for const in code.co_consts if type(const) is CodeType)])


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
