"""What driver and remote worker say to each other: one request, one reply, each a single byte string.

A message is the length of its head (4 bytes, little endian), the head as JSON, and byte segments whose lengths the head
gives. The head of a request can be read without unpickling anything, so a worker refuses what it cannot run, or must
not, before it trusts a byte of the rest.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, get_args

from core import serialization
from core.errors import IntegrityError
from core.serialization import Buffer, Packed
from core.task.protocol import (
    BatchDone,
    BatchLost,
    BatchResult,
    DurableRef,
    Invocation,
    LossReason,
    NotifyCredentials,
    Reply,
    TaskFailure,
)

WORKER_TOKEN = "FANFOLD_WORKER_TOKEN"
"""Variable with the secret that an HTTP worker and its drivers share."""

HTTP_LARGEST = 32 << 20
"""Bytes of a request or reply: the least that common services carry (Cloud Run, "Quotas and limits", HTTP/1)."""

WHISK_LARGEST = 1 << 20
"""Bytes of an action's parameters and of its result (OpenWhisk, "System details and limits")."""

FUNCTIONS_KEPT = 64
"""Functions that a worker remembers: one that has served many jobs does not keep what all of them imported."""

_LENGTH = struct.Struct("<I")

FRAME = struct.Struct("<Q")
"""Length of a message on a pipe or in a file."""

LONGEST = 1 << 40
"""Bytes of a message; more are claimed only by text that somebody else writes to the pipe."""

_PIECE = 64 << 20
"""Bytes of a message that are read at a time: a length is believed as far as bytes follow."""


@dataclass(frozen=True, slots=True)
class PayloadRef:
    """Where a message lies that is too large for its platform, and the key that it is signed with."""

    address: str
    place: str
    key: bytes


