"""What a forecast would take, without running it."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from apps._cli import charge_rows, charge_text
from apps.montecarlo.job import plan
from apps.montecarlo.preparation import Prepared
from apps.montecarlo.science.blocks import BATCH_VALUES
from apps.montecarlo.science.histograms import BINS
from apps.montecarlo.science.spec import uses_numba
from core import FunctionExecutor

WORKER_BASE_BYTES = 40 << 20
"""Resident memory of a worker with Python, numpy and the app loaded, measured on Linux."""
NUMBA_BYTES = 80 << 20
"""What numba and its compiler add to that, most of it mapped from files."""
BATCH_ARRAYS = 2
"""Arrays of a batch's size that a simulation holds at once."""
COMPARED = "lambda://any"
"""Cloud functions whose price is told beside that of the chosen backend."""


def dry_run(prepared: Prepared, executor: FunctionExecutor) -> dict[str, Any]:
    """Return invocations, CPU time, memory and cost of a forecast.

    Parameters
    ----------
    prepared : Prepared
        The forecast.
    executor : FunctionExecutor
        Where it would run; it starts nothing.
    """
    spec, params, workers = prepared.spec, prepared.params, executor.workers
    laid = plan(spec, workers, params.invocations)
    rounds = math.ceil(len(laid.ranges) / workers)
    passes = 2 if params.refine else 1
    memory = worker_bytes(len(spec.horizons), uses_numba(spec))
    invocations = len(laid.ranges) * passes
    charged = executor.estimate(invocations, laid.task_cpu_seconds, memory)
    elsewhere = executor.estimate(invocations, laid.task_cpu_seconds, memory, compute=COMPARED)
    return {
        "dry_run": True,
        "model": params.model,
        "forecasts": params.forecasts,
        "days": params.days,
        "path_steps": spec.path_steps * passes,
        "exact_sampling": spec.exact,
        "invocations": invocations,
        "forecasts_per_invocation": math.ceil(params.forecasts / len(laid.ranges)),
        "workers": workers,
        "cpu_seconds": laid.cpu_seconds * passes,
        "cpu_seconds_per_invocation": laid.task_cpu_seconds,
        "wall_seconds": rounds * laid.task_cpu_seconds * passes,
        "worker_memory_bytes": memory,
        "charged": asdict(charged),
        "charged_on_cloud_functions": asdict(elsewhere),
    }


def worker_bytes(horizons: int, compiled: bool = False) -> int:
    """Estimate the resident memory of a worker in bytes; it does not grow with the number of forecasts."""
    base = WORKER_BASE_BYTES + (NUMBA_BYTES if compiled else 0)
    return base + BATCH_ARRAYS * 8 * BATCH_VALUES + 2 * 8 * BINS * horizons


def as_text(figures: dict[str, Any]) -> str:
    """Return the plan for people."""
    kind = "exact draws" if figures["exact_sampling"] else "daily steps"
    rows = [
        ("Forecasts", f"{figures['forecasts']:,} of {figures['days']:,} trading days, model {figures['model']}"),
        ("To simulate", f"{figures['path_steps']:,} {kind}"),
        ("Invocations", f"{figures['invocations']:,} of {figures['forecasts_per_invocation']:,} forecasts, "
                        f"{figures['cpu_seconds_per_invocation']:.2g} CPU s each"),
        ("CPU time", f"about {duration(figures['cpu_seconds'])}"),
        ("Wall time", f"about {duration(figures['wall_seconds'])} on {figures['workers']} workers"),
        ("Memory", f"about {figures['worker_memory_bytes'] / 2**20:.0f} MiB a worker, however many forecasts"),
        *charge_rows(figures["charged"]),
    ]  # fmt: skip
    if figures["charged"]["backend"] != "lambda":
        rows.append(("Elsewhere", charge_text(figures["charged_on_cloud_functions"])))
    lines = [f"{name.ljust(11)}  {value}" for name, value in rows]
    return "\n".join(["Dry run: nothing was simulated and nothing written.", *lines])


def duration(seconds: float) -> str:
    """Write a time with a unit to suit its size."""
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
