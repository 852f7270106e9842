"""What a campaign would take, by the speed of a few steps on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

from apps._frame import Session
from apps._frame.plan import Plan, StagePlan, worked_seconds
from apps._frame.tables import duration
from apps.protein_remd.costs import cpu_clock
from apps.protein_remd.engines import Schedule, Snapshot, Warm, engine_named
from apps.protein_remd.params import Params
from apps.protein_remd.result import system_facts

CALIBRATION = 50
"""Steps of a short segment, which is compared with one twice as long."""
CALIBRATION_SECONDS = 0.2
"""CPU that the comparison takes at least, if it does not come to the most turns before."""
MOST_TURNS = 20
UNIT = 100
"""Rounds for which hours and price are told."""
COLDEST = 200.0
"""K; glasses of proteins and their water thaw about there. Source: Ringe and Petsko, Biophys. Chem. 105, 667 (2003)."""
ZERO_CELSIUS = 273.15
"""K."""
_NS_PER_FS = 1e-6
_HOUR = 3600.0


def doubts(params: Params, ladder: Sequence[float]) -> list[str]:
    """Return what of a ladder in K may be a mistake, in sentences."""
    if params.system.engine == "harmonic" or ladder[0] >= COLDEST:
        return []
    return [
        f"the ladder begins at {ladder[0]:g} K, at which molecules are frozen: temperatures are in kelvin, and "
        f"{ladder[0]:g} degrees Celsius are {ladder[0] + ZERO_CELSIUS:g} K"
    ]


def calibrated(warm: Warm, temperature: float) -> tuple[float, float]:
    """Return CPU seconds of a segment apart from its steps, and of a step; other load only adds, so the least count."""
    snapshot = warm.start(temperature, 1)
    taken: dict[int, list[float]] = {CALIBRATION: [], 2 * CALIBRATION: []}
    began = cpu_clock()
    for _ in range(MOST_TURNS):
        for steps, found in taken.items():
            before = cpu_clock()
            warm.run(snapshot, temperature, 1, Schedule(steps))
            found.append(cpu_clock() - before)
        if cpu_clock() - began > CALIBRATION_SECONDS and len(found) > 1:
            break
    short, long = (min(found) for found in taken.values())
    step = max(0.0, (long - short) / CALIBRATION)
    return max(0.0, short - CALIBRATION * step), step


def plan(session: Session, params: Params) -> Plan:
    """Say what a campaign would take, by the speed of a few steps here."""
    engine = engine_named(params.system.engine)
    files = engine.prepare(params.system, params.md)
    warm = engine.open_system(files)
    about = json.loads(files["facts.json"]) if "facts.json" in files else {}
    for sentence in about.get("cautions", []):
        session.tell(sentence)
    ladder = params.temperatures(warm.degrees)
    for sentence in doubts(params, ladder):
        session.tell(sentence)
    fixed, step = calibrated(warm, ladder[0])
    steps = params.md.steps * params.md.segments
    seconds = max(params.md.segments * fixed + steps * step, 1e-9)
    stage = _stage(params, params.exchange.rounds, len(ladder), seconds, warm.start(ladder[0], 1))
    hundred = _stage(params, UNIT, len(ladder), seconds, warm.start(ladder[0], 1))
    charged = session.executor.estimate(
        hundred.tasks, seconds, puts=hundred.puts + hundred.tasks, gets=hundred.gets
    )  # fmt: skip
    wall = worked_seconds(hundred, session.executor.workers)
    simulated = params.exchange.rounds * steps * params.md.timestep * _NS_PER_FS
    figures = {
        "temperatures": list(ladder),
        "steps": stage.tasks * steps,
        "steps_per_cpu_second": steps / seconds,
        "cpu_hours_per_replica": params.exchange.rounds * seconds / _HOUR,
        "cpu_hours_per_100_rounds": hundred.tasks * seconds / _HOUR,
        "wall_hours_per_100_rounds": wall / _HOUR,
        "cost_per_100_rounds": charged.cost,
    }
    facts = [
        *system_facts(about),
        ("Temperatures", ", ".join(f"{t:.6g}" for t in ladder) + " K"),
        ("Rounds", f"{params.exchange.rounds:,} of {len(ladder)} segments of {steps:,} steps"),
        (
            "Simulated",
            f"{simulated:,.4g} ns a replica, by {duration(params.exchange.rounds * seconds)} of CPU",
        ),
        (
            "Speed",
            f"{steps / seconds:,.3g} steps a CPU second, by {CALIBRATION} and {2 * CALIBRATION} steps here",
        ),
        ("100 rounds", f"{duration(hundred.tasks * seconds)} of CPU, {duration(wall)}, {_price(charged.cost)}"),
    ]
    return Plan([stage], facts, figures)


def _price(cost: float | None) -> str:
    if cost is None:
        return "at an unknown price"
    return f"about ${cost:.2g}" if cost else "for nothing"


def _stage(params: Params, rounds: int, replicas: int, seconds: float, snapshot: Snapshot) -> StagePlan:
    """Return what rounds read and write; the state of a replica counts as its task's commit."""
    tasks, output = rounds * replicas, params.output
    state = snapshot.x.nbytes + snapshot.v.nbytes
    steps = params.md.steps * params.md.segments
    frames = steps // output.frames * snapshot.x.size * 4 if output.frames else 0
    rows = steps // output.energies * 16 if output.energies else 0
    pieces = tasks if frames or rows else 0
    return StagePlan(
        "rounds", tasks, seconds, gets=tasks, puts=pieces + rounds, bytes_in=tasks * state,
        bytes_out=tasks * (state + frames + rows), at_once=replicas,
    )  # fmt: skip
