"""A campaign is evaluated as it runs: what was found is kept with it, and may end it."""

from __future__ import annotations

import json
from typing import Any

from apps._frame.tables import json_text
from apps.protein_remd import mbar
from apps.protein_remd.convergence import final
from apps.protein_remd.history import read_history
from apps.protein_remd.segments import put_once
from apps.protein_remd.until import BY_MBAR, Condition, is_checkpoint
from core import ConfigError
from core.storage import NotFound, Storage

VERDICTS = "verdicts/"
"""Below it are the figures after each round at which a campaign was evaluated."""


def evaluation(storage: Storage, rounds: int, keep: bool = True) -> dict[str, Any]:
    """Return the measures after so many rounds, as whoever evaluated first has kept them; who only reads keeps none."""
    key = f"{VERDICTS}{rounds:08d}.json"
    kept = _kept(storage, key)
    if kept is not None and kept["rounds"] == rounds and ("error" in kept or not mbar.installed()):
        return kept
    content = json_text(final(read_history(storage, last=rounds))).encode()
    if keep:
        put_once(storage, key, content)
    return dict(json.loads(content))


def last_evaluation(storage: Storage, finished: bool) -> dict[str, Any] | None:
    """Return what the last evaluation of a run gave, of a finished one that of its results; None if there was none."""
    if finished and (found := _kept(storage, "result.json", "convergence")) is not None:
        return found
    keys = [info.key for info in storage.list(VERDICTS)]
    return _kept(storage, max(keys)) if keys else None


def _kept(storage: Storage, key: str, *path: str) -> dict[str, Any] | None:
    """Return measures that were kept as JSON; None if there are none, or what is there is damaged."""
    try:
        found = json.loads(storage.get(key))
        for name in path:
            found = found[name]
        return dict(found) if {"rounds", "verdict", "checks"} <= set(found) else None
    except (NotFound, ValueError, TypeError, KeyError):
        return None


def reached(storage: Storage, rounds: int, conditions: tuple[Condition, ...], keep: bool = True) -> bool:
    """Evaluate a campaign if it is to be after so many rounds; returns whether there are conditions, and all hold.

    A function of the committed rounds alone, so that a campaign that was interrupted stops where another does.
    """
    if not is_checkpoint(rounds) or not (conditions or keep):
        return False
    found = evaluation(storage, rounds, keep)
    return bool(conditions) and all(condition.holds(found) for condition in conditions)


def check_conditions(conditions: tuple[Condition, ...]) -> None:
    """Refuse conditions that nothing here can evaluate.

    Raises
    ------
    ConfigError
        pymbar is missing.
    """
    if needing := next((one for one in conditions if one.measure in BY_MBAR), None):
        if not mbar.installed():
            raise ConfigError(f"--until {needing} needs pymbar: pip install 'fanfold[remd]'")
