"""Small jobs that are really run and also predicted, and the measurements that the predictions rest on.

Each case runs on worker processes of this machine whose tasks sleep, die or start slowly as a script says; the model
gets the same script. Another backend adds its cases to ``CASES``.
"""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks._measure import ROOT
from benchmarks._scaling_model import simulate
from benchmarks._scaling_terms import Draw, Driver, Job, Platform
from core import FunctionExecutor, worker_resource

SLOW_START = 0.4
"""Seconds that a worker takes to get ready in the cases with cold starts."""
REPETITIONS = 3
NOOPS = 1000


@dataclass(frozen=True, slots=True)
class Script:
    """What one task does: the time of its first attempt and of any other, and whether its worker dies halfway first."""

    first: float
    requeue: float
    dies: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A job that is run and predicted; `run` returns its wall time in seconds."""

    name: str
    run: Callable[[], float]
    job: Job
    platform: Platform
    driver: Driver

    def predicted(self) -> float:
        """Return the model's wall time; the scripts leave nothing to chance."""
        return simulate(self.job, self.platform, self.driver).wall


@dataclass(frozen=True, slots=True)
class Costs:
    """What this machine's executor takes for a task, for a job of one task, and to replace a worker. Seconds."""

    task: float
    job: float
    respawn: float


@dataclass(frozen=True, slots=True)
class Invocation:
    """What one invocation of the forecast takes: CPU seconds, bytes of its result, seconds to read and merge that."""

    seconds: float
    result_bytes: int
    collect: float


def perform(first: float, requeue: float, dies: bool, attempt: int) -> None:
    seconds = requeue if attempt else first
    time.sleep(seconds / 2 if dies and not attempt else seconds)
    if dies and not attempt:
        os.kill(os.getpid(), signal.SIGKILL)


@worker_resource
def slow_start() -> bool:
    time.sleep(SLOW_START)
    return True


def perform_when_ready(first: float, requeue: float, dies: bool, attempt: int) -> None:
    slow_start()
    perform(first, requeue, dies, attempt)


def scripted(scripts: Sequence[Script]) -> Job:
    def draw(task: int, attempt: int, random: Random) -> Draw:
        script = scripts[task]
        if attempt:
            return Draw(script.requeue)
        return Draw(script.first, script.first / 2 if script.dies else None)

    return Job(len(scripts), draw)


def costs() -> Costs:
    """Measure the executor; the median of some runs each."""
    with FunctionExecutor("process", workers=2) as executor:
        nothing = [(0.0, 0.0, False)] * NOOPS
        executor.map(perform, nothing, batch_size=1).results()
        many = [_timed(lambda: executor.map(perform, nothing, batch_size=1).results()) for _ in range(REPETITIONS)]
        one = [_timed(lambda: executor.map(perform, nothing[:1]).results()) for _ in range(10)]
        dying = [_timed(lambda: executor.map(perform, [(0.0, 0.0, True)]).results()) for _ in range(10)]
    job = statistics.median(one)
    return Costs(statistics.median(many) / NOOPS, job, max(0.0, statistics.median(dying) - 2 * job))


def process_cases(found: Costs) -> list[Case]:
    """Return the cases of the ``process`` backend."""
    random = Random(11)
    uneven = [Script(t, t) for t in (0.02 * random.lognormvariate(0.0, 0.8) for _ in range(80))]
    even = [Script(0.03, 0.03)] * 120
    dying = [Script(0.05, 0.05, dies=number % 12 == 5) for number in range(60)]
    slow = [Script(2.0 if number in (10, 25, 31) else 0.1, 0.1) for number in range(60)]
    all_of_it = [
        Script(2.0 if number in (12, 40) else 0.05, 0.05, dies=number in (7, 22, 33, 50)) for number in range(80)
    ]
    kept = Script(0.0, 0.0)
    return [
        _process("5,000 tasks that do nothing, 2 workers", [kept] * 5000, found, 2),
        _process("120 tasks of 30 ms, 2 workers", even, found, 2),
        _process("80 uneven tasks, lognormal about 20 ms, 3 workers", uneven, found, 3),
        _process(f"the 120 tasks, 6 workers that take {SLOW_START:g} s to start", even, found, 6, is_cold=True),
        _process("60 tasks of 50 ms, 5 workers die halfway, 3 workers", dying, found, 3),
        _process("60 tasks of 0.1 s, 3 take 2 s, backup copies, 6 workers", slow, found, 6, speculates=True),
        _process("slow starts, deaths, stragglers, copies, 6 workers", all_of_it, found, 6, True, True),
    ]


def _process(
    name: str, scripts: Sequence[Script], found: Costs, workers: int, is_cold: bool = False, speculates: bool = False
) -> Case:
    function = perform_when_ready if is_cold else perform
    items = [(script.first, script.requeue, script.dies) for script in scripts]

    def once() -> float:
        with FunctionExecutor("process", workers=workers, speculation=speculates) as executor:
            executor.map(perform, [(0.02, 0.02, False)] * 4 * workers, batch_size=1).results()
            return _timed(lambda: executor.map(function, items, batch_size=1).results())

    platform = Platform(
        slots=workers,
        warm=0 if is_cold else workers,
        cold_median=found.respawn,
        init=SLOW_START if is_cold else 0.0,
    )
    # A worker holds two batches; half of what a task costs the driver is spent sending it.
    half = found.task / 2
    driver = Driver(start=found.job, dispatch=half, collect=half, inflight=2 * workers, speculates=speculates)
    return Case(
        name, lambda: statistics.median(once() for _ in range(REPETITIONS)), scripted(scripts), platform, driver
    )


CASES: list[Callable[[Costs], list[Case]]] = [process_cases]
"""Functions that return the cases of a backend."""


def forecast(forecasts: int, invocations: int) -> Invocation:
    """Run one invocation of a forecast over 1,080 days by the numpy kernel here."""
    from apps.montecarlo.params import Params
    from apps.montecarlo.preparation import prepare
    from apps.montecarlo.science.summary import merge
    from apps.montecarlo.stages import simulate

    spec = prepare(Params(forecasts=forecasts, preset="talk", engine="numpy")).spec
    simulate((0, 1), spec)
    blocks = -(-spec.n_blocks // invocations)
    started = time.process_time()
    part = simulate((0, blocks), spec)
    seconds = time.process_time() - started
    packed = pickle.dumps(part)
    took = _timed(lambda: merge([part.summary, pickle.loads(packed).summary]))
    return Invocation(seconds, len(packed), took)


def worker_start() -> float:
    """Return the seconds that a fresh interpreter takes to load the worker and the forecast."""
    command = [sys.executable, "-c", "import core.task.run, apps.montecarlo.stages"]
    return statistics.median(_timed(lambda: subprocess.run(command, check=True, cwd=ROOT)) for _ in range(5))


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
