"""The style of every picture: colours, type, axes that fit a phone, and PNG bytes."""

from __future__ import annotations

import io
import warnings
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from apps._frame.tables import for_terminal

INK = "#1b2733"
SOFT_INK = "#5b6875"
BLUE = "#1f5f99"
BAND_ALPHA = 0.17
RED = "#b3382c"
GRID = "#dfe4e9"
FONT = 11.5
"""Points; on a picture 5.6 inches wide this stays legible at the width of a phone."""
SIZE = (5.6, 4.9)
DPI = 160
"""Twice as many pixels as a phone is wide, 390, and what a desktop shows of two pictures beside each other."""
COMPRESSION = 3
"""Of 9; beyond it a file shrinks by a tenth in twice the time."""

TITLE: dict[str, Any] = {
    "loc": "left", "fontsize": FONT + 0.5, "color": INK, "fontweight": "bold", "pad": 7, "parse_math": False
}  # fmt: skip
"""Names of columns stand in titles, and a name with dollar signs is no formula."""


def new_figure(size: tuple[float, float], rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty picture of that size in inches, and its panels from the top down."""
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    panels: list[Axes] = list(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
        axes.tick_params(colors=SOFT_INK, labelsize=FONT - 1, length=0)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(6))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    return figure, panels


def png(figure: Figure, *, left: float, right: float, bottom: float = 0.085, hspace: float = 0.2) -> bytes:
    """Return the picture as PNG bytes; margins are shares of its width and height.

    Text is drawn as it is: a name from a file, such as of a column, may have dollar signs, or what does not print.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(for_terminal(text.get_text()))
    figure.subplots_adjust(left=left, right=right, bottom=bottom, top=1 - 0.37 / figure.get_figheight(), hspace=hspace)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that no font has is a box; the page has the name as it is
        figure.savefig(buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": COMPRESSION})
    return buffer.getvalue()


def short_price(value: float) -> str:
    """Write a price in as few digits as a label needs."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def short_loss(value: float) -> str:
    """Write a loss with a minus sign, a gain with a plus."""
    return f"−{short_price(value)}" if value >= 0 else f"+{short_price(-value)}"


def short_percent(share: float) -> str:
    """Write a fraction as a percentage of four digits."""
    return f"{100 * share:.4g}%"
