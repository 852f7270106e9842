"""The driver's end of a fork server: how it is started, told what to do, and heard."""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from typing import NoReturn

from core.compute.local import forkserver
from core.compute.local.threads import limited_libraries
from core.compute.local.wire import CONTROL
from core.serialization.tokens import know_main
from core.task.call import working_folder
from core.task.run import in_worker

FORKSERVER_TIMEOUT = 2.0
"""Seconds that a fork server may take to end before it is killed."""

_VANISH_TIMEOUT = 0.01
"""Seconds that a thread which has ended may take to leave the list of the process's threads."""


def may_fork() -> bool:
    """Whether forking this process shares no connection and no lock that another Python thread may hold."""
    if not sys.platform.startswith("linux") or in_worker() or threading.active_count() > 1:
        return False
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(descriptor) > 2 and os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
                return False
    return True


_FORKABLE = "jemalloc_bg_thd"
"""The thread in which jemalloc (of Arrow, and so of pandas) gives memory back: its handlers see to forks (jemalloc,
``background_thread.c``)."""


def is_alone(timeout: float = 0.0) -> bool:
    """Whether no thread that a fork could harm runs beside the caller, native or not, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while any(_is_harmed(thread) for thread in os.listdir("/proc/self/task")):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.0005)
    return True


def _is_harmed(thread: str) -> bool:
    if int(thread) == threading.get_native_id():
        return False
    try:
        with open(f"/proc/self/task/{thread}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() != _FORKABLE
    except OSError:  # it has ended meanwhile
        return False


class ForkServer:
    """A fork server, as its driver holds it.

    Parameters
    ----------
    threads : int
        Numerical threads of each worker.
    fresh : bool, optional
        Start a new interpreter (True) or fork (False); by default fork if that is safe.
    """

    def __init__(self, threads: int, fresh: bool | None = None) -> None:
        forks = not fresh if fresh is not None else may_fork()
        self._control, theirs = socket.socketpair()
        with theirs:
            pid = None
            if forks:
                pid = _fork(self._control, theirs, threads, unless_threads_stay=fresh is None)
            self.pid = pid or _start_fresh(theirs, threads)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there is something to `hear`."""
        return self._control.fileno()

    def spawn(self, worker: int, descriptors: Iterable[int]) -> None:
        """Ask for a worker that holds these descriptors.

        Raises
        ------
        OSError
            The fork server is gone.
        """
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        self._control.sendmsg([CONTROL.pack(b"S", worker, 0)], rights)

    def signal(self, worker: int, number: int) -> None:
        """Send a worker a signal, if it lives."""
        with contextlib.suppress(OSError):
            self._control.sendall(CONTROL.pack(b"K", worker, number))

    def hear(self) -> tuple[bytes, int, int] | None:
        """Return the next word: (b"S", worker, pid) or (b"D", worker, wait status); None if the fork server is gone."""
        try:
            message = self._control.recv(CONTROL.size, socket.MSG_WAITALL)
        except OSError:
            return None
        return CONTROL.unpack(message) if len(message) == CONTROL.size else None

    def close(self) -> None:
        """Let it end its workers and itself."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        deadline = time.monotonic() + FORKSERVER_TIMEOUT
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.001)


def _start_fresh(theirs: socket.socket, threads: int) -> int:
    import json  # these two are not needed where a fork will do
    import subprocess

    module = forkserver.__name__
    code = f"import sys, json; sys.path[:] = json.loads(sys.argv[2]); from {module} import main; main()"
    paths = [path for entry in sys.path if (path := entry or working_folder())]
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(theirs.fileno()), json.dumps(paths), str(threads)],
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
    )
    child.returncode = 0  # reaped by close(), not by Popen's own bookkeeping
    return child.pid


def _fork(ours: socket.socket, theirs: socket.socket, threads: int, unless_threads_stay: bool) -> int | None:
    """Fork a fork server; returns None if a thread stays that may hold a lock, or be waited for, in the child.

    Threads of libraries that are made for it (OpenBLAS) end when a fork begins, and start again when they are needed.
    Whatever still runs in this process after the fork belongs to a library that is not: then the child, which has
    waited for the word to go on, is ended.
    """
    is_safe = not unless_threads_stay or is_alone()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    know_main()
    with limited_libraries(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is known
        pid = os.fork()
        if not pid:
            _become_forkserver(ours, theirs, threads)
        is_safe = is_safe or is_alone(_VANISH_TIMEOUT)
    if not is_safe:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None
    ours.send(b"!")
    return pid


def _become_forkserver(ours: socket.socket, theirs: socket.socket, threads: int) -> NoReturn:
    try:
        ours.close()
        if theirs.recv(1):
            forkserver.serve(theirs, threads)
    finally:
        os._exit(0)
