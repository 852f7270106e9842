"""States of a round that has no record yet: what a driver that ended had run already."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from apps._frame.stored import Stored, sha256
from apps.protein_remd.records import stored
from apps.protein_remd.segments import STATE, Outcome, State, read_state
from core import InputError
from core.storage import Storage

_NAME = re.compile(rf"{STATE}\d{{8}}/\d{{4,}}-([0-9a-f]{{16}})\.npz")


def state_keys(storage: Storage, number: int) -> Iterator[str]:
    """Yield the keys of the states of a round; what others have put among them is none of the run's."""
    return (info.key for info in storage.list(f"{STATE}{number:08d}/") if _NAME.fullmatch(info.key))


def left_behind(storage: Storage, number: int, expected: Mapping[int, str], version: str | None) -> dict[int, Outcome]:
    """Return the segments of a round that need not be run again, by replica.

    Parameters
    ----------
    storage : Storage
        The run.
    number : int
        The round.
    expected : mapping
        ``segments.identity`` of its segments by replica: a worker of a run that was overwritten since may have written
        late.
    version : str, optional
        Of the engine that alone is taken; any, if it is None.

    Raises
    ------
    InputError
        A state is damaged.
    """
    found: dict[int, Outcome] = {}
    for key in state_keys(storage, number):
        data = storage.get(key)
        tag = sha256(data)
        if tag[7:23] not in key:
            raise InputError(f"{key} of the run is damaged: its content has changed; delete it, and resume the run")
        one = replace(stored(storage, {"key": key, "size": len(data), "tag": tag}), data=data)
        state = read_state(one)
        about = state.about
        replica = about["replica"]
        if about["task"] == expected.get(replica) and version in (None, about["version"]):
            found.setdefault(replica, _outcome(storage, state, replace(one, data=None)))
    return found


def _outcome(storage: Storage, state: State, one: Stored) -> Outcome:
    about = state.about
    frames = None if about["frames"] is None else stored(storage, about["frames"])
    return Outcome(
        about["replica"], one, state.potential, state.kinetic, about["salt"], about["version"], about["canary"], frames,
        state.snapshot.volume,
    )  # fmt: skip
