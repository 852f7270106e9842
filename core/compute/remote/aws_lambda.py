"""Runs batches on AWS Lambda: calls that wait for the answer, or events whose results are in storage."""

from __future__ import annotations

import base64
import json
import queue
import threading
from dataclasses import replace
from typing import Any

from core.compute.remote.aws_lambda_client import (
    LONGEST_RUN,
    MARGIN,
    credentials_of,
    fatal,
    is_denied,
    open_client,
    outcome,
    target_of,
)
from core.compute.remote.aws_lambda_deploy import EVENT_AGE, delete, deploy, manifest, wait_active
from core.compute.remote.base import RemoteBackend
from core.compute.remote.slot import NotStarted, Oversized, Slot, WorkerEnded
from core.errors import ComputeDenied, ComputeError, ConfigError, excerpt
from core.settings import Address, ExecutorConfig, parse_duration
from core.task import messages
from core.task.protocol import BatchDone, Invocation

__all__ = ["LambdaBackend", "delete", "deploy", "manifest"]

DEFAULT_WORKERS = 100
"""Calls under way at the same time, as far as account and function allow it."""

LARGEST = 6 * 1024 * 1024 * 3 // 4 - 4096
"""Bytes of a request: base64 and the event around it fill the 6 MiB that a call carries."""

ANSWER_LARGEST = 8 << 20
"""Bytes of an answer that are read: a function's have 6 MiB at most, and what stands in between may say more."""

_CALLS = ("sync", "async")
_BROKEN = (
    "Runtime.ImportModuleError",
    "Runtime.HandlerNotFound",
    "Runtime.InvalidEntrypoint",
    "Runtime.InvalidWorkingDir",
)


