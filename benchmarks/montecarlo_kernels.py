"""CPU time of one simulated day beside other ways to simulate it: ``python -m benchmarks.montecarlo_kernels``.

Prints Markdown tables, all measured in one run. Every contender walks 1080 days of a geometric Brownian motion; ours
also keep the fan at 36 days, touches of a level, highs, lows and the drawdown of each path, the others keep nothing.

- notebook: ``scipy.stats.norm.ppf`` of one uniform number, one exponential and one multiplication a day.
- ndtri: the same with ``scipy.special.ndtri``. math/random: ``math.exp`` and ``random.gauss``.
- numpy, numba: our kernels, numba once compiled. QuantLib: its path generator from Python, and its C++ engine.
- memory: a worker of an executor that simulates so many forecasts, as the operating system saw it.
- command: ``python -m apps.montecarlo --forecasts 100000``, and 500, from a cold process: wall time, and CPU time with
  that of the workers.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from apps.montecarlo.science.calibration import TALK_DAYS, TALK_LAST_PRICE, TALK_MODEL
from apps.montecarlo.science.simulation import planned, simulate_blocks
from apps.montecarlo.science.spec import SimulationSpec, uses_numba
from benchmarks._measure import ROOT, machine, table
from core import FunctionExecutor

HEADLINE = 100_000
SMALL = 500
REPEATS = 5
WARM_UP = 2
"""Paths of a first run, not timed; QuantLib's engine takes no fewer."""
FAN = tuple(range(30, TALK_DAYS + 1, 30))
GOALS = {"numpy": "<= 16 ns", "numba": "<= 7 ns, >= 5,000x the notebook"}


def spec(forecasts: int, engine: str) -> SimulationSpec:
    job = SimulationSpec(TALK_MODEL, TALK_LAST_PRICE, TALK_DAYS, forecasts, 1, FAN, levels=(200.0,), engine=engine)
    return planned(job)


def notebook(paths: int) -> None:
    from scipy.stats import norm

    drift, volatility = TALK_MODEL.drift, TALK_MODEL.volatility
    for _ in range(paths):
        price = TALK_LAST_PRICE
        for _ in range(TALK_DAYS):
            price *= np.exp(drift + volatility * norm.ppf(np.random.rand()))


def ndtri(paths: int) -> None:
    from scipy.special import ndtri as quantile

    drift, volatility, exp = TALK_MODEL.drift, TALK_MODEL.volatility, math.exp
    for _ in range(paths):
        price = TALK_LAST_PRICE
        for _ in range(TALK_DAYS):
            price *= exp(drift + volatility * quantile(random.random()))


def plain_python(paths: int) -> None:
    drift, volatility, exp, gauss = TALK_MODEL.drift, TALK_MODEL.volatility, math.exp, random.gauss
    for _ in range(paths):
        price = TALK_LAST_PRICE
        for _ in range(TALK_DAYS):
            price *= exp(drift + volatility * gauss(0.0, 1.0))


def ours(engine: str) -> Callable[[int], None]:
    def run(paths: int) -> None:
        job = spec(paths, engine)
        simulate_blocks(job, 0, job.n_blocks)

    return run


def quantlib_process() -> object:
    import QuantLib as ql

    today = ql.Date(2, 1, 2018)
    ql.Settings.instance().evaluationDate = today
    day_count = ql.Actual365Fixed()
    spot = ql.QuoteHandle(ql.SimpleQuote(TALK_LAST_PRICE))
    flat = [ql.YieldTermStructureHandle(ql.FlatForward(today, rate, day_count)) for rate in (0.0, 0.01)]
    yearly = TALK_MODEL.volatility * math.sqrt(365)
    surface = ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), yearly, day_count))
    return ql.BlackScholesMertonProcess(spot, flat[0], flat[1], surface)


def quantlib_paths(paths: int) -> None:
    import QuantLib as ql

    uniforms = ql.UniformRandomSequenceGenerator(TALK_DAYS, ql.UniformRandomGenerator(1))
    normals = ql.GaussianRandomSequenceGenerator(uniforms)
    generator = ql.GaussianPathGenerator(quantlib_process(), TALK_DAYS / 365, TALK_DAYS, normals, False)
    for _ in range(paths):
        generator.next().value()


def quantlib_engine(paths: int) -> None:
    import QuantLib as ql

    process = quantlib_process()
    exercise = ql.EuropeanExercise(ql.Date(2, 1, 2018) + TALK_DAYS)
    option = ql.VanillaOption(ql.PlainVanillaPayoff(ql.Option.Call, TALK_LAST_PRICE), exercise)
    engine = ql.MCEuropeanEngine(process, "pseudorandom", timeSteps=TALK_DAYS, requiredSamples=paths, seed=1)
    option.setPricingEngine(engine)
    option.NPV()


