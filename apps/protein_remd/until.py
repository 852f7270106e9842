"""``--until``: what a campaign must have reached before it stops, short of its last round."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core import ConfigError

MEASURES: Mapping[str, tuple[str, bool]] = {
    "error": ("largest standard error of a free energy by MBAR, in kT", False),
    "effective_samples": ("Kish's effective sample size by MBAR, the least of all temperatures", True),
    "round_trips": ("from the lowest temperature to the highest and back, of all replicas together", True),
    "second_eigenvalue": ("of the transition matrix between temperatures", False),
    "halves": ("largest difference between the halves of the run, in standard errors", False),
}
"""What each measure is, and whether it grows as a campaign converges."""
BY_MBAR = frozenset(["error", "effective_samples"])

FIRST = 10
"""Rounds before which nothing is evaluated."""
GROWTH = 1.25
"""Rounds from one evaluation to the next, as a factor: all evaluations together take five times what the last takes."""

_CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Condition:
    """A measure and the bound that it must reach."""

    measure: str
    relation: str
    bound: float

    def holds(self, found: Mapping[str, Any]) -> bool:
        """Whether figures fulfil it; what is not known, or not finite, fulfils nothing."""
        value = found.get(self.measure)
        if value is None or not math.isfinite(value):
            return False
        strictly = value > self.bound if self.relation[0] == ">" else value < self.bound
        return bool(strictly or (len(self.relation) == 2 and value == self.bound))

    def __str__(self) -> str:
        return f"{self.measure}{self.relation}{self.bound!r}".removesuffix(".0")


def parse(value: str) -> tuple[Condition, ...]:
    """Return the conditions of a text such as ``error<0.2 and round_trips>=10``; none of an empty one.

    Raises
    ------
    ConfigError
        It is no such text; the message says where.
    """
    if not value.strip():
        return ()
    found = tuple(_condition(part) for part in re.split(r"\band\b", value))
    names = [one.measure for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{value!r} has {twice} twice; give each measure once")
    return found


def canonical(value: Any) -> str:
    """Parse a setting, and write it in one way."""
    if not isinstance(value, str):
        raise ValueError
    return " and ".join(map(str, parse(value)))


def _condition(part: str) -> Condition:
    matched = _CONDITION.fullmatch(part)
    if matched is None:
        raise ConfigError(f"{part.strip()!r} is no condition; write one as error<0.2, and more with 'and' between them")
    name, relation, number = matched.groups()
    if name not in MEASURES:
        nearest = difflib.get_close_matches(name, MEASURES, 1)
        hint = f" (is it {nearest[0]!r}?)" if nearest else ""
        raise ConfigError(f"there is no measure {name!r}{hint}; there are {', '.join(MEASURES)}")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound) or "_" in number:
        raise ConfigError(f"{part.strip()!r}: {number!r} is no number that {name} could reach")
    what, grows = MEASURES[name]
    if grows != (relation[0] == ">"):
        way, right = ("grows", ">=") if grows else ("falls", "<")
        raise ConfigError(
            f"{part.strip()!r}: {name} {way} as a campaign converges ({what}); write {name}{right}{bound:g}"
        )
    if (not grows and bound <= 0.0 and name != "second_eigenvalue") or (name == "second_eigenvalue" and bound <= -1.0):
        raise ConfigError(f"{part.strip()!r}: {name} never falls to that; give a bound above 0")
    if name == "second_eigenvalue" and bound > 1.0 or grows and bound <= 0.0:
        raise ConfigError(f"{part.strip()!r} holds from the beginning, and would stop a campaign that has hardly begun")
    return Condition(name, relation, bound)


def checkpoints() -> Iterator[int]:
    """Yield the rounds after which a campaign is evaluated: the same however often it was interrupted."""
    at = FIRST
    while True:
        yield at
        at = max(at + 1, int(at * GROWTH))


def is_checkpoint(rounds: int) -> bool:
    """Whether a campaign is evaluated after so many rounds."""
    return next(at for at in checkpoints() if at >= rounds) == rounds
