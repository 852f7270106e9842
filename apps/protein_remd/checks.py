"""``verify``: a run is what its rounds say. ``validate``: the physics is right, on the backend that is asked for."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apps._frame import Session
from apps._frame.stored import Stored, sha256
from apps._frame.tables import TextTable
from apps.protein_remd.campaign import Campaign, read_bundle, read_setup
from apps.protein_remd.engines import Schedule, bundle_hash
from apps.protein_remd.history import History, gathered
from apps.protein_remd.params import MD, Exchange, Ladder, Params, ValidateParams, VerifyParams
from apps.protein_remd.reading import run_params
from apps.protein_remd.records import RoundRecord, last_round, read_record, read_records, stored
from apps.protein_remd.science import statistics
from apps.protein_remd.science.exchange import enthalpy, exchange
from apps.protein_remd.science.prediction import harmonic_acceptance
from apps.protein_remd.science.units import BOLTZMANN, beta
from apps.protein_remd.segments import BUNDLE, Bundle, Segment, Shared, chained, read_state, warm_system
from apps.protein_remd.system import System
from core import InputError, open_storage
from core.storage import NotFound, Storage

MOST_ERRORS = 4.0
"""Standard errors that a measured value may be from the exact one, where its error is known well."""
FEW = 60
"""Rounds that show at least whether velocities are rescaled."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A segment that was computed again, and what it was."""

    segment: Segment
    salt: int
    expected: Stored


def replay(task: Replayed, shared: Shared) -> str:
    """Map function: compute a segment again in a fresh system; returns what differs, or nothing."""
    warm_system.clear()
    warm = warm_system(shared.bundle)
    trace = chained(warm, task.segment, shared, task.salt)[-1]
    was = read_state(task.expected)
    if warm.version != was.about["version"]:
        return f"it cannot be compared: it was computed with {was.about['version']}, and here is {warm.version}"
    if warm.canary != was.about["canary"]:
        return f"it cannot be compared: its processor had bits of kind {was.about['canary']}, this one {warm.canary}"
    pairs = {
        "positions": (trace.snapshot.x, was.snapshot.x),
        "velocities": (trace.snapshot.v, was.snapshot.v),
        "potential energy": (trace.potential, was.potential),
        "kinetic energy": (trace.kinetic, was.kinetic),
        "box": (trace.snapshot.box, was.snapshot.box),
    }
    differ = [name for name, (now, then) in pairs.items() if _bits(now) != _bits(then)]
    return f"other {', '.join(differ)} than were committed" if differ else ""


def _bits(value: Any) -> bytes:
    return b"" if value is None else np.asarray(value).tobytes()


def verify(session: Session, params: VerifyParams) -> int:
    """Check every hash and every exchange of a run, and compute segments of it again."""
    asked, storage = run_params(params.run), open_storage(params.run)
    setup, last = read_setup(storage), last_round(storage)
    if setup is None or not last:
        raise InputError(f"run {params.run} has no committed round yet; there is nothing to verify")
    problems: list[str] = []
    files = read_bundle(storage, setup.bundle)
    if bundle_hash(files) != setup.bundle:
        problems.append(f"{BUNDLE}{setup.bundle}: its files are not those that were prepared")
    there, before = set(), None
    objects = 0
    for record in read_records(storage, range(1, last + 1)):
        problems += _exchange_problems(record, before, asked)
        for one in record.segments:
            found = [each for each in (one.state, one.frames) if each is not None]
            damage = [_damage(storage, each) for each in found]
            objects += damage.count("")
            problems += filter(None, damage)
            if damage[0] == "":
                there.add((record.round_number, one.replica))
        before = record
    candidates = sorted((n, r) for n, r in there if n == 1 or (n - 1, r) in there)
    rng = np.random.default_rng(params.seed)
    bitwise = not asked.system.no_bitwise
    chosen = rng.permutation(len(candidates))[: params.segments * bitwise]
    reached = session.executor.reaches(storage)
    tasks = [_replayed(storage, candidates[at], reached) for at in sorted(chosen)]
    address = storage.address if reached else None
    bundle = Bundle(setup.engine, setup.bundle, address, None if reached else files)
    schedule = Schedule(asked.md.steps, asked.output.energies, asked.output.frames)
    shared = Shared(bundle, address, asked.md.seed, asked.md.segments, schedule)
    for task, said in zip(
        tasks, session.executor.map(replay, tasks, extra_args=(shared,), label="segments").results(), strict=True
    ):
        if said:
            problems.append(f"round {task.segment.round_number}, replica {task.segment.replica}: {said}")
    figures = {"rounds": last, "objects": objects, "segments": len(tasks), "problems": problems}
    if not bitwise:
        session.tell("segments are not computed again: the run gave up repeating to the bit (--no-bitwise)")
    words = f"{last:,} rounds, {objects:,} objects and {len(tasks)} segments computed again: "
    session.show(figures, words + ("all as committed." if not problems else f"{len(problems)} problems."))
    for problem in problems:
        session.tell(problem)
    return 1 if problems else 0


