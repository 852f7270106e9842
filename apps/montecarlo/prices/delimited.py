"""Text to rows: which character stands between the cells, and the cells."""

from __future__ import annotations

import csv
import io
from collections import Counter

from apps.montecarlo.prices.grid import MAX_CELLS, Grid, Row, reason
from core import InputError

DELIMITERS = "\t;|,"
"""In the order they are tried: a comma may also stand within a number, the others may not."""
SAMPLE = 50_000
"""Characters from which the delimiter is told."""


def read_text(text: str, source: str) -> Grid:
    """Split text into rows of cells; empty rows are left out.

    Raises
    ------
    InputError
        Quotes are not closed, or a cell is no cell.
    """
    delimiter = find_delimiter(text)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter or ",", strict=True)
    rows: list[Row] = []
    cells, before = 0, 0
    try:
        for row in reader:
            cells += len(row)
            if cells > MAX_CELLS:
                raise InputError(f"{source}: more than {MAX_CELLS:,} cells; cut out the part you need")
            if reader.line_num > before + 1:
                raise InputError(
                    f"{source}: line {before + 1} begins a cell of {reader.line_num - before} lines; close its "
                    "quote, or remove the line breaks in it"
                )
            before += 1
            if "".join(row).strip():
                rows.append(Row(before, list(row)))
    except csv.Error as error:
        raise InputError(
            f"{source}: line {reader.line_num} is not CSV ({reason(error)}); export it as plain CSV"
        ) from error
    return Grid(rows, "line", delimiter)


def find_delimiter(text: str) -> str:
    """Return the character that most lines have equally often; empty when there is none, as in a single column."""
    lines = [line for line in text[:SAMPLE].split("\n") if line.strip()]
    for delimiter in DELIMITERS:
        count, times = Counter(line.count(delimiter) for line in lines).most_common(1)[0]
        if count and 2 * times > len(lines):
            return delimiter
    # Long preambles and commas within quotes leave no majority; then the likeliest is what the most lines have.
    likeliest = max(DELIMITERS, key=lambda delimiter: sum(delimiter in line for line in lines))
    return likeliest if any(likeliest in line for line in lines) else ""
