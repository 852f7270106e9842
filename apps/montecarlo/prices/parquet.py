"""The columns of a Parquet file as rows."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from apps.montecarlo.prices.grid import MAX_CELLS, Cell, Grid, Row, is_null, reason
from core import ConfigError, InputError

_QUOTED = re.compile(r"'([^']*)'")


def read_parquet(raw: bytes, source: str) -> Grid:
    """Read a Parquet file; its column names are the first row.

    Raises
    ------
    InputError
        The file is damaged or too large.
    ConfigError
        pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(f"{source}: Parquet needs pyarrow: pip install 'fanfold[parquet]', or export CSV") from None
    try:
        file = pq.ParquetFile(io.BytesIO(raw))
        if file.metadata.num_rows * file.metadata.num_columns > MAX_CELLS:
            raise InputError(f"{source}: more than {MAX_CELLS:,} cells; cut out the part you need")
        table = file.read()
        columns = [[_cell(value) for value in _plain(column, pa).to_pylist()] for column in table.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: damaged Parquet data ({reason(error)}); write the file again") from error
    rows = [Row(number, list(cells)) for number, cells in enumerate(zip(*columns, strict=True), 1)]
    return Grid(
        [*_header(table.column_names), *(row for row in rows if any(not is_null(cell) for cell in row.cells))], "row"
    )


def _header(names: Sequence[str]) -> list[Row]:
    """Return the names as a row; those of several levels, which pandas writes as tuples, as a row each."""
    levels = [_QUOTED.findall(name) if name.startswith("('") else [] for name in names]
    depth = max(map(len, levels), default=0)
    above = [Row(0, [parts[i] if i < len(parts) else None for parts in levels]) for i in range(depth)]
    return [*above, Row(0, [None if parts else str(name) for name, parts in zip(names, levels, strict=True)])]


def _plain(column: Any, pa: Any) -> Any:
    """Bring moments to microseconds: Python has no nanoseconds, and pyarrow would import pandas for them."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column


def _cell(value: Any) -> Cell:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return float(value)
    return None if value is None else str(value)
