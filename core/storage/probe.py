"""Whether a storage keeps what was written first, on which it rests that each result of a durable job counts once."""

from __future__ import annotations

from core.errors import ConfigError, PreconditionFailed
from core.storage.base import Storage

_proven: set[str] = set()


def check_put_if_absent(storage: Storage, key: str) -> None:
    """Refuse a storage that writes over an object although it was asked not to, as some S3 services do.

    Asked once a process and storage: one request.

    Parameters
    ----------
    storage : Storage
    key : str
        An object that is there; it is lost if the storage fails.

    Raises
    ------
    ConfigError
        The storage wrote over the object.
    """
    if storage.address in _proven:
        return
    try:
        storage.put(key, b"", if_absent=True)
    except PreconditionFailed:
        _proven.add(storage.address)
        return
    service = getattr(storage, "endpoint", "")
    raise ConfigError(
        f"{storage.address}{service and f' at {service}'} cannot hold durable jobs or runs: it writes over an object "
        "although asked not to (If-None-Match), so that a result could count twice; use a shared folder or a service "
        "that obeys, such as AWS, Ceph or SeaweedFS, or run the job without durable=True"
    )