class LambdaBackend(RemoteBackend):
    """Invokes a function made from a runtime image.

    Address: ``lambda://FUNCTION?region=REGION``.

    - ``region``, ``profile``, ``endpoint``: where the function is and who calls it; by default as boto3 finds out.
    - ``call=async``: events instead of calls. Every job is durable, and no connection waits for a result.
    - ``silence``: for events, how long one may say nothing before it counts as lost.
    - ``architecture``: ``arm64`` or ``x86_64``, for prices.
    """

    name = "lambda"

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        self.target = target_of(address)
        super().__init__(address, config, config.workers or DEFAULT_WORKERS)
        call = address.options.get("call", "sync")
        if call not in _CALLS:
            raise ConfigError(f"lambda has no call={call}; expected {' or '.join(_CALLS)}")
        if call == "async":
            self.capabilities = replace(self.capabilities, reports_completion=False, results_in_storage=True)
        self.largest = None if call == "async" else LARGEST
        self.silence = 0.0
        if "silence" in address.options:
            try:
                self.silence = parse_duration(address.options["silence"])
            except ValueError:
                raise ConfigError("lambda needs silence= as a time such as 20m") from None
        self._client: Any = None
        self._credentials: object = None
        self._longest = LONGEST_RUN
        self._renewing = threading.Lock()

    def prepare(self) -> None:
        """Find out what function and account allow, as far as the credentials may know it.

        Raises
        ------
        ConfigError
            There is no such function, it may not run, or events have no storage for their results.
        """
        if self.capabilities.results_in_storage and self.config.storage is None:
            raise ConfigError(
                "lambda with call=async leaves results in storage; give the executor one that the function reaches, "
                "such as storage='s3://bucket/prefix'"
            )
        client = open_client(self.target)
        found = self._function(client)
        state = found.get("Configuration", {})
        if state.get("State") == "Failed":
            raise ComputeError(f"{self.target.place} does not start: {state.get('StateReason')}; deploy it again")
        if state.get("State") == "Pending":
            wait_active(client, self.target)
        limit = found.get("Concurrency", {}).get("ReservedConcurrentExecutions")
        if limit == 0:
            raise ConfigError(f"{self.target.place} has a reserved concurrency of 0; raise or remove it")
        self.workers = min(self.workers, limit or _unreserved(client) or self.workers)
        self._longest = float(state.get("Timeout", LONGEST_RUN))
        self.silence = self.silence or self._longest + EVENT_AGE + MARGIN
        self._credentials = credentials_of(self.target)
        self._client = open_client(self.target, self.workers, self._longest, attempts=1)

    def _function(self, client: Any) -> dict[str, Any]:
        """Return what Lambda tells of the function, nothing if the credentials may only invoke it."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found: dict[str, Any] = client.get_function(FunctionName=self.target.function)
            return found
        except (BotoCoreError, ClientError) as error:
            if is_denied(error):
                return {}
            raise fatal(error, self.target) from None

    def call(self, payload: bytes, kind: str) -> bytes:
        """Invoke the function, and return what it answers.

        Raises
        ------
        Throttled, NotStarted, Oversized, WorkerEnded, FanfoldError
            As ``Slot.exchange``.
        """
        client = self._client
        try:
            answer, body = self._invoke(client, payload, kind)
        except ComputeDenied:
            if not self._renew(client):
                raise
            answer, body = self._invoke(self._client, payload, kind)
        if "FunctionError" in answer:
            raise _function_error(body, self.target.place)
        return body

    def _invoke(self, client: Any, payload: bytes, kind: str) -> tuple[dict[str, Any], bytes]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = client.invoke(FunctionName=self.target.function, InvocationType=kind, Payload=payload)
            body = bytearray()
            while (piece := answer["Payload"].read(ANSWER_LARGEST)) and len(body) <= ANSWER_LARGEST:
                body += piece
        except (BotoCoreError, ClientError, OSError) as error:
            raise outcome(error, self.target) from None
        if len(body) > ANSWER_LARGEST:
            answer["Payload"].close()
            raise Oversized(f"the answer of {self.target.place} has more than {ANSWER_LARGEST / 1e6:.1f} MB")
        return answer, bytes(body)

    def _renew(self, refused: Any) -> bool:
        """Take up credentials that were renewed since; returns whether there are others than those of a client."""
        with self._renewing:
            if self._client is refused and (found := credentials_of(self.target)) != self._credentials:
                self._credentials = found
                self._client = open_client(self.target, self.workers, self._longest, attempts=1)
            return self._client is not refused

    def open_slot(self, index: int) -> Slot:
        """Return a slot; what connections there are is the client's to know."""
        return EventSlot(self) if self.capabilities.results_in_storage else CallSlot(self)

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that has not been sent; an event runs on, but no slot waits for it any more."""
        if super().revoke(batch_id):
            return True
        slot = self._running.get(batch_id)
        if not isinstance(slot, EventSlot):
            return False
        slot.release(batch_id)
        return True


class CallSlot(Slot):
    """Invokes and waits for the answer, on a thread of its own so that the wait can be ended."""

    def __init__(self, backend: LambdaBackend) -> None:
        self._backend = backend
        self._answers: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()

    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Send a request and return the reply."""
        answers = self._answers
        payload = json.dumps({"body": base64.b64encode(message).decode()}).encode()
        threading.Thread(target=self._ask, args=(payload, answers), daemon=True).start()
        answer = answers.get()
        # An interruption from now on ends the next exchange, whose batch is then sent again: none is overheard.
        self._answers = queue.SimpleQueue()
        if answer is None:
            raise WorkerEnded("nobody waits for it any more; the function runs on until its time limit", "killed")
        if isinstance(answer, Exception):
            raise answer
        try:
            return base64.b64decode(json.loads(answer)["body"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ComputeError(f"{self._backend.target.place} is not made from a fanfold runtime") from None

    def _ask(self, payload: bytes, answers: queue.SimpleQueue[bytes | Exception | None]) -> None:
        try:
            answers.put(self._backend.call(payload, "RequestResponse"))
        except Exception as error:
            answers.put(error)

    def interrupt(self) -> None:
        """Wait for the answer no more."""
        self._answers.put(None)


class EventSlot(Slot):
    """Sends an event, and waits until its end was found in storage, or nothing was found for too long."""

    def __init__(self, backend: LambdaBackend) -> None:
        self._backend = backend
        self._turn = threading.Condition()
        self._known: int | None = None
        self._closing = False

    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Send a request; the reply says that there is none to wait for."""
        payload = json.dumps({"body": base64.b64encode(message).decode(), "silent": True}).encode()
        try:
            if self._known != invocation.batch_id:  # it may have been cancelled while the platform had no room
                self._backend.call(payload, "Event")
        except WorkerEnded as error:
            raise NotStarted(str(error)) from None  # if it was sent after all, the first commit counts
        with self._turn:
            ended = self._turn.wait_for(
                lambda: self._closing or self._known == invocation.batch_id, self._backend.silence
            )
        if not ended:
            raise WorkerEnded(
                f"nothing was heard of its event for {self._backend.silence:g} s; see the log of "
                f"{self._backend.target.place}, and the identity that it writes to storage with"
            )
        return messages.reply(BatchDone(invocation.batch_id, self._backend.name, None), invocation)

    def release(self, batch_id: int) -> None:
        """Hear that a batch has ended, or is not wanted. Called from any thread."""
        with self._turn:
            self._known = batch_id
            self._turn.notify()

    def interrupt(self) -> None:
        """Wait no more."""
        with self._turn:
            self._closing = True
            self._turn.notify()


def _unreserved(client: Any) -> int | None:
    """Return how many calls the account may make at the same time; where it does not tell, throttling does."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return int(client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"])
    except (BotoCoreError, ClientError, KeyError):
        return None


def _function_error(body: bytes, place: str) -> Exception:
    """Return what an answer means that the platform made in place of the function."""
    try:
        told = json.loads(body)
        kind, message = excerpt(str(told.get("errorType", ""))), excerpt(str(told.get("errorMessage", "")))
    except (ValueError, AttributeError, RecursionError):
        kind, message = "", excerpt(body[:1000].decode(errors="replace"))
    what = f"{place} ended with {kind}: {message}" if kind else f"{place}: {message}"
    if "Task timed out" in message or kind == "Sandbox.Timedout":
        return WorkerEnded(f"{what}; raise the function's timeout, or give it less to do", "timeout")
    if kind == "Runtime.OutOfMemory":
        return WorkerEnded(f"{what}; raise the function's memory", "memory")
    if kind in _BROKEN:
        return ComputeError(f"{what}; is it made from a fanfold runtime, with the command 'lambda'?")
    if kind == "Function.ResponseSizeTooLarge":
        return ComputeError(f"{what}; deploy a runtime of this version")
    return WorkerEnded(f"{what}; its log in CloudWatch says more")
