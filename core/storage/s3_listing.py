"""Listings in the order of keys, also from servers that list directory by directory.

S3 sorts keys as texts, so ``a-/x`` comes before ``a/x``. Servers that keep objects in directories, such as SeaweedFS,
sort each directory by its names, where ``a`` comes before ``a-``, and do not look into ``a-`` when asked for what
follows ``a-``. From these each folder is listed for itself and put in order on the way.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.types import ObjectInfo


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a listing: objects, folders (keys that end in ``/``), and where to go on."""

    objects: list[ObjectInfo]
    folders: list[str]
    token: str | None


_Waiting = tuple[str, int, ObjectInfo | None]

PageOf = Callable[[str, str, bool, str | None], Page]
"""Asks for a page: (prefix, start after, folders kept together, token of the page before)."""


def listed(page_of: PageOf, first: Page, prefix: str, start_after: str, recursive: bool) -> Iterator[ObjectInfo]:
    """Yield the objects of a listing whose first page is known, page by page."""
    page = first
    while True:
        yield from page.objects
        if page.token is None:
            return
        page = page_of(prefix, start_after, not recursive, page.token)


def walked(page_of: PageOf, prefix: str, start_after: str, recursive: bool) -> Iterator[ObjectInfo]:
    """Yield the objects of a listing in the order of keys, folder by folder."""
    for key, info in _level(page_of, prefix, start_after):
        if info is not None:
            if key > start_after:
                yield info
        elif recursive and (key > start_after or start_after.startswith(key)):
            yield from walked(page_of, key, start_after, True)


def _level(page_of: PageOf, prefix: str, start_after: str) -> Iterator[tuple[str, ObjectInfo | None]]:
    """Yield one level of a listing: folders wait until nothing that sorts before them can follow."""
    waiting: list[_Waiting] = []
    numbers = itertools.count()
    token: str | None = None
    after = _before(prefix, start_after)
    while True:
        page = page_of(prefix, after, True, token)
        entries: list[tuple[str, ObjectInfo | None]] = [(info.key, info) for info in page.objects]
        entries += [(folder, None) for folder in page.folders]
        for key, info in sorted(entries, key=lambda entry: entry[0].removesuffix("/")):
            while waiting and waiting[0][0] < key.removesuffix("/"):
                yield _first(waiting)
            heapq.heappush(waiting, (key, next(numbers), info))
        token = page.token
        if token is None:
            break
    while waiting:
        yield _first(waiting)


def _first(waiting: list[_Waiting]) -> tuple[str, ObjectInfo | None]:
    key, _, info = heapq.heappop(waiting)
    return key, info


def _before(prefix: str, start_after: str) -> str:
    """Return a place in the directory's order after which everything lies that sorts after `start_after`."""
    if not start_after.startswith(prefix):
        return ""
    rest = start_after[len(prefix) :]
    # A folder whose name is `rest`, or the beginning of it before one of the characters that come before '/', may
    # hold keys that sort after it.
    cut = next((index for index, character in enumerate(rest) if character <= "/"), len(rest))
    return prefix + rest[: cut - 1] if cut > 1 else ""
