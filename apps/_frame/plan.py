"""What a run would take and cost, told before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from apps._frame.tables import TextTable, counted, duration, facts_text, size_text
from core import FunctionExecutor


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage will have to do.

    Attributes
    ----------
    name : str
    tasks : int
        Those that are still to be run.
    cpu_seconds : float
        CPU seconds of one task.
    memory : int
        Bytes that a worker needs.
    gets, puts : int
        Requests that all tasks together make of storage, their commits apart.
    bytes_in, bytes_out : int
        What all tasks together read and write.
    at_once : int
        Tasks that can run at a time, however many workers there are; 0 for all.
    """

    name: str
    tasks: int
    cpu_seconds: float
    memory: int = 0
    gets: int = 0
    puts: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    at_once: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command would do: its stages, and what else is to be said, to people and to programs."""

    stages: Sequence[StagePlan]
    facts: Sequence[tuple[str, str]] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


def plan_figures(plan: Plan, executor: FunctionExecutor) -> dict[str, Any]:
    """Return a plan with its CPU seconds, requests, bytes and price for programs; nothing is started."""
    workers = executor.workers
    charged: dict[str, Any] = {}
    for stage in plan.stages or (StagePlan("nothing", 0, 0.0),):
        puts = stage.puts + stage.tasks
        one = asdict(executor.estimate(stage.tasks, stage.cpu_seconds, stage.memory, puts=puts, gets=stage.gets))
        charged = {name: _added(charged.get(name), value) for name, value in one.items()}
    return {
        "dry_run": True,
        **plan.figures,
        "stages": [asdict(stage) for stage in plan.stages],
        "workers": workers,
        "cpu_seconds": sum(stage.tasks * stage.cpu_seconds for stage in plan.stages),
        "wall_seconds": sum(worked_seconds(stage, workers) for stage in plan.stages),
        "charged": charged,
    }


def worked_seconds(stage: StagePlan, workers: int) -> float:
    """Return the wall seconds of a stage on so many workers."""
    at_once = stage.at_once or max(stage.tasks, 1)
    return math.ceil(stage.tasks / at_once) * math.ceil(at_once / workers) * stage.cpu_seconds


def _added(before: Any, value: Any) -> Any:
    """Add up what is counted; a sum with an unknown part is unknown."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if before is None else before + value
    return value


def plan_text(plan: Plan, figures: Mapping[str, Any]) -> str:
    """Return a plan for people; `figures` are what ``plan_figures`` returned."""
    rows = [
        *plan.facts,
        *_data_row(plan.stages),
        ("CPU time", f"about {duration(figures['cpu_seconds'])}"),
        ("Wall time", f"about {duration(figures['wall_seconds'])} on {counted(figures['workers'], 'worker')}"),
        *charge_rows(figures["charged"]),
    ]
    parts = ["Dry run: nothing was computed and nothing written.", facts_text(rows)]
    if len(plan.stages) > 1:
        lines = [
            [stage.name, f"{stage.tasks:,}", f"{stage.tasks * stage.cpu_seconds:,.3g}",
             size_text(stage.bytes_in), size_text(stage.bytes_out)]
            for stage in plan.stages
        ]  # fmt: skip
        parts.append(TextTable("Stages", ["", "tasks", "CPU s", "read", "written"], lines).text())
    return "\n\n".join(parts)


def _data_row(stages: Sequence[StagePlan]) -> list[tuple[str, str]]:
    read, written = sum(stage.bytes_in for stage in stages), sum(stage.bytes_out for stage in stages)
    return [("Data", f"{size_text(read)} read, {size_text(written)} written")] if read or written else []


def charge_rows(charged: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a dry run says of an executor's ``estimate``, as a dict: what is billed, and for how much."""
    used = [
        counted(charged["invocations"], "invocation"),
        f"{charged['seconds']:,.4g} s",
        f"{charged['gb_seconds']:,.3g} GB-seconds",
        counted(charged["requests"], "storage request"),
    ]
    return [("Billed", ", ".join(used)), ("Cost", charge_text(charged))]


def charge_text(charged: Mapping[str, Any]) -> str:
    """Return the price of an ``estimate``, whose it is, and of when."""
    if charged["cost"] is None:
        return f"unknown: the price of {charged['backend']} at this address is not in the table"
    amount = f"about ${charged['cost']:.2g}" if charged["cost"] else "nothing"
    if not charged["price_date"]:
        return f"{amount} on {charged['price']}"
    return f"{amount} by the list price of {charged['price_date']}, without free tier, of {charged['price']}"
