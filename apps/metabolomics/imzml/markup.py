"""XML as a sequence of tags, read strictly from the pieces of a stream, whatever its encoding.

Tags and the attributes that decide anything are ASCII in every encoding that is read here, so text stays bytes and what
is only shown to people is decoded where it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from core import InputError

MAX_TOKEN = 16 << 20
"""Bytes that a tag, a comment, or the text before it may have, so that damage is not searched to the end of a file."""
MAX_KNOWN = 1000
"""Texts of tags that are kept with what they say: most tags of a spectrum stand in all others too."""

_VALUE = rb"""(?:"[^"<&]*+(?:%(e)s[^"<&]*+)*+"|'[^'<&]*+(?:%(e)s[^'<&]*+)*+')""" % {
    b"e": rb"&(?:amp|lt|gt|quot|apos|\#[0-9]{1,7}|\#x[0-9a-fA-F]{1,6});"
}
_NAME = rb"[A-Za-z_\x80-\xff][\w:.\x80-\xff-]*+"
_TOKEN = re.compile(
    rb"(?P<text>[^<]*+)<(?:"
    rb"(?P<close>/)?(?P<name>" + _NAME + rb")(?P<attributes>(?:\s++" + _NAME + rb"\s*+=\s*+" + _VALUE + rb")*+)\s*+"
    rb"(?P<empty>/)?>"
    # No group that looks ahead is possessive: such never match before Python 3.11.5.
    rb"|!--[^-]*+(?:-(?!-)[^-]*+)*-->"
    rb"|!\[CDATA\[[^\]]*+(?:\](?!\]>)[^\]]*+)*\]\]>"
    rb"|\?[^?]*+(?:\?(?!>)[^?]*+)*\?>"
    rb")",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(rb"(" + _NAME + rb")\s*+=\s*+(" + _VALUE + rb")")
PADDING = b"\0 \t\r\n"
_ENTITY = re.compile(rb"&(#x[0-9a-fA-F]+|#[0-9]+|\w+);")
_ENTITIES = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}


class Tag(NamedTuple):
    """A tag: ``<name attributes>``, ``<name attributes/>`` (`empty`) or ``</name>`` (`close`).

    `begin` and `end` are where it stands in the document; `spans` where the value of each attribute does, without its
    quotes, counted from `begin`.
    """

    name: bytes
    attributes: dict[bytes, bytes]
    spans: dict[bytes, tuple[int, int]]
    close: bool
    empty: bool
    begin: int
    end: int

    def span(self, attribute: bytes) -> tuple[int, int] | None:
        """Return where the value of an attribute stands in the document."""
        found = self.spans.get(attribute)
        return None if found is None else (self.begin + found[0], self.begin + found[1])


_NO_TAG = Tag(b"", {}, {}, False, True, 0, 0)


class Markup:
    """Tags of an XML document, one after the other, each checked to stand where it may.

    Places are counted in bytes from the document's begin.

    Parameters
    ----------
    read : callable
        Returns the next piece of the document, empty at its end.
    source : str
        Name of the document, for messages.

    Attributes
    ----------
    buffer : bytes
        The part of the document that is in memory, which begins at `start`.
    position : int
        Where the next tag is looked for.
    keep : int or None
        Place from which the buffer is kept; without it only what is still to be read is.
    open : list of bytes
        Names of the elements that are open, outermost first.
    """

    def __init__(self, read: Callable[[], bytes], source: str) -> None:
        self._read, self.source = read, source
        self.buffer, self.start, self.position = b"", 0, 0
        self.keep: int | None = None
        self.open: list[bytes] = []
        self._ended = False
        self._known: dict[bytes, Tag] = {}
        self.more()
        self._check_begin()

    def more(self) -> bool:
        """Read a further piece, and forget what is no longer needed; says whether there was one."""
        piece = b"" if self._ended else self._read()
        if not piece:
            self._ended = True
            return False
        kept = self.position if self.keep is None else min(self.keep, self.position)
        self.buffer = self.buffer[kept - self.start :] + piece
        self.start = kept
        return True

    def next(self) -> Tag | None:
        """Return the next tag, or None at the end of the document.

        Raises
        ------
        InputError
            It is no well-formed XML, or ends too early; the message says where.
        """
        while True:
            found = _TOKEN.match(self.buffer, self.position - self.start)
            if found is None:
                if self.start + len(self.buffer) - self.position > MAX_TOKEN:
                    raise self.error("no tag can be read")
                if self.more():
                    continue
                if not self.open and not self.buffer[self.position - self.start :].strip(PADDING):
                    return None
                raise self._cut_off()
            if not self.open and found["text"].strip(PADDING):
                raise self.error("text outside of the document's element")
            if found["name"] is None:
                self.position = self.start + found.end()
                continue
            tag = self._tag(found)
            self._follow(tag)
            self.position = tag.end
            return tag

    def back(self, tag: Tag) -> None:
        """Stand before an opening tag again, the latest that was read."""
        self.position = tag.begin
        if not tag.empty:
            self.open.pop()

    def text(self, begin: int, end: int) -> bytes:
        """Return what stands from one place to another in the part that is in memory."""
        return self.buffer[begin - self.start : end - self.start]

    def error(self, what: str, place: int | None = None) -> InputError:
        """Return the error for a document that is no well-formed XML."""
        at = self.position if place is None else place
        return InputError(f"{self.source}: not well-formed XML at byte {at:,}: {what}; export the file again")

    def _check_begin(self) -> None:
        if self.buffer.startswith((b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")):
            raise InputError(f"{self.source}: written in UTF-16, which imzML is not; save it as UTF-8")
        if self.buffer.startswith(b"\xef\xbb\xbf"):
            self.position = 3
        if not self.buffer[self.position :].lstrip().startswith(b"<"):
            what = "empty" if not self.buffer else "no XML"
            raise InputError(f"{self.source}: the file is {what}; give the .imzML file of a pair, unpacked")

    def _cut_off(self) -> InputError:
        rest = self.buffer[self.position - self.start :].lstrip()
        if rest.startswith(b"<!DOCTYPE"):
            return self.error("a DOCTYPE is not read; remove it")
        whole = re.match(rb"<[^<>]*>", rest)
        if self.open and whole is None and rest.count(b"<") <= 1:
            inside = shown(self.open[-1])
            return InputError(
                f"{self.source}: the file ends within <{inside}>, after {self.start + len(self.buffer):,} bytes; "
                "it was cut off: copy or export it again"
            )
        return self.error("no tag can be read")

    def _tag(self, found: re.Match[bytes]) -> Tag:
        begin, end = found.end("text"), found.end()
        text = self.buffer[begin:end]
        known = self._known.get(text)
        if known is None:
            try:
                known = _tag_of(found)
            except ValueError as error:
                raise self.error(str(error), self.start + begin) from None
            if len(self._known) < MAX_KNOWN:
                self._known[text] = known
        return Tag(
            known.name,
            known.attributes,
            known.spans,
            known.close,
            known.empty,
            self.start + begin,
            self.start + end,
        )

    def _follow(self, tag: Tag) -> None:
        if tag.close:
            if not self.open or self.open[-1] != tag.name:
                inside = f"<{shown(self.open[-1])}>" if self.open else "nothing"
                raise self.error(f"</{shown(tag.name)}> stands where {inside} is open", tag.begin)
            self.open.pop()
        elif not tag.empty:
            self.open.append(tag.name)


def parse_tag(text: bytes) -> Tag | None:
    """Return the tag that a text begins with, an empty one without a name for a comment; None if it is neither."""
    found = _TOKEN.match(text)
    if found is None:
        return None
    try:
        return _NO_TAG if found["name"] is None else _tag_of(found)
    except ValueError:
        return None


def _tag_of(found: re.Match[bytes]) -> Tag:
    attributes: dict[bytes, bytes] = {}
    spans: dict[bytes, tuple[int, int]] = {}
    begin = found.end("text")
    for each in _ATTRIBUTE.finditer(found.string, *found.span("attributes")):
        name = each[1]
        if name in attributes:
            raise ValueError(f"attribute {shown(name)} stands twice")
        value = each[2][1:-1]
        attributes[name] = _decoded(value) if b"&" in value else value
        spans[name] = (each.start(2) + 1 - begin, each.end(2) - 1 - begin)
    close, empty = found["close"] is not None, found["empty"] is not None
    if close and (attributes or empty):
        raise ValueError("a closing tag has attributes")
    return Tag(_local(found["name"]), attributes, spans, close, empty, 0, 0)


def _local(name: bytes) -> bytes:
    return name.rpartition(b":")[2]


def _decoded(value: bytes) -> bytes:
    def character(found: re.Match[bytes]) -> bytes:
        text = found[1]
        if not text.startswith(b"#"):
            return _ENTITIES[text]
        number = int(text[2:], 16) if text[1:2] == b"x" else int(text[1:])
        return chr(number).encode("utf-8", "replace") if number < 0x110000 else b"?"

    return _ENTITY.sub(character, value)


def shown(text: bytes) -> str:
    """Return text of a file for people: UTF-8 where it is, else as Windows wrote it."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")
