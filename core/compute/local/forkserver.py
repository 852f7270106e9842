"""The process that makes worker processes, and the life of a worker.

A driver cannot fork safely once it has threads or connections. So while it is still clean it forks one child, the
fork server, which stays clean and forks workers whenever one is needed, a few milliseconds each; a driver that is not
clean starts the fork server as a new interpreter instead. The fork server is the workers' parent: it alone can signal
one without risking another process that got its number, and it knows how each one ended. When the driver goes away,
however it does, the fork server's socket closes and it ends every worker.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import mmap
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings

from core import serialization
from core.compute.local.channel import Channel, ConnectionLost
from core.serialization import Buffer, Packed
from core.task import notices as notify
from core.task.call import Call, load_call, working_folder
from core.task.protocol import DurableRef
from core.task.run import Mark, become_worker, describe, failed, in_worker, run

CONTROL = struct.Struct("<cqq")
"""To the fork server: (b"S", worker, 0) with three descriptors, (b"K", worker, signal); back: (b"S", worker, pid),
(b"D", worker, status)."""

TASK_STATUS = struct.Struct("<qqd")
"""What a worker is doing, in memory it shares with the driver: batch, position in it or -1, monotonic start."""

VALUE = -1
"""Stands for the number of a batch in messages that carry a value for a queue."""

CLAIM = struct.Struct("<q")
"""The right to start a batch, by number: whoever reads it from the pipe, worker or driver, has the batch."""

LAST_MOMENT = 0.2
"""Seconds that workers have to end by themselves once the driver is gone."""

_FORK_UNSAFE = ("torch", "tensorflow", "jax", "cupy", "grpc", "ray", "pyspark")
_SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


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


def start_forkserver(fresh: bool | None = None) -> tuple[socket.socket, int]:
    """Start a fork server; returns its control socket and its process id.

    Parameters
    ----------
    fresh : bool, optional
        Start a new interpreter (True) or fork (False); by default fork if that is safe.
    """
    if fresh is None:
        fresh = not is_clean()
    ours, theirs = socket.socketpair()
    if fresh:
        code = f"import sys, json; sys.path[:] = json.loads(sys.argv[2]); from {__name__} import main; main()"
        paths = [path for entry in sys.path if (path := entry or working_folder())]
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno()), json.dumps(paths)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        child.returncode = 0  # reaped by close(), not by Popen's own bookkeeping
        return ours, child.pid
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of numeric libraries end cleanly at a fork
        pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    try:
        ours.close()
        _serve(theirs)
    finally:
        os._exit(0)


def main() -> None:
    """Entry point of a fork server that is a new interpreter."""
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.argv[:] = [""]
    _serve(control)


def _serve(control: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    for name in _SINGLE_THREADED:
        os.environ.setdefault(name, "1")
    _let_go(control.fileno())
    gc.collect()
    gc.freeze()
    children: dict[int, int] = {}
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    try:
        while True:
            ready, _, _ = select.select([control.fileno(), wakeup_read], [], [])
            if wakeup_read in ready:
                os.read(wakeup_read, 4096)
                _reap(control, children)
            if control.fileno() in ready and not _obey(control, children, (wakeup_read, wakeup_write)):
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
    deadline = time.monotonic() + LAST_MOMENT
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


def _obey(control: socket.socket, children: dict[int, int], wakeup: tuple[int, int]) -> bool:
    data, ancillary, _, _ = control.recvmsg(CONTROL.size, socket.CMSG_SPACE(64))
    if not data:
        return False
    while len(data) < CONTROL.size:
        more = control.recv(CONTROL.size - len(data))
        if not more:
            return False
        data += more
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
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            for descriptor in wakeup:
                os.close(descriptor)
            _live(*descriptors)
            status = 0
        except (ConnectionLost, KeyboardInterrupt):
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    for descriptor in descriptors:
        os.close(descriptor)
    children[worker] = pid
    control.sendall(CONTROL.pack(b"S", worker, pid))
    return True


def _live(channel_end: int, claim_end: int, task_status_file: int) -> None:
    """Be a worker: answer batches until the driver closes the channel."""
    become_worker()
    if "numpy.random" in sys.modules:  # every fork would draw the same numbers
        sys.modules["numpy.random"].seed(list(os.urandom(16)))
    channel = Channel(socket.socket(fileno=channel_end))
    os.set_blocking(claim_end, False)
    task_status = mmap.mmap(task_status_file, TASK_STATUS.size)
    os.close(task_status_file)
    calls: dict[str, Buffer | Call] = {}
    held: int | None = None
    number = -1
    lock = threading.Lock()

    def speak(word: notify.QueueHeader, data: bytes) -> None:
        with lock:
            channel.send([pickle.dumps((VALUE, word), 5), data])

    notify.speak_through(speak)

    def mark(position: int, now: float) -> None:
        TASK_STATUS.pack_into(task_status, 0, number, position, now)

    while True:
        segments = channel.receive()
        request = pickle.loads(segments[0])
        if request[0] == "forget":
            calls.pop(request[1], None)
            continue
        number, call_hash, has_call, job_id, task_ids, attempt, meta, durable, grant = request[1:]
        if has_call:
            calls[call_hash] = segments[1]
        while held is None or held < number:
            try:
                claim = os.read(claim_end, CLAIM.size)
            except BlockingIOError:
                break
            if not claim:
                raise ConnectionLost
            held = CLAIM.unpack(claim)[0]
        if held != number:
            continue  # the driver took this batch back
        TASK_STATUS.pack_into(task_status, 0, number, -1, 0.0)
        notify.use(grant)
        answer = _answer(calls, number, call_hash, job_id, task_ids, attempt, meta, durable, segments[2:], mark)
        if not in_worker():
            os._exit(0)  # a child that the task forked, and that came back from the function
        with lock:
            channel.send(answer)
        del answer
        del segments, request


def _answer(
    calls: dict[str, Buffer | Call],
    number: int,
    call_hash: str,
    job_id: str,
    task_ids: list[int],
    attempt: int,
    meta: tuple[int, list[int] | None, list[int] | None],
    durable: DurableRef | None,
    segments: list[Buffer],
    mark: Mark,
) -> list[Buffer]:
    """Run a batch; returns the segments of the reply."""
    if durable is not None:
        from core.task.commit import run_committed

        try:
            run_committed(durable, attempt, mark)
        except Exception as error:
            return [pickle.dumps((number, describe(error)), 5)]
        return [pickle.dumps((number, None), 5)]
    try:
        call = calls[call_hash]
        if not isinstance(call, Call):
            call = calls[call_hash] = load_call(call)
        items = serialization.unpack(Packed(meta[0], segments[0], meta[1], meta[2], segments[1:]))
        outcome = run(call, items, task_ids, job_id, attempt, mark)
    except Exception as error:
        outcome = failed(len(task_ids), error)
    body = (
        number,
        outcome.values.meta(),
        outcome.durations,
        outcome.failures,
        outcome.attempts,
        outcome.logs,
        outcome.started,
        outcome.cpu,
        outcome.peak_rss,
        outcome.requests,
        outcome.bytes_in,
        outcome.bytes_out,
    )
    return [pickle.dumps(body, 5), outcome.values.data, *outcome.values.buffers]
