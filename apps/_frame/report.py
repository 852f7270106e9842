"""The report: one HTML page of blocks in any order, to be opened anywhere and sent on; no network.

Every text is escaped. Pictures are part of the page as long as they are small together, else files beside it.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from apps._frame.report_style import SCRIPT, STYLE
from apps._frame.tables import KEPT, printable, visible

EMBEDDED = 8 << 20
"""Bytes of pictures that a page holds at most; a larger one is slow to open and too large for mail."""
FOLDER = "report-files/"
"""Where pictures are that do not fit into the page."""

_NUMBER = re.compile(r"[-+−±$€£]?\d[\d,.]*(e[-+]?\d+)?( ?[%x]| ?±.*)?", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d(-\d\d([ T][\d:.+Z-]+)?)?")
_PANEL = re.compile(r"#[\w-]+")
_KINDS = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"RIFF", "webp"), (b"<", "svg+xml"))


@dataclass(frozen=True, slots=True)
class Card:
    """A headline number: what it is, its value, and a remark such as its uncertainty."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Cards:
    """Headline numbers side by side."""

    cards: Sequence[Card]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture (PNG, JPEG, WebP or SVG) with the text that stands for it and a caption.

    `href` is where it leads, an object of the run by its key; without an `image`, that object is the picture.
    """

    image: bytes
    alt: str
    caption: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """Large pictures, two beside each other where there is room."""

    pictures: Sequence[Picture]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Many small pictures with captions, such as crops; `size` is the width of one in CSS pixels."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    size: int = 110


@dataclass(frozen=True, slots=True)
class Link:
    """A cell of a table that leads somewhere: a key of the run, an ``https://`` address, or ``#key`` of a panel."""

    text: str
    href: str


Cell = str | Link


