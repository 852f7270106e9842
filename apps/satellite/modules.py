"""Modules that lie beside a user's file: found by its imports, and imported from their sources wherever it runs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

from core import ConfigError

Files = tuple[tuple[str, str], ...]
"""Sources by their names below the folder of the user's file."""


def beside(source: str, folder: Path) -> Files:
    """Return the modules of a folder that a source imports, and those that they import; of packages all files.

    Raises
    ------
    ConfigError
        One has the name of a module of Python.
    """
    found: dict[str, str] = {}
    waiting = [source]
    while waiting:
        for name in sorted(_imported(waiting.pop())):
            alone, package = folder / f"{name}.py", folder / name
            if (package / "__init__.py").is_file():
                files = sorted(package.rglob("*.py"))
            elif alone.is_file():
                files = [alone]
            else:
                continue
            if name in sys.stdlib_module_names:
                raise ConfigError(f"{files[0]} has the name of a module of Python's own; rename it")
            texts = {file.relative_to(folder).as_posix(): file.read_text("utf-8") for file in files}
            waiting += [text for file, text in texts.items() if file not in found]
            found.update(texts)
    return tuple(sorted(found.items()))


def _imported(source: str) -> set[str]:
    """Return the first names of the modules that a source imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return names


class _Finder(MetaPathFinder, Loader):
    """Finds and loads modules whose sources are at hand."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module is loaded; None of another one."""
        file = self._file(fullname)
        return spec_from_loader(fullname, self, origin=file, is_package=file.endswith("/__init__.py")) if file else None

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's source."""
        exec(compile(self.get_source(module.__name__), self._file(module.__name__), "exec"), module.__dict__)

    def get_source(self, fullname: str) -> str:
        """Return a module's source, so that its lines show in tracebacks."""
        return self._files[self._file(fullname)]

    def _file(self, name: str) -> str:
        stem = name.replace(".", "/")
        return next((each for each in (f"{stem}/__init__.py", f"{stem}.py") if each in self._files), "")


@lru_cache(maxsize=4)
def _loaded(files: Files) -> dict[str, ModuleType]:
    """Return what these sources have become in this process so far."""
    return {}


@contextmanager
def importable(files: Files) -> Iterator[None]:
    """Have imports find these modules, and not those of the same names that other files have brought along."""
    names = {file.partition("/")[0].removesuffix(".py") for file, _ in files}

    def taken_out() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}

    finder, others = _Finder(dict(files)), taken_out()
    sys.modules.update(_loaded(files))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _loaded(files).update(taken_out())
        sys.modules.update(others)
