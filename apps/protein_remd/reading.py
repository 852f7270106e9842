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
from apps.protein_remd import evaluations, result, resumes, until
from apps.protein_remd.campaign import read_setup
from apps.protein_remd.history import read_history
from apps.protein_remd.params import Params, RunParams
from apps.protein_remd.records import last_round
from apps.protein_remd.resumes import Accepted, resumed_after
from apps.protein_remd.stages import derived
from core import ConfigError, open_storage
from core.storage import Storage

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
    params_of_run = run_params(params.run)
    asked = params_of_run.exchange.rounds
    found = frame_status(params.run)
    storage = open_storage(params.run)
    setup, committed = read_setup(storage), last_round(storage)
    state = found.state
    if state == "finished" and not _complete(storage, committed, params_of_run):
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
        accepted = Accepted(resumed_after(storage))
        recent = result.figures(read_history(storage, max(1, committed - RECENT + 1), accepted.look), setup, asked)
        figures["recent"] = {name: recent[name] for name in ("rounds", "states", "pairs", "second_eigenvalue")}
        comparisons = accepted.comparisons()
        figures["resumes"] = [asdict(each) for each in comparisons]
        recent["resumes_flagged"] = resumes.warnings(comparisons, setup.temperatures)
        parts.append(result.text(recent))
        rows.append(("Below", f"the last {recent['rounds']:,} rounds"))
    if (last := evaluations.last_evaluation(storage, state == "finished")) is not None:
        figures["convergence"] = last
        rows.append(("Verdict", last["verdict"]))
    if state == "interrupted":
        rows.append(("Resume with", resume_command(session.app, params.run)))
    session.show(figures, "\n\n".join([facts_text(rows), *parts]))


def _complete(storage: Storage, committed: int, asked: Params) -> bool:
    """Whether a run has what was asked of it last: all its rounds, or what it was to reach before."""
    conditions = until.parse(asked.exchange.until)
    return committed >= asked.exchange.rounds or evaluations.reached(storage, committed, conditions, keep=False)


def report(session: Session, params: RunParams) -> None:
    """Make tables, report and arrays again from what is committed; of a live run, as far as it is."""
    asked = run_params(params.run)
    storage = open_storage(params.run)
    setup = read_setup(storage)
    if setup is None:
        raise ConfigError(f"run {params.run} has not begun its first round; 'status' says what it does")
    complete = _complete(storage, last_round(storage), asked)
    with derived(storage, setup, asked) as files:
        for name, content in files.items():
            # The last of a run's results says that it is finished.
            if name != "result.json" or complete:
                try:
                    storage.put(name, content)
                except PermissionError as error:
                    raise ConfigError(str(error)) from error  # as of a run that cannot be resumed
    session.say(f"Report: {params.run}/report.html")
