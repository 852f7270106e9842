"""What is in a synthetic specimen, and how an annotation of it compares."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from apps._frame.tables import csv_bytes
from core import InputError

LEVELS = (0.05, 0.1, 0.2, 0.5)
"""False discovery rates at which annotations are counted, as METASPACE has them."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One compound of a specimen, as one ion.

    Parameters
    ----------
    formula, adduct : str
        As the database and the annotations have them; empty for a compound that is not in the database.
    mz : float
        Of its strongest peak.
    abundance : float
        Intensity of that peak where the compound is most abundant.
    distribution : int
        Which of the shapes it has over the specimen.
    """

    formula: str
    adduct: str
    mz: float
    abundance: float
    distribution: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Annotations at one level against the truth.

    Parameters
    ----------
    level : float
        Estimated false discovery rate up to which ions are annotated.
    annotated, right : int
        Ions annotated, and those of them that are in the specimen.
    sensitivity : float or None
        Share of the ions in the specimen that are annotated; None if there are none.
    false_discovery_rate : float or None
        Share of the annotated ions that are not in the specimen; None if there are none.
    """

    level: float
    annotated: int
    right: int
    sensitivity: float | None
    false_discovery_rate: float | None


def assess(
    planted: Collection[tuple[str, str]], annotated: Iterable[tuple[str, str, float]], levels: Sequence[float] = LEVELS
) -> list[Agreement]:
    """Compare annotations with the truth.

    Parameters
    ----------
    planted : collection of (formula, adduct)
    annotated : iterable of (formula, adduct, fdr)
        Target ions with the false discovery rate estimated for each.
    levels : sequence of float

    Returns
    -------
    list of Agreement
        One a level.
    """
    truth = frozenset(planted)
    rows = [((formula, adduct) in truth, rate) for formula, adduct, rate in annotated]
    found = []
    for level in levels:
        hits = [is_right for is_right, rate in rows if rate <= level]
        right = sum(hits)
        found.append(
            Agreement(
                level,
                len(hits),
                right,
                right / len(truth) if truth else None,
                1.0 - right / len(hits) if hits else None,
            )
        )
    return found


def truth_csv(compounds: Iterable[Planted]) -> bytes:
    """Write compounds as a table."""
    return csv_bytes([each.name for each in fields(Planted)], map(astuple, compounds))


def read_truth(data: bytes, source: str) -> list[Planted]:
    """Read what `truth_csv` has written.

    Raises
    ------
    InputError
        It is another table.
    """
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(data.decode(errors="replace"))))
    try:
        return [
            Planted(
                _unquoted(row["formula"]),
                _unquoted(row["adduct"]),
                float(row["mz"]),
                float(row["abundance"]),
                int(row["distribution"]),
            )
            for row in rows
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{source}: no table of what is in a specimen; give one that synth has written") from error


def _unquoted(cell: str) -> str:
    """Take away what keeps a spreadsheet from computing a cell that begins with a sign."""
    return cell.removeprefix("'")
