"""Every object key the product writes below a job's storage address.

::

    job/<id>/job                    the signed job record: function, inputs, options; written once
    job/<id>/inputs                 inputs too large for the record, read by byte range
    job/<id>/lease                  who drives the job, and until when
    job/<id>/r/<shard>/<batch>      the commit of one batch: put-if-absent, first one wins
    job/<id>/r/<shard>/<batch>.<n>  the commit of item n of a batch that was split
    job/<id>/r/<shard>/<batch>!<attempt>  word of a worker that the batch was lost; likewise <batch>.<n>!<attempt>
    job/<id>/o/<batch>.<n>-<nonce>  a result too large for the commit that names it
    job/<id>/m/<nonce>              a message too large for its platform; gone when it is answered
"""

from __future__ import annotations

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


def parse_commit(key: str) -> tuple[int, int | None]:
    """Return (batch, item or None) of the key of a commit or a loss."""
    batch, _, item = key.rpartition("/")[2].partition("!")[0].partition(".")
    return int(batch), int(item) if item else None


def message(job_id: str, nonce: str) -> str:
    """Key of a message that its platform does not carry."""
    return f"{ROOT}{job_id}/m/{nonce}"


def loss(job_id: str, batch: int, item: int | None, attempt: int) -> str:
    """Key of the word that an attempt at a batch, or at one item of it, was lost."""
    return f"{commit(job_id, batch, item)}!{attempt:03d}"


def is_loss(key: str) -> bool:
    """Whether a key below `commits` is that of a loss."""
    return "!" in key.rpartition("/")[2]


def result(job_id: str, batch: int, item: int, nonce: str) -> str:
    """Key of one large result of one attempt."""
    return f"{ROOT}{job_id}/o/{batch:09d}.{item:06d}-{nonce}"


def job_of(key: str) -> str:
    """Return the job id in any key."""
    return key.removeprefix(ROOT).partition("/")[0]
