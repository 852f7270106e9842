"""The commands that read a run, whether it is live, killed or finished."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from apps._frame import Session
from apps._frame.manifest import read_manifest
from apps._frame.manifest import status as frame_status
from apps._frame.params import build, parse_settings
from apps._frame.session import resume_command
from apps._frame.tables import facts_text
from apps.protein_remd import result
from apps.protein_remd.campaign import read_setup
from apps.protein_remd.history import read_history
from apps.protein_remd.params import Params, RunParams
from apps.protein_remd.records import last_round
from apps.protein_remd.stages import derived
from core import ConfigError, open_storage

RECENT = 100
"""Rounds that ``status`` looks at, so that it answers as fast after a thousand."""


def run_params(address: str) -> Params:
    """Return the parameters of a run.

    Raises
    ------
    ConfigError
        There is no campaign at the address.
    """
    manifest = read_manifest(address)
    if manifest["app"] != "apps.protein_remd":
        raise ConfigError(f"{address} holds a run of {manifest['app']}, not of apps.protein_remd")
    return build(Params, {}, None, parse_settings(Params, manifest["params"], f"{address}/manifest.json"))


def status(session: Session, params: RunParams) -> None:
    """Say how far a campaign is, and how it mixes."""
    asked = run_params(params.run).exchange.rounds
    found = frame_status(params.run)
    storage = open_storage(params.run)
    setup, committed = read_setup(storage), last_round(storage)
    state = found.state
    if state == "finished" and committed < asked:
        state = "interrupted"
    figures: dict[str, Any] = {**asdict(found), "state": state, "rounds": committed, "rounds_asked": asked}
    del figures["stages"]
    rows = [
        ("Run", found.address),
        ("State", state),
        ("Rounds", f"{committed:,} of {asked:,} committed"),
        *([("Driver", found.holder)] if found.holder else []),
        *([("Last said", found.note)] if found.note else []),
    ]
    parts: list[str] = []
    if setup is not None and committed:
        recent = result.figures(read_history(storage, max(1, committed - RECENT + 1)), setup, asked)
        figures["recent"] = {name: recent[name] for name in ("rounds", "states", "pairs", "second_eigenvalue")}
        parts.append(result.text(recent))
        rows.append(("Below", f"the last {recent['rounds']:,} rounds"))
    if state == "interrupted":
        rows.append(("Resume with", resume_command(session.app, params.run)))
    session.show(figures, "\n\n".join([facts_text(rows), *parts]))


def report(session: Session, params: RunParams) -> None:
    """Make tables, report and arrays again from what is committed; of a live run, as far as it is."""
    asked = run_params(params.run)
    storage = open_storage(params.run)
    setup = read_setup(storage)
    if setup is None:
        raise ConfigError(f"run {params.run} has not begun its first round; 'status' says what it does")
    files = derived(storage, setup, asked)
    complete = last_round(storage) >= asked.exchange.rounds
    for name, content in files.items():
        # The last of a run's results says that it is finished.
        if name != "result.json" or complete:
            storage.put(name, content)
    session.say(f"Report: {params.run}/report.html")