def _exchange_problems(record: RoundRecord, before: RoundRecord | None, params: Params) -> Iterator[str]:
    where = f"round {record.round_number}"
    begun = before.replica_after if before is not None else tuple(range(len(record.temperatures)))
    if record.replica_at != begun:
        yield f"{where}: its replicas are not where the round before left them"
    chosen = params.exchange
    compared = [enthalpy(one.potential, params.md.pressure, one.volume) for one in record.segments]
    after, attempts = exchange(
        record.replica_at, record.temperatures, compared, seed=params.md.seed,
        round_number=record.round_number, scheme=chosen.scheme, sweeps=chosen.sweeps,
    )  # fmt: skip
    if tuple(after) != record.replica_after or tuple(attempts) != record.attempts:
        yield f"{where}: its exchange is not the one that its energies and the seed give"
    if record.reduced != tuple(tuple(beta(t) * energy for t in record.temperatures) for energy in compared):
        yield f"{where}: its reduced potentials are not those of its energies"


def _damage(storage: Storage, named: dict[str, Any]) -> str | None:
    """Return what is wrong with an object, "" for nothing, None if it is not kept any more."""
    try:
        data = storage.get(named["key"])
    except NotFound:
        return None
    return "" if sha256(data) == named["tag"] else f"{named['key']}: its content has changed"


