"""Where the images are: a folder, a bucket's prefix, an archive, shards, or a list of keys, each image by its range."""

from __future__ import annotations

import difflib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO, cast

from apps.face_align.archives import ArchiveError, Member, members, read_member
from apps.face_align.science.formats import EXTENSIONS, is_apple_double, left_out, unreadable
from apps.face_align.science.headers import BadImage
from core import FanfoldError, InputError, open_storage

ARCHIVES = (".zip", ".tar")
LISTS = (".txt", ".lst", ".list")
_BUFFER = 1 << 18
"""Bytes read at once while an archive's directory is looked for."""
_THREADS = 16
MAX_BYTES = 256_000_000
"""Bytes of a file, unpacked, beyond which it is not read."""
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
RESULTS_INSIDE = "files of the output, which lies inside the source"


@dataclass(frozen=True, slots=True)
class Item:
    """One image: its name below the source, a tag that changes with its content, and where its bytes are.

    `size` is in bytes, as they lie there. `member` is set within an archive, whose own tag is then `source_etag`.
    `fault` says why there is nothing to read, `status` in a word. `output` is the name that its crops are to have, its
    own unless given.
    """

    name: str
    etag: str
    size: int
    root: str
    key: str
    member: Member | None = None
    source_etag: str = ""
    fault: str = ""
    status: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The images of a source in the natural order of their names, and how much else it has, by what it is."""

    items: tuple[Item, ...]
    left_out: Mapping[str, int]


def find(source: str, output: str = "") -> Found:
    """List the images of a source, once.

    Parameters
    ----------
    source : str
        Folder or prefix (archives in it are shards, and their members lie in folders of the shards' names), one
        ``.zip`` or ``.tar``, shards such as ``s3://bucket/faces-{000..099}.tar``, a text file of keys or addresses, or
        one image.
    output : str
        Address of the results; what lies below it, inside the source, is no input.

    Raises
    ------
    InputError
        There is no image, or nothing at all at that address.
    """
    name = _path(source).lower()
    counted: Counter[str] = Counter()
    if name.endswith(ARCHIVES):
        addresses = list(_expand(source))
        parts = _in_threads(lambda one: _one_archive(one, len(addresses) > 1), addresses)
        found = [item for part in parts for item in part]
    elif name.endswith(LISTS):
        found = _listed(source)
    elif name.endswith(tuple(EXTENSIONS)):
        root, key = split(source)
        info = _head(source, root, key)
        found = [Item(key, info.etag, info.size, root, key)]
    elif reason := unreadable(name):
        raise InputError(f"{source}: {reason}")
    else:
        found = _folder(source, output, counted)
    items = sorted(_images(found, counted), key=lambda item: natural(item.name))
    if all(item.fault for item in items):
        raise InputError(_nothing(source, items, counted))
    return Found(tuple(items), dict(sorted(counted.items())))


def natural(name: str) -> tuple[Any, ...]:
    """Return a key that sorts names as people do: ``face2`` before ``face10``."""
    parts: list[Any] = re.split("([0-9]+)", name)
    numbers = [digits.lstrip("0") for digits in parts[1::2]]
    parts[1::2] = [(len(digits), digits) for digits in numbers]
    return tuple(parts), name


def _images(found: Iterable[Item], counted: Counter[str]) -> Iterator[Item]:
    """Yield what is an image, or should be; count the rest."""
    for item in found:
        what = "" if item.fault and item.member is None else left_out(item.name)
        reason = unreadable(item.name)
        if what:
            counted[what] += 1
        elif reason and not item.fault:
            yield replace(item, fault=reason, status="unsupported")
        else:
            yield item


def _nothing(source: str, items: list[Item], counted: Mapping[str, int]) -> str:
    """Say that there is no image, and why."""
    here = ", ".join(f"{number:,} {what}" for what, number in counted.items())
    if items:
        also = f"; {here}" if here else ""
        return f"no image found at {source}: {items[0].name}: {items[0].fault} ({len(items):,} such{also})"
    if here:
        return f"no image found at {source}, only {here}; give a folder, prefix, archive or list of images"
    path = source.removeprefix("file://")
    if "://" in path:
        return f"no image found at {source}: no object's key begins so"
    if os.path.isfile(path):
        return f"{source} is no image, archive or list of images by its extension"
    if os.path.isdir(path):
        return f"no image found at {source}: the folder is empty"
    return f"there is no file or folder {source}{_similar(path)}"


def _similar(path: str) -> str:
    """Suggest what was meant by a path that leads nowhere."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        near = difflib.get_close_matches(name, os.listdir(folder or "."), 1)
    except OSError:
        near = []
    return f"; did you mean {os.path.join(folder, near[0])}?" if near else ""


def _head(source: str, root: str, key: str) -> Any:
    try:
        return open_storage(root).head(key)
    except FileNotFoundError as error:
        suggestion = "" if "://" in source.removeprefix("file://") else _similar(source.removeprefix("file://"))
        raise InputError(f"{error}{suggestion}") from None


def split(address: str) -> tuple[str, str]:
    """Split the address of an object into that of its folder and its name there."""
    scheme, separator, _ = address.partition("://")
    path, options = address, ""
    if separator and scheme != "file":
        path, mark, rest = address.partition("?")
        options = mark + rest
    folder, slash, name = path.rpartition("/")
    return (folder + options if folder or not slash else "/") or ".", name


def _path(address: str) -> str:
    return address.partition("?")[0] if "://" in address else address


def _in_threads(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, items))