CONTENDERS: dict[str, tuple[Callable[[int], None], int]] = {
    "notebook": (notebook, 5),
    "ndtri": (ndtri, 200),
    "math/random": (plain_python, 200),
    "QuantLib paths": (quantlib_paths, 500),
    "QuantLib engine": (quantlib_engine, 1000),
    "numpy": (ours("numpy"), 10_240),
    "numba": (ours("numba"), 40_960),
}
"""What runs, and for how many paths."""


def ns_per_step(run: Callable[[int], None], paths: int) -> float:
    run(WARM_UP)
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        run(paths)
        times.append(time.process_time() - started)
    return statistics.median(times) / (paths * TALK_DAYS) * 1e9


def speed_table() -> str:
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, (run, paths) in CONTENDERS.items():
        print(f"speed: {name}", file=sys.stderr, flush=True)
        if name == "numba" and not uses_numba(spec(HEADLINE, "numba")):
            missing[name] = "numba is not installed"
            continue
        try:
            found[name] = ns_per_step(run, paths)
        except ImportError as error:
            missing[name] = f"{error.name} is not installed"
    rows = []
    for name, ns in sorted(found.items(), key=lambda item: -item[1]):
        headline = f"{HEADLINE * TALK_DAYS * ns / 1e9:,.2f}"
        rows.append([name, f"{ns:,.1f}", f"{found['notebook'] / ns:,.0f}x", headline, GOALS.get(name, "")])
    rows += [[name, reason, "", "", ""] for name, reason in missing.items()]
    return table(["daily steps", "CPU ns/step", "of the notebook's speed", "headline, CPU s", "goal"], rows)


def memory_table(sizes: list[int]) -> str:
    rows = []
    for forecasts in sizes:
        for engine in ("numpy", "numba"):
            if engine == "numpy" and forecasts > 1_000_000 and len(sizes) > 1:
                continue
            print(f"memory: {forecasts:,} {engine}", file=sys.stderr, flush=True)
            with FunctionExecutor(workers=1) as executor:
                got = executor.call_async(measured, spec(forecasts, engine)).result()
            cells = [f"{got['peak'] / 1e6:.0f}", f"{got['anonymous'] / 1e6:.0f}", f"{got['cpu']:.1f}"]
            rows.append([f"{forecasts:,}", engine, *cells, "<= 150 MB"])
    return table(["forecasts", "engine", "peak memory, MB", "without mapped files, MB", "CPU s", "goal"], rows)


def measured(job: SimulationSpec) -> dict[str, float]:
    """Simulate a job in a worker, and return what the operating system saw of it."""
    simulate_blocks(job, 0, job.n_blocks)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak, anonymous = (int(status[key].split()[0]) * 1024 for key in ("VmHWM", "RssAnon"))
    return {"peak": peak, "anonymous": anonymous, "cpu": time.process_time()}


def command_table() -> str:
    rows = []
    for forecasts, goal in ((HEADLINE, "<= 3 s on 2 cores"), (SMALL, "<= 1.2 CPU s")):
        walls, cpus = [], []
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                started, before = time.perf_counter(), children_cpu()
                done = subprocess.run(
                    [sys.executable, "-m", "apps.montecarlo", "--forecasts", str(forecasts), "--json"],
                    cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
                )  # fmt: skip
                walls.append(time.perf_counter() - started)
                cpus.append(children_cpu() - before)
                if done.returncode:
                    reason = done.stderr.decode().strip().splitlines()
                    return f"The command failed: {reason[-1] if reason else done.returncode}"
        wall = [f"{statistics.median(walls):.2f}", f"{min(walls):.2f}", f"{max(walls):.2f}"]
        rows.append([f"{forecasts:,}", *wall, f"{statistics.median(cpus):.2f}", goal])
    return table(["cold command, forecasts", "median s", "fastest", "slowest", "CPU s in all", "goal"], rows)


def children_cpu() -> float:
    """CPU seconds of the processes started so far, and of theirs, once they have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.montecarlo_kernels", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--tables", nargs="+", choices=("speed", "memory", "command"), default=["speed", "memory", "command"]
    )
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[10**5, 10**6, 10**7], help="forecasts for the memory table"
    )
    arguments = parser.parse_args()
    print(f"{machine()}, numpy {np.__version__}.\n")
    if "speed" in arguments.tables:
        print(speed_table() + "\n")
    if "memory" in arguments.tables:
        print(memory_table(arguments.sizes) + "\n")
    if "command" in arguments.tables:
        print(command_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
