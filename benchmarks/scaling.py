"""Scale on paper: small jobs predicted and really run, then jobs of a size that is only predicted.

``python -m benchmarks.scaling`` prints three Markdown tables in one run: the model beside measured jobs of this
machine; wall time and price of the published forecast job and of 100 million forecasts on cloud functions; what the
wall time consists of. docs/scaling.md explains parameters and limits.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks._measure import machine, table
from benchmarks._scaling_measure import CASES, Costs, Invocation, costs, forecast, worker_start
from benchmarks._scaling_model import simulate
from benchmarks._scaling_terms import BatchResult, Driver, Job, Platform, random_job
from core.events.prices import Price, billed_seconds, prices

RUNS = 100
"""Simulations of each scenario, with the seeds 0, 1, 2 ..."""
INVOCATIONS = 1000
TALK_FORECASTS, MANY_FORECASTS = 100_000, 100_000_000

PUBLISHED_LOCAL, PUBLISHED_CLOUD = 10_000.0, 70.0
"""Seconds of the published job of 1,000 invocations on one machine, and on IBM Cloud Functions."""

COLD_LOW, COLD_HIGH = 0.1, 1.0
"""Seconds of a cold start: "under 100 ms to over 1 second" (AWS Lambda Developer Guide, execution environment), taken
as the 5% and 95% quantiles of a lognormal."""
COLD_MEDIAN = math.sqrt(COLD_LOW * COLD_HIGH)
COLD_SIGMA = math.log(COLD_HIGH / COLD_LOW) / (2 * 1.6449)
CONCURRENCY = 1000
"""Default quota of concurrent executions (AWS Lambda quotas), and that of IBM Cloud Functions."""
BURST, RAMP = 1000.0, 100.0
"""New environments of a function: 1,000 every 10 s, refilled continuously (AWS Lambda scaling behavior)."""
WARM_LATENCY = 0.025
"""Median seconds of a warm call (L. Wang et al., Peeking Behind the Curtains of Serverless Platforms, ATC 2018)."""
STRAGGLERS, SLOWDOWN, TAIL = 0.05, 2.5, 3.4
"""Of 3,600 Lambda workers 5% took 2.5 times the median or more, and two took 9.4 times (V. Gupta et al., OverSketch,
IEEE Big Data 2018): Pareto's law through both."""
SPREAD = 0.1
"""Standard deviation of the logarithm of other times; an assumption."""
FAILURES = 0.0005
"""Share of executions that lose their worker: what the service level of 99.95% admits (AWS Lambda SLA)."""
CLIENT_CPU = 1.7e-3
"""Processor seconds of boto3 for one request, measured against a local server; they do not overlap."""
NETWORK = 0.05
"""Seconds for a new TLS connection and the way to the region; an assumption."""
LINK = 1e9 / 8
"""Bytes a second from the region to the driver, which is near it; an assumption. At home it may be a tenth."""
LIST_SECONDS = 0.15
"""A small request to S3: 100 to 200 ms (Amazon S3 User Guide, optimizing performance)."""
ASYNC_RETRY = 60.0
"""Seconds after which Lambda repeats an asynchronous invocation that failed (AWS Lambda, asynchronous invocation)."""
WAN_SENDING = 38.0 / 1000
"""Seconds a call of IBM-PyWren from a client far away (J. Sampé et al., Middleware 2018: 1,000 in 38 s)."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A job that is only predicted, and what it is charged."""

    name: str
    job: Job
    platform: Platform
    driver: Driver
    price: Price
    memory: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """Quantiles of wall seconds, and means of what explains and what is charged."""

    median: float
    high: float
    sent: float
    started: float
    throttled: float
    backups: float
    dollars: float


