"""The user's own modules, as workers may have imported them: once one has changed, what workers have is not used."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from core.serialization.tokens import registry

State = tuple[Any, int, int]
"""What changes when a module is loaded anew, and when its file is written: its spec, time of modification, size."""


class LocalModules:
    """Tells whether a module has changed since workers could have imported it.

    Workers that share the driver's files import its modules by themselves, once. After an edit they have the old
    code, or the new one where the driver still has the old.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, ModuleType] = {}
        self._count = -1
        self._states: dict[str, State] = {}
        self.changed: list[str] = []
        """Modules that have changed, by now or at any time before."""

    def note(self) -> list[str]:
        """Look at every module that is loaded now; returns those that have changed."""
        for name, module in self._local().items():
            state = _state(module)
            before = self._states.setdefault(name, state)
            if (before[0] is not state[0] or before[1:] != state[1:]) and name not in self.changed:
                self.changed.append(name)
        return self.changed

    def _local(self) -> dict[str, ModuleType]:
        stale = any(sys.modules.get(name) is not module for name, module in self._loaded.items())
        if stale or len(sys.modules) != self._count:  # a call must not cost a look at thousands of modules
            self._count = len(sys.modules)
            self._loaded = {name: module for name, module in list(sys.modules.items()) if is_local(module)}
        return self._loaded

    def renewal(self) -> Renewal:
        """Return what makes a worker forget these modules as it has them."""
        states = {name: _state(module)[1:] for name, module in self._local().items()}
        return Renewal(states)

    def forget_changed(self) -> None:
        """Have modules read again that were written anew since a task imported them: the driver may not know them."""
        changed = {_package(name) for name in self.note() if os.path.isfile(self._loaded[name].__file__ or "")}
        if changed:  # what is compiled can often not be loaded twice
            compiled = {_package(n) for n, module in self._loaded.items() if not str(module.__file__).endswith(".py")}
            _forget(name for name in self._loaded if _package(name) not in compiled - changed)
            self._states.clear()
        self.changed.clear()

    def note_new(self) -> None:
        """Look at modules if some were loaded since the last look."""
        if len(sys.modules) != self._count:
            self.note()


def _package(name: str) -> str:
    return name.partition(".")[0]


def _state(module: ModuleType) -> State:
    with contextlib.suppress(OSError):
        found = os.stat(module.__file__ or "")
        return module.__spec__, found.st_mtime_ns, found.st_size
    return module.__spec__, 0, 0


class Renewal:
    """Unpickles into an import system that reads these modules again when a function imports them."""

    def __init__(self, states: dict[str, tuple[int, int]]) -> None:
        self._states = states

    def __reduce__(self) -> Any:
        return _renew, (self._states,)


_renewed: dict[str, tuple[int, int]] = {}


def _renew(states: dict[str, tuple[int, int]]) -> None:
    if registry.worker == os.getpid() and any(_renewed.get(name) != state for name, state in states.items()):
        _renewed.update(states)
        _forget(states)


def _forget(modules: Iterable[str]) -> None:
    """Have modules read again, and with them folders that are packages without a file: these hold what is in them."""
    names = set(modules)
    packages = {_package(name) for name in names}
    for name, module in list(sys.modules.items()):
        is_folder = hasattr(module, "__path__") and getattr(module, "__file__", None) is None
        if name in names or (is_folder and _package(name) in packages):
            sys.modules.pop(name, None)


def is_local(module: ModuleType) -> bool:
    """Whether a module is the user's own: outside the Python installation, and not of this distribution."""
    path = getattr(module, "__file__", None)
    name = getattr(module, "__name__", "__main__")
    if not path or _package(name) in ("__main__", "core", "apps"):
        return False
    if "site-packages" in path or "dist-packages" in path or path.startswith(_installed_folders()):
        return False
    above = name.count(".") + os.path.basename(path).startswith("__init__.")
    return _package(name) not in _installed_in(Path(path).parents[above])


@functools.cache
def _installed_in(folder: Path) -> frozenset[str]:
    """Return the modules that an installer has put into a folder of its own, as ``pip install --target`` does."""
    found: set[str] = set()
    for record in folder.glob("*.dist-info/RECORD"):
        with contextlib.suppress(OSError, ValueError):
            found.update(
                line.partition(",")[0].partition("/")[0].partition(".")[0]
                for line in record.read_text("utf-8").splitlines()
            )
    return frozenset(found)


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    return tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
