"""Durable jobs come into being: written by the driver that makes them, or taken up by another."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Sequence
from typing import Any

from core import serialization
from core.compute.base import ComputeBackend
from core.data.objects import process_storage
from core.definitions import Definitions
from core.errors import ConfigError, InputError, NotFound, StorageError
from core.futures import FutureList, Maps
from core.job.durable import DurableJob
from core.job.job import Options
from core.settings import default_storage
from core.storage.probe import check_put_if_absent
from core.task import keys
from core.task.commit import LIFETIME, JobRecord, read_record, write_record
from core.task.leases import LEASE, Lease, find_key, forget_key, keep_key, remove_job, this_owner, write_lease
from core.task.notices import CommitListener
from core.task.versions import check_versions, versions

WAVES = 8
"""Batches per worker that a durable job is cut into, so that little is lost with a worker."""

LARGEST_BATCH = 64
"""Tasks in a batch at most; a commit costs about as much as this many short tasks."""


def create(
    job_id: str,
    name: str,
    definitions: Definitions,
    items: Sequence[Any],
    options: Options,
    futures: FutureList,
    backend: ComputeBackend,
    address: str | None,
    notices: CommitListener | None = None,
) -> DurableJob:
    """Write a new job to storage.

    Raises
    ------
    ConfigError
        The workers cannot reach the storage, or it does not keep the first of two results.
    StorageError
        It cannot be written to; nothing was run.
    """
    storage = process_storage(address or default_storage())
    if not storage.shared and not backend.capabilities.inline:
        raise ConfigError(
            f"durable jobs need storage that workers can reach, and {storage.address} exists in this process only; "
            'use storage="file:///some/folder"'
        )
    size = options.batch_size or min(max(1, math.ceil(len(items) / (WAVES * backend.workers))), LARGEST_BATCH)
    packed = [
        serialization.pack(items[start : start + size], definitions=definitions) for start in range(0, len(items), size)
    ]
    key = os.urandom(32)
    now = time.time()
    record = JobRecord(
        job_id,
        name,
        now,
        versions(),
        definitions.data,
        len(items),
        size,
        [],
        options.timeout,
        options.memory,
        options.retry,
        now + LIFETIME,
    )
    keep_key(job_id, storage.address, key)
    try:
        write_lease(storage, job_id, Lease(this_owner(), now + LEASE, name, now, record.tasks, size))
        check_put_if_absent(storage, keys.lease(job_id))
        write_record(storage, key, record, packed)
    except BaseException:
        with contextlib.suppress(StorageError):
            remove_job(storage, job_id)
        forget_key(job_id)
        raise
    return DurableJob(
        record, definitions, storage.address, key, options, futures, backend.capabilities.reports_completion, notices
    )


def attach(
    job_id: str,
    address: str | None,
    backend: ComputeBackend,
    executor: Maps,
    notices: CommitListener | None = None,
) -> DurableJob:
    """Take up a job of another process.

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
    check_versions(record.versions)
    if time.time() > record.deadline:
        raise InputError(
            f"job {job_id} is past its deadline and workers refuse it; run it again, and 'fanfold clean' it"
        )
    options = Options(record.timeout, record.memory, record.retry, record.batch_size)
    futures = FutureList(job_id, executor)
    reports = backend.capabilities.reports_completion
    return DurableJob(
        record, Definitions.unread(record.call), address, key, options, futures, reports, notices, attached=True
    )
