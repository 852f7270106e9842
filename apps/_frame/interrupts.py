"""Ctrl-C where it would break what cannot be mended.

An import that is broken off may swallow the interrupt, or crash the process at its end; a thread may be left unbegun.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Have Ctrl-C wait until a block is done, which should take no more than a second or two.

    Raises
    ------
    KeyboardInterrupt
        Behind the block, if it was asked for within.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # which Ctrl-C does not reach
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    asked: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            raise KeyboardInterrupt


def preload(*modules: str) -> Callable[[], None]:
    """Return what imports modules, if they are installed, while others work; Ctrl-C waits until that is done."""

    def load() -> None:
        with deferred_interrupts():
            for name in modules:
                if find_spec(name.partition(".")[0]) is not None:
                    import_module(name)

    return load


def forget_unhandled_interrupt() -> None:
    """Have the process end with the status that it gives, where Ctrl-C fell into text that `exec` runs.

    Dataclasses are made by `exec`. CPython notes such an interrupt and has a module that `python -m` runs end by
    SIGINT, though it was handled; running another text forgets it (`run_eval_code_obj` of CPython's pythonrun.c).
    """
    exec("")
