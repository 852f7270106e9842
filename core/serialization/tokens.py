"""Names for classes and functions that cannot be imported, by which processes know them again."""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from types import FunctionType
from typing import Any

from core.locks import process_lock

MAIN = ("__main__", "__mp_main__")
"""Modules that are another in every process."""


class Registry:
    """What this process knows by a token."""

    def __init__(self) -> None:
        self.process = os.urandom(8)
        self.worker = 0
        """Process number of the worker that this is."""
        self.calls: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.lock = process_lock(threading.RLock)
        self.objects: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.made_here: set[str] = set()
        self.states: dict[str, object] = {}
        """Which call each class that another process made has its state from."""
        self._tokens: dict[int, tuple[weakref.ref[Any], str]] = {}

    def token(self, thing: Any) -> str:
        """Return the token of an object; one that has none was made by this process."""
        known = self._tokens.get(id(thing))
        if known is None or known[0]() is not thing:
            with self.lock:
                known = self._tokens.get(id(thing))
                if known is None or known[0]() is not thing:
                    token = os.urandom(8).hex()
                    self.add(thing, token)
                    self.made_here.add(token)
                    return token
        return known[1]

    def add(self, thing: Any, token: str) -> None:
        """Know an object by a token; of several with the same, the one that this process made is the one meant."""
        self._tokens[id(thing)] = weakref.ref(thing, functools.partial(self._forget, id(thing), token)), token
        if token not in self.made_here:
            self.objects[token] = thing

    def _forget(self, ident: int, token: str, reference: weakref.ref[Any]) -> None:
        known = self._tokens.get(ident)
        if known is not None and known[0] is reference:
            del self._tokens[ident]
        if token not in self.objects:
            self.made_here.discard(token)
            self.states.pop(token, None)

    def become_worker(self) -> None:
        """Be a process that has made nothing yet, though its parent has."""
        self.process, self.worker = os.urandom(8), os.getpid()
        self.made_here.clear()
        self.calls.clear()


registry = Registry()


def know_main() -> None:
    """Let a child of this process know the classes and functions of ``__main__`` as those of this one."""
    for value in list(vars(sys.modules["__main__"]).values()):
        if isinstance(value, type | FunctionType) and value.__module__ in MAIN:
            registry.token(value)
