"""A forecast as map jobs: ranges of blocks are simulated, summaries merged; a second pass refines quantiles."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from apps._frame import Session
from apps._frame.interrupts import preload
from apps._frame.stored import Codec, sha256
from apps.montecarlo.mapping import Mapped, in_run, on_executor
from apps.montecarlo.params import Params
from apps.montecarlo.preparation import Prepared, prepare
from apps.montecarlo.prices.history import PriceHistory
from apps.montecarlo.result import Result
from apps.montecarlo.science.models import FloatArray
from apps.montecarlo.science.simulation import Target, find_targets, refine, refine_blocks, simulate_blocks
from apps.montecarlo.science.spec import SimulationSpec, estimate_cpu_seconds, uses_numba
from apps.montecarlo.science.summary import Summary, merge
from core import FunctionExecutor, InputError

TASK_CPU_SECONDS = 1.0
"""CPU time that makes the cost of sending a task negligible."""
MAX_TASKS = 1000
"""Tasks beyond which they grow instead of multiplying, so that the driver's memory stays flat."""
Range = tuple[int, int]
Kept = dict[tuple[int, int], FloatArray]


class Part(NamedTuple):
    """What one task returns: its summary, and the CPU seconds it took."""

    summary: Summary
    cpu_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How a forecast is split: block ranges, and estimated CPU seconds in all."""

    ranges: tuple[Range, ...]
    cpu_seconds: float

    @property
    def task_cpu_seconds(self) -> float:
        """Estimated CPU seconds of one task."""
        return self.cpu_seconds / len(self.ranges)


def layout(spec: SimulationSpec, workers: int, invocations: int | None = None) -> Layout:
    """Split a forecast into ranges of blocks.

    Parameters
    ----------
    spec : SimulationSpec
        The forecast.
    workers : int
        Tasks that run at the same time; there are never fewer tasks, unless there are fewer blocks.
    invocations : int, optional
        Number of tasks, instead of tasks of about one CPU second.
    """
    cpu = estimate_cpu_seconds(spec)
    return Layout(tuple(block_ranges(spec.n_blocks, cpu, workers, invocations)), cpu)


def block_ranges(blocks: int, cpu: float, workers: int, invocations: int | None = None) -> list[Range]:
    """Split `blocks` that take `cpu` CPU seconds in all into (first, count) ranges; see ``layout``."""
    rounds = math.ceil(max(1, min(MAX_TASKS, round(cpu / TASK_CPU_SECONDS))) / workers)
    count = min(invocations or rounds * workers, blocks)
    cuts = [blocks * part // count for part in range(count + 1)]
    return [(start, stop - start) for start, stop in zip(cuts, cuts[1:], strict=False)]


def simulate(task: Range, params: SimulationSpec) -> Part:
    """Map function: the summary of a range of blocks, with what it cost."""
    started = time.process_time()
    summary = simulate_blocks(params, *task)
    return Part(summary, time.process_time() - started)


def refine_part(task: Range, params: tuple[SimulationSpec, Sequence[Target]]) -> tuple[Kept, float]:
    """Map function of the second pass: the values of a range of blocks in the targets' bins, and the CPU seconds."""
    started = time.process_time()
    return refine_blocks(*params, *task), time.process_time() - started


def encode_part(part: Part) -> bytes:
    """Write a part as JSON, followed by the arrays that it speaks of."""
    arrays: list[bytes] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append(value.tobytes())
            return {"dtype": value.dtype.str, "shape": value.shape}
        return [plain(each) for each in value] if isinstance(value, tuple) else value

    state = {name: plain(value) for name, value in part.summary.__getstate__().items()}
    head = json.dumps({"summary": state, "cpu_seconds": part.cpu_seconds}).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *arrays])


def decode_part(data: bytes) -> Part:
    """Read what ``encode_part`` has written."""
    place = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:place])

    def restored(value: Any) -> Any:
        nonlocal place
        if isinstance(value, dict):
            kind, count = np.dtype(value["dtype"]), math.prod(value["shape"])
            array = np.frombuffer(data, kind, count, place).reshape(value["shape"])
            place += array.nbytes
            return array
        return tuple(restored(each) for each in value) if isinstance(value, list) else value

    summary = Summary.__new__(Summary)
    summary.__setstate__({name: restored(value) for name, value in head["summary"].items()})
    return Part(summary, head["cpu_seconds"])


