"""A job in storage: its record, the commits of its batches, and the worker's part in making them.

The record is written once and holds all that workers need. A batch is committed by one put-if-absent, so whichever
attempt is first wins and any later one is harmless. To give the tasks of a lost batch to several workers the driver
commits a marker in the batch's place: if that put fails the batch was committed after all, if it succeeds no late
attempt can commit, and each item has a commit of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from core import serialization
from core.errors import FanfoldError, IntegrityError, NotFound, PreconditionFailed, SerializationError
from core.serialization import MARKER, Buffer, Packed
from core.storage.base import Storage
from core.storage.clients import process_storage, spent
from core.storage.owner import this_owner
from core.task import keys, messages
from core.task.call import Call, load_call
from core.task.leases import Lease
from core.task.notices import announce
from core.task.protocol import BatchLost, BatchResult, DurableRef, Invocation
from core.task.run import Mark, failed, run
from core.task.versions import check_versions, versions
from core.types import RetryPolicy

INLINE_INPUT = 64 << 10
"""Packed inputs of a batch up to this many bytes are in the record."""

INLINE_INPUTS = 4 << 20
"""All inline inputs together stop here: every worker reads the record."""

INLINE_RESULT = 256 << 10
"""Results up to this many bytes are in the commit."""

LARGEST_OBJECT = 1 << 30
"""Bytes of a record or commit: no more is written, and no more is read of what somebody else may have put there."""

LARGEST_REPORT = 16 << 20
"""The same for the report of a loss."""

LIFETIME = 30 * 86400.0
"""Seconds after which an invocation that some platform still delivers is not run."""

POLL_MIN, POLL_MAX = 0.005, 1.0
"""Seconds between two looks for commits that nobody announces."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What a worker needs to run any batch of a job.

    `inputs` holds, for each batch, its packed items or their byte range in the job's inputs object.
    """

    job_id: str
    name: str
    created: float
    call: bytes
    tasks: int
    batch_size: int
    inputs: list[bytes | tuple[int, int]]
    timeout: float | None
    memory: int | None
    retry: RetryPolicy
    deadline: float

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-self.tasks // self.batch_size)

    def lease(self, holder: str, seconds: float = 0.0) -> Lease:
        """Return the lease of a driver, as of now."""
        expires = time.time() + seconds if seconds else 0.0
        return Lease(this_owner(), expires, self.name, self.created, self.tasks, self.batch_size, holder)

    def task_ids(self, batch: int, item: int | None = None) -> range:
        """Return the tasks of a batch, or the one of an item of it."""
        start = batch * self.batch_size
        if item is not None:
            return range(start + item, start + item + 1)
        return range(start, min(start + self.batch_size, self.tasks))


@dataclass(slots=True)
class Commit:
    """What one attempt at a batch, or at an item of it, put into storage.

    `values` is everything packed, or one entry a task: packed bytes, or key, hash and size of the object with them.
    """

    worker: str
    attempt: int
    outcome: BatchResult
    values: bytes | list[bytes | tuple[str, str, int]]
    fetched: Packed | None = field(default=None, compare=False)


def write_record(storage: Storage, key: bytes, record: JobRecord, packed: Sequence[Packed]) -> JobRecord:
    """Store a job: large inputs first, the record last, since it is what makes the job exist."""
    inline = 0
    spilled: list[bytes] = []
    offset = 0
    for batch in packed:
        data = serialization.to_bytes(batch)
        if len(data) <= INLINE_INPUT and inline + len(data) <= INLINE_INPUTS:
            inline += len(data)
            record.inputs.append(data)
        else:
            signed = serialization.sign(key, _input_place(record.job_id, len(record.inputs)), data)
            record.inputs.append((offset, offset + len(signed)))
            spilled.append(signed)
            offset += len(signed)
    if spilled:
        storage.put(keys.inputs(record.job_id), spilled)
    body = messages.encode({"kind": "record", "versions": versions()}, [serialization.dumps(record)])
    _put_signed(storage, key, keys.record(record.job_id), body)
    return record


def _input_place(job_id: str, batch: int) -> str:
    return f"{keys.inputs(job_id)}#{batch}"


def _put_signed(storage: Storage, key: bytes, place: str, body: bytes, if_absent: bool = False) -> None:
    if len(body) > LARGEST_OBJECT:
        raise SerializationError(
            f"{place} would have {len(body) / 1e9:.1f} GB, and the largest piece of a durable job is "
            f"{LARGEST_OBJECT / 1e9:.1f} GB; keep large data in storage, and pass its address"
        )
    storage.put(place, serialization.sign(key, place, body), if_absent=if_absent)


def read_signed(storage: Storage, key: bytes, place: str, largest: int = LARGEST_OBJECT) -> memoryview:
    """Return what this job's own driver or workers wrote at a place.

    Raises
    ------
    NotFound
        There is nothing.
    IntegrityError
        Somebody else wrote what is there, or it is longer than what they write.
    """
    return serialization.verify(key, place, storage.get(place, 0, largest + 1))


def read_record(storage: Storage, key: bytes, job_id: str) -> JobRecord:
    """Return the record of a job.

    Raises
    ------
    NotFound
        There is no such job.
    IntegrityError
        The record was not written with this key.
    VersionMismatch
        Software wrote it that differs from this process's; it was not unpickled.
    """
    place = keys.record(job_id)
    head, segments = messages.decode(read_signed(storage, key, place))
    check_versions(head.get("versions") or {})
    record = serialization.loads(segments[0])
    if not isinstance(record, JobRecord) or record.job_id != job_id:
        raise IntegrityError(f"{place} is no record of that job; it is not used")
    return record


@functools.lru_cache(maxsize=8)
def _known(address: str, key: bytes, job_id: str, process: int) -> JobRecord:
    return read_record(process_storage(address), key, job_id)


@functools.lru_cache(maxsize=8)
def _loaded(call: bytes, job_id: str, process: int) -> Call:
    return load_call(call)


def run_committed(ref: DurableRef, attempt: int, mark: Mark | None = None) -> None:
    """Run a batch whose input is in storage, and commit its outcome there.

    Raises
    ------
    FanfoldError
        The job cannot be read or its outcome not be written; nothing was committed.
    """
    storage = process_storage(ref.address)
    before = spent()[0]
    record = _known(ref.address, ref.key, ref.job_id, os.getpid())
    if time.time() > record.deadline:
        raise FanfoldError(f"job {ref.job_id} is older than its deadline; its batches are not run any more")
    where = record.inputs[ref.batch]
    if isinstance(where, bytes):
        data: Buffer = where
    else:
        signed = storage.get(keys.inputs(ref.job_id), *where)
        data = serialization.verify(ref.key, _input_place(ref.job_id, ref.batch), signed)
    packed = serialization.from_bytes(data)
    if ref.item is not None:
        packed = list(serialization.split(packed))[ref.item]
    task_ids = record.task_ids(ref.batch, ref.item)
    try:
        call = _loaded(record.call, ref.job_id, os.getpid())
    except Exception as error:
        outcome = failed(len(task_ids), error)
    else:
        outcome = run(call, serialization.unpack(packed, call.definitions), task_ids, ref.job_id, attempt, mark)
    outcome.bytes_in += packed.nbytes
    outcome.requests = spent()[0] - before + 1
    commit(storage, ref, outcome, attempt, f"process-{os.getpid()}")
    announce(ref.job_id, keys.commit(ref.job_id, ref.batch, ref.item))


def commit(storage: Storage, ref: DurableRef, outcome: BatchResult, attempt: int, worker: str) -> bool:
    """Put an outcome into storage unless another attempt has; returns whether this one won."""
    packed, outcome.values = outcome.values, serialization.EMPTY
    outcome.bytes_out += packed.nbytes
    large: list[str] = []
    values: bytes | list[bytes | tuple[str, str, int]]
    if packed.nbytes <= INLINE_RESULT:
        values = serialization.to_bytes(packed)
    else:
        values = []
        for position, single in enumerate(serialization.split(packed)):
            data = serialization.to_bytes(single)
            if len(data) <= INLINE_RESULT:
                values.append(data)
                continue
            place = keys.result(ref.job_id, ref.batch, ref.item or position, os.urandom(4).hex())
            storage.put(place, data)
            large.append(place)
            values.append((place, serialization.content_hash(data), len(data)))
    body = serialization.dumps(Commit(worker, attempt, outcome, values))
    try:
        _put_signed(storage, ref.key, keys.commit(ref.job_id, ref.batch, ref.item), body, if_absent=True)
    except PreconditionFailed:
        with contextlib.suppress(FanfoldError):  # what is left goes with the job
            storage.delete(large)
        return False
    return True


def split(storage: Storage, ref: DurableRef) -> bool:
    """Take a batch apart; returns False if it has been committed."""
    try:
        _put_signed(storage, ref.key, keys.commit(ref.job_id, ref.batch), serialization.dumps(MARKER), if_absent=True)
    except PreconditionFailed:
        return False
    return True


def read_commit(storage: Storage, ref: DurableRef) -> Commit | None:
    """Return the commit of a batch or item, with its values; None if the batch was taken apart.

    Raises
    ------
    NotFound
        It is not committed.
    IntegrityError
        It was not written by this job's workers.
    """
    content = serialization.loads(read_signed(storage, ref.key, keys.commit(ref.job_id, ref.batch, ref.item)))
    if content == MARKER:
        return None
    made: Commit = content
    if isinstance(made.values, bytes):
        made.fetched = serialization.from_bytes(made.values)
    else:
        parts = (entry if isinstance(entry, bytes) else _fetch(storage, *entry) for entry in made.values)
        made.fetched = serialization.join([serialization.from_bytes(part) for part in parts])
    return made


def _fetch(storage: Storage, place: str, digest: str, size: int) -> bytes:
    """Return a large result that a commit names."""
    try:
        data = storage.get(place, 0, size + 1)
    except NotFound as error:
        raise IntegrityError(f"{place}, which a commit names, is missing; delete the job") from error
    if len(data) != size or serialization.content_hash(data) != digest:
        raise IntegrityError(f"{place} is not what its commit names; it is not read")
    return data


def write_loss_report(invocation: Invocation, lost: BatchLost) -> None:
    """Say in a job's storage that a batch was lost, for a driver that hears no replies; nothing if the job is gone.

    Raises
    ------
    StorageError
        It could not be written; the platform's own word that the worker failed must do.
    """
    ref = invocation.durable
    assert ref is not None
    place = keys.loss(ref.job_id, ref.batch, ref.item, invocation.attempt)
    storage = process_storage(ref.address)
    try:
        storage.head(keys.record(ref.job_id))
    except NotFound:  # the request was delivered late: what is written now nobody would delete
        return
    storage.put(place, serialization.sign(ref.key, place, messages.reply(lost)))
    if invocation.notify is not None:
        announce(ref.job_id, place, invocation.notify)


def read_loss_report(storage: Storage, key: bytes, place: str) -> BatchLost:
    """Return the report at a place; raises as `read_signed` does."""
    return messages.read_loss(read_signed(storage, key, place, LARGEST_REPORT))
