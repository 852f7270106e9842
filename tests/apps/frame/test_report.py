from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps._frame.report import (
    FOLDER,
    Block,
    Card,
    Cards,
    Facts,
    Figures,
    Grid,
    Link,
    Panel,
    Picture,
    Report,
    Table,
    Text,
    page,
    report_files,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J\udce9"


def html(*blocks: Block, title: str = "t", lead: str = "l", footer: str = "f") -> str:
    return b"".join(page(Report(title, lead, blocks, footer))).decode()


def test_a_page_holds_its_blocks_in_their_order() -> None:
    said = html(
        Text("one", ["two"]), Cards([Card("three", "four", "five")]), Facts("six", [["seven", "eight"]]),
        Figures([Picture(PNG, "nine", "ten")]), Grid("eleven", [Picture(PNG, "twelve", "13")], "14"),
        Table("15", ["16"], [["17"]], "18"), Text("19", ["20"], code=True), title="21", lead="22", footer="23",
    )  # fmt: skip

    order = ["<h1>21", "22", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
             "14", "twelve", "13<", "15<", "18<", "16<", "17<", "19<", "<pre>20", "23"]  # fmt: skip
    body = said[said.index("<body>") :]
    positions = [body.index(part) for part in order if part not in ("14", "13<")]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    "block",
    [
        Text(HOSTILE, [HOSTILE]), Text(HOSTILE, [HOSTILE], code=True), Cards([Card(HOSTILE, HOSTILE, HOSTILE)]),
        Facts(HOSTILE, [[HOSTILE, HOSTILE]]), Figures([Picture(PNG, HOSTILE, HOSTILE)], HOSTILE),
        Grid(HOSTILE, [Picture(b"", HOSTILE, HOSTILE, href=HOSTILE)], HOSTILE),
        Table(HOSTILE, [HOSTILE], [[HOSTILE], [Link(HOSTILE, HOSTILE)]], HOSTILE, browse=True),
        Panel(HOSTILE, HOSTILE, [Facts(HOSTILE, [[HOSTILE, HOSTILE]])]),
    ],
    ids=lambda block: type(block).__name__,
)  # fmt: skip
def test_no_text_is_markup(block: Block) -> None:
    said = html(block, title=HOSTILE, lead=HOSTILE, footer=HOSTILE)

    assert "<script>alert" not in said
    assert "\x1b" not in said
    assert r"\xe9" in said
    assert "\"'" not in said.replace("\"'", "", 0) or "&quot;&#x27;" in said