def _replayed(storage: Storage, which: tuple[int, int], reached: bool) -> Replayed:
    number, replica = which
    record = read_record(storage, number)
    previous, scale = None, 1.0
    if number > 1:
        before = read_record(storage, number - 1)
        previous = stored(storage, before.segments[replica].state)
        was = before.temperatures[before.replica_at.index(replica)]
        now = record.temperatures[record.replica_at.index(replica)]
        # On purpose not by way of what the campaign itself uses.
        scale = 1.0 if was == now else (now / was) ** 0.5
    temperature = record.temperatures[record.replica_at.index(replica)]
    one = record.segments[replica]
    expected = stored(storage, one.state)
    if not reached:
        previous = previous and replace(previous, data=previous.read())
        expected = replace(expected, data=expected.read())
    return Replayed(Segment(number, replica, temperature, scale, previous), one.salt, expected)


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: what was measured, its standard error and by how many values that is known, and what is exact."""

    name: str
    measured: float
    error: float
    exact: float
    samples: float = math.inf

    @property
    def passed(self) -> bool:
        """Whether the difference is within what chance gives."""
        return bool(abs(self.measured - self.exact) <= most_errors(self.samples) * self.error)


def most_errors(samples: float) -> float:
    """Return the standard errors, estimated from so many independent values, that are as rare as 4 exact ones.

    Source: Hill, Comm. ACM 13, 619 (1970); the expansion of Student's quantile about the normal one, z, to the third
    power of 1/degrees.
    """
    z, degrees = MOST_ERRORS, max(samples - 1.0, 1.0)
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))


def validate(session: Session, params: ValidateParams) -> int:
    """Run four campaigns of oscillators, of which everything is known, and compare."""
    md = MD(seed=params.seed)
    swaps = Params(
        system=System(engine="harmonic", dof=12), md=md,
        ladder=Ladder(temperatures=(300.0, 360.0, 440.0, 520.0)), exchange=Exchange(rounds=params.rounds),
    )  # fmt: skip
    # Segments far shorter than 1/friction: what is wrong with the velocities is not forgotten within one.
    short = replace(swaps, system=System(engine="harmonic", dof=40, dynamics="langevin"), md=replace(md, steps=150))
    few = replace(short, md=replace(md, steps=5), exchange=Exchange(rounds=max(FEW, params.rounds // 5)))
    # The swaps see their volume through p V alone: without it far more of them would be accepted.
    pressed = replace(swaps, md=replace(md, pressure=1.0))
    campaigns = (swaps, pressed, short, few)
    with session.together("rounds", sum(each.exchange.rounds * len(each.ladder.temperatures) for each in campaigns)):
        checks = [
            *swap_checks(_ran(session, swaps), swaps.system.dof),
            *_acceptances(_ran(session, pressed), 2 * (swaps.system.dof + 1) + swaps.system.dof, " at 1 bar"),
            *ensemble_checks(_ran(session, short), short.system.dof),
            *rescale_checks(_ran(session, few)),
        ]
    rows = [
        (each.name, f"{each.measured:.5g}", f"{each.exact:.5g}", f"{each.error:.2g}", "ok" if each.passed else "WRONG")
        for each in checks
    ]
    wrong = [each for each in checks if not each.passed]
    figures = {
        "checks": [
            {"name": c.name, "measured": c.measured, "exact": c.exact, "error": c.error, "ok": c.passed} for c in checks
        ],
        "ok": not wrong,
    }
    table = TextTable("", ("what", "measured", "exact", "± chance", ""), rows).text()
    session.show(figures, f"{table}\n\n{len(checks) - len(wrong)} of {len(checks)} checks passed.")
    if wrong:
        session.tell(f"{wrong[0].name} is {wrong[0].measured:.5g}, and must be {wrong[0].exact:.5g}: do not use it so")
    return 1 if wrong else 0


def _ran(session: Session, params: Params) -> History:
    storage = open_storage(f"memory://validate-{secrets.token_hex(8)}")
    campaign = Campaign(storage, session.executor, params, warn=session.tell)
    return gathered(campaign.advance() for _ in range(params.exchange.rounds))


def swap_checks(history: History, degrees: int) -> list[Check]:
    """Compare acceptances and mean energies of independent draws with the exact ones."""
    return _acceptances(history, degrees) + _energies(history, degrees, "independent draws", independent=True)


def _acceptances(history: History, degrees: int, where: str = "") -> list[Check]:
    checks = []
    for low in range(len(history.temperatures) - 1):
        t_low, t_high = history.temperatures[low : low + 2]
        tried, accepted = int(history.attempted[low, low + 1]), int(history.accepted[low, low + 1])
        exact = harmonic_acceptance(degrees, t_low, t_high)
        error = (exact * (1.0 - exact) / max(tried, 1)) ** 0.5
        name = f"acceptance of swaps{where}, {t_low:g} and {t_high:g} K"
        checks.append(Check(name, accepted / tried if tried else float("nan"), error, exact))
    return checks


def ensemble_checks(history: History, degrees: int) -> list[Check]:
    """Compare the ensembles that short segments with swaps give with the canonical ones."""
    checks = _energies(history, degrees, "short segments")
    for low, (t_low, t_high) in enumerate(zip(history.temperatures, history.temperatures[1:], strict=False)):
        thin = max(1, round(max(statistics.statistical_inefficiency(history.potential[:, k]) for k in (low, low + 1))))
        samples = (history.potential[::thin, low], history.potential[::thin, low + 1])
        slope = statistics.ensemble_slope(*samples, t_low, t_high)
        name = f"slope of the ensembles, {t_low:g} and {t_high:g} K"
        checks.append(Check(name, slope.ratio, slope.error, 1.0, len(samples[0])))
    return checks


def rescale_checks(history: History) -> list[Check]:
    """Compare kinetic energy over temperature of a replica before and after a swap: the velocities were rescaled.

    Within a few steps little else has changed; that both are compared with each other, and not with their mean, leaves
    out what every replica has of its own.
    """
    state_of = history.state_of
    ratios = np.log(np.take_along_axis(history.kinetic / np.array(history.temperatures), state_of, axis=1))
    moves, changes = np.diff(state_of, axis=0), np.diff(ratios, axis=0)
    checks = []
    for name, moved in (("lower", moves < 0), ("higher", moves > 0)):
        checks.append(_mean(f"change of log K/T with a swap to a {name} temperature", changes[moved], 0.0))
    return checks


def _mean(name: str, values: Any, exact: float) -> Check:
    """Compare the mean of a correlated series."""
    if not len(values):
        return Check(name, math.nan, math.inf, exact)
    mean, error = statistics.mean_and_error(values)
    return Check(name, mean, error, exact, len(values) / statistics.statistical_inefficiency(values))


def _energies(history: History, degrees: int, how: str, *, independent: bool = False) -> list[Check]:
    """Compare mean energies, whose spread is known too: that of a few values errs on the side where their mean does."""
    columns: Sequence[tuple[str, Any]] = (("potential", history.potential), ("kinetic", history.kinetic))
    checks = []
    for k, t in enumerate(history.temperatures):
        mean, spread = 0.5 * degrees * BOLTZMANN * t, (0.5 * degrees) ** 0.5 * BOLTZMANN * t
        for name, values in columns:
            inefficiency = 1.0 if independent else statistics.statistical_inefficiency(values[:, k])
            samples = len(values) / inefficiency
            known_by = math.inf if independent else samples
            found = float(values[:, k].mean())
            checks.append(Check(f"{name} energy at {t:g} K, {how}", found, spread / samples**0.5, mean, known_by))
    return checks
