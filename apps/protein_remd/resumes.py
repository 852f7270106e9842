"""Where a campaign was taken up again, and whether swaps were accepted as often after as before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apps.protein_remd.records import RoundRecord
from apps.protein_remd.science.statistics import fisher, statistical_inefficiency
from apps.protein_remd.segments import put_once
from core.storage import Storage

RESUMES = "resumes/"
"""Below it an object for each round after which a driver took a run up; records have to be the same without."""
UNLIKELY = 1e-3
"""Chance that any of the comparisons of a run is flagged although nothing changed."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of a pair of neighbouring temperatures before and after a resume.

    Attributes
    ----------
    after : int
        The last round before the resume.
    pair : int
        Index of the lower temperature.
    before, since : tuple of int
        Swaps accepted and attempted, from the resume before and to the next one.
    chance : float
        Of a difference like this if nothing changed.
    flagged : bool
        Whether that is too little to believe, given how much is compared.
    """

    after: int
    pair: int
    before: tuple[int, int]
    since: tuple[int, int]
    chance: float
    flagged: bool


def note_resume(storage: Storage, rounds: int) -> None:
    """Leave word that a run was taken up after so many rounds."""
    if rounds:
        put_once(storage, f"{RESUMES}{rounds:08d}.json", json.dumps({"rounds": rounds}).encode())


def resumed_after(storage: Storage) -> list[int]:
    """Return the rounds after which a run was taken up, ascending."""
    names = (info.key.removeprefix(RESUMES).removesuffix(".json") for info in storage.list(RESUMES))
    return sorted(int(name) for name in names if name.isdecimal())


class Accepted:
    """Which attempts of neighbours were accepted, in each stretch between two resumes.

    Parameters
    ----------
    resumes : sequence of int
        See ``resumed_after``.
    """

    def __init__(self, resumes: Sequence[int]) -> None:
        self._resumes = list(resumes)
        self._stretches: list[dict[int, list[bool]]] = [{} for _ in range(len(self._resumes) + 1)]

    def look(self, record: RoundRecord) -> None:
        """Take in a round."""
        stretch = self._stretches[sum(rounds < record.round_number for rounds in self._resumes)]
        for attempt in record.attempts:
            if attempt.upper == attempt.lower + 1:
                stretch.setdefault(attempt.lower, []).append(attempt.accepted)

    def comparisons(self) -> list[Comparison]:
        """Return each pair before and after each resume, where it was attempted in both stretches."""
        found = []
        for rounds, before, since in zip(self._resumes, self._stretches, self._stretches[1:], strict=False):
            for pair in sorted(before.keys() & since.keys()):
                then, now = (np.array(stretch[pair], dtype=np.float64) for stretch in (before, since))
                found.append((rounds, pair, _counts(then), _counts(now), _chance(then, now)))
        return [Comparison(*each, flagged=each[-1] < UNLIKELY / len(found)) for each in found]


def _counts(series: FloatArray) -> tuple[int, int]:
    return int(series.sum()), len(series)


def _chance(then: FloatArray, now: FloatArray) -> float:
    """Return the chance of the difference; successive swaps of slow molecules say much the same, and count as fewer."""
    each = max(map(statistical_inefficiency, (then, now)))
    effective = []
    for accepted, tried in map(_counts, (then, now)):
        worth = max(1, round(tried / each))
        effective.append((min(worth, round(accepted / each)), worth))
    return fisher(*effective)


def warnings(comparisons: Iterable[Comparison], temperatures: Sequence[float]) -> list[str]:
    """Return a sentence for each comparison that is flagged."""
    return [
        f"Swaps between {temperatures[one.pair]:g} and {temperatures[one.pair + 1]:g} K were accepted in "
        f"{one.before[0] / one.before[1]:.1%} of the attempts before the resume after round {one.after:,}, and in "
        f"{one.since[0] / one.since[1]:.1%} since, beyond chance ({one.chance:.1g}): 'verify' says whether what was "
        "computed since is of the same system."
        for one in comparisons
        if one.flagged
    ]
