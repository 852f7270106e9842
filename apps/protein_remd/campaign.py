"""The driver's side of a campaign: one map job a round, then the swaps, then one commit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from apps._frame.stored import Stored
from apps._frame.tables import counted
from apps.protein_remd.costs import Ledger
from apps.protein_remd.engines import Schedule, Snapshot, bundle_hash, engine_named
from apps.protein_remd.leftovers import left_behind, state_keys
from apps.protein_remd.params import Params
from apps.protein_remd.records import (
    RoundRecord,
    SegmentRecord,
    encoded,
    last_round,
    read_record,
    record_key,
    stored,
)
from apps.protein_remd.science import exchange
from apps.protein_remd.science.units import beta
from apps.protein_remd.segments import (
    BUNDLE,
    QUARANTINE,
    Bundle,
    Outcome,
    Segment,
    Shared,
    identity,
    put_once,
    run_segment,
)
from core import ConfigError, FanfoldError, FunctionExecutor, InputError, RetryPolicy
from core.storage import NotFound, PreconditionFailed, Storage, join_address

SETUP = f"{BUNDLE}setup.json"

CHECKED = 5.0
"""Seconds between two looks at whether this process still drives the run."""

INVOCATION = 0.1
"""Seconds of segments that an invocation takes together: long against what sending it costs."""

RETRIES = RetryPolicy(retries=3, retry_on=(ConnectionError,), backoff=2.0)
"""For workers that die, and for a storage that is away for longer than its client tries."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What is found out once, by whoever begins a campaign, and holds from then on.

    Attributes
    ----------
    bundle : str
        Name of the prepared system.
    version, canary : str
        Of the engine and of the processor that prepared it; see ``engines.Warm``.
    degrees : int
        Degrees of freedom.
    temperatures : tuple of float
        K.
    facts : dict
        What else is to be known of the system, such as its platform, atoms, constraints and charge.
    """

    engine: str
    bundle: str
    version: str
    canary: str
    degrees: int
    temperatures: tuple[float, ...]
    facts: dict[str, Any]


def read_setup(storage: Storage) -> Setup | None:
    """Return what was found out at a campaign's beginning, None if it has not got so far."""
    try:
        found = json.loads(storage.get(SETUP))
        return Setup(**{**found, "temperatures": tuple(found["temperatures"])})
    except NotFound:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{join_address(storage.address, SETUP)} is damaged: {error!r}; begin a new run") from None


def prepare(storage: Storage, params: Params) -> tuple[Setup, Mapping[str, bytes]]:
    """Return the prepared system of a campaign with its files, preparing it if nobody has.

    Raises
    ------
    ConfigError, InputError
        The system cannot be prepared.
    """
    setup = read_setup(storage)
    if setup is None and (rounds := last_round(storage)):
        setup = read_setup(storage)  # another driver may have begun the campaign between the two
        if setup is None:
            raise InputError(
                f"{join_address(storage.address, SETUP)} is missing, and {counted(rounds, 'round')} of what it was "
                "prepared for are there; restore it, or begin a new run"
            )
    if setup is None:
        engine = engine_named(params.system.engine)
        files = engine.prepare(params.system, params.md)
        warm = engine.open_system(files)
        bundle = bundle_hash(files)
        for name, data in files.items():
            put_once(storage, f"{BUNDLE}{bundle}/{name}", data)
        facts = json.loads(files["facts.json"]) if "facts.json" in files else {}
        ladder = params.temperatures(warm.degrees)
        made = Setup(params.system.engine, bundle, warm.version, warm.canary, warm.degrees, ladder, facts)
        try:
            storage.put(SETUP, json.dumps(asdict(made), sort_keys=True).encode(), if_absent=True)
        except PreconditionFailed:
            pass
        setup = read_setup(storage)
        if setup is None:
            raise InputError(f"{join_address(storage.address, SETUP)} was removed while the run began; begin it again")
    files = read_bundle(storage, setup.bundle)
    if bundle_hash(files) != setup.bundle:
        raise InputError(
            f"{join_address(storage.address, f'{BUNDLE}{setup.bundle}')} is damaged: its files are not those that were "
            "prepared; begin a new run"
        )
    return setup, files


def read_bundle(storage: Storage, sha: str) -> dict[str, bytes]:
    """Return the files of a prepared system by name."""
    place = f"{BUNDLE}{sha}/"
    return {info.key.removeprefix(place): storage.get(info.key) for info in storage.list(place)}


