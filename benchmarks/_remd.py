"""Replica exchange and what it is measured against, each in a fresh process; an answer is its last line."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from apps.protein_remd.__main__ import APP
from apps.protein_remd.campaign import Campaign, Setup, prepare
from apps.protein_remd.costs import read_spent
from apps.protein_remd.engines import Schedule, Warm, engine_named
from apps.protein_remd.params import MD, Exchange, Ladder, Params
from apps.protein_remd.system import System
from benchmarks._measure import adopt_orphans, tree_cpu
from core import FunctionExecutor, open_storage
from core.storage import process_storage

REPLICAS, LOWEST, HIGHEST = 8, 300.0, 400.0
SYSTEMS = {
    # As many atoms as a WW domain, built from its sequence: no file is needed.
    "WW": System(sequence="KLPPGWEKRMSRSSGRVYYFNHITNASQWERPSG", solvent="vacuum", platform="CPU"),
    "alanine": System(sequence="A", platform="Reference"),
    "harmonic": System(engine="harmonic", dof=30),
}
EARLY, LATE = 10, 1000
"""Rounds at which a round is measured."""
TURNS, TURN = 8, 20
"""How often, and how many rounds at a time."""


def params_of(name: str, rounds: int, steps: int) -> Params:
    return Params(
        system=SYSTEMS[name], md=MD(steps=steps), exchange=Exchange(rounds=rounds),
        ladder=Ladder(count=REPLICAS, lowest=LOWEST, highest=HIGHEST),
    )  # fmt: skip


def flags_of(params: Params) -> list[str]:
    """Return the flags of the command that mean the same."""
    given = {
        "sequence": params.system.sequence, "solvent": params.system.solvent, "platform": params.system.platform,
        "steps": params.md.steps, "count": REPLICAS, "lowest": LOWEST, "highest": HIGHEST,
    }  # fmt: skip
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def begin(name: str, steps: int, place: str) -> dict[str, Any]:
    """Prepare a system, and run one round of it: what every other flow begins from."""
    command = ["run", *flags_of(params_of(name, 1, steps)), "--rounds", "1", "--workers", "1", "--output", place]
    status = APP.main([*command, "--quiet"])
    setup, _ = prepare(open_storage(place), params_of(name, 1, steps))
    return {"status": status, "atoms": setup.facts["atoms"]}


def app(name: str, steps: int, rounds: int, workers: int, place: str) -> dict[str, Any]:
    """The command, from its start to its report, with CPU from the start of this interpreter; and its rounds alone."""
    copy = f"{place}-{os.getpid()}"
    shutil.copytree(place, copy, ignore=shutil.ignore_patterns("costs"))
    started = time.perf_counter()
    status = APP.main(["resume", copy, "--rounds", str(rounds + 1), "--workers", str(workers), "--quiet"])
    wall = time.perf_counter() - started
    spent = read_spent(open_storage(copy))
    shutil.rmtree(copy)
    alone = spent.segment_seconds + spent.driver_seconds
    return {"status": status, "wall": wall, "cpu": tree_cpu(), "rounds": alone}


def opened(place: str) -> tuple[Setup, dict[str, bytes], Warm]:
    setup, files = prepare(open_storage(place), params_of("alanine", 1, 1))
    return setup, dict(files), engine_named(setup.engine).open_system(files)


def pure(name: str, steps: int, rounds: int, place: str) -> dict[str, Any]:
    """The same steps in one context that is never put back, on one processor.

    The CPU platform hands each step to a thread of its own; where a second processor idles, both wait for each other
    across the two, and a step costs half as much again.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    setup, _, warm = opened(place)
    simulation: Any = warm
    first = simulation.start(LOWEST, 1)
    simulation.run(first, LOWEST, 1, Schedule(1))
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        for temperature in setup.temperatures:
            simulation._integrator.setTemperature(temperature)
            simulation._integrator.step(steps)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def sampler(name: str, steps: int, rounds: int, place: str) -> dict[str, Any]:
    """OpenMM's own replica exchange, one replica after the other in one context."""
    import openmm
    from openmm import app as omm
    from openmm import unit

    setup, files, _ = opened(place)
    about = json.loads(files["engine.json"])
    integrator = openmm.LangevinMiddleIntegrator(LOWEST, about["friction"], about["timestep"] * 1e-3)
    platform = openmm.Platform.getPlatformByName(about["platform"])
    system = openmm.XmlSerializer.deserialize(files["system.xml"].decode())
    topology = omm.PDBFile(io.StringIO(files["topology.pdb"].decode())).topology
    threads = {"Threads": "1"} if about["platform"] == "CPU" else {}
    simulation = omm.Simulation(topology, system, integrator, platform, threads)
    simulation.context.setPositions(np.load(io.BytesIO(files["start.npy"])))
    simulation.context.setVelocitiesToTemperature(LOWEST, 1)
    simulation.step(1)
    states = [{"temperature": t * unit.kelvin} for t in setup.temperatures]
    exchange = omm.ReplicaExchangeSampler(states, simulation, steps)
    wall, cpu = time.perf_counter(), time.process_time()
    exchange.simulate(rounds)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def processes(name: str, steps: int, rounds: int, place: str) -> dict[str, Any]:
    """A process for each segment, two at a time, which reads its state from a file and writes it to one."""
    folder = Path(f"{place}-processes")
    folder.mkdir(exist_ok=True)
    setup, _, warm = opened(place)
    first = warm.start(LOWEST, 1)
    for replica in range(REPLICAS):
        np.savez(folder / f"{replica}.npz", x=first.x, v=first.v)

    def segment(replica: int) -> None:
        words = ["one", place, folder / f"{replica}.npz", setup.temperatures[replica], steps]
        subprocess.run([sys.executable, "-m", "benchmarks._remd", *map(str, words)], check=True)

    wall, cpu = time.perf_counter(), tree_cpu()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            list(pool.map(segment, range(REPLICAS)))
    answer = {"wall": time.perf_counter() - wall, "cpu": tree_cpu() - cpu}
    shutil.rmtree(folder)
    return answer


