"""Where the records of CSV begin: which quotes open a field and which newlines lie within one.

The rules are those of Python's ``csv`` module with its default dialect: a quote opens a field only at the field's
beginning, and two quotes within it are one.
"""

from __future__ import annotations

import functools
import re
from typing import Literal

from core.data.ranges import PROBE, Check, Source
from core.errors import InputError
from core.types import MiB, Partition

DELIMITERS = b",;\t|"
"""What separates fields in nearly all files that are called CSV."""

READ = 64 * MiB
"""Bytes read at a time, by one request or, where that is faster, several."""

_NEWLINES = b"\r\n"
_MARK = b"\xef\xbb\xbf"
_Place = Literal["outside", "inside", "at a quote"]


class Quotes:
    """Follows the quotes of CSV from its beginning, piece by piece.

    Parameters
    ----------
    delimiters : bytes
        What may stand before a quote that opens a field, besides newlines.
    doubtful : bytes
        Delimiters that are likely the file's own, if a quote is seen behind one.

    Attributes
    ----------
    place : "outside", "inside" or "at a quote"
        Where in a field the last piece ended; "at a quote": the next byte tells.
    doubt : str
        The doubtful delimiter that was seen.
    """

    def __init__(self, delimiters: bytes, doubtful: bytes = b"") -> None:
        self.place: _Place = "outside"
        self.doubt = ""
        self._openers = delimiters + _NEWLINES
        self._doubtful = doubtful
        self._fields = _fields(delimiters)
        self._last = _NEWLINES[0]

    def feed(self, data: bytes | memoryview) -> None:
        """Go on by a piece."""
        data = bytes(data)  # no copy of what is bytes
        at = self._leave(data, 0)
        while (at := data.find(b'"', at)) >= 0:
            at = self._leave(data, self._enter(data, at))
        if data:
            self._last = data[-1]

    def next_record(self, data: bytes, at: int) -> int:
        """Return where in `data`, which is to be followed from `at`, the next record begins; -1 if not in it."""
        at = self._leave(data, at)
        while (found := _STOP.search(data, at)) is not None:
            at = found.end()
            if found[0] != b'"':
                self._last = data[at - 1]
                return at
            at = self._leave(data, self._enter(data, found.start(), one=True))
        if data:
            self._last = data[-1]
        return -1

    def _enter(self, data: bytes, at: int, one: bool = False) -> int:
        """Return where to look on after the quote at `at`, which is outside of any field's quotes."""
        before = data[at - 1] if at else self._last
        if before not in self._openers:
            if before in self._doubtful:
                self.doubt = chr(before)
            return at + 1
        # Whole fields at once, as far as they are closed here: a loop over each would cost five times as much.
        fields = None if one else self._fields.match(data, at)
        if fields is not None:
            self.place = "at a quote" if fields.end() == len(data) else "outside"
            return fields.end()
        self.place = "inside"
        return at + 1

    def _leave(self, data: bytes, at: int) -> int:
        """Return where the quoted field ends that reaches over `at`, if one does."""
        if self.place == "at a quote" and at < len(data):
            self.place = "inside" if data[at] == b'"'[0] else "outside"
            at += self.place == "inside"
            self._last = b'"'[0]
        if self.place == "inside":
            at = _INSIDE.match(data, at).end()  # type: ignore[union-attr]
            if at < len(data):
                self.place = "outside" if at + 1 < len(data) else "at a quote"
                at += 1
        return at


class Records:
    """Finds where records of an object begin, reading it from its beginning as far as is asked, once.

    Parameters
    ----------
    source : Source
    delimiter : str, optional
        By default a tab in ``.tsv`` objects, elsewhere a comma.
    """

    def __init__(self, source: Source, delimiter: str | None) -> None:
        self._source = source
        self._delimiter = (delimiter or default_delimiter(source.key)).encode()
        self._doubtful = b"" if delimiter else DELIMITERS.replace(self._delimiter, b"")
        self._asked = self._found = self._at = 0
        self._quotes = Quotes(b"")
        self._restart()

    def start(self, position: int, limit: int | None = None) -> int:
        """Return where the first record begins that begins at `position` or later.

        It is the object's size if none does, or `limit` if none does before.

        Raises
        ------
        InputError
            Another delimiter than the one assumed seems to be the object's.
        """
        size = self._source.size
        if position <= 0 or position >= size:
            return max(0, min(position, size))
        if position <= self._asked:
            self._restart()
        if position > self._found:
            self._found = self._search(position, size if limit is None else min(limit, size))
        self._asked = position
        return self._found

    def _restart(self) -> None:
        self._quotes = Quotes(self._delimiter, self._doubtful)
        self._asked = self._found = 0
        self._at = len(_MARK) if bytes(self._source.view(0, len(_MARK))) == _MARK else 0

    def _search(self, position: int, limit: int) -> int:
        while self._at < position - 1:
            piece = self._source.view(self._at, min(READ, position - 1 - self._at))
            self._quotes.feed(piece)
            self._at += len(piece)
        found = -1
        while found < 0 and self._at < limit:
            window = bytes(self._source.view(self._at, PROBE, 2))
            found = self._quotes.next_record(window, 0)
            self._at += len(window) if found < 0 else found
        if found > 0 and window[found - 1 : found] == b"\r" and bytes(self._source.view(self._at, 1)) == b"\n":
            self._at += 1  # the window ended between the two
        if self._quotes.doubt:
            raise InputError(
                f"{self._source.key!r} has a quote behind {self._quotes.doubt!r}, so its fields may be separated by "
                f"that; say Chunks(records='csv', delimiter={self._quotes.doubt!r}), or what else it is"
            )
        return limit if found < 0 else self._at


def guard_of(partition: Partition) -> Check | None:
    """Return what refuses a chunk of lines that ends within a quoted field; None where quotes are no concern.

    They are in CSV, going by the name, unless the user said what they mean. Where every chunk that begins with a record
    ends with one, so do all: the first that does not is found.
    """
    if not partition.key.lower().endswith((".csv", ".tsv")) or partition.records is not None:
        return None
    quotes = Quotes(partition.delimiter.encode() if partition.delimiter else DELIMITERS)

    def check(data: bytes | memoryview, ends: bool) -> None:
        quotes.feed(data)
        if ends and quotes.place == "inside":
            raise InputError(
                f"part {partition.part} of {partition.key!r} ends within a quoted field, and tears a record; cut at "
                "records with Chunks(..., records='csv'), or say records='lines' if quotes mean nothing there"
            )

    return check


def default_delimiter(key: str) -> str:
    """Return what separates the fields of an object, going by its name."""
    return "\t" if key.lower().endswith(".tsv") else ","


_STOP = re.compile(rb'\r\n|[\r\n"]')
_QUOTED = rb'"[^"]*+(?:""[^"]*+)*+"'
_INSIDE = re.compile(rb'[^"]*+(?:""[^"]*+)*+')


@functools.lru_cache(maxsize=16)
def _fields(delimiters: bytes) -> re.Pattern[bytes]:
    """Return a pattern of quoted fields that follow one another, other fields and newlines between them."""
    ends = b"[" + re.escape(delimiters + _NEWLINES) + b"]"
    other = b"[^" + re.escape(delimiters + _NEWLINES) + b'"]'
    return re.compile(_QUOTED + b"(?:" + ends + b"++(?:" + other + b"++" + ends + b"++)*+" + _QUOTED + b")*+")
