"""The record of checked prices that everything after the reading works on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from apps.montecarlo.prices.calendar import Spacing, spacing_of

FloatArray = NDArray[np.float64]

_spacing = lru_cache(maxsize=8)(spacing_of)

MIN_ROWS = 30
"""Fewest price rows a calibration accepts: 29 returns leave a standard error of 13% on the volatility."""


@dataclass(frozen=True, slots=True, eq=False)
class PriceHistory:
    """Checked prices, oldest first.

    Parameters
    ----------
    names : tuple of str
        Column or series names, one per asset.
    dates : tuple of datetime.date
        One per row, strictly increasing, all datetimes where prices are of times of the day; empty when the source has
        no date column.
    prices : float64 array, shape (rows, assets)
        Finite prices in the unit of the source; positive unless they were read for a model that takes others.
    source : str
        Where the prices came from, for people.
    lines : tuple of int
        Line of the source that each row stands in; empty where several sources were joined.
    unit : str
        What `lines` count: ``line``, or ``row`` of a workbook.
    notes : tuple of str
        What a reader must know of how the prices were read.
    """

    names: tuple[str, ...]
    dates: tuple[date, ...]
    prices: FloatArray
    source: str
    lines: tuple[int, ...] = ()
    unit: str = "line"
    notes: tuple[str, ...] = ()

    @property
    def log_returns(self) -> FloatArray:
        """Log returns of one step, shape (rows - 1, assets)."""
        return np.diff(np.log(self.prices), axis=0)

    @property
    def changes(self) -> FloatArray:
        """Changes of the price in one step, in its unit, shape (rows - 1, assets)."""
        return np.diff(self.prices, axis=0)

    @property
    def spacing(self) -> Spacing:
        """How far apart the prices are."""
        return _spacing(self.dates)

    @property
    def span(self) -> str:
        """First and last date (or the number of rows where the source has no dates)."""
        return f"{self.dates[0]} to {self.dates[-1]}" if self.dates else f"{len(self.prices)} undated rows"

    def place(self, row: int) -> str:
        """Write where a row stands: its line in the source, and its date."""
        parts = [f"{self.unit} {self.lines[row]}"] if self.lines else []
        parts += [str(self.dates[row])] if self.dates else []
        return ", ".join(parts) or f"row {row + 1}"