class _Tags(HTMLParser):
    """Tags that are open and never closed, and those closed that were never open."""

    VOID = {"meta", "img", "input"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@given(st.text(st.characters()))
def test_any_text_makes_a_whole_page(text: str) -> None:
    reader = _Tags()

    reader.feed(html(Table(text, [text], [[text], [Link(text, text)]], browse=True), Text(text, [text]), title=text))

    assert reader.open == []
    assert "h2" in reader.seen or not text.strip()


@pytest.mark.parametrize(
    ("href", "shown"),
    [
        ("crops/a b.png", "crops/a%20b.png"),
        ("https://x.org/?a=1&b=2", "https://x.org/?a=1&amp;b=2"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("a#b?c%d", "a%23b%3Fc%25d"),
        ("caf\udce9.png", "caf%E9.png"),
        ("#ion-7", "#ion-7"),
        ("#ion 7", "%23ion%207"),
    ],
)
def test_a_link_leads_to_a_key_of_the_run_or_a_page(href: str, shown: str) -> None:
    assert f'<a href="{shown}">x</a>' in html(Table("", ["a"], [[Link("x", href)]]))


def test_numbers_stand_right_and_names_left() -> None:
    said = html(Table("", ["ion", "hits", "share", "error", "kind"], [["C6", "1,000", "3.5%", "0.1 ± 0.2", "7up"]]))

    assert re.findall(r"<td( class=n)?>", said) == ["", " class=n", " class=n", " class=n", ""]
    assert re.findall(r"<th scope=col( class=n)?>", said) == ["", " class=n", " class=n", " class=n", ""]


def test_rows_are_taken_one_by_one_as_the_page_is_written() -> None:
    taken = []

    def rows() -> object:
        for number in range(3):
            taken.append(number)
            yield [f"row {number}"]

    pieces = page(Report("t", "l", [Table("", ["a"], rows())]))  # type: ignore[arg-type]
    while b"row 0" not in next(pieces):
        pass

    assert taken == [0]
    assert b"row 2" in b"".join(pieces)


def test_a_table_without_rows_has_its_heading() -> None:
    assert "<th scope=col>a</th>" in html(Table("", ["a"], []))


def test_a_small_picture_leads_to_the_object_that_it_stands_for() -> None:
    said = html(Grid("t", [Picture(PNG, "a", "a.png", href="crops/a b.png")]))

    assert '<a href="crops/a%20b.png"><img alt="a" src="data:image/png;base64,' in said


def test_small_pictures_are_part_of_the_page() -> None:
    files = report_files(Report("t", "l", [Figures([Picture(PNG, "a")])]))

    assert list(files) == ["report.html"]
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}".encode() in b"".join(files["report.html"])


def test_pictures_that_are_large_together_are_files_beside_it() -> None:
    jpeg, svg = b"\xff\xd8jpeg", b"<svg/>"
    pictures = [Picture(PNG, "a"), Picture(jpeg, "b"), Picture(b"", "c", href="crops/c.png"), Picture(svg, "d")]

    files = report_files(Report("t", "l", [Figures(pictures[:1]), Grid("g", pictures[1:])]), embedded=len(PNG))

    written = {name: b"".join(content) for name, content in files.items()}
    said = written.pop("report.html").decode()
    names = [f"{FOLDER}00000.png", f"{FOLDER}00001.jpeg", f"{FOLDER}00002.svg"]
    assert written == dict(zip(names, [PNG, jpeg, svg], strict=True))
    assert re.findall(r'src="([^"]*)"', said) == [*names[:2], "crops/c.png", names[2]]


def test_a_page_fits_phones_paper_and_the_dark_and_has_no_script_it_does_not_need() -> None:
    said = html(Table("", ["a"], [["b"]]))

    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in said
    assert "@media print" in said
    assert "prefers-color-scheme:dark" in said
    assert "<script" not in said
    assert "http" not in said


CLICKS = """
const shown = () => [...document.querySelectorAll("tbody tr")].filter(row => !row.hidden);
const column = () => shown().map(row => row.cells[0].textContent).join();
const [byName, byHits] = document.querySelectorAll("thead button"), seen = [];
for (const button of [byHits, byHits, byName]) { button.click(); seen.push(column()); }
const find = document.querySelector("input");
find.value = "C 1"; find.dispatchEvent(new Event("input"));
seen.push(column(), document.querySelector("output").textContent);
document.title = seen.join("|");
"""


def title_after(folder: Path, said: str, script: str) -> str:
    """Return the title that a script leaves in a page, as a browser runs it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs a browser: apt-get install chromium")
    (folder / "page.html").write_text(said.replace("</body>", f"<script>{script}</script></body>"))

    flags = ["--headless", "--no-sandbox", "--virtual-time-budget=5000", f"--user-data-dir={folder}/profile"]
    command = [chromium, *flags, "--dump-dom", f"file://{folder}/page.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    titles = re.search("<title>(.*)</title>", done.stdout)
    assert titles is not None, done.stderr
    return titles[1]


def test_a_browser_sorts_and_searches_a_table(tmp_path: Path) -> None:
    rows = [["b", "10"], ["a", "9"], ["c10", "1,000"], ["c9", "-1"], ["d", "none"]]

    seen = title_after(tmp_path, html(Table("Words", ["name", "hits"], rows, browse=True)), CLICKS)

    assert seen.split("|") == ["c9,a,b,c10,d", "c10,b,a,c9,d", "a,b,c9,c10,d", "c9,c10", "2 of 5 rows"]


def test_a_row_leads_to_its_panel_and_a_panel_to_its_neighbours() -> None:
    panels = [Panel(f"ion-{number}", f"ion {number}", [Text("", [f"said of {number}"])]) for number in range(3)]

    said = html(Table("Ions", ["ion"], [[Link("first", "#ion-0")]]), *panels)

    assert '<a href="#ion-0">first</a>' in said
    found = re.findall(r'<section class="panel" id="([^"]*)"><nav>(.*?)</nav>', said)
    turns = [(key, re.findall('href="([^"]*)" class=(\\w+)', links)) for key, links in found]
    assert turns == [
        ("ion-0", [("#ion-1", "next"), ("#_", "close")]),
        ("ion-1", [("#ion-0", "previous"), ("#ion-2", "next"), ("#_", "close")]),
        ("ion-2", [("#ion-1", "previous"), ("#_", "close")]),
    ]
    assert "said of 2" in said


def test_pictures_of_panels_are_loaded_when_they_are_seen_and_can_be_files_beside_the_page() -> None:
    report = Report("t", "l", [Panel("a", "a", [Figures([Picture(PNG, "x")])])])

    files = report_files(report, embedded=0)

    said = b"".join(files["report.html"]).decode()
    assert f'<img alt="x" src="{FOLDER}00000.png" loading=lazy>' in said
    assert list(files) == [f"{FOLDER}00000.png", "report.html"]


PANELS = """
const open = () => document.querySelector(".panel:target")?.id ?? "none", seen = [open()];
const steps = [() => document.querySelector("td a").click(), ...["ArrowRight", "ArrowLeft", "Escape"].map(
  key => () => document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true})))];
const step = () => {
  if (!steps.length) { document.title = seen.join("|"); return; }
  addEventListener("hashchange", () => { seen.push(open()); step(); }, {once: true});
  steps.shift()();
};
step();
"""


def test_a_browser_opens_turns_and_closes_panels(tmp_path: Path) -> None:
    table = Table("Ions", ["ion"], [[Link("first", "#ion-0")]])

    said = html(table, *(Panel(f"ion-{number}", "t", [Text("", ["x"])]) for number in range(2)))

    assert title_after(tmp_path, said, PANELS).split("|") == ["none", "ion-0", "ion-1", "ion-0", "none"]
