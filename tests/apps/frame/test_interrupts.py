"""Ctrl-C while the driver imports: heeded, when that is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps._frame.interrupts import deferred_interrupts


@pytest.fixture(autouse=True)
def as_at_a_terminal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_until_the_block_is_done() -> None:
    done = []

    def work() -> None:
        with deferred_interrupts():
            interrupt()
            done.append("all")

    with pytest.raises(KeyboardInterrupt):
        work()

    assert done == ["all"]


def test_an_interrupt_is_not_lost_where_the_block_fails() -> None:
    def work() -> None:
        with deferred_interrupts():
            interrupt()
            raise ImportError

    with pytest.raises(KeyboardInterrupt):
        work()


def test_without_an_interrupt_nothing_is_raised_and_the_next_one_is_immediate() -> None:
    with deferred_interrupts():
        pass

    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_who_ignores_interrupts_goes_on_ignoring_them() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    with deferred_interrupts():
        interrupt()

    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_thread_may_import_as_it_likes() -> None:
    seen = []

    def work() -> None:
        with deferred_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [signal.default_int_handler]


PROGRAM = """
import sys
from apps._frame.interrupts import forget_unhandled_interrupt
try:
    exec("raise KeyboardInterrupt")  # as in the making of a dataclass
except KeyboardInterrupt:
    forget_unhandled_interrupt()
sys.exit(130)
"""


def test_an_interrupt_of_text_that_was_being_run_leaves_the_status_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])

    run = subprocess.run([sys.executable, "-m", "program"], env=os.environ | {"PYTHONPATH": path})

    assert run.returncode == 130
