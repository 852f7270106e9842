"""A file's rows of cells, before anybody knows which are prices; and where a fault stands, for error messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

Cell = str | float | datetime | None
"""Text, or what a typed file (a workbook, Parquet) holds; None and empty text are no value."""

MAX_CELLS = 20_000_000
"""Most cells a price file may have: a century of minutes; more is no price file, or a trap."""

LONGEST_REASON = 160

NULL_WORDS = frozenset(
    {"", ".", "-", "--", "null", "none", "nil", "nan", "na", "n/a", "n.a.", "#n/a", "#na", "#n/a n/a", "#value!",
     "#ref!", "#div/0!", "no data", "nd"}
)  # fmt: skip
"""What stands in exports where there is no price."""


class Row(NamedTuple):
    """One row: its line in the file (row in a workbook), from 1, and its cells."""

    number: int
    cells: list[Cell]

    def cell(self, index: int) -> Cell:
        """Return a cell, None beyond the end of a short row; text without the blanks around it."""
        value = self.cells[index] if index < len(self.cells) else None
        return value.strip() if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The rows that are not empty.

    Parameters
    ----------
    rows : list of Row
    unit : str
        What a row's number counts: ``line`` or ``row``.
    delimiter : str
        What stands between cells; empty for typed files and a single column.
    notes : tuple of str
        What a reader must know of how they were found.
    """

    rows: list[Row]
    unit: str = "line"
    delimiter: str = ""
    notes: tuple[str, ...] = ()


def is_null(cell: Cell) -> bool:
    """Tell whether a cell holds no value: empty, or a word for it."""
    if isinstance(cell, str):
        return cell.strip().lower() in NULL_WORDS
    # A typed file writes a missing number as NaN.
    return cell is None or cell != cell


def reason(error: BaseException) -> str:
    """Write what a library says of its failure in one line."""
    return " ".join(str(error).split())[:LONGEST_REASON]


def shown(cell: Cell, longest: int = 40) -> str:
    """Write a cell for a message: quoted, on one line, not too long."""
    text = cell if isinstance(cell, str) else "" if cell is None else str(cell)
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")
