"""Durable jobs come into being: written by the driver that makes them, or taken up by another."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from core import serialization
from core.compute.base import ComputeBackend
from core.data.generator import FailedInput, read_all
from core.errors import ConfigError, InputError, NotFound, StorageError, printable
from core.futures import FutureList, Maps
from core.job.attach import new_holder
from core.job.durable import DurableJob
from core.job.options import Options
from core.serialization.definitions import Definitions
from core.settings import default_storage
from core.storage.clients import process_storage
from core.storage.owner import LEASE
from core.storage.probe import check_put_if_absent
from core.task import keys
from core.task.commit import LIFETIME, JobRecord, read_record, write_record
from core.task.jobkeys import find_key, forget_key, keep_key
from core.task.leases import remove_job, write_lease
from core.task.notices import CommitListener

WAVES = 8
"""Batches per worker that a durable job is cut into, so that little is lost with a worker."""

LARGEST_BATCH = 64
"""Tasks in a batch at most; a commit costs about as much as this many short tasks."""


def create(
    name: str,
    definitions: Definitions,
    data: Iterable[Any],
    options: Options,
    futures: FutureList,
    backend: ComputeBackend,
    address: str | None,
    listener: CommitListener | None = None,
) -> DurableJob:
    """Write a new job, of the id that its futures have, to storage.

    Raises
    ------
    ConfigError
        The workers cannot reach the storage, or it does not keep the first of two results.
    StorageError
        It cannot be written to; nothing was run.
    """
    job_id = futures.job_id
    items = read_all(data, job_id, definitions)
    for item in items:
        if isinstance(item, FailedInput):
            raise item.error
    storage = process_storage(address or default_storage())
    if not storage.shared and not backend.capabilities.inline:
        raise ConfigError(
            f"durable jobs need storage that workers can reach, and {storage.address} exists in this process only; "
            'use storage="file:///some/folder"'
        )
    record, packed = _record(job_id, printable(name), definitions, items, options, backend.workers)
    key, holder = os.urandom(32), new_holder()
    keep_key(job_id, storage.address, key)
    try:
        write_lease(storage, job_id, record.lease(holder, LEASE))
        check_put_if_absent(storage, keys.lease(job_id))
        write_record(storage, key, record, packed)
    except BaseException:
        with contextlib.suppress(StorageError):
            remove_job(storage, job_id)
        forget_key(job_id)
        raise
    reports = backend.capabilities.reports_completion
    return DurableJob(record, definitions, storage.address, key, options, futures, reports, listener, holder)


def _record(
    job_id: str, name: str, definitions: Definitions, items: Sequence[Any], options: Options, workers: int
) -> tuple[JobRecord, list[serialization.Packed]]:
    size = options.batch_size or min(max(1, math.ceil(len(items) / (WAVES * workers))), LARGEST_BATCH)
    batches = (items[start : start + size] for start in range(0, len(items), size))
    packed = [serialization.pack(batch, definitions=definitions) for batch in batches]  # before what it adds is read
    now = time.time()
    limits = options.timeout, options.memory, options.retry
    return JobRecord(job_id, name, now, definitions.data, len(items), size, [], *limits, now + LIFETIME), packed


def attach(
    job_id: str,
    address: str | None,
    backend: ComputeBackend,
    executor: Maps,
    listener: CommitListener | None = None,
) -> DurableJob:
    """Take up a job of another process, or look on while its driver lives.

    Raises
    ------
    InputError
        There is no such job, or no key for it here.
    VersionMismatch
        It was made by software that differs from this process's.
    """
    known, key = find_key(job_id)
    address = address or known
    try:
        record = read_record(process_storage(address), key, job_id)
    except NotFound:
        raise InputError(
            f"job {job_id} is not in {address} any more: it was finished or cleaned; "
            "if it was moved, say where with storage="
        ) from None
    if time.time() > record.deadline:
        raise InputError(
            f"job {job_id} is past its deadline and workers refuse it; run it again, and 'fanfold clean' it"
        )
    options = Options(record.timeout, record.memory, record.retry, record.batch_size, durable=True)
    futures = FutureList(job_id, executor)
    reports = backend.capabilities.reports_completion
    definitions = Definitions.unread(record.call)
    holder = new_holder()
    return DurableJob(record, definitions, address, key, options, futures, reports, listener, holder, attached=True)
