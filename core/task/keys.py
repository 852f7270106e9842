"""Every object key the product writes below a job's storage address.

::

    job/<id>/job                    the signed job record: function, inputs, options; written once
    job/<id>/inputs                 inputs too large for the record, read by byte range
    job/<id>/lease                  who drives the job, and until when
    job/<id>/r/<shard>/<batch>      the commit of one batch: put-if-absent, first one wins
    job/<id>/r/<shard>/<batch>.<n>  the commit of item n of a batch that was split
    job/<id>/r/<shard>/<batch>!<attempt>  report of a worker that the batch was lost; likewise <batch>.<n>!<attempt>
    job/<id>/o/<batch>.<n>-<nonce>  a result too large for the commit that names it
    job/<id>/m/<nonce>              a message too large for its platform; gone when it is answered
    job/<id>/w/<holder>             somebody looks on, and until when: the job is not removed meanwhile

Whoever may write to the storage may put any key beside these; it is passed over, and named.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ROOT = "job/"
SHARD = 1000
"""Batches in one shard: one page of a listing."""


def prefix(job_id: str) -> str:
    """Everything of one job begins with this."""
    return f"{ROOT}{job_id}/"


def record(job_id: str) -> str:
    """Key of the job record."""
    return f"{ROOT}{job_id}/job"


def inputs(job_id: str) -> str:
    """Key of the object that holds large inputs."""
    return f"{ROOT}{job_id}/inputs"


def lease(job_id: str) -> str:
    """Key of the lease."""
    return f"{ROOT}{job_id}/lease"


def commits(job_id: str, shard: int | None = None) -> str:
    """Prefix of the commits of one shard, or of all."""
    return f"{ROOT}{job_id}/r/" if shard is None else f"{ROOT}{job_id}/r/{shard:06d}/"


def commit(job_id: str, batch: int, item: int | None = None) -> str:
    """Key of the commit of a batch, or of one item of a split batch."""
    name = f"{batch:09d}" if item is None else f"{batch:09d}.{item:06d}"
    return f"{commits(job_id, batch // SHARD)}{name}"


class CommitKey(NamedTuple):
    """What the key of a commit names, or, with an `attempt`, that of a report of a loss."""

    batch: int
    item: int | None
    attempt: int | None = None


_COMMIT = re.compile(r"([0-9]{9,12})(?:\.([0-9]{6,9}))?(?:!([0-9]{3,9}))?")


def parse_commit(key: str) -> CommitKey | None:
    """Return what a key below `commits` names, None if it is none that the product writes."""
    match = _COMMIT.fullmatch(key.rpartition("/")[2])
    if match is None:
        return None
    batch, item, attempt = (None if text is None else int(text) for text in match.groups())
    assert batch is not None
    job_id = job_of(key)
    written = commit(job_id, batch, item) if attempt is None else loss(job_id, batch, item, attempt)
    return CommitKey(batch, item, attempt) if written == key else None


def message(job_id: str, nonce: str) -> str:
    """Key of a message that its platform does not carry."""
    return f"{ROOT}{job_id}/m/{nonce}"


def loss(job_id: str, batch: int, item: int | None, attempt: int) -> str:
    """Key of the report that an attempt at a batch, or at one item of it, was lost."""
    return f"{commit(job_id, batch, item)}!{attempt:03d}"


def watchers(job_id: str) -> str:
    """Prefix of the marks of those who look on."""
    return f"{ROOT}{job_id}/w/"


def watcher(job_id: str, holder: str) -> str:
    """Key of the mark of one who looks on."""
    return f"{watchers(job_id)}{holder}"


def result(job_id: str, batch: int, item: int, nonce: str) -> str:
    """Key of one large result of one attempt."""
    return f"{ROOT}{job_id}/o/{batch:09d}.{item:06d}-{nonce}"


def job_of(key: str) -> str:
    """Return the job id in any key."""
    return key.removeprefix(ROOT).partition("/")[0]


_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_job_id(text: str) -> bool:
    """Whether a job may have this name."""
    return _JOB_ID.fullmatch(text) is not None


def beyond(job_id: str) -> str:
    """Return what sorts after every key of a job, and before those of the next."""
    return prefix(job_id)[:-1] + chr(ord("/") + 1)


_KNOWN = re.compile(
    r"job/[^/]*/(?:job|inputs|lease|m/[0-9a-f-]{1,64}|w/[0-9a-f]{1,64}|o/[0-9]{9,12}\.[0-9]{6,9}-[0-9a-f]{1,64})"
)


def is_known(key: str) -> bool:
    """Whether the product writes such a key."""
    return _KNOWN.fullmatch(key) is not None or ("/r/" in key and parse_commit(key) is not None)
