"""What each command would take, without running it."""

from __future__ import annotations

import math
from dataclasses import asdict

from apps._frame import Session
from apps._frame.plan import Plan, StagePlan, charge_text
from apps._frame.tables import duration
from apps.montecarlo.params import Params
from apps.montecarlo.preparation import Prepared, prepare
from apps.montecarlo.science.blocks import BATCH_VALUES
from apps.montecarlo.science.histograms import BINS
from apps.montecarlo.science.spec import uses_numba
from apps.montecarlo.stages import layout
from core import FunctionExecutor

WORKER_BASE_BYTES = 40 << 20
"""Resident memory of a worker with Python, numpy and the app loaded, measured on Linux."""
NUMBA_BYTES = 80 << 20
"""What numba and its compiler add to that, most of it mapped from files."""
BATCH_ARRAYS = 2
"""Arrays of a batch's size that a simulation holds at once."""
COMPARED = "lambda://any"
"""Cloud functions whose price is told beside that of the chosen backend."""


def plan_forecast(session: Session, params: Params) -> Plan:
    """Say what a forecast would take."""
    return plan_of(prepare(params), session.executor)


def plan_of(prepared: Prepared, executor: FunctionExecutor) -> Plan:
    """Return the plan of a forecast; the executor starts nothing."""
    spec, params = prepared.spec, prepared.params
    laid = layout(spec, executor.workers, params.invocations)
    memory = worker_bytes(len(spec.horizons), uses_numba(spec))
    names = ["simulate", "refine"] if params.refine else ["simulate"]
    stages = [StagePlan(name, len(laid.ranges), laid.task_cpu_seconds, memory) for name in names]
    invocations, steps = len(laid.ranges) * len(stages), spec.path_steps * len(stages)
    each = math.ceil(params.forecasts / len(laid.ranges))
    elsewhere = asdict(executor.estimate(invocations, laid.task_cpu_seconds, memory, compute=COMPARED))
    kind = "exact draws" if spec.exact else "daily steps" if prepared.spacing.step == "day" else "steps"
    facts = [
        ("Forecasts", f"{params.forecasts:,} of {params.days:,} {prepared.spacing.steps}, model {params.model}"),
        ("To simulate", f"{steps:,} {kind}"),
        ("Invocations", f"{invocations:,} of {each:,} forecasts, {duration(laid.task_cpu_seconds)} of CPU each"),
        ("Memory", f"about {memory / 2**20:.0f} MiB a worker, however many forecasts"),
    ]
    if executor.estimate(1, 1.0, memory).backend != "lambda":
        facts.append(("On functions", charge_text(elsewhere)))
    figures = {
        "model": params.model,
        "forecasts": params.forecasts,
        "days": params.days,
        "path_steps": steps,
        "exact_sampling": spec.exact,
        "invocations": invocations,
        "forecasts_per_invocation": each,
        "cpu_seconds_per_invocation": laid.task_cpu_seconds,
        "worker_memory_bytes": memory,
        "charged_on_cloud_functions": elsewhere,
    }
    return Plan(stages, facts, figures)


def worker_bytes(horizons: int, compiled: bool = False) -> int:
    """Estimate the resident memory of a worker in bytes; it does not grow with the number of forecasts."""
    base = WORKER_BASE_BYTES + (NUMBA_BYTES if compiled else 0)
    return base + BATCH_ARRAYS * 8 * BATCH_VALUES + 2 * 8 * BINS * horizons
