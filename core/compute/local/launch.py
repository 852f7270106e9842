"""The driver's end of a fork server: how it is started, told what to do, and heard."""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterable

from core.compute.local import forkserver
from core.compute.local.wire import CONTROL
from core.task.call import working_folder
from core.task.run import in_worker

CLOSE_TIMEOUT = 2.0
"""Seconds that a fork server may take to end before it is killed."""

_FORK_UNSAFE = ("torch", "tensorflow", "jax", "cupy", "grpc", "ray", "pyspark")


def is_clean() -> bool:
    """Whether forking this process can neither deadlock on another thread's lock nor share a connection."""
    if not sys.platform.startswith("linux") or in_worker() or threading.active_count() > 1:
        return False
    if any(name in sys.modules for name in _FORK_UNSAFE):
        return False
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(descriptor) > 2 and os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
                return False
    return True


class ForkServer:
    """A fork server, as its driver holds it.

    Parameters
    ----------
    fresh : bool, optional
        Start a new interpreter (True) or fork (False); by default fork if that is safe.
    """

    def __init__(self, fresh: bool | None) -> None:
        start = _start_fresh if (not is_clean() if fresh is None else fresh) else _fork
        self._control, theirs = socket.socketpair()
        with theirs:
            self.pid = start(self._control, theirs)

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
        deadline = time.monotonic() + CLOSE_TIMEOUT
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.001)


def _start_fresh(ours: socket.socket, theirs: socket.socket) -> int:
    module = forkserver.__name__
    code = f"import sys, json; sys.path[:] = json.loads(sys.argv[2]); from {module} import main; main()"
    paths = [path for entry in sys.path if (path := entry or working_folder())]
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(theirs.fileno()), json.dumps(paths)],
        stdin=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
    )
    child.returncode = 0  # reaped by close(), not by Popen's own bookkeeping
    return child.pid


def _fork(ours: socket.socket, theirs: socket.socket) -> int:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of numeric libraries end cleanly at a fork
        pid = os.fork()
    if pid:
        return pid
    try:
        ours.close()
        forkserver.serve(theirs)
    finally:
        os._exit(0)
