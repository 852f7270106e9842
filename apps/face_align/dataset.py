"""Where the images are: a folder, a bucket's prefix, an archive, shards, or a list of keys, each image by its range."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from apps.face_align.images import EXTENSIONS, BadImage
from core import FanfoldError, InputError, open_storage

ARCHIVES = (".zip", ".tar")
LISTS = (".txt", ".lst", ".list")
_PACKED = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BUFFER = 1 << 18
"""Bytes read at once while an archive's directory is looked for."""
_THREADS = 16
_ZIP_HEADER = struct.Struct("<4s5H3I2H")
"""A local file header; its last fields are the lengths of name and extra field. Source: PKWARE APPNOTE 6.3, 4.3.7."""
_ZIP_EXTRA = 1 << 10
"""Bytes by which a member's local extra field may be longer than that in the archive's directory."""
MAX_BYTES = 256_000_000
"""Bytes of a file, unpacked, beyond which it is not read."""
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, slots=True)
class Item:
    """One image: its name below the source, a tag that changes with its content, and where its bytes are.

    `size` is in bytes. `start` is set within an archive; `packing` is then ``stored``, ``zip-stored`` or
    ``zip-deflated``. `fault` says why there is nothing to read.
    """

    name: str
    etag: str
    size: int
    root: str
    key: str
    start: int = -1
    packing: str = ""
    source_etag: str = ""
    checksum: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The images of a source in the order of their names, and how many other files it has."""

    items: tuple[Item, ...]
    ignored: int


def find(source: str, leave_out: str = "") -> Found:
    """List the images of a source, once.

    Parameters
    ----------
    source : str
        Folder or prefix (archives in it are shards, and their members lie in folders of the shards' names), one
        ``.zip`` or ``.tar``, shards such as ``s3://bucket/faces-{000..099}.tar``, a text file of keys or addresses, or
        one image.
    leave_out : str
        Address below which objects are results, not inputs.

    Raises
    ------
    InputError
        There is no image.
    """
    name = _path(source).lower()
    if name.endswith(_PACKED):
        raise InputError(f"{source}: a compressed tar cannot be read in parallel; unpack it, or make it a plain .tar")
    if name.endswith(ARCHIVES):
        addresses = list(_expand(source))
        parts = _in_threads(lambda one: _one_archive(one, len(addresses) > 1), addresses)
        found = [item for part in parts for item in part]
    elif name.endswith(LISTS):
        found = _listed(source)
    elif name.endswith(tuple(EXTENSIONS)):
        root, key = split(source)
        info = open_storage(root).head(key)
        found = [Item(key, info.etag, info.size, root, key)]
    else:
        found = _folder(source, leave_out)
    items = sorted((item for item in found if item.fault or is_image(item.name)), key=lambda item: item.name)
    readable = [item for item in items if not item.fault]
    if not readable:
        faults = next((f": {item.fault}" for item in items), "; give a folder, prefix, archive or list of images")
        raise InputError(f"no image found at {source}{faults}")
    return Found(tuple(items), len(found) - len(items))


def is_image(name: str) -> bool:
    """Whether a name's extension is that of an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


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


def _folder(source: str, leave_out: str) -> list[Item]:
    storage = open_storage(source.rstrip("/") or "/")
    below = _path(leave_out).rstrip("/") + "/" if leave_out else ""
    base = _path(storage.address).rstrip("/")
    items, archives = [], []
    for info in storage.list():
        name = info.key
        if name.endswith("/") or (below and f"{base}/{name}".startswith(below)):
            continue
        if name.lower().endswith(ARCHIVES):
            archives.append(info)
        else:
            items.append(Item(name, info.etag, info.size, storage.address, name))
    parts = _in_threads(lambda info: _members(storage, info, os.path.splitext(info.key)[0] + "/"), archives)
    return items + [item for part in parts for item in part]


def _one_archive(address: str, several: bool) -> list[Item]:
    root, key = split(address)
    storage = open_storage(root)
    try:
        return _members(storage, storage.head(key), os.path.splitext(key)[0] + "/" if several else "")
    except FileNotFoundError as error:
        if not several:
            raise
        return [Item(key, "", 0, root, key, fault=str(error))]


def _members(storage: Any, info: Any, folder: str) -> list[Item]:
    """List an archive; one that is damaged is one item with a fault, after those found before the damage."""
    items: list[Item] = []
    stream: Any = io.BufferedReader(_Ranges(storage, info), _BUFFER)
    member = _zip_members if info.key.lower().endswith(".zip") else _tar_members
    try:
        for name, start, size, packing, checksum in member(stream):
            tag = f"{checksum:08x}-{size}" if checksum else f"{info.etag}+{start}"
            items.append(Item(folder + name, tag, size, storage.address, info.key, start, packing, info.etag, checksum))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, struct.error, ValueError) as error:
        items.append(Item(info.key, info.etag, 0, storage.address, info.key, fault=f"damaged archive: {error}"))
    return items


