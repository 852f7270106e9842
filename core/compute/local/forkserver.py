"""The process that makes worker processes.

A driver cannot fork safely once it has threads or connections. So while it is still clean it forks one child, the
fork server, which stays clean and forks workers whenever one is needed, a few milliseconds each; a driver that is not
clean starts the fork server as a new interpreter instead. The fork server is the workers' parent: it alone can signal
one without risking another process that got its number, and it knows how each one ended. When the driver goes away,
however it does, the fork server's socket closes and it ends every worker.
"""

from __future__ import annotations

import array
import contextlib
import functools
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable

from core.compute.local.channel import ConnectionLost
from core.compute.local.threads import limit_modules, set_variables
from core.compute.local.wire import CONTROL
from core.compute.local.worker import live

EXIT_TIMEOUT = 0.2
"""Seconds that workers have to end by themselves once the driver is gone."""


def main() -> None:
    """Entry point of a fork server that is a new interpreter."""
    control, threads = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[3])
    sys.argv[:] = [""]
    serve(control, threads)


def serve(control: socket.socket, threads: int) -> None:
    """Make workers with so many numerical threads each, until the driver is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    limit = functools.partial(limit_modules, threads, set_variables(threads))
    _let_go(control.fileno())
    gc.freeze()  # uncollected: to look at every object would copy every page, and finalizers are the driver's to run
    ends = os.pipe()
    os.set_blocking(ends[1], False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
    children: dict[int, int] = {}
    ready = select.poll()  # select() refuses descriptors above 1023
    ready.register(control, select.POLLIN)
    ready.register(ends[0], select.POLLIN)
    try:
        while True:
            descriptors = [descriptor for descriptor, _ in ready.poll()]
            if ends[0] in descriptors:
                os.read(ends[0], 4096)
                _reap(control, children)
            if control.fileno() in descriptors and not _obey(control, children, ends, limit):
                return
    except OSError:
        return  # the driver is gone
    finally:
        _end(children)


def _let_go(kept: int) -> None:
    """Replace standard input and every inherited pipe, so that whoever is at their other end sees them close."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if int(name) > 2 and int(name) != kept and os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                    os.dup2(null, int(name))
    os.close(null)


def _end(children: dict[int, int]) -> None:
    """Give idle workers, whose channels have closed too, a moment to end; then end the rest."""
    deadline = time.monotonic() + EXIT_TIMEOUT
    left = set(children.values())
    while left:
        for pid in list(left):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            left.discard(pid)
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def _reap(control: socket.socket, children: dict[int, int]) -> None:
    for worker, pid in list(children.items()):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            del children[worker]
            control.sendall(CONTROL.pack(b"D", worker, status))


def _obey(control: socket.socket, children: dict[int, int], wakeup: tuple[int, int], limit: Callable[[], None]) -> bool:
    """Carry out one command of the driver; returns False if it is gone."""
    data, ancillary, _, _ = control.recvmsg(CONTROL.size, socket.CMSG_SPACE(64))
    if data and len(data) < CONTROL.size:
        data += control.recv(CONTROL.size - len(data), socket.MSG_WAITALL)
    if len(data) < CONTROL.size:
        return False
    command, worker, number = CONTROL.unpack(data)
    if command == b"K":
        if worker in children:
            os.kill(children[worker], number)
        return True
    descriptors = array.array("i")
    for _, _, payload in ancillary:
        descriptors.frombytes(payload)
    pid = os.fork()
    if pid == 0:
        _become_worker(control, wakeup, limit, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    children[worker] = pid
    control.sendall(CONTROL.pack(b"S", worker, pid))
    return True


def _become_worker(
    control: socket.socket, wakeup: tuple[int, int], limit: Callable[[], None], descriptors: Iterable[int]
) -> None:
    """Live and end as a worker, in a child of the fork server."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        for descriptor in wakeup:
            os.close(descriptor)
        limit()
        live(*descriptors)
    except (ConnectionLost, KeyboardInterrupt):
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