def predict(scenario: Scenario, runs: int) -> Prediction:
    outs = [simulate(scenario.job, scenario.platform, scenario.driver, seed) for seed in range(runs)]
    walls = sorted(out.wall for out in outs)
    return Prediction(
        median=statistics.median(walls),
        high=walls[min(runs - 1, int(0.95 * runs))],
        sent=statistics.mean(out.sent for out in outs),
        started=statistics.mean(out.started for out in outs),
        throttled=statistics.mean(out.throttled for out in outs),
        backups=statistics.mean(out.backups for out in outs),
        dollars=statistics.mean(charge(scenario, out) for out in outs),
    )


def charge(scenario: Scenario, out: BatchResult) -> float:
    """Return US dollars for every execution, copies and losses included."""
    price = scenario.price
    seconds = sum(billed_seconds(one, price.quantum) for one in out.billed)
    memory = max(scenario.memory, price.memory)
    return price.charge(seconds, seconds * memory / (1 << 30), len(out.billed), 0, 0)


def scenarios(talk: Invocation, many: Invocation, init: float) -> list[Scenario]:
    lambdas = prices()["lambda"]
    cloud = Platform(
        CONCURRENCY, 0, COLD_MEDIAN, COLD_SIGMA, init, BURST, RAMP, WARM_LATENCY / 2, queues=False, kills=False
    )
    driver = Driver(dispatch=CLIENT_CPU, call=NETWORK, inflight=CONCURRENCY, speculates=True)
    ibm = replace(cloud, init=0.0, burst=math.inf, ramp=math.inf)
    pywren = Driver(dispatch=WAN_SENDING, polls=True, list_seconds=LIST_SECONDS)
    original = _job(PUBLISHED_LOCAL / INVOCATIONS)

    def run(name: str, job: Job, platform: Platform, driver: Driver) -> Scenario:
        return Scenario(name, job, platform, driver, lambdas, 0)

    def collecting(taken: Invocation, link: float = LINK) -> Driver:
        return replace(driver, collect=taken.collect + taken.result_bytes / link)

    asynchronous = replace(cloud, notice=ASYNC_RETRY, queues=True)
    return [
        Scenario("published job, as published", original, ibm, pywren, prices()["ibm-functions"], 0),
        run("published job's function, fanfold", original, cloud, collecting(talk)),
        run("published job, fanfold's kernel", _job(talk.seconds), cloud, collecting(talk)),
        run("100 M forecasts", _job(many.seconds), cloud, collecting(many)),
        run("the same, driver at home (100 Mbit/s)", _job(many.seconds), cloud, collecting(many, LINK / 10)),
        run("the same, new account (10 at a time)", _job(many.seconds), replace(cloud, slots=10), collecting(many)),
        run(
            "the same, new account, 10 workers",
            _job(many.seconds),
            replace(cloud, slots=10),
            replace(collecting(many), inflight=10),
        ),
        run(
            "the same, asynchronous, results in S3",
            _job(many.seconds),
            asynchronous,
            replace(collecting(many), polls=True, list_seconds=LIST_SECONDS),
        ),
        run("the same, 10 times as many", _job(10 * many.seconds), cloud, collecting(many)),
    ]


def _job(seconds: float, stragglers: float = STRAGGLERS, failures: float = FAILURES) -> Job:
    return random_job(
        INVOCATIONS,
        seconds,
        spread=SPREAD,
        straggler_share=stragglers,
        slowdown=SLOWDOWN,
        tail=TAIL,
        failure_share=failures,
    )


