"""Segments as tasks: from the state of a replica to its next one, an object that its content names."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from apps._frame.stored import Stored, sha256
from apps.protein_remd.costs import cpu_clock
from apps.protein_remd.engines import Exploded, Schedule, Snapshot, Trace, Warm, engine_named
from apps.protein_remd.science.draws import segment_seed
from apps.protein_remd.science.units import BOLTZMANN
from core import InputError, worker_resource
from core.storage import PreconditionFailed, Storage, process_storage

BUNDLE, STATE, FRAMES, QUARANTINE = "bundle/", "state/", "frames/", "quarantine/"
SALTS = (0, 0, 1)
"""Seeds that a segment is tried with: one that fails by a fault of the machine succeeds at once with the same."""
CARRIED = 8 << 10
"""Bytes of a state up to which it also travels with outcome and task: the next segment need neither ask the storage
nor read a file."""
PIECE = 1 << 20
"""Bytes of a file that are in memory at a time."""
UNLIKELY = 50.0
"""A kinetic energy whose chance is below ``exp(-50)`` is none of this temperature."""
LEAP = 10.0
"""Times what so many harmonic oscillators might have at most, by the same chance: a potential energy that changes by
more within a segment is no motion's. Water holds twice the heat of oscillators, a transition several times."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A prepared system, for workers: where it is, or its files where they cannot reach it."""

    engine: str
    sha: str
    address: str | None
    files: Mapping[str, bytes] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Segment:
    """What one replica has to do in a round.

    Attributes
    ----------
    previous : Stored, optional
        Its state after the round before; None in the first.
    scale : float
        Factor for its velocities, since its temperature has changed.
    begun : tuple of Snapshot and float, optional
        What `previous` holds, positions and potential energy in kJ/mol, where it is small.
    """

    round_number: int
    replica: int
    temperature: float
    scale: float
    previous: Stored | None
    begun: tuple[Snapshot, float] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all segments of a round have in common; `address` is the run, if workers can reach it."""

    bundle: Bundle
    address: str | None
    seed: int
    segments: int
    schedule: Schedule


def identity(task: Segment, shared: Shared) -> str:
    """Return a hash that two segments share only if the same comes out: of where they begin and all that they do."""
    begun = None if task.previous is None else task.previous.tag
    what = (task.round_number, task.replica, task.temperature, task.scale, begun)
    each, done = shared.schedule, shared.bundle
    schedule = {"steps": each.steps, "energies": each.energies, "frames": each.frames}
    how = (done.engine, done.sha, shared.seed, shared.segments, schedule)
    return sha256(json.dumps([what, how], sort_keys=True).encode()).removeprefix("sha256:")[:32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a segment; `failure` says why nothing did.

    Attributes
    ----------
    state : Stored
        The new state; without an address it is not written yet.
    salt : int
        How many other seeds were needed.
    frames : Stored, optional
        Energies and frames in between.
    snapshot : Snapshot, optional
        What is in the state, where that is small.
    """

    replica: int
    state: Stored | None
    potential: float
    kinetic: float
    salt: int
    version: str
    canary: str
    frames: Stored | None = None
    volume: float | None = None
    snapshot: Snapshot | None = None
    cpu_seconds: float = 0.0
    failure: str = ""


@worker_resource(keep=1)
def warm_system(bundle: Bundle) -> Warm:
    """Return this process's prepared system."""
    files = bundle.files
    if files is None:
        if bundle.address is None:
            raise InputError("a bundle has neither files nor an address")
        storage, place = process_storage(bundle.address), f"{BUNDLE}{bundle.sha}/"
        files = {info.key.removeprefix(place): storage.get(info.key) for info in storage.list(place)}
    return engine_named(bundle.engine).open_system(files)


def run_segment(task: Segment, shared: Shared) -> Outcome:
    """Map function: run the segments of one replica in one round, and write its state.

    A pure function of its arguments, so that a second attempt, a late one, or one of a driver that was taken for dead
    writes the same objects again.
    """
    started = cpu_clock()
    warm = warm_system(shared.bundle)
    failure = ""
    for salt in SALTS:
        try:
            traces = chained(warm, task, shared, salt)
        except Exploded as error:
            failure = str(error)
            warm_system.clear()  # what was computed wrongly once may leave its traces
            warm = warm_system(shared.bundle)
            continue
        outcome = _kept(task, shared, warm, traces, salt)
        return replace(outcome, cpu_seconds=cpu_clock() - started)
    nothing = (math.nan, math.nan, SALTS[-1], warm.version, warm.canary)
    taken = cpu_clock() - started
    return Outcome(task.replica, None, *nothing, cpu_seconds=taken, failure=failure)


def chained(warm: Warm, task: Segment, shared: Shared, salt: int) -> list[Trace]:
    """Run the segments of one invocation one after the other.

    Raises
    ------
    Exploded
        What came out is nothing physical.
    """
    snapshot, before = begin(warm, task, shared.seed)
    hottest = task.temperature * max(1.0, task.scale**-2)
    traces = []
    for number in range(shared.segments):
        seed = segment_seed(shared.seed, task.replica, task.round_number, number, salt)
        trace = warm.run(snapshot, task.temperature, seed, shared.schedule)
        if task.previous is None:
            before = min(before, trace.potential)  # given positions may be far from where they are at rest
        check(trace, task.temperature, warm.degrees, before, hottest)
        snapshot, before = trace.snapshot, trace.potential
        traces.append(trace)
    return traces