@dataclass(frozen=True, slots=True)
class NeedsCall:
    """The worker does not have the function of a request; it wants the request again, with it."""

    call_hash: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A reply of `size` bytes does not fit; it is nowhere."""

    size: int


def encode(head: Mapping[str, Any], segments: Sequence[Buffer] = ()) -> bytes:
    """Return a message."""
    views = [memoryview(segment).cast("B") for segment in segments]
    text = json.dumps({**head, "segments": [view.nbytes for view in views]}, separators=(",", ":")).encode()
    return b"".join([_LENGTH.pack(len(text)), text, *views])


def decode(message: Buffer) -> tuple[dict[str, Any], list[memoryview]]:
    """Inverse of `encode`.

    Raises
    ------
    IntegrityError
        The bytes are no message, or not the whole of one.
    """
    view = memoryview(message)
    try:
        (length,) = _LENGTH.unpack_from(view)
        head = json.loads(bytes(view[4 : 4 + length]))
        offset = 4 + length
        segments = []
        for size in head["segments"]:
            if type(size) is not int or size < 0:
                raise ValueError(f"it has a part of {size!r} bytes")
            segments.append(view[offset : offset + size])
            offset += size
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"a message of {view.nbytes} bytes cannot be read: {error}") from None
    if offset != view.nbytes:
        raise IntegrityError(f"a message of {view.nbytes} bytes should have {offset}")
    return head, segments


def request(
    invocation: Invocation, versions: Mapping[str, str], has_call: bool, reply_to: PayloadRef | None = None
) -> bytes:
    """Return the request to run a batch.

    Parameters
    ----------
    versions : mapping
        The driver's software.
    has_call : bool
        Send the function along.
    reply_to : Spill, optional
        Where to leave the reply if it is too large for the way back.
    """
    ids = invocation.task_ids
    packed, ref = invocation.packed, invocation.durable
    notify = invocation.notify
    head = {
        "kind": "run",
        "versions": dict(versions),
        "job": invocation.job_id,
        "batch": invocation.batch_id,
        "tasks": [ids.start, ids.stop] if isinstance(ids, range) else None,
        "ids": None if isinstance(ids, range) else list(ids),
        "attempt": invocation.attempt,
        "timeout": invocation.timeout,
        "memory": invocation.memory,
        "call": invocation.call_hash,
        "has_call": has_call,
        "packed": packed.meta() if packed else None,
        "durable": None if ref is None else [ref.address, ref.job_id, ref.key.hex(), ref.batch, ref.item],
        "notify": None if notify is None else [notify.address, notify.channel, notify.key.hex()],
        "reply_to": None if reply_to is None else [reply_to.address, reply_to.place, reply_to.key.hex()],
    }
    segments: list[Buffer] = [invocation.call if has_call else b""]
    if packed is not None:
        segments += [packed.data, *packed.buffers]
    return encode(head, segments)


def read_request(head: Mapping[str, Any], segments: Sequence[memoryview]) -> tuple[Invocation, PayloadRef | None]:
    """Return the batch that a request asks for, and where a large reply goes; pickles stay closed."""
    packed = durable = reply_to = notify = None
    if head["packed"] is not None:
        count, ends, counts = head["packed"]
        packed = Packed(count, segments[1], ends, counts, list(segments[2:]))
    if head["durable"] is not None:
        address, job_id, key, batch, item = head["durable"]
        durable = DurableRef(address, job_id, bytes.fromhex(key), batch, item)
    if head["notify"] is not None:
        address, channel, key = head["notify"]
        notify = NotifyCredentials(address, channel, bytes.fromhex(key))
    if head["reply_to"] is not None:
        address, place, key = head["reply_to"]
        reply_to = PayloadRef(address, place, bytes.fromhex(key))
    ids = range(*head["tasks"]) if head["tasks"] else head["ids"]
    invocation = Invocation(
        head["batch"],
        head["job"],
        bytes(segments[0]),
        head["call"],
        ids,
        head["attempt"],
        head["timeout"],
        head["memory"],
        packed,
        durable,
        notify,
    )
    return invocation, reply_to


def reply(answer: Reply | NeedsCall | TooLarge, invocation: Invocation | None = None) -> bytes:
    """Return the reply to a request; without the `invocation` that it asked for, nothing but a refusal."""
    if isinstance(answer, NeedsCall):
        return encode({"kind": "needs", "call": answer.call_hash})
    if isinstance(answer, TooLarge):
        return encode({"kind": "large", "size": answer.size})
    of = None if invocation is None else [invocation.job_id, invocation.batch_id]
    if isinstance(answer, BatchLost):
        return encode({"kind": "lost", "of": of, **_loss(answer)})
    outcome = answer.outcome
    if outcome is None:
        return encode({"kind": "committed", "of": of, "worker": answer.worker})
    values, outcome.values = outcome.values, serialization.EMPTY
    body = serialization.dumps(outcome)
    head = {"kind": "done", "of": of, "worker": answer.worker, "packed": values.meta()}
    return encode(head, [body, values.data, *values.buffers])


def read_reply(message: Buffer, invocation: Invocation) -> Reply | NeedsCall | TooLarge | PayloadRef:
    """Inverse of `reply`, for a reply that a worker of this executor wrote to a request for `invocation`.

    Raises
    ------
    IntegrityError
        The bytes are no reply, or that to another request.
    """
    head, segments = decode(message)
    try:
        return _read_reply(head, segments, invocation)
    except IntegrityError:
        raise
    except Exception as error:  # a pickle that is damaged raises whatever it happens to name
        raise IntegrityError(f"a reply of {memoryview(message).nbytes} bytes is damaged: {error!r}") from None


def _read_reply(
    head: Mapping[str, Any], segments: Sequence[memoryview], invocation: Invocation
) -> Reply | NeedsCall | TooLarge | PayloadRef:
    kind, ident = head.get("kind"), invocation.batch_id
    if kind == "needs":
        return NeedsCall(str(head["call"]))
    if kind == "large":
        return TooLarge(int(head["size"]))
    if kind == "spilled":
        return PayloadRef("", str(head["place"]), b"")
    is_refusal = kind == "lost" and head["of"] is None
    if kind in ("lost", "done", "committed") and not is_refusal and head["of"] != [invocation.job_id, ident]:
        raise IntegrityError(f"it is the answer to batch {head['of']}, not to {[invocation.job_id, ident]}")
    if kind == "lost":
        return _read_loss(head, ident)
    if kind == "committed" and invocation.durable is not None:
        return BatchDone(ident, head["worker"], None)
    if kind != "done":
        raise IntegrityError(f"a worker answered with a message of kind {kind!r}")
    outcome: BatchResult = serialization.loads(segments[0])
    count, ends, counts = head["packed"]
    if not count == len(outcome.durations) == len(invocation.task_ids):
        raise IntegrityError(f"it has {count} results of {len(invocation.task_ids)} tasks")
    buffers: list[Buffer] = [bytearray(segment) for segment in segments[2:]]
    outcome.values = Packed(count, segments[1], ends, counts, buffers)
    return BatchDone(ident, head["worker"], outcome)


def _loss(lost: BatchLost) -> dict[str, Any]:
    """Return a loss as JSON takes it: a worker tells it to drivers whose pickles it could not read."""
    failure = lost.failure
    return {
        "worker": lost.worker,
        "reason": lost.reason,
        "message": lost.message,
        "position": lost.position,
        "started": lost.started,
        "failure": None if failure is None else [failure.kind, failure.message, failure.traceback, failure.attempts],
    }


def _read_loss(head: Mapping[str, Any], batch_id: int) -> BatchLost:
    position, failure = head["position"], None
    if head["reason"] not in get_args(LossReason) or not (position is None or type(position) is int):
        raise IntegrityError(f"a batch was lost for no known reason: {head['reason']!r}")
    if head["failure"] is not None:
        kind, message, trace, attempts = head["failure"]
        failure = TaskFailure(str(kind), str(message), str(trace), None, int(attempts))
    message = str(head["message"])
    return BatchLost(batch_id, str(head["worker"]), head["reason"], message, position, bool(head["started"]), failure)


def read_loss(report: Buffer) -> BatchLost:
    """Return the loss that was told in a reply to nobody, of batch 0.

    Raises
    ------
    IntegrityError
        The bytes tell of none.
    """
    try:
        return _read_loss(decode(report)[0], 0)
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"a report of {memoryview(report).nbytes} bytes cannot be read: {error!r}") from None


def refusal(batch_id: int, failure: TaskFailure) -> BatchLost:
    """Return what a worker answers when it will not run a batch."""
    return BatchLost(batch_id, "", "unavailable", f"{failure.kind}: {failure.message}", None, True, failure)


def write_frame(stream: IO[bytes], message: bytes) -> None:
    """Send one message."""
    stream.write(FRAME.pack(len(message)))
    stream.write(message)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Return the next message, None if there is none, it breaks off, or what comes is no message."""
    head = stream.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    (length,) = FRAME.unpack(head)
    if length > LONGEST:
        return None
    pieces = []
    while length and (piece := stream.read(min(_PIECE, length))):
        pieces.append(piece)
        length -= len(piece)
    return None if length else b"".join(pieces)
