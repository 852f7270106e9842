"""Messages between a driver and one of its worker processes, over a socket pair.

A message is a list of byte segments. Small ones travel in the stream; a message above `INLINE_BYTES` bytes travels in a
shared-memory file whose descriptor goes with it (memfd and SCM_RIGHTS on Linux), which the receiver maps: no copy
through the socket, and no name that could be left behind. The receiver says when it no longer uses a file, and the
sender writes its next large message into it, which saves the kernel from clearing fresh pages.
Where there is no memfd everything travels in the stream.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import mmap
import os
import resource
import socket
import struct
import weakref
from collections import deque
from collections.abc import Sequence

from core.serialization import Buffer

INLINE_BYTES = 64 << 10
POOL_FILES = 16
POOL_BYTES = 256 << 20
MAPPED_FILES = 4096
"""Shared files a receiver keeps mapped at most, or a quarter of its descriptors if that is less: each mapping holds
one. Past that it copies."""

_HEAD = struct.Struct("<IqIQ")  # segments, id of the shared file or -1, released ids that follow, bytes that follow
_PLAIN = struct.Struct("<IqIQQ")  # the head of a message of one segment, and the segment's length
_ALIGN = 64
_READ_BYTES = 64 << 10
_GATHERED = 16
_RIGHTS = socket.CMSG_SPACE(64)


def has_shared_files() -> bool:
    """Whether large messages can travel in shared memory here."""
    return hasattr(os, "memfd_create") and os.environ.get("FANFOLD_NO_MEMFD") != "1"


class ConnectionLost(Exception):
    """The other end of a channel is gone."""


class Channel:
    """One end of a socket pair. `send` and `receive` block; `queue`, `flush` and `drain` do not."""

    def __init__(self, end: socket.socket, shared: bool | None = None) -> None:
        self.socket = end
        self._shared = has_shared_files() if shared is None else shared
        self._outbox: deque[tuple[bytes | memoryview, int | None]] = deque()
        self._inbox = bytearray()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._descriptors: deque[int] = deque()
        self._files: dict[int, tuple[int, int]] = {}
        self._free: list[int] = []
        self._next = 0
        self._mappable = min(MAPPED_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._released: deque[int] = deque()

    def fileno(self) -> int:
        """Return the socket's descriptor, for selectors."""
        return self.socket.fileno()

    @property
    def unsent(self) -> bool:
        """Whether queued bytes wait for the socket."""
        return bool(self._outbox)

    def queue(self, segments: Sequence[Buffer]) -> None:
        """Put a message into the outbox."""
        if (
            len(segments) == 1
            and type(segments[0]) is bytes
            and len(segments[0]) <= INLINE_BYTES
            and not self._released
        ):
            size = len(segments[0])
            self._outbox.append((_PLAIN.pack(1, -1, 0, 8 + size, size) + segments[0], None))
            return
        sizes = [memoryview(segment).nbytes for segment in segments]
        released = [self._released.popleft() for _ in range(len(self._released))]
        ident, descriptor, inline = -1, None, sum(sizes)
        if self._shared and inline > INLINE_BYTES:
            ident, descriptor = self._share(segments)
            segments, inline = (), 0
        table = struct.pack(f"<{len(released)}q{len(sizes)}Q", *released, *sizes)
        head = _HEAD.pack(len(sizes), ident, len(released), len(table) + inline)
        self._outbox.append((b"".join([head, table, *segments]), descriptor))

    def _share(self, segments: Sequence[Buffer]) -> tuple[int, int]:
        views = [memoryview(segment).cast("B") for segment in segments]
        total = sum(-(-view.nbytes // _ALIGN) * _ALIGN for view in views)
        ident = next((i for i in self._free if total <= self._files[i][1] <= 4 * total + INLINE_BYTES), None)
        if ident is None:
            ident = self._next
            self._next += 1
            descriptor = os.memfd_create("fanfold", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, total)
            self._files[ident] = (descriptor, total)
            if len(self._files) > POOL_FILES + len(self._free):
                oldest = next(i for i in self._files if i not in self._free)
                if oldest != ident and all(fd != self._files[oldest][0] for _, fd in self._outbox):
                    self._discard(oldest)
        else:
            self._free.remove(ident)
            descriptor = self._files[ident][0]
        offset = 0
        for view in views:
            written = 0
            while written < view.nbytes:
                written += os.pwrite(descriptor, view[written:], offset + written)
            offset += -(-view.nbytes // _ALIGN) * _ALIGN
        return ident, descriptor

    def _discard(self, ident: int) -> None:
        descriptor, _ = self._files.pop(ident)
        os.close(descriptor)
        if ident in self._free:
            self._free.remove(ident)

    def _recycle(self, ident: int) -> None:
        if ident not in self._files:
            return
        self._free.append(ident)
        while sum(self._files[i][1] for i in self._free) > POOL_BYTES or len(self._free) > POOL_FILES:
            self._discard(self._free[0])

    def flush(self) -> None:
        """Write as much of the outbox as the socket takes.

        Raises
        ------
        ConnectionLost
            Nobody reads any more.
        """
        try:
            while self._outbox:
                data, descriptor = self._outbox[0]
                if descriptor is not None:
                    rights = array.array("i", [descriptor])
                    self._sent(self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]))
                elif len(self._outbox) == 1:
                    self._sent(self.socket.send(data))
                else:
                    waiting = itertools.islice(self._outbox, _GATHERED)
                    self._sent(
                        self.socket.sendmsg(
                            [data for data, _ in itertools.takewhile(lambda one: one[1] is None, waiting)]
                        )
                    )
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectionLost from error

    def _sent(self, count: int) -> None:
        while count:
            data, _ = self._outbox.popleft()
            if count < len(data):
                self._outbox.appendleft((memoryview(data)[count:], None))
            count -= min(count, len(data))

    def send(self, segments: Sequence[Buffer]) -> None:
        """Send a message, waiting until it is written."""
        self.queue(segments)
        self.flush()

    def _read(self) -> bool:
        try:
            if not self._shared:
                size = self.socket.recv_into(self._buffer)
            else:
                size, ancillary, _, _ = self.socket.recvmsg_into([self._buffer], _RIGHTS)
                for level, kind, payload in ancillary:
                    if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                        descriptors = array.array("i")
                        descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
                        self._descriptors.extend(descriptors)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ConnectionLost from error
        if not size:
            raise ConnectionLost
        self._inbox += self._buffer[:size]
        return True

    def _message(self) -> list[Buffer] | None:
        if len(self._inbox) < _HEAD.size:
            return None
        count, ident, releases, total = _HEAD.unpack_from(self._inbox)
        end = _HEAD.size + total
        if len(self._inbox) < end:
            return None
        if count == 1 and ident < 0 and not releases:
            segment = self._inbox[_PLAIN.size : end]
            del self._inbox[:end]
            return [segment]
        numbers = struct.unpack_from(f"<{releases}q{count}Q", self._inbox, _HEAD.size)
        for released in numbers[:releases]:
            self._recycle(released)
        sizes = numbers[releases:]
        segments: list[Buffer] = []
        if ident < 0:
            offset = end - sum(sizes)
            for size in sizes:
                segments.append(self._inbox[offset : offset + size])
                offset += size
        else:
            segments.extend(self._map(ident, self._descriptors.popleft(), sizes))
        del self._inbox[:end]
        return segments

    def _map(self, ident: int, descriptor: int, sizes: Sequence[int]) -> list[Buffer]:
        try:
            length = sum(-(-size // _ALIGN) * _ALIGN for size in sizes)
            mapping = mmap.mmap(descriptor, length, access=mmap.ACCESS_COPY)
        finally:
            os.close(descriptor)
        whole = memoryview(mapping)
        views: list[Buffer] = []
        offset = 0
        for size in sizes:
            views.append(whole[offset : offset + size])
            offset += -(-size // _ALIGN) * _ALIGN
        if len(_mappings) >= self._mappable:
            views = [bytearray(view) for view in views]
            self._released.append(ident)
            return views
        mark = object()
        _mappings[mark] = None
        _watch_forks()
        weakref.finalize(mapping, _unmapped, weakref.ref(self), ident, mark).atexit = False
        return views

    def drain(self) -> list[list[Buffer]]:
        """Return every message that has arrived, reading what the socket has.

        Raises
        ------
        ConnectionLost
            The other end is gone; messages that arrived before are returned by a further call of `pending`.
        """
        while self._read():
            if len(self._inbox) > INLINE_BYTES and _HEAD.unpack_from(self._inbox)[3] < len(self._inbox):
                break
        return self.pending()

    def pending(self) -> list[list[Buffer]]:
        """Return messages that were read but not yet returned."""
        messages = []
        while (message := self._message()) is not None:
            messages.append(message)
        return messages

    def receive(self) -> list[Buffer]:
        """Return the next message, waiting for it."""
        while (message := self._message()) is None:
            self._read()
        return message

    def close(self) -> None:
        """Close the socket and every shared file that this end owns; what is mapped stays readable."""
        with contextlib.suppress(OSError):  # a process forked from this one may hold the socket too
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for descriptor, _ in self._files.values():
            os.close(descriptor)
        while self._descriptors:
            with contextlib.suppress(OSError):
                os.close(self._descriptors.popleft())
        self._files.clear()
        self._free.clear()


_mappings: dict[object, None] = {}
"""One mark for each shared file that this process keeps mapped, through whichever channel it came."""

_forked: set[object] = set()
"""Marks of files that a child of this process has mapped too: they are never written again."""

_watching = False


def _watch_forks() -> None:
    global _watching
    if not _watching:
        _watching = True
        os.register_at_fork(before=lambda: _forked.update(_mappings))


def _unmapped(reference: weakref.ref[Channel], ident: int, mark: object) -> None:
    _mappings.pop(mark, None)
    channel = reference()
    if mark in _forked:
        _forked.discard(mark)
    elif channel is not None:
        channel._released.append(ident)
