"""A worker that talks over the standard streams of a process: ``core.worker.entry worker``, wherever that runs."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.compute.remote.slot import NotStarted, Slot
from core.errors import FanfoldError
from core.task import messages
from core.task.protocol import Invocation
from core.task.versions import check_versions

_LAST_LINES = 20
"""Lines of a worker's standard error that are kept for the message of its end."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a worker has to end by itself when its input ends."""


def check_hello(hello: Mapping[str, Any], subject: str = "the worker", runtime: str | None = None) -> None:
    """Refuse a worker by its first message; see `check_versions`."""
    told = runtime or hello.get("runtime")
    check_versions(hello.get("versions", {}), f"{subject} has other software than this client", told)


class PipeSlot(Slot):
    """Starts a worker by a command, again whenever it has ended.

    Parameters
    ----------
    command : sequence of str
        Runs ``python -m core.worker.entry worker``, near or far.
    explain : callable
        Gets the exit status (negative for a signal) and the last lines of standard error of a worker that has ended;
        returns the exception that says so, for one that never spoke and for one that ran a batch.
    end : callable, optional
        Ends a worker by force where killing the command's process is not enough, and removes what is left of it.
    check : callable
        Gets the worker's first message, and raises `VersionMismatch` if its software will not do.
    folder : str, optional
        Working folder of the command; this process's unless given.
    """

    def __init__(
        self,
        command: Sequence[str],
        explain: Callable[[int, str, bool], Exception],
        end: Callable[[], None] | None = None,
        check: Callable[[Mapping[str, Any]], None] = check_hello,
        folder: str | None = None,
    ) -> None:
        self._command = list(command)
        self._explain, self._end, self._check, self._folder = explain, end, check, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._reader: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        """Start the worker and check that it runs the same software.

        Raises
        ------
        FanfoldError
            Its software differs, or `explain` says that it will never start.
        NotStarted
            It may start another time.
        """
        self._last.clear()
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._folder,
                process_group=0,  # Ctrl-C is for the driver, whose job may go on
            )
        except OSError as error:
            raise FanfoldError(f"{self._command[0]} cannot be run: {error.strerror}") from error
        self._process = process
        self._reader = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._reader.start()
        hello = self._receive(process, began=False)
        try:
            self._check(messages.decode(hello)[0])
        except BaseException:
            self._stop(process)
            raise

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self._last.append(line.decode(errors="replace").rstrip())

    def _receive(self, process: subprocess.Popen[bytes], began: bool) -> bytes:
        assert process.stdout is not None
        try:
            message = messages.read_frame(process.stdout)
        except (OSError, ValueError):
            message = None
        if message is not None:
            return message
        self._stop(process)
        raise self._explain(process.returncode, "\n".join(self._last), began)

    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Send a request to the worker, starting it if it has ended."""
        if self._process is None:
            self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            messages.write_frame(process.stdin, message)
        except (OSError, ValueError):  # it ended while it idled: the batch did not begin
            self._stop(process)
            raise NotStarted("; ".join(self._last) or "the worker ended") from None
        return self._receive(process, began=True)

    def interrupt(self) -> None:
        """End the worker by force."""
        process = self._process
        if process is None:
            return
        if self._end is not None:
            self._end()
        process.kill()

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            if self._end is not None:
                self._end()
            process.kill()
            process.wait()
        if process.returncode and self._end is not None:
            self._end()
        if self._reader is not None:
            self._reader.join(CLOSE_TIMEOUT)

    def close(self) -> None:
        """End the worker: its input ends, and it has a moment."""
        if self._process is not None:
            self._stop(self._process)