def parts(scenario: Scenario, seconds: float, runs: int) -> list[tuple[str, float]]:
    """Return the median wall time without one cause after another; a cause that others hide saves nothing."""
    warm = replace(scenario.platform, warm=scenario.platform.slots)
    changes: list[tuple[str, Callable[[], Scenario]]] = [
        ("all", lambda: scenario),
        ("warm starts", lambda: replace(scenario, platform=warm)),
        ("no stragglers", lambda: replace(scenario, job=_job(seconds, stragglers=0.0))),
        ("no losses", lambda: replace(scenario, job=_job(seconds, failures=0.0))),
        ("sending for nothing", lambda: replace(scenario, driver=replace(scenario.driver, dispatch=0.0, call=0.0))),
        ("results for nothing", lambda: replace(scenario, driver=replace(scenario.driver, collect=0.0, polls=False))),
        ("no copies", lambda: replace(scenario, driver=replace(scenario.driver, speculates=False))),
    ]
    return [(name, predict(change(), runs).median) for name, change in changes]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS, help=f"simulations of each scenario (default: {RUNS})")
    parser.add_argument("--no-measuring", action="store_true", help="leave out the jobs that are really run")
    arguments = parser.parse_args()
    print(f"{machine()}.\n")
    if not arguments.no_measuring:
        validate(costs())
    talk, many, init = forecast(TALK_FORECASTS, INVOCATIONS), forecast(MANY_FORECASTS, INVOCATIONS), worker_start()
    print(
        f"Measured here: a worker starts in {init:.2f} s; an invocation of {TALK_FORECASTS // INVOCATIONS:,} forecasts "
        f"takes {1e3 * talk.seconds:.2g} ms and returns {talk.result_bytes / 1e3:,.0f} kB; one of "
        f"{MANY_FORECASTS // INVOCATIONS:,} takes {many.seconds:.2f} s and returns {many.result_bytes / 1e3:,.0f} kB, "
        f"read and merged in {1e3 * many.collect:.1f} ms.\n"
    )
    forecasts = scenarios(talk, many, init)
    rows = []
    for scenario in forecasts:
        found = predict(scenario, arguments.runs)
        rows.append(
            [scenario.name, f"{found.median:.1f} s", f"{found.high:.1f} s", f"{found.sent:.1f} s"]
            + [f"{found.started:.1f} s", f"{found.throttled:,.0f}", f"{found.backups:.0f}"]
            + [f"${found.dollars:.3f} ({scenario.price.date})"]
        )
    heads = ["1,000 invocations", "wall, median", "95%", "all sent", "all admitted", "refused", "copies", "price"]
    print(table(heads, rows), end="\n\n")
    chosen = [(forecasts[0], PUBLISHED_LOCAL / INVOCATIONS), (forecasts[1], PUBLISHED_LOCAL / INVOCATIONS)]
    chosen += [(forecasts[2], talk.seconds), (forecasts[3], many.seconds)]
    found_parts = [parts(scenario, seconds, arguments.runs) for scenario, seconds in chosen]
    heads = ["wall, median", *(name for name, _ in found_parts[0])]
    lines = [
        [scenario.name, *(f"{wall:.1f} s" for _, wall in found)]
        for (scenario, _), found in zip(chosen, found_parts, strict=True)
    ]
    print(table(heads, lines))
    print(f"\nPublished: {PUBLISHED_LOCAL:,.0f} s on one machine, about {PUBLISHED_CLOUD:.0f} s on cloud functions.")
    return 0


def validate(found: Costs) -> None:
    """Run the small jobs and print them beside their predictions."""
    print(
        f"A task costs the executor {1e6 * found.task:.0f} us, a job {1e3 * found.job:.2f} ms, a new worker "
        f"{1e3 * found.respawn:.1f} ms.\n"
    )
    rows, errors = [], []
    for cases in CASES:
        for case in cases(found):
            measured, predicted = case.run(), case.predicted()
            errors.append(abs(predicted / measured - 1))
            rows.append(
                [case.name, f"{measured:.3f} s", f"{predicted:.3f} s", f"{100 * (predicted / measured - 1):+.1f}%"]
            )
    print(table(["small jobs, really run", "measured", "predicted", "error"], rows))
    print(f"\nMedian error {100 * statistics.median(errors):.1f}%, largest {100 * max(errors):.1f}%.\n")


if __name__ == "__main__":
    raise SystemExit(main())
