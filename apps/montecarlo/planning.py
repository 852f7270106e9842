"""What a forecast would take, without running it."""

from __future__ import annotations

import math
from typing import Any

from apps.montecarlo.blocks import BATCH_VALUES
from apps.montecarlo.histograms import BINS
from apps.montecarlo.job import plan
from apps.montecarlo.preparation import Prepared
from apps.montecarlo.simulation import uses_numba

WORKER_BASE_BYTES = 40 << 20
"""Resident memory of a worker with Python, numpy and the app loaded, measured on Linux."""
NUMBA_BYTES = 80 << 20
"""What numba and its compiler add to that, most of it mapped from files."""
BATCH_ARRAYS = 2
"""Arrays of a batch's size that a simulation holds at once."""
FUNCTION_BYTES = 1769 << 20
"""Memory of a cloud function that gets one virtual processor (AWS Lambda)."""
FUNCTION_GB_SECOND_USD = 0.0000166667
"""List price of AWS Lambda on x86 per GB-second (us-east-1, January 2025)."""
FUNCTION_REQUEST_USD = 0.20e-6
"""List price of one invocation, likewise."""
GB = 1 << 30


def dry_run(prepared: Prepared, workers: int) -> dict[str, Any]:
    """Return invocations, CPU time, memory and cost of a forecast.

    Parameters
    ----------
    prepared : Prepared
        The forecast.
    workers : int
        Tasks that run at the same time.
    """
    spec, params = prepared.spec, prepared.params
    laid = plan(spec, workers, params.invocations)
    rounds = math.ceil(len(laid.ranges) / workers)
    passes = 2 if params.refine else 1
    gb_seconds = laid.cpu_seconds * FUNCTION_BYTES / GB
    return {
        "dry_run": True,
        "model": params.model,
        "forecasts": params.forecasts,
        "days": params.days,
        "path_steps": spec.path_steps * passes,
        "exact_sampling": spec.exact,
        "invocations": len(laid.ranges) * passes,
        "forecasts_per_invocation": math.ceil(params.forecasts / len(laid.ranges)),
        "workers": workers,
        "cpu_seconds": laid.cpu_seconds * passes,
        "cpu_seconds_per_invocation": laid.task_cpu_seconds,
        "wall_seconds": rounds * laid.task_cpu_seconds * passes,
        "worker_memory_bytes": worker_bytes(len(spec.horizons), uses_numba(spec)),
        "cost_here_usd": 0.0,
        "cost_cloud_functions_usd": passes
        * (gb_seconds * FUNCTION_GB_SECOND_USD + len(laid.ranges) * FUNCTION_REQUEST_USD),
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
        ("Cost", f"none on this machine; about ${figures['cost_cloud_functions_usd']:.2g} on cloud functions of "
                 f"{FUNCTION_BYTES >> 20:,} MiB at ${FUNCTION_GB_SECOND_USD:.10f} a GB-second"),
    ]  # fmt: skip
    lines = [f"{name.ljust(11)}  {value}" for name, value in rows]
    return "\n".join(["Dry run: nothing was simulated and nothing written.", *lines])


def duration(seconds: float) -> str:
    """Write a time with a unit to suit its size."""
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
