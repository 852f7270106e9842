"""What a task is known by: the content of its item and parameters, and the version of its code."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from apps._frame.stored import Stored, sha256


def content_of(value: Any) -> Any:
    """Return what a value says, as JSON can hold it: equal content gives equal text, whatever process asks.

    Fields of dataclasses that take no part in comparison, and settings that are not of the identity, say nothing.

    Raises
    ------
    TypeError
        It is of a kind that has no such content.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, bytes):
        return ["bytes", sha256(value)]
    if isinstance(value, os.PathLike):
        return ["path", os.fspath(value)]
    if isinstance(value, Stored):
        # What an earlier stage wrote is known by its content, wherever it is; an input by its place and tag.
        return ["stored", value.tag] if value.is_output else ["stored", value.address, value.key, value.tag]
    if isinstance(value, list | tuple):
        return ["list", *map(content_of, value)]
    if isinstance(value, Mapping):
        return ["dict", *sorted(([content_of(key), content_of(each)] for key, each in value.items()), key=json.dumps)]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(map(content_of, value), key=json.dumps)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        decides = [each for each in dataclasses.fields(value) if each.compare and each.metadata.get("identity", True)]
        return [type(value).__qualname__, *([each.name, content_of(getattr(value, each.name))] for each in decides)]
    dtype = getattr(value, "dtype", None)
    if dtype is not None and not dtype.hasobject:
        return ["array", str(dtype), list(value.shape), sha256(value.tobytes())]
    raise TypeError(
        f"{type(value).__name__} has no content that a task could be known by; give numbers, text, bytes, tuples, "
        "lists, dicts, arrays, or dataclasses of these"
    )


def code_version(fn: Callable[..., Any]) -> str:
    """Return a hash of the source of a function's module, and of all that it imports of its own package.

    A package is what stands first in the module's name, or second below ``apps``. A function that has no file, such
    as one of a notebook, is known by its compiled code.
    """
    while hasattr(fn, "func"):
        fn = fn.func
    module = sys.modules.get(getattr(fn, "__module__", None) or "")
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if spec is None or not file:
        code = getattr(fn, "__code__", None)
        known = repr(fn).encode() if code is None else code.co_code + repr(code.co_consts).encode()
        return sha256(known)
    levels = spec.name.count(".") + (os.path.basename(file) == "__init__.py")
    return source_hash(spec.name, Path(file).resolve().parents[levels])


_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n#]*)|import[ \t]+([\w., \t]+))", re.M
)


def source_hash(name: str, root: Path) -> str:
    """Return a hash of a module's source and of those that it leads to, below the folder that its package is in."""
    parts = name.split(".")
    package = parts[: 2 if parts[0] == "apps" else 1]
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        path = root.joinpath(*each.split("."))
        source = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
        if each in found or source is None:
            continue
        text = source.read_text("utf-8")
        found[each] = sha256(text.encode())
        within = each if source.name == "__init__.py" else each.rpartition(".")[0]
        waiting += [other for other in _imported(text, within) if other.split(".")[: len(package)] == package]
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()


def _imported(text: str, within: str) -> Iterator[str]:
    """Yield what may be modules that a source imports; `within` is the package that leading dots mean."""
    for start, names, plain in _IMPORT.findall(text):
        if plain:
            yield from (part.split()[0] for part in plain.split(",") if part.strip())
            continue
        dots = len(start) - len(start.lstrip("."))
        above = within.split(".")[: len(within.split(".")) - dots + 1] if dots else []
        base = ".".join([*above, *filter(None, [start.lstrip(".")])])
        yield base
        yield from (f"{base}.{part.split()[0]}" for part in names.strip("() \t\n").split(",") if part.strip())
