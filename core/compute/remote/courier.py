"""How a batch travels to a remote worker and its results back, small in messages and large through storage."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from core import serialization
from core.compute.remote.slot import Oversized, WorkerEnded
from core.errors import InputError, IntegrityError, StorageError
from core.storage.clients import process_storage
from core.task import keys, messages
from core.task.messages import FUNCTIONS_KEPT, NeedsCall, PayloadRef, TooLarge
from core.task.protocol import BatchDone, BatchLost, Invocation, Reply
from core.task.run import describe
from core.task.versions import versions

ALWAYS_SENT = 32 << 10
"""Functions up to this many bytes travel with every request: cheaper than asking whether an instance has them."""

T = TypeVar("T")

Send = Callable[[bytes], bytes | None]
"""Sends a request and returns its reply, None if it is not wanted any more."""


class Recent(OrderedDict[str, T]):
    """What is known of the functions that were used last, as many as a worker remembers, by their hashes."""

    def use(self, call_hash: str, known: T) -> None:
        """Remember a function as the one used last."""
        self[call_hash] = known
        self.move_to_end(call_hash)
        if len(self) > FUNCTIONS_KEPT:
            self.popitem(last=False)


class Courier:
    """Makes requests and reads replies, for one backend.

    Parameters
    ----------
    name : str
        The backend, for people.
    largest : int or None
        Bytes a request or reply may have; larger ones go through the storage.
    storage : str, optional
        Address of the executor's storage.
    """

    def __init__(self, name: str, largest: int | None, storage: str | None) -> None:
        self._name, self._largest, self._storage = name, largest, storage
        self._key = os.urandom(32)
        self._versions = versions()

    def run(self, invocation: Invocation, sent: Recent[None], send: Send) -> Reply:
        """Have a batch run; returns what became of it."""
        left: list[str] = []
        try:
            return self._run(invocation, sent, send, left)
        except WorkerEnded as end:
            sent.clear()
            return BatchLost(invocation.batch_id, self._name, end.reason, str(end), end.position, True)
        except Oversized as error:
            return self._oversized(invocation, str(error))
        except IntegrityError as error:
            why = f"its answer cannot be read: {error}"
            return BatchLost(invocation.batch_id, self._name, "died", why, None, True)
        except StorageError as error:
            why, failure = str(error), describe(error)
            return BatchLost(invocation.batch_id, self._name, "unavailable", why, None, True, failure)
        finally:
            if left and self._storage is not None:
                with suppress(StorageError):  # the batch is answered; the clean-up of the storage takes the rest
                    process_storage(self._storage).delete(left)

    def _run(self, invocation: Invocation, sent: Recent[None], send: Send, left: list[str]) -> Reply:
        call_hash = invocation.call_hash
        has_call = len(invocation.call) <= ALWAYS_SENT or call_hash not in sent
        while True:
            message = self._message(invocation, has_call, left)
            sent_at = time.monotonic()
            answer = send(message)
            if answer is None:
                return BatchLost(invocation.batch_id, self._name, "killed", "it was cancelled", None, False)
            reply = messages.read_reply(answer, invocation)
            if isinstance(reply, PayloadRef):
                left.append(reply.place)
                reply = messages.read_reply(self._fetch(reply.place), invocation)
            if isinstance(reply, NeedsCall) and not has_call:
                has_call = True
                continue
            sent.use(call_hash, None)
            if isinstance(reply, TooLarge):
                raise Oversized(f"its results are {reply.size / 1e6:.1f} MB")
            return settled(reply, time.monotonic() - sent_at)

    def _message(self, invocation: Invocation, has_call: bool, left: list[str]) -> bytes:
        """Return the request for a batch, or one that says where in storage it is."""
        spill = None
        if self._largest is not None and self._storage is not None and invocation.durable is None:
            place = keys.message(invocation.job_id, os.urandom(8).hex())
            spill = PayloadRef(self._storage, place, self._key)
        message = messages.request(invocation, self._versions, has_call, spill)
        if self._largest is None or len(message) <= self._largest:
            return message
        if spill is None or not (opened := process_storage(spill.address)).shared:
            what = "function is" if has_call and 2 * len(invocation.call) > len(message) else "inputs are"
            raise Oversized(f"its {what} {len(message) / 1e6:.1f} MB")
        opened.put(spill.place, serialization.sign(spill.key, spill.place, message))
        left.append(spill.place)
        return messages.encode(
            {"kind": "spilled", "address": spill.address, "place": spill.place, "key": spill.key.hex()}
        )

    def _oversized(self, invocation: Invocation, what: str) -> BatchLost:
        """Give up on a task that is too large; a batch of several is taken apart first."""
        assert self._largest is not None
        why = (
            f"{what}, and {self._name} carries {self._largest / 1e6:.1f} MB a call; "
            "give the executor a storage that the workers reach, such as storage='s3://bucket/prefix'"
        )
        failure = describe(InputError(why)) if len(invocation.task_ids) == 1 else None
        return BatchLost(invocation.batch_id, self._name, "unavailable", why, None, True, failure)

    def _fetch(self, place: str) -> memoryview:
        """Return a reply that was left in storage."""
        if self._storage is None:
            raise IntegrityError("a worker left it in a storage, and there is none")
        return serialization.verify(self._key, place, process_storage(self._storage).get(place))


def settled(reply: object, seconds: float) -> Reply:
    """Return the last word on a batch that was answered so many seconds after it was sent.

    Raises
    ------
    IntegrityError
        It is not the last word.
    """
    if isinstance(reply, BatchDone) and reply.outcome is not None:
        reply.outcome.overhead = seconds - sum(reply.outcome.durations)
    if isinstance(reply, BatchLost) and reply.reason == "killed":
        reply.reason = "died"
        reply.message = "its worker ended it: somebody between here and there broke the connection"
    if isinstance(reply, BatchDone | BatchLost):
        return reply
    raise IntegrityError("a worker asks again for a function that it was sent")