def _encode_kept(found: tuple[Kept, float]) -> bytes:
    kept, seconds = found
    rows = [[row, number, values.tolist()] for (row, number), values in kept.items()]
    return json.dumps({"kept": rows, "cpu_seconds": seconds}).encode()


def _decode_kept(data: bytes) -> tuple[Kept, float]:
    found = json.loads(data)
    kept = {(row, number): np.array(values, dtype=np.float64) for row, number, values in found["kept"]}
    return kept, found["cpu_seconds"]


PARTS = Codec(encode_part, decode_part)
KEPT = Codec(_encode_kept, _decode_kept)


def fold(parts: Iterable[Part]) -> tuple[Part, int]:
    """Merge parts as they come; returns the whole and how many there were.

    Grouping does not change the summary, and a merged part is let go, so memory is flat in their number.
    """
    total: Part | None = None
    count = 0
    for part in parts:
        total = part if total is None else _joined(total, part)
        count += 1
    if total is None:
        raise InputError("the job has no tasks, so there is nothing to sum up")
    return total, count


def _joined(left: Part, right: Part) -> Part:
    return Part(merge([left.summary, right.summary]), left.cpu_seconds + right.cpu_seconds)


def compute(prepared: Prepared, ranges: Sequence[Range], mapped: Mapped, workers: int, started: float) -> Result:
    """Simulate and merge, and refine if asked for; `started` is when the wall time begins.

    Raises
    ------
    InputError
        Some path leads where prices have no meaning.
    """
    params, spec = prepared.params, prepared.spec
    try:
        whole, tasks = fold(mapped("simulate", simulate, ranges, spec, PARTS))
    except ValueError as error:
        raise InputError(f"this forecast cannot be simulated: {error}") from error
    result = Result(
        prepared=prepared,
        summary=whole.summary,
        wall_seconds=time.perf_counter() - started,
        cpu_seconds=whole.cpu_seconds,
        tasks=tasks,
        workers=workers,
        engine="numba" if uses_numba(spec) else "numpy",
    )
    if not params.refine:
        return result
    wanted = [(params.days, q) for q in params.levels]
    targets = [target for day, q in wanted for target in find_targets(whole.summary, day, q)[:2]]
    parts = list(mapped("refine", refine_part, ranges, (spec, targets), KEPT))
    prices = refine(whole.summary, wanted, [kept for kept, _ in parts])
    return replace(
        result,
        exact_quantiles=dict(zip(params.levels, prices, strict=True)),
        wall_seconds=time.perf_counter() - started,
        cpu_seconds=result.cpu_seconds + sum(seconds for _, seconds in parts),
        tasks=tasks + len(parts),
    )


def run(prepared: Prepared, executor: FunctionExecutor) -> Result:
    """Run a forecast that leaves nothing behind.

    Parameters
    ----------
    prepared : Prepared
        What ``prepare`` returned.
    executor : FunctionExecutor
        Where it runs; the result is the same to the bit wherever that is.
    """
    started, workers = time.perf_counter(), executor.workers
    ranges = layout(prepared.spec, workers, prepared.params.invocations).ranges
    return compute(prepared, ranges, on_executor(executor), workers, started)


def forecast(session: Session, params: Params) -> None:
    """Run the forecast command."""
    from apps.montecarlo import report
    from apps.montecarlo.figures import result_object

    started = time.perf_counter()
    workers = session.executor.workers
    prepared = prepare(params)
    with session.open_run(report.RESULTS, inputs=tags(prepared.history)) as kept:
        if not kept.finished:
            split = layout(prepared.spec, workers, params.invocations).ranges
            ranges = [(first, count) for first, count in kept.remembered("ranges", split)]
            names = ["simulate", "refine"] if params.refine else ["simulate"]
            mapped = in_run(session, kept, names, preload("apps.montecarlo.plots", "pyarrow.parquet"))
            result = compute(prepared, ranges, mapped, workers, started)
            kept.publish(report.run_files(result, result_object(result)))
        figures = kept.figures()
    show(session, figures, report.terminal)


def show(session: Session, figures: dict[str, Any], as_text: Callable[[dict[str, Any]], str]) -> None:
    """Print what a command has found, where its report is, and what it cost."""
    session.show(figures, as_text)
    session.say(f"\nReport: {session.output}/report.html (beside it: result.json, tables, pictures)")
    session.show_bill()


def tags(history: PriceHistory | None) -> dict[str, str]:
    """Return the tag of the prices that a run stands on, by their source."""
    if history is None:
        return {}
    return {history.source: sha256(repr(history.dates).encode() + history.prices.tobytes())}