@dataclass(frozen=True, slots=True)
class Table:
    """A table under a heading; with `browse` it can be sorted by a click on a heading and searched."""

    title: str
    header: Sequence[str]
    rows: Iterable[Sequence[Cell]]
    note: str = ""
    browse: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """A list of names and values."""

    title: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs under a heading; with `code`, a block to copy."""

    title: str
    paragraphs: Sequence[str]
    code: bool = False


Plain = Cards | Figures | Grid | Table | Facts | Text


@dataclass(frozen=True, slots=True)
class Panel:
    """What is shown over the page when a link leads to it, such as all there is to say of one row of a table.

    `key` names it, letters, digits and hyphens; a link or picture with ``#key`` for its address leads to it, and so do
    its neighbours among the blocks.
    """

    key: str
    title: str
    blocks: Sequence[Plain]


Block = Plain | Panel


@dataclass(frozen=True, slots=True)
class Report:
    """What a page says.

    Attributes
    ----------
    title, lead : str
        Heading, and what the reader must know in a sentence or two.
    blocks : sequence of Block
        What follows, in this order.
    footer : str
        How it was made.
    """

    title: str
    lead: str
    blocks: Sequence[Block]
    footer: str = ""


def report_files(report: Report, name: str = "report.html", embedded: int = EMBEDDED) -> dict[str, Iterable[bytes]]:
    """Return a page as files by name, its own and those of pictures beside it; for ``Run.publish``.

    The names beside it begin with `FOLDER`.

    Parameters
    ----------
    embedded : int
        Bytes of pictures that the page itself may hold, all together.
    """
    pictures = list(_pictures(report.blocks))
    beside: dict[int, str] = {}
    files: dict[str, Iterable[bytes]] = {}
    if sum(len(picture.image) for picture in pictures) > embedded:
        for number, picture in enumerate(picture for picture in pictures if picture.image):
            kind = _kind(picture.image)
            beside[id(picture)] = f"{FOLDER}{number:05d}.{kind.partition('+')[0]}"
            files[beside[id(picture)]] = (picture.image,)
    files[name] = page(report, beside)
    return files


def _pictures(blocks: Sequence[Block]) -> Iterator[Picture]:
    for block in blocks:
        if isinstance(block, Panel):
            yield from _pictures(block.blocks)
        elif isinstance(block, Figures | Grid):
            yield from block.pictures


def page(report: Report, beside: dict[int, str] | None = None) -> Iterator[bytes]:
    """Yield the page piece by piece, so that a long table is never in memory whole.

    Parameters
    ----------
    beside : dict, optional
        Address of each picture, by its ``id``, that is not to be part of the page.
    """
    script = any(isinstance(block, Panel) or (isinstance(block, Table) and block.browse) for block in report.blocks)
    keys = [block.key for block in report.blocks if isinstance(block, Panel)]
    following = dict(itertools.pairwise(keys))
    before = {after: key for key, after in following.items()}
    yield (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(report.title)}</title><style>{STYLE}</style></head><body><main>\n"
        f'<h1>{_text(report.title)}</h1>\n<p class="lead">{_text(report.lead)}</p>\n'
    ).encode()
    for block in report.blocks:
        if isinstance(block, Panel):
            pieces = _panel(block, before.get(block.key), following.get(block.key), beside or {})
        else:
            pieces = _block(block, beside or {})
        yield from (piece.encode() for piece in pieces)
    footer = f"<footer>{_text(report.footer)}</footer>\n" if report.footer else ""
    yield f"{footer}</main>{f'<script>{SCRIPT}</script>' if script else ''}</body></html>\n".encode()


def _text(text: object) -> str:
    return escape(printable(text, KEPT))


def _block(block: Plain, beside: dict[int, str], lazy: bool = False) -> Iterator[str]:
    if isinstance(block, Table):
        yield from _table(block)
        return
    title = getattr(block, "title", "")
    if title:
        yield f"<h2>{_text(title)}</h2>\n"
    if isinstance(block, Cards):
        yield f'<div class="cards">{"".join(map(_card, block.cards))}</div>\n'
    elif isinstance(block, Figures):
        yield '<div class="figures">'
        yield from (_figure(picture, beside, lazy=lazy) for picture in block.pictures)
        yield "</div>\n"
    elif isinstance(block, Grid):
        yield f'<p class="note">{_text(block.note)}</p>' if block.note else ""
        yield f'<div class="grid" style="--cell:{block.size}px">'
        yield from (_figure(picture, beside, lazy=True) for picture in block.pictures)
        yield "</div>\n"
    elif isinstance(block, Facts):
        rows = (f"<tr><th scope=row>{_text(name)}</th><td>{_text(value)}</td></tr>\n" for name, value in block.rows)
        yield f'<div class="scroll"><table class="facts"><tbody>\n{"".join(rows)}</tbody></table></div>\n'
    else:
        tag = "pre" if block.code else "p"
        yield from (f"<{tag}>{_text(line)}</{tag}>\n" for line in block.paragraphs)


def _panel(panel: Panel, before: str | None, after: str | None, beside: dict[int, str]) -> Iterator[str]:
    turns = (("previous", "‹ previous", before), ("next", "next ›", after))
    links = "".join(f'<a href="{_href(f"#{key}")}" class={kind}>{words}</a>' for kind, words, key in turns if key)
    # An address that leads nowhere closes the panel, and the page stays where it is.
    yield f'<section class="panel" id="{_text(panel.key)}"><nav>{links}<a href="#_" class=close>close</a></nav>\n'
    yield f"<h2>{_text(panel.title)}</h2>\n"
    for block in panel.blocks:
        yield from _block(block, beside, lazy=True)
    yield "</section>\n"


def _card(card: Card) -> str:
    remark = f"<span>{_text(card.remark)}</span>" if card.remark else ""
    return f'<div class="card"><span>{_text(card.label)}</span><b>{_text(card.value)}</b>{remark}</div>'


def _figure(picture: Picture, beside: dict[int, str], lazy: bool = False) -> str:
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    place = beside.get(id(picture), "" if picture.image else picture.href)
    link = _href(picture.href or place)
    source = _href(place) if place else _embedded(picture.image)
    image = f'<img alt="{_text(picture.alt)}" src="{source}"{" loading=lazy" if lazy else ""}>'
    return f"<figure>{f'<a href={chr(34)}{link}{chr(34)}>{image}</a>' if link else image}{caption}</figure>\n"


def _embedded(image: bytes) -> str:
    return f"data:image/{_kind(image)};base64,{base64.b64encode(image).decode('ascii')}"


def _kind(image: bytes) -> str:
    return next((kind for begin, kind in _KINDS if image.startswith(begin)), "png")


def _href(link: str) -> str:
    """Return the address of a key or page, quoted; one of another scheme leads nowhere."""
    from urllib.parse import quote

    if link.startswith(("https://", "http://")) or _PANEL.fullmatch(link):
        return _text(link)
    try:
        return escape(quote(link.encode("utf-8", "surrogateescape")))
    except UnicodeEncodeError:  # no file has such a name
        return escape(quote(visible(link)))


def _table(table: Table) -> Iterator[str]:
    rows = iter(table.rows)
    first = next(rows, None)
    numeric = [False if first is None else _is_number(cell) for cell in first or table.header]
    yield f"<h2>{_text(table.title)}</h2>\n" if table.title else ""
    yield f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    yield '<div class="browse">' if table.browse else ""
    yield '<div class="scroll"><table>'
    if table.header:
        cells = zip(table.header, numeric, strict=True)
        head = (f"<th scope=col{' class=n' if right else ''}>{_text(cell)}</th>" for cell, right in cells)
        yield f"<thead><tr>{''.join(head)}</tr></thead>"
    yield "<tbody>\n"
    for row in itertools.chain([] if first is None else [first], rows):
        yield f"<tr>{''.join(map(_cell, row))}</tr>\n"
    yield "</tbody></table></div>\n"
    yield "</div>\n" if table.browse else ""


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f'<td><a href="{_href(cell.href)}">{_text(cell.text)}</a></td>'
    kind = " class=n" if _is_number(cell) else " class=d" if _DATE.fullmatch(cell) else ""
    return f"<td{kind}>{_text(cell)}</td>"


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, str) and _NUMBER.fullmatch(cell.strip()) is not None
