"""What a remote backend talks through: a slot, and what may become of a request."""

from __future__ import annotations

from abc import ABC, abstractmethod

from core.task.protocol import Invocation, LossReason


class ExchangeError(Exception):
    """What became of a request that has no reply."""


class Throttled(ExchangeError):
    """The platform has no room now; the request was not begun. `wait` is how long it asks for, in seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class NotStarted(ExchangeError):
    """The request reached no worker and may be made again."""

    wait = 0.0


class Oversized(ExchangeError):
    """A request does not fit, and there is no storage to leave it in, or the platform finds it too large."""


class WorkerEnded(ExchangeError):
    """The worker ended, or may have, while it ran the batch."""

    def __init__(self, message: str, reason: LossReason = "died", position: int | None = None) -> None:
        super().__init__(message)
        self.reason: LossReason = reason
        self.position = position


def retry_after(text: str) -> float:
    """Return the seconds that a ``Retry-After`` header asks for, 0 if it names a date or nothing."""
    return float(text) if text.isdecimal() and len(text) < 10 else 0.0


class Slot(ABC):
    """A place where one batch runs at a time: a live container, or one connection to a service.

    All methods but `interrupt` are called from the slot's own thread.
    """

    @abstractmethod
    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Send a request and return the reply.

        Raises
        ------
        Throttled, NotStarted, Oversized, WorkerEnded
            What became of the request.
        FanfoldError
            Nothing will work: credentials, image or settings are wrong. The executor ends with it.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Make a running `exchange` raise `WorkerEnded` soon, if that can be done. Called from any thread."""

    def close(self) -> None:
        """Release what the slot holds."""
        return None