def _expand(source: str) -> Iterator[str]:
    match = _RANGE.search(source)
    if match is None:
        yield source
        return
    first, last = match[1], match[2]
    for number in range(int(first), int(last) + 1):
        yield from _expand(f"{source[: match.start()]}{number:0{len(first)}d}{source[match.end() :]}")


def _folder(source: str, output: str, counted: Counter[str]) -> list[Item]:
    storage = open_storage(source.rstrip("/") or "/")
    base, results = f"{_place(storage.address)}/", f"{_place(output)}/" if output else ""
    inside = results.removeprefix(base) if results.startswith(base) else ""
    if output and results == base:
        raise InputError(f"the output is the source itself, {source}; choose another --output")
    if inside:
        counted[RESULTS_INSIDE] = 0  # said even before there are any
    items, archives = [], []
    for info in storage.list():
        name = info.key
        if inside and name.startswith(inside):
            counted[RESULTS_INSIDE] += 1
        elif name.lower().endswith(ARCHIVES) and not is_apple_double(name):
            archives.append(info)
        elif not name.endswith("/"):
            items.append(Item(name, info.etag, info.size, storage.address, name))
    counted.update(storage.left_out)
    parts = _in_threads(lambda info: _members(storage, info, os.path.splitext(info.key)[0] + "/"), archives)
    return items + [item for part in parts for item in part]


def _place(address: str) -> str:
    """Return an address by which two are compared: without options, and with links followed."""
    path = _path(address).rstrip("/")
    local = path.removeprefix("file://")
    return path if "://" in local else f"file://{os.path.realpath(local or '/').rstrip('/')}"


def _one_archive(address: str, several: bool) -> list[Item]:
    root, key = split(address)
    try:
        storage = open_storage(root)
        return _members(storage, storage.head(key), os.path.splitext(key)[0] + "/" if several else "")
    except FileNotFoundError as error:
        if not several:
            _head(address, root, key)
        return [Item(key, "", 0, root, key, fault=str(error), status="read_error")]


def _members(storage: Any, info: Any, folder: str) -> list[Item]:
    """List an archive; one that is damaged is one item with a fault, after those found before the damage."""
    items: list[Item] = []
    stream = cast(BinaryIO, io.BufferedReader(_Ranges(storage, info), _BUFFER))
    try:
        for member in members(stream, info.size, "zip" if info.key.lower().endswith(".zip") else "tar"):
            checked = member.packing and not member.fault
            tag = f"{member.checksum:08x}-{member.unpacked}" if checked else f"{info.etag}+{member.start}"
            place = (storage.address, info.key, member, info.etag, member.fault, member.status)
            items.append(Item(folder + member.name, tag, member.size, *place))
    except ArchiveError as error:
        fault = f"damaged archive: {error}"
        items.append(Item(info.key, info.etag, 0, storage.address, info.key, fault=fault, status="decode_error"))
    return items


def _listed(source: str) -> list[Item]:
    root, name = split(source)
    lines = open_storage(root).get(name).decode("utf-8-sig", "surrogateescape").splitlines()
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def look_up(line: str) -> Item:
        place, key = (root, line) if "://" not in line and not line.startswith("/") else split(line)
        label = line.partition("://")[2].partition("/")[2] if "://" in line else line
        label = _path(label).lstrip("/")
        try:
            info = open_storage(place).head(key)
        except (FanfoldError, OSError) as error:
            if isinstance(error, ConnectionError):
                raise
            return Item(label, "", 0, place, key, fault=str(error), status="read_error")
        return Item(label, info.etag, info.size, place, key)

    return _in_threads(look_up, keys)


def read(item: Item, storage: Any) -> bytes:
    """Return an image's bytes.

    Raises
    ------
    BadImage
        There is nothing to read, it is damaged in its archive, or has more than ``MAX_BYTES``, unpacked.
    FanfoldError, OSError
        The storage refused.
    """
    if item.fault:
        raise BadImage(item.status, item.fault)
    if item.member is None:
        if item.size > MAX_BYTES:
            raise BadImage("too_large", f"{item.size:,} bytes are more than {MAX_BYTES:,}")
        return bytes(storage.get(item.key))
    try:
        get = partial(storage.get, item.key, etag=item.source_etag)
        return read_member(item.member, get, MAX_BYTES)
    except ArchiveError as error:
        raise BadImage("decode_error", str(error)) from None


class _Ranges(io.RawIOBase):
    """An object as a seekable file."""

    def __init__(self, storage: Any, info: Any) -> None:
        self._storage, self._info, self._at = storage, info, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._info.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._info.size)
        data = b""
        if end > self._at:
            data = self._storage.get(self._info.key, self._at, end, etag=self._info.etag)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
