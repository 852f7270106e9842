from __future__ import annotations

from apps._report import Card, Picture, Table, Text, page


def test_a_page_holds_its_parts_in_order_and_escapes_every_text() -> None:
    html = page(
        "T<1>", "L&", [Card("c<", "v<", "r<")], [Picture(b"png", 'a"<', "p<")],
        [Table("tt", ["h<"], [["d<"]], "cap<"), Text("code", ["<x>"], code=True)], "f<",
    )  # fmt: skip

    order = ["<title>T&lt;1&gt;", "L&amp;", "c&lt;", "v&lt;", "r&lt;", "a&quot;&lt;", "p&lt;", "cap&lt;", "h&lt;",
             "d&lt;", "<pre>&lt;x&gt;</pre>", "f&lt;"]  # fmt: skip
    positions = [html.index(part) for part in order]
    assert positions == sorted(positions)


def test_a_page_fits_phones_paper_and_the_dark() -> None:
    html = page("t", "", [], [], [], "")

    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in html
    assert "@media print" in html
    assert "prefers-color-scheme:dark" in html
