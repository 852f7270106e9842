"""Objects and their chunks: which partitions a job over data has."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from core.data.chunks import Chunks
from core.data.encoded import check_cut
from core.data.objects import ObjectHandle, open_handle
from core.data.ranges import Source
from core.data.records import Records
from core.errors import InputError, NotFound
from core.storage.address import compile_pattern, is_pattern, join_address, literal_prefix, split_address
from core.storage.base import Storage, open_storage
from core.types import ObjectInfo, Partition

Address = str | os.PathLike[str]
_logger = logging.getLogger("fanfold")
_Found = tuple[Storage, Partition]
_WHOLE = Chunks()


class Listing(Iterator[Partition]):
    """Partitions as they are found, with the number of requests that finding them has taken so far."""

    def __init__(self, partitions: Iterable[Partition], storages: Mapping[str, Storage]) -> None:
        self._partitions = iter(partitions)
        self.storages = storages

    def __next__(self) -> Partition:
        """Return the next partition."""
        return next(self._partitions)

    @property
    def requests(self) -> int:
        """Storage requests so far."""
        return sum(storage.requests for storage in list(self.storages.values()))


def find_objects(
    addresses: Address | Iterable[Address], storages: dict[str, Storage] | None = None
) -> Iterator[tuple[Storage, ObjectInfo]]:
    """Yield the objects that addresses mean, lazily, in the order of the addresses, each one's in key order.

    Parameters
    ----------
    addresses : str, path, or iterable of them
        An object; a folder, with everything below it; or a pattern with ``*``, ``?``, ``[...]`` within a path
        segment and ``**`` across segments. An object whose name looks like a pattern wins over the pattern.
    storages : dict, optional
        Storages by address; those that are opened are added.

    What a listing leaves out, such as empty objects that mark folders, is told by a warning of the logger ``fanfold``.

    Raises
    ------
    InputError
        An address means no object.
    """
    storages = {} if storages is None else storages
    for address in (addresses,) if isinstance(addresses, str | os.PathLike) else addresses:
        found, before = False, _left_out(storages)
        for item in _find(os.fspath(address), storages):
            found = True
            yield item
        for what, count in (_left_out(storages) - before).items():
            _logger.warning("%r: left out %d %s", os.fspath(address), count, what)
        if not found:
            raise InputError(
                f"no object found at {os.fspath(address)!r}: it is no object, no folder with objects in it, and no "
                "pattern that matches any; check the spelling"
            )


def partition(objects: Iterable[tuple[Storage, ObjectInfo]], chunks: Chunks = _WHOLE) -> Iterator[Partition]:
    """Yield the partitions of objects, as `find_objects` yields them, lazily.

    Raises
    ------
    InputError
        The user's partitioner returned something that is no partition.
    """
    fixed = {name: getattr(chunks, name) for name in ("newline", "header_lines", "records", "delimiter")}
    whole = (
        (storage, Partition(storage.address, info.key, 0, info.size, info.size, info.etag, **fixed))
        for storage, info in objects
    )
    ranges = _in_chunks(whole, chunks) if chunks.partitioner is None else _by_user(whole, chunks.partitioner)
    records: dict[tuple[str, str, str], Records] = {}
    return (_settled(item, storage, records) for storage, item in ranges)


def _in_chunks(whole: Iterable[_Found], chunks: Chunks) -> Iterator[_Found]:
    for storage, item in whole:
        size, length = item.size, chunks.bytes
        parts = max(1, -(-size // length)) if length else max(1, min(chunks.count or 1, size))
        for part in range(parts):
            start = part * length if length else part * size // parts
            end = min(size, start + length) if length else (part + 1) * size // parts
            yield storage, replace(item, start=start, end=end, part=part, parts=parts)


def _by_user(whole: Iterable[_Found], partitioner: Callable[..., Iterable[Partition]]) -> Iterator[_Found]:
    storages: dict[str, Storage] = {}

    def handles() -> Iterator[ObjectHandle]:
        for storage, item in whole:
            yield open_handle(item, storages.setdefault(storage.address, storage))

    made: object = partitioner(handles())
    if not isinstance(made, Iterable):
        raise InputError(f"the partitioner returned {made!r:.80}, which is no iterable of Partitions")
    for item in made:
        if not isinstance(item, Partition):
            raise InputError(f"the partitioner returned {type(item).__name__} {item!r}, which is no Partition")
        if not 0 <= item.start <= item.end <= item.size:
            raise InputError(
                f"the partitioner returned bytes [{item.start}, {item.end}) of {item.key!r}, which has {item.size}"
            )
        yield storages.get(item.address) or storages.setdefault(item.address, open_storage(item.address)), item


def _settled(item: Partition, storage: Storage, records: dict[tuple[str, str, str], Records]) -> Partition:
    """Move a range's ends to where records begin, and keep what other processes cannot reach."""
    if item.is_cut and item.newline is not None:
        check_cut(item.key)
    if item.records == "csv" and item.is_cut:
        name = item.address, item.key, item.etag
        if name not in records:
            records.clear()
            records[name] = Records(Source(storage, item.key, item.size, item.etag), item.delimiter)
        item = replace(item, start=records[name].start(item.start), end=records[name].start(item.end))
    return _reachable(item, storage)


def _reachable(item: Partition, storage: Storage) -> Partition:
    """Put the content itself into the partition where other processes cannot reach it."""
    if storage.shared or item.data is not None:
        return item
    return replace(item, data=open_handle(item, storage).read())


def _find(address: str, storages: dict[str, Storage]) -> Iterator[tuple[Storage, ObjectInfo]]:
    root, key = split_address(address)
    storage = storages.get(root) or storages.setdefault(root, open_storage(root))
    is_folder = not key or key.endswith("/")
    if not is_folder:
        with suppress(NotFound, InputError):
            yield storage, storage.head(key)
            return
    if is_pattern(key):
        matches = compile_pattern(key + "**" if is_folder else key).fullmatch
        prefix = literal_prefix(key)
        listed = storage.list(prefix, recursive="/" in key[len(prefix) :] or "**" in key)
        yield from ((storage, info) for info in listed if matches(info.key))
    elif is_folder:
        yield from ((storage, info) for info in storage.list(key))
    else:
        yield from _find(join_address(root, f"{key}/"), storages)


def _left_out(storages: Mapping[str, Storage]) -> Counter[str]:
    return sum((Counter(storage.left_out) for storage in list(storages.values())), Counter())