def one(place: str, file: str, temperature: float, steps: int) -> dict[str, Any]:
    """A segment of ``processes``."""
    from apps.protein_remd.engines import Snapshot

    _, _, warm = opened(place)
    with np.load(file) as found:
        trace = warm.run(Snapshot(found["x"], found["v"]), temperature, 1, Schedule(steps))
    np.savez(file, x=trace.snapshot.x, v=trace.snapshot.v, U=trace.potential)
    return {}


def long(name: str, steps: int, place: str) -> dict[str, Any]:
    """Two campaigns, one early and one late, a few rounds of each in turn: CPU of a round, and memory."""
    memory, taken = [], {"early": 0.0, "late": 0.0}
    with FunctionExecutor(workers=2) as executor:
        campaigns = {
            when: Campaign(open_storage(f"{place}-{when}"), executor, params_of(name, LATE + TURNS * TURN, steps))
            for when in ("late", "early")
        }
        for when, goal in (("late", EARLY), ("late", LATE), ("early", EARLY)):
            while campaigns[when].round_number < goal:
                campaigns[when].advance()
            memory.append({"driver": resident(os.getpid()), "worker": largest_worker()})
        for _ in range(TURNS):
            for when, campaign in campaigns.items():
                cpu = tree_cpu()
                for _ in range(TURN):
                    campaign.advance()
                taken[when] += (tree_cpu() - cpu) / (TURNS * TURN)
    return {**taken, "memory": memory[:2]}


def requests(place: str) -> dict[str, Any]:
    """Requests to the storage in a round, of driver and workers together, early and late."""
    windows = []
    with FunctionExecutor(compute="serial") as executor:
        storage = open_storage(place)
        campaign = Campaign(storage, executor, params_of("harmonic", 200, 100))
        stores = {id(each): each for each in (storage, process_storage(storage.address))}.values()
        for begin in (EARLY, 100):
            while campaign.round_number < begin:
                campaign.advance()
            before = sum(each.requests for each in stores)
            campaign.advance()
            windows.append(sum(each.requests for each in stores) - before)
    return {"requests": windows}


def resident(pid: int) -> float:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))


def largest_worker() -> float:
    """Return the resident memory of the largest process below this one."""
    waiting, found = [os.getpid()], [0.0]
    while waiting:
        tasks = Path(f"/proc/{waiting.pop()}/task").iterdir()
        below = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        found += map(resident, below)
        waiting += below
    return max(found)


FLOWS = {each.__name__: each for each in (begin, app, pure, sampler, processes, one, long, requests)}

if __name__ == "__main__":
    adopt_orphans()
    which, *rest = sys.argv[1:]
    given = [int(word) if word.isdigit() else float(word) if word[:1].isdigit() else word for word in rest]
    print(json.dumps(FLOWS[which](*given)))
