"""What is unusual in a dataset, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAMED = 3
"""Spectra that are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Quirk:
    """One unusual thing.

    Parameters
    ----------
    code : str
        What it is, in a word for programs.
    sentence : str
        What was found, without a full stop.
    remedy : str
        What was done about it, or what to do.
    count : int
        How many spectra, or values, it concerns; 0 where it concerns the file.
    fatal : bool
        Whether the dataset is refused for it.
    """

    code: str
    sentence: str
    remedy: str
    count: int = 0
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.sentence}; {self.remedy}"


def spectra_named(numbers: NDArray[np.int32] | Sequence[int]) -> str:
    """Write which spectra: the first few by their number in the file, and how many more there are."""
    first = ", ".join(f"{int(number):,}" for number in numbers[:NAMED])
    if len(numbers) == 1:
        return f"spectrum {first}"
    rest = f" and {len(numbers) - NAMED:,} more" if len(numbers) > NAMED else ""
    return f"spectra {first}{rest}"
