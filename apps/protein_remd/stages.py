"""The commands that compute: a campaign in rounds, and a pilot that proposes a ladder."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from apps._frame import Session
from apps._frame.run import Run
from apps._frame.tables import TextTable, counted, facts_text, json_text
from apps.protein_remd import evaluations, result, until
from apps.protein_remd.campaign import Campaign, Setup
from apps.protein_remd.costs import COSTS, read_spent, spent_figures, spent_rows
from apps.protein_remd.evaluations import VERDICTS
from apps.protein_remd.frames import Watched, seen_by_state
from apps.protein_remd.history import (
    LEAST_ROUNDS,
    LEAST_STATES,
    TARGET,
    History,
    gathered,
    predicted_acceptances,
    propose,
    read_history,
)
from apps.protein_remd.params import Params
from apps.protein_remd.planning import doubts
from apps.protein_remd.records import ROUNDS, RoundRecord, last_round
from apps.protein_remd.resumes import RESUMES, Accepted, note_resume, resumed_after
from apps.protein_remd.segments import BUNDLE, FRAMES, QUARANTINE, STATE
from apps.protein_remd.tables import Tables
from core import ConfigError, open_storage
from core.storage import Storage, StorageError

RESULTS = (
    "exchange.csv",
    "exchange.parquet",
    "u_kn.npz",
    "trajectories/",
    "report-files/",
    "report.html",
    "result.json",
)
KEEPS = (BUNDLE, STATE, ROUNDS, FRAMES, QUARANTINE, VERDICTS, RESUMES, COSTS)
SHORT = 0.5
"""Of 1/friction: what velocities have hardly begun to forget."""


def run(session: Session, params: Params) -> None:
    """Run a campaign, or go on with it, to its last round."""
    rounds = params.exchange.rounds
    evaluations.check_conditions(until.parse(params.exchange.until))
    with session.open_run(RESULTS, keeps=KEEPS, versions={"numpy": np.__version__}) as opened:
        campaign = Campaign(opened.storage, session.executor, params, check=opened.check, warn=session.tell)
        if campaign.round_number > rounds:
            raise ConfigError(
                f"--rounds {rounds}: run {session.output} has {campaign.round_number:,} committed rounds already; ask "
                "for at least as many"
            )
        opened.remember(found_out(campaign.setup))
        session.say(f"{result.system_text(campaign.setup)}\n\n{result.ladder_text(campaign.setup)}\n")
        doubted = doubts(params, campaign.setup.temperatures)
        for sentence in [*campaign.setup.facts.get("cautions", []), *doubted]:
            session.tell(sentence)
        warn_of_short_segments(session, params)
        drive(session, opened, campaign, params)
        if opened.finished and not result.answers(opened.figures(), params):
            opened.reopen()
        if not opened.finished:
            publish(opened, campaign.setup, params)
        figures = opened.figures()
        taken = spent_figures(read_spent(opened.storage), params)
    session.show({**figures, "spent": taken}, result.text)
    session.say(f"\n{facts_text(spent_rows(taken, figures['rounds']))}")
    session.say(f"\nReport: {session.output}/report.html")


def warn_of_short_segments(session: Session, params: Params) -> None:
    """Say so where swaps come before velocities have forgotten the last one."""
    time_between = params.md.steps * params.md.segments * params.md.timestep * 1e-3
    if params.system.engine == "harmonic" and params.system.dynamics == "boltzmann":
        return
    if time_between * params.md.friction < SHORT:
        session.tell(
            f"{time_between:.3g} ps between exchanges are short against 1/friction = {1 / params.md.friction:.3g} ps: "
            "successive rounds say much the same; raise --steps"
        )


def drive(session: Session, opened: Run, campaign: Campaign, params: Params) -> None:
    """Run what is missing of the rounds of a campaign, or of those that it takes until its conditions hold."""
    rounds, conditions = params.exchange.rounds, until.parse(params.exchange.until)

    def ends() -> bool:
        here = campaign.round_number
        return here >= rounds or evaluations.reached(opened.storage, here, conditions)

    if ends():
        if campaign.round_number < rounds:
            session.tell(
                f"{params.exchange.until} holds after {counted(campaign.round_number, 'round')}, so that no more are "
                "run; --until '' runs on"
            )
        return
    if opened.finished:
        opened.reopen()
    note_resume(opened.storage, campaign.round_number)
    replicas = len(campaign.setup.temperatures)
    with session.together("rounds", rounds * replicas, campaign.round_number * replicas):
        try:
            while True:
                campaign.advance()
                opened.keep_alive()
                if ends():
                    break
        finally:
            # An account that cannot be written is no reason to hide why a campaign stopped.
            with suppress(StorageError):
                campaign.ledger.write()


def found_out(setup: Setup) -> dict[str, Any]:
    """Return what the manifest says of a prepared system."""
    return {
        "bundle": setup.bundle,
        "engine": setup.engine,
        "version": setup.version,
        "canary": setup.canary,
        "temperatures": list(setup.temperatures),
        "degrees_of_freedom": setup.degrees,
        **setup.facts,
    }


def publish(opened: Run, setup: Setup, params: Params) -> None:
    """Write all that is made of the rounds."""
    with derived(opened.storage, setup, params) as files:
        opened.publish(files)


@contextmanager
def derived(storage: Storage, setup: Setup, params: Params) -> Iterator[dict[str, Any]]:
    """Give tables, arrays, report and figures of the committed rounds, by name; the large ones on disk meanwhile."""
    from apps.protein_remd.report import report_files_of

    last = last_round(storage)
    with tempfile.TemporaryDirectory(prefix="fanfold-") as folder:
        tables = Tables(Path(folder), setup.temperatures, last)
        accepted = Accepted(resumed_after(storage))

        def look(record: RoundRecord) -> None:
            tables.add(record)
            accepted.look(record)

        history = read_history(storage, each=look, last=last)
        figures = result.figures(history, setup, params.exchange.rounds)
        figures |= result.believed(history, accepted.comparisons(), params)
        if params.output.frames and setup.engine != "harmonic":
            topology = storage.get(f"{BUNDLE}{setup.bundle}/topology.pdb")
            watched, rounds = Watched(topology), range(1, history.rounds + 1)
            figures["helix"] = seen_by_state(storage, topology, rounds, len(setup.temperatures), watched)
            figures["isomers"] = {"frames": watched.frames, "cis": watched.cis, "inverted": watched.inverted}
            figures["isomers_said"] = watched.warnings()
        yield {
            **tables.files(),
            **report_files_of(history, figures, params, spent_figures(read_spent(storage), params)),
            "result.json": json_text(figures, indent=2).encode(),
        }


def pilot(session: Session, params: Params) -> None:
    """Run a short campaign that is not kept, and propose a ladder."""
    if params.ladder.least < LEAST_STATES or params.exchange.rounds < LEAST_ROUNDS:
        raise ConfigError(
            f"a ladder is proposed by at least {LEAST_STATES} temperatures and {LEAST_ROUNDS} rounds, and "
            f"{params.ladder.least} and {params.exchange.rounds} were asked for; give --lowest and --highest, or more "
            "--rounds"
        )
    if params.exchange.until:
        session.tell(
            f"--until {params.exchange.until} ends no pilot: all its {params.exchange.rounds:,} rounds are run"
        )
    storage = open_storage(f"memory://pilot-{secrets.token_hex(8)}")
    campaign = Campaign(storage, session.executor, params, warn=session.tell)
    for sentence in doubts(params, campaign.setup.temperatures):
        session.tell(sentence)
    replicas = len(campaign.setup.temperatures)
    with session.together("pilot", params.exchange.rounds * replicas):
        history = gathered(campaign.advance() for _ in range(params.exchange.rounds))
    figures = result.figures(history, campaign.setup, params.exchange.rounds)
    target = params.ladder.acceptance or TARGET
    try:
        figures |= {"target": target, "proposed": list(propose(history, target))}
    except ValueError as error:
        raise ConfigError(f"no ladder is proposed: {error}; lower --highest") from None
    session.show(figures, lambda found: f"{result.text(found)}\n\n{_proposal_text(history, found)}")


def _proposal_text(history: History, found: Mapping[str, Any]) -> str:
    ladder = found["proposed"]
    accepted = [*(f"{each:.0%}" for each in predicted_acceptances(history, ladder)), ""]
    rows = [(f"{t:.2f}", cell) for t, cell in zip(ladder, accepted, strict=True)]
    table = TextTable(f"Proposed for an acceptance of {found['target']:g}", ("T (K)", "swaps up"), rows).text()
    return f"{table}\n\n--temperatures {','.join(f'{t:.2f}' for t in ladder)}"