def _zip_members(stream: Any) -> Iterator[tuple[str, int, int, str, int]]:
    packings = {zipfile.ZIP_STORED: "zip-stored", zipfile.ZIP_DEFLATED: "zip-deflated"}
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            packing = "zip-unknown" if info.flag_bits & 1 else packings.get(info.compress_type, "zip-unknown")
            yield info.filename, info.header_offset, info.compress_size, packing, info.CRC


def _tar_members(stream: Any) -> Iterator[tuple[str, int, int, str, int]]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for info in archive:
            if info.isreg():
                yield info.name.removeprefix("./"), info.offset_data, info.size, "stored", 0


def _listed(source: str) -> list[Item]:
    root, name = split(source)
    lines = open_storage(root).get(name).decode("utf-8", "replace").splitlines()
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
            return Item(label, "", 0, place, key, fault=str(error))
        return Item(label, info.etag, info.size, place, key)

    return _in_threads(look_up, keys)


def read(item: Item, storage: Any) -> bytes:
    """Return an image's bytes.

    Raises
    ------
    BadImage
        It has more than ``MAX_BYTES``, unpacked.
    InputError
        Its archive is damaged, encrypted, or packed in a way that cannot be read.
    FanfoldError, OSError
        The storage refused.
    """
    if item.fault:
        raise InputError(item.fault)
    if item.size > MAX_BYTES:
        raise BadImage("too_large", f"{item.size:,} bytes are more than {MAX_BYTES:,}")
    if item.start < 0:
        return bytes(storage.get(item.key))
    if item.packing == "stored":
        return bytes(storage.get(item.key, item.start, item.start + item.size, etag=item.source_etag))
    if item.packing == "zip-unknown":
        raise InputError("encrypted, or packed otherwise than stored or deflated")
    slack = _ZIP_HEADER.size + len(item.name.encode()) + _ZIP_EXTRA
    data = storage.get(item.key, item.start, item.start + slack + item.size, etag=item.source_etag)
    name_length, extra_length = _ZIP_HEADER.unpack_from(data)[-2:]
    begin = _ZIP_HEADER.size + name_length + extra_length
    content = data[begin : begin + item.size]
    try:
        content = _inflated(content) if item.packing == "zip-deflated" else content
    except zlib.error as error:
        raise InputError(f"damaged in its archive: {error}") from None
    if zlib.crc32(content) != item.checksum:
        raise InputError("damaged in its archive: the checksum differs")
    return bytes(content)


def _inflated(content: bytes) -> bytes:
    """Return what was deflated; bytes that would unpack to more than an image may have are left alone."""
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    found = unpacking.decompress(content, MAX_BYTES)
    if unpacking.unconsumed_tail:
        raise BadImage("too_large", f"{len(content):,} bytes in its archive unpack to more than {MAX_BYTES:,}")
    if not unpacking.eof:
        raise zlib.error("it breaks off")
    return found


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