class Campaign:
    """A campaign that is being driven: the round it is at, and what the next one begins from.

    Parameters
    ----------
    storage : Storage
        The run.
    executor : FunctionExecutor
    params : Params
    check : callable, optional
        Is told what is being done, and raises if another process drives the run.
    warn : callable, optional
        Is told in a sentence what the user should know.

    Attributes
    ----------
    round_number : int
        The last round that is committed.
    ledger : Ledger
        What the segments have taken that this object has had run.
    """

    def __init__(
        self,
        storage: Storage,
        executor: FunctionExecutor,
        params: Params,
        *,
        check: Callable[[str], object] = lambda note: None,
        warn: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        self._storage, self._executor, self._params = storage, executor, params
        self._check, self._warn = check, warn
        self.setup, files = prepare(storage, params)
        reached = executor.reaches(storage)
        self._address = storage.address if reached else None
        self.ledger = Ledger(storage, executor, len(self.setup.temperatures))
        self._next_check, self._seconds = 0.0, INVOCATION
        self._carried: dict[str, tuple[Snapshot, float]] = {}
        bundle = Bundle(self.setup.engine, self.setup.bundle, self._address, None if reached else files)
        schedule = Schedule(params.md.steps, params.output.energies, params.output.frames)
        self._shared = Shared(bundle, self._address, params.md.seed, params.md.segments, schedule)
        self._foreign = {self.setup.canary, self.setup.version}
        self.round_number = last_round(storage)
        self._last = read_record(storage, self.round_number) if self.round_number else None
        self._mend()
        self._found = self._left_behind()
        if params.output.states > 1:
            before = self.round_number - 1
            self._prune(before, state_keys(storage, before))

    def advance(self) -> RoundRecord:
        """Run one round and commit it; returns its record.

        Raises
        ------
        FanfoldError
            A segment failed again and again; the message names its replica, and where it began.
        ConfigError
            Workers have another version of the engine than the run was begun with.
        """
        number, last = self.round_number + 1, self._last
        segments = self._segments(number, last)
        outcomes = self._outcomes(segments)
        record = self._commit(self._record(number, outcomes))
        self._carried = {
            outcome.state.key: (outcome.snapshot, outcome.potential)
            for outcome in outcomes
            if outcome.state is not None and outcome.snapshot is not None
        }
        self.round_number, self._last = number, record
        if last is not None:
            self._prune(number - 1, (str(one.state["key"]) for one in last.segments))
        self.ledger.committed()
        return record

    def _segments(self, number: int, last: RoundRecord | None) -> list[Segment]:
        """Return the tasks of the round that follows one that was committed, by replica."""
        ladder = self.setup.temperatures
        if last is None:
            return [Segment(number, replica, ladder[replica], 1.0, None) for replica in range(len(ladder))]
        before = {replica: state for state, replica in enumerate(last.replica_at)}
        after = {replica: state for state, replica in enumerate(last.replica_after)}
        segments = []
        for replica, ended in enumerate(last.segments):
            was, now = before[replica], after[replica]
            scale = 1.0 if was == now else exchange.velocity_scale(ladder[was], ladder[now])
            previous = stored(self._storage, ended.state)
            begun = self._carried.get(previous.key)
            if begun is None and self._address is None:
                previous = replace(previous, data=previous.read())
            segments.append(Segment(number, replica, ladder[now], scale, previous, begun))
        return segments

    def _outcomes(self, segments: list[Segment]) -> list[Outcome]:
        """Run what has not been run, and return what came out, by replica."""
        found, self._found = self._found, {}
        missing = [segment for segment in segments if segment.replica not in found]
        found |= {outcome.replica: outcome for outcome in self._run(missing)}
        return [found[segment.replica] for segment in segments]

    def _run(self, segments: list[Segment]) -> list[Outcome]:
        futures = self._executor.map(
            run_segment, segments, extra_args=(self._shared,), label="segments", retries=RETRIES,
            batch_size=self._batch_size(len(segments)),
        )  # fmt: skip
        self._still_driving()
        ran: list[Outcome] = futures.results()
        self.ledger.ran(outcome.cpu_seconds for outcome in ran)
        self._seconds = min((outcome.cpu_seconds for outcome in ran), default=self._seconds)
        return [self._settled(outcome, segment) for outcome, segment in zip(ran, segments, strict=True)]

    def _batch_size(self, count: int) -> int:
        """Return how many of so many segments go together: a worker's share of them where they are short.

        The executor would find that out itself, but of a longer job than a round is.
        """
        share = math.ceil(count / max(1, self._executor.workers))
        return max(1, min(share, int(INVOCATION / max(self._seconds, 1e-6))))

    def _still_driving(self) -> None:
        """Say which round it is while its segments run, and make sure that no other process drives the run.

        Not in every short round: the commit alone decides whose round counts.
        """
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECKED
            self._check(f"round {self.round_number + 1:,} of {self._params.exchange.rounds:,}")

    def _mend(self) -> None:
        """Compute again what was lost of the states that the next round begins from.

        Raises
        ------
        InputError
            Something else came out than was committed.
        """
        number, last = self.round_number, self._last
        if last is None:
            return
        there = set(state_keys(self._storage, number))
        lost = {one.replica: one.state for one in last.segments if one.state["key"] not in there}
        if not lost:
            return
        before = read_record(self._storage, number - 1) if number > 1 else None
        segments = [segment for segment in self._segments(number, before) if segment.replica in lost]
        for outcome in self._run(segments):
            state = lost[outcome.replica]
            if outcome.state is None or outcome.state.tag != state["tag"]:
                remedy = "restore it, or resume on a processor of the kind that the run was begun on"
                if self._params.system.no_bitwise:
                    remedy = "restore it: a run with --no-bitwise computes nothing twice in the same way"
                raise InputError(
                    f"{state['key']} of the run is lost, and computed again on this processor it is not what it was; "
                    f"{remedy}"
                )

    def _settled(self, outcome: Outcome, segment: Segment) -> Outcome:
        """Check an outcome, and write what its worker could not."""
        self._same_engine(outcome)
        if outcome.failure or outcome.state is None:
            raise FanfoldError(self._quarantined(outcome, segment))
        for each in (outcome.frames, outcome.state):
            if each is not None and each.data is not None and not each.address:
                put_once(self._storage, each.key, each.data)
        return outcome

    def _same_engine(self, outcome: Outcome) -> None:
        if outcome.version not in self._foreign:
            said = (
                f"workers have {outcome.version}, and the run was begun with {self.setup.version}: the history is not "
                "that of one engine"
            )
            if not self._params.force:
                raise ConfigError(f"{said}; use that version, or add --force")
            self._foreign.add(outcome.version)
            self._warn(said)
        if outcome.canary not in self._foreign:
            self._foreign.add(outcome.canary)
            self._warn(
                f"a worker's processor computes other bits ({outcome.canary}) than the one that began the run "
                f"({self.setup.canary}): what comes out is statistically valid, and not bit for bit repeatable here"
            )

    def _quarantined(self, outcome: Outcome, segment: Segment) -> str:
        """Keep what a failed segment began from, and say what happened."""
        place = f"{BUNDLE}{self.setup.bundle}"
        if segment.previous is not None:
            place = f"{QUARANTINE}{segment.round_number:08d}/{segment.replica:04d}.npz"
            self._storage.put(place, segment.previous.read())
        where = join_address(self._storage.address, place)
        return (
            f"round {segment.round_number}, replica {segment.replica} at {segment.temperature:g} K: {outcome.failure}, "
            f"with every seed that was tried; what it began from is kept in {where}; a new run with a shorter "
            "--timestep often helps"
        )

    def _record(self, number: int, outcomes: list[Outcome]) -> RoundRecord:
        ladder = self.setup.temperatures
        now = list(range(len(ladder))) if self._last is None else list(self._last.replica_after)
        chosen = self._params.exchange
        pressure = self._params.md.pressure
        energies = [exchange.enthalpy(outcome.potential, pressure, outcome.volume) for outcome in outcomes]
        after, attempts = exchange.exchange(
            now, ladder, energies, seed=self._params.md.seed, round_number=number, scheme=chosen.scheme,
            sweeps=chosen.sweeps,
        )  # fmt: skip
        reduced = tuple(tuple(beta(t) * energy for t in ladder) for energy in energies)
        segments = tuple(map(_segment_record, outcomes))
        return RoundRecord(number, ladder, tuple(now), tuple(after), segments, reduced, tuple(attempts), pressure)

    def _commit(self, record: RoundRecord) -> RoundRecord:
        """Commit a round; if another driver has, what it committed holds."""
        try:
            self._storage.put(record_key(record.round_number), encoded(record), if_absent=True)
        except PreconditionFailed:
            return read_record(self._storage, record.round_number)
        return record

    def _left_behind(self) -> dict[int, Outcome]:
        """Return the segments of the next round that were run before its driver ended."""
        number = self.round_number + 1
        if next(state_keys(self._storage, number), None) is None:
            return {}
        expected = {each.replica: identity(each, self._shared) for each in self._segments(number, self._last)}
        version = None if self._params.force else self.setup.version
        found = left_behind(self._storage, number, expected, version)
        for outcome in found.values():
            self._same_engine(outcome)
        return found

    def _prune(self, number: int, keys: Iterable[str]) -> None:
        """Delete states of a round that is behind, unless they are to be kept."""
        if number > 0 and number % self._params.output.states:
            self._storage.delete(list(keys))


def _segment_record(outcome: Outcome) -> SegmentRecord:
    def named(one: Stored | None) -> dict[str, Any] | None:
        return None if one is None else {"key": one.key, "size": one.size, "tag": one.tag}

    state = named(outcome.state)
    if state is None:
        raise ValueError("an outcome without a state cannot be committed")
    return SegmentRecord(
        outcome.replica, outcome.potential, outcome.kinetic, outcome.salt, outcome.canary, outcome.version, state,
        named(outcome.frames), outcome.volume,
    )  # fmt: skip