def begin(warm: Warm, task: Segment, seed: int) -> tuple[Snapshot, float]:
    """Return where a segment begins, and its potential energy in kJ/mol there.

    It is the state before, its velocities those of the temperature that it has now; in the first round positions are
    the prepared ones, and the energy is that of a few steps from there.
    """
    if task.previous is None:
        return warm.start(task.temperature, segment_seed(seed, task.replica, 0)), warm.potential
    if task.begun is not None:
        snapshot, potential = task.begun
    else:
        found = unpacked(task.previous.read(), task.previous.url, ("x", "v", "box", "U"))
        snapshot, potential = Snapshot(found["x"], found["v"], found.get("box")), float(found["U"])
    if task.scale != 1.0:
        snapshot = replace(snapshot, v=snapshot.v * task.scale)
    return snapshot, potential


def check(trace: Trace, temperature: float, degrees: int, before: float, hottest: float) -> None:
    """Refuse what is not finite, a kinetic energy that a temperature does not give, and a leap of the potential energy.

    The bound is Laurent and Massart's for chi-squared variables, Annals of Statistics 28 (2000), lemma 1.

    Parameters
    ----------
    before : float
        Potential energy in kJ/mol at the segment's beginning.
    hottest : float
        K; the higher one of the temperatures before the segment and during it.

    Raises
    ------
    Exploded
    """
    if not (math.isfinite(trace.potential) and math.isfinite(trace.kinetic)):
        raise Exploded(f"its energies are {trace.potential} and {trace.kinetic} kJ/mol")
    at_end = trace.snapshot
    if not all(np.isfinite(part).all() for part in (at_end.x, at_end.v, at_end.box) if part is not None):
        raise Exploded("its coordinates, velocities or box are not finite")
    most = degrees + 2.0 * math.sqrt(degrees * UNLIKELY) + 2.0 * UNLIKELY
    if 2.0 * trace.kinetic > most * BOLTZMANN * temperature:
        kinetic = 2.0 * trace.kinetic / (degrees * BOLTZMANN)
        raise Exploded(f"its kinetic temperature is {kinetic:.4g} K at {temperature:g} K")
    if 2.0 * abs(trace.potential - before) > LEAP * most * BOLTZMANN * hottest:
        raise Exploded(f"its potential energy went from {before:.6g} to {trace.potential:.6g} kJ/mol in one segment")


def _kept(task: Segment, shared: Shared, warm: Warm, traces: list[Trace], salt: int) -> Outcome:
    last = traces[-1]
    frames = None
    if shared.schedule.energies or shared.schedule.frames:
        pieces: dict[str, npt.ArrayLike] = {
            "energies": np.concatenate([trace.energies for trace in traces]),
            "frames": np.concatenate([trace.frames for trace in traces]),
        }
        boxes = [trace.boxes for trace in traces if trace.boxes is not None]
        if boxes:
            pieces["boxes"] = np.concatenate(boxes)
        frames = _put(shared, f"{FRAMES}{task.round_number:08d}/{task.replica:04d}", packed(pieces))
    about = {
        "round": task.round_number,
        "replica": task.replica,
        "temperature": task.temperature,
        "task": identity(task, shared),
        "salt": salt,
        "version": warm.version,
        "canary": warm.canary,
        "frames": None if frames is None else {"key": frames.key, "size": frames.size, "tag": frames.tag},
    }
    arrays: dict[str, npt.ArrayLike] = {
        "x": last.snapshot.x,
        "v": last.snapshot.v,
        "U": np.float64(last.potential),
        "K": np.float64(last.kinetic),
    }
    if last.snapshot.box is not None:
        arrays["box"] = last.snapshot.box
    about_bytes = np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)
    data = packed({**arrays, "about": about_bytes})
    state = _put(shared, f"{STATE}{task.round_number:08d}/{task.replica:04d}", data)
    return Outcome(
        task.replica, state, last.potential, last.kinetic, salt, warm.version, warm.canary, frames,
        last.snapshot.volume, last.snapshot if len(data) <= CARRIED else None,
    )  # fmt: skip


def _put(shared: Shared, base: str, data: bytes) -> Stored:
    """Write an object under a name with its hash, or leave that to the driver."""
    tag = sha256(data)
    key = f"{base}-{tag[7:23]}.npz"
    if shared.address is None:
        return Stored("", key, len(data), tag, data)
    put_once(process_storage(shared.address), key, data)
    return Stored(shared.address, key, len(data), tag)


def put_once(storage: Storage, key: str, data: bytes) -> None:
    """Write an object that its content names; if it is there already, it is the same."""
    try:
        storage.put(key, data, if_absent=True)
    except PreconditionFailed:
        pass


def packed(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Return arrays as the bytes of an ``npz`` file, uncompressed; equal arrays give equal bytes.

    ``numpy.savez`` streams into the archive, and how releases of Python frame what is streamed differs.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays.items():
            one = io.BytesIO()
            np.lib.format.write_array(one, np.asanyarray(values), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), one.getvalue())
    return buffer.getvalue()


def unpacked(data: bytes, where: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return the arrays of an ``npz`` file, or those of them that have certain names.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return {name: found[name] for name in found.files if name in names or not names}
    except (ValueError, OSError, KeyError, EOFError) as error:
        raise InputError(f"{where} is damaged: {error}") from None


def streamed(path: Path) -> Iterator[bytes]:
    """Yield a file of this machine in pieces."""
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece


@dataclass(frozen=True, slots=True)
class State:
    """A replica after a round; `about` says of which segment it is, and how it came about."""

    snapshot: Snapshot
    potential: float
    kinetic: float
    about: dict[str, Any]


def read_state(stored: Stored) -> State:
    """Read the state of a replica.

    Raises
    ------
    InputError
        It is not what was written.
    """
    found = unpacked(stored.read(), stored.url)
    try:
        about = json.loads(found["about"].tobytes())
        snapshot = Snapshot(found["x"], found["v"], found.get("box"))
        return State(snapshot, float(found["U"]), float(found["K"]), about)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{stored.url} is no state of a replica: {error!r}") from None
