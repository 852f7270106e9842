"""The self-contained HTML page every app reports with: no script, no network, one file to send on."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root{color-scheme:light dark;--ink:#1b2733;--soft:#5b6875;--line:#dfe4e9;--page:#f5f7f9;--card:#fff;--accent:#1f5f99}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9fadba;--line:#33404d;--page:#12181f;--card:#1b242d;
--accent:#7db6e8}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 6px}
h2{font-size:1.15rem;margin:36px 0 10px}
.lead{color:var(--soft);margin:0 0 22px;max-width:75ch}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.card b{display:block;white-space:nowrap;font-size:1.25rem;line-height:1.25;font-variant-numeric:tabular-nums}
.card span{display:block;color:var(--soft);font-size:.85rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px;margin-top:20px;
align-items:start}
figure{margin:0;background:#fff;border:1px solid var(--line);border-radius:8px;padding:10px}
figure img{display:block;width:100%;height:auto}
figcaption{color:#5b6875;font-size:.85rem;padding:6px 4px 0}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
.note{color:var(--soft);font-size:.85rem;margin:-4px 0 10px}
th,td{padding:7px 14px;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--soft);font-weight:600;font-size:.85rem}
th:first-child,td:first-child{text-align:left}
td:first-child{white-space:normal}
.facts td:first-child{color:var(--soft);width:14rem;vertical-align:top}
.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere}
p,li{max-width:80ch}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:.88rem}
footer{margin-top:36px;color:var(--soft);font-size:.82rem;overflow-wrap:anywhere}
@media(max-width:520px){main{padding:18px 14px 32px}h1{font-size:1.35rem}.cards{grid-template-columns:1fr 1fr;gap:8px}
.card{padding:9px 10px}.card b{font-size:1.15rem}th,td{padding:6px 9px}.facts td:first-child{width:7.5rem}
figure{padding:4px}table{font-size:.85rem}}
@media print{:root{--ink:#000;--soft:#444;--line:#bbb;--page:#fff;--card:#fff}body{font-size:10.5pt}main{padding:0;
max-width:none}h2{break-after:avoid}figure,.card,tr,pre{break-inside:avoid}.scroll{overflow:visible}
.figures{grid-template-columns:1fr 1fr}}
"""


@dataclass(frozen=True, slots=True)
class Card:
    """A headline number: what it is, its value, and a remark such as its uncertainty."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with the text that stands for it and a caption."""

    png: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table under a heading; `facts` marks a list of names and values in place of columns of numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    facts: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs under a heading; with `code`, one block to copy."""

    title: str
    paragraphs: Sequence[str]
    code: bool = False


Section = Table | Text


def page(
    title: str, lead: str, cards: Iterable[Card], pictures: Iterable[Picture], sections: Iterable[Section], footer: str
) -> str:
    """Return a complete HTML page; every text is escaped.

    Parameters
    ----------
    title, lead : str
        Heading, and what the reader must know in one sentence.
    cards : iterable of Card
        Headline numbers.
    pictures : iterable of Picture
        Embedded in the page.
    sections : iterable of Table or Text
        What follows, in order.
    footer : str
        How it was made.
    """
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n'
        f'<div class="cards">{"".join(map(_card, cards))}</div>\n'
        f'<div class="figures">{"".join(map(_picture, pictures))}</div>\n'
        f"{''.join(_table(part) if isinstance(part, Table) else _text(part) for part in sections)}"
        f"<footer>{escape(footer)}</footer>\n</main></body></html>\n"
    )


def _card(card: Card) -> str:
    remark = f"<span>{escape(card.remark)}</span>" if card.remark else ""
    return f'<div class="card"><span>{escape(card.label)}</span><b>{escape(card.value)}</b>{remark}</div>'


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<figure><img alt="{escape(picture.alt)}" src="data:image/png;base64,{data}">{caption}</figure>\n'


def _table(table: Table) -> str:
    head = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in table.header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in table.rows)
    return (
        f"<h2>{escape(table.title)}</h2>\n"
        + (f'<p class="note">{escape(table.caption)}</p>' if table.caption else "")
        + f'<div class="scroll"><table{" class=facts" if table.facts else ""}>'
        + (f"<thead><tr>{head}</tr></thead>" if table.header else "")
        + f"<tbody>\n{body}</tbody></table></div>\n"
    )


def _text(part: Text) -> str:
    tag = "pre" if part.code else "p"
    return f"<h2>{escape(part.title)}</h2>\n" + "".join(f"<{tag}>{escape(line)}</{tag}>\n" for line in part.paragraphs)
