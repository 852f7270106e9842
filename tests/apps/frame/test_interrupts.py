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

from apps._frame.interrupts import deferred_interrupts, preload
from tests.apps.frame.test_run import begin


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


WORK = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
open("loaded", "w").close()  # behind what would have been broken off

def work(*_):
    open("worked", "w").close()
"""
PROGRAM = """
import sys
from apps._frame import App, Command
from tests.apps.frame.test_command import Params

def dataclass(*_):
    exec("raise KeyboardInterrupt")  # as where a dataclass is made

sys.exit(App("program", [Command("load", Params, "work:work"), Command("make", Params, dataclass)]).main())
"""


def program(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "work.py").write_text(WORK)
    (folder / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "program", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_an_interrupt_of_text_that_was_being_run_leaves_the_status_of_the_command(tmp_path: Path) -> None:
    done = program(tmp_path, "make")

    assert (done.returncode, done.stderr.strip()) == (130, "program: interrupted; nothing was written")


def test_what_a_command_is_made_of_is_loaded_before_an_interrupt_ends_it(tmp_path: Path) -> None:
    done = program(tmp_path, "load")

    assert (done.returncode, done.stderr.strip()) == (130, "program: interrupted; nothing was written")
    assert (tmp_path / "loaded").exists()
    assert not (tmp_path / "worked").exists()


def test_what_is_loaded_meanwhile_is_loaded_whole_and_what_is_not_installed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slowly_loaded.py").write_text(WORK)

    with pytest.raises(KeyboardInterrupt):
        preload("that_is_not_installed.at_all", "slowly_loaded")()

    assert (tmp_path / "loaded").exists()


def test_the_thread_of_a_lease_is_begun_before_an_interrupt_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "fanfold-lease":
            interrupt()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)

    with pytest.raises(KeyboardInterrupt), begin(tmp_path / "run") as run:
        run.keep_alive()
