"""Ages, sizes and tables as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import printable

Row = tuple[object, ...]

_LONGEST_CELL = 1000

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def readable_age(seconds: float) -> str:
    """Return a time in its two largest units, such as ``2h 5m``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, name in _UNITS:
        count, left = divmod(left, unit)
        if count or parts:
            parts.append(f"{count}{name}")
    return " ".join(parts[:2]) or "0s"


def readable_size(count: float) -> str:
    """Return bytes in a decimal unit, such as ``1.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def table(rows: Sequence[Row]) -> str:
    """Return rows as text in columns; what is in them may come from strangers, so control characters are escaped."""
    shown = [[printable(cell, _LONGEST_CELL) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )
