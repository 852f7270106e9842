"""Stages: map jobs whose outputs are objects named by content, so that what exists is never computed again."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from apps._frame.content import code_version, content_of
from apps._frame.manifest import STAGES
from apps._frame.run import Run
from apps._frame.stored import JSON, REFERENCE, VALUE, Codec, Stored, commit, look_up, sha256
from core import FunctionExecutor, FutureList, TaskError
from core.storage import Storage, process_storage

PART = ".part-"
"""What follows a task's name in the keys of objects that it puts beside its value."""
READERS = 8
"""Requests for commits of earlier attempts that wait for the storage at a time."""
HELD = 16 << 20
"""Bytes of outputs that the driver keeps at most; what is beyond is read again when it is asked for."""


def outputs_left(storage: Storage, stage: str) -> Iterator[bytes]:
    """Yield what tasks of a stage have left in a run so far, whatever tasks they were.

    Of a task that was committed that is its output, of another one all that it has put beside (`TaskOutput`).
    """
    found: dict[str, list[str]] = {}
    for info in storage.list(f"{STAGES}{stage}/"):
        folder, _, name = info.key.rpartition("/")
        found.setdefault(f"{folder}/{name.partition('.')[0]}", []).append(info.key)

    def read(base: str) -> list[bytes]:
        if {f"{base}{VALUE}", f"{base}{REFERENCE}"} & set(found[base]):
            return [look_up(storage, base).read()]
        return [storage.get(key) for key in found[base] if key.startswith(f"{base}{PART}")]

    with ThreadPoolExecutor(READERS) as readers:
        for contents in readers.map(read, found):
            yield from contents


class TaskOutput:
    """What a task writes beside the value that it returns: parameter ``output`` of a stage's function.

    Attributes
    ----------
    attempt : int
        How often this task was begun before, as far as is known.
    """

    def __init__(self, address: str | None, prefix: str, attempt: int) -> None:
        self.attempt = attempt
        self.beside: dict[str, bytes] = {}
        self._address, self._prefix = address, prefix

    def put(self, name: str, data: bytes | memoryview) -> str:
        """Write an object of this task straight to the run's storage; returns its key there.

        If the task ends before it returns, such objects are there for its next attempt.
        """
        key = f"{self._prefix}{PART}{name}"
        if self._address is None:
            self.beside[key] = bytes(data)
        else:
            process_storage(self._address).put(key, data)
        return key

    def earlier(self) -> dict[str, bytes]:
        """Return what earlier attempts at this task have put, by name."""
        if self._address is None:
            return {}
        storage, begin = process_storage(self._address), f"{self._prefix}{PART}"
        return {info.key.removeprefix(begin): storage.get(info.key) for info in storage.list(begin)}


@dataclass(frozen=True, slots=True)
class Stage:
    """One map job with its outputs.

    Parameters
    ----------
    name : str
        What it is called in progress and in the run's folder.
    tasks : sequence
        Items: numbers, text, tuples, lists, dicts, frozen dataclasses, and `Stored` objects among them.
    fn : callable
        Gets an item and returns what `codec` can encode. Further parameters called ``params`` and ``output`` that have
        no default are filled, with the stage's `params` and a `TaskOutput`.
    params : object, optional
        Settings that decide what comes out.
    version : str, optional
        Of the code, to be raised when what comes out changes; by default a hash of the source of `fn`'s module and of
        all that it imports of its application.
    codec : Codec
        By default JSON.
    options : mapping
        Further arguments of ``executor.map``: ``timeout``, ``memory``, ``retries``, ``batch_size``.
    """

    name: str
    tasks: Sequence[Any]
    fn: Callable[..., Any]
    params: Any = None
    version: str = ""
    codec: Codec = JSON
    options: Mapping[str, Any] = field(default_factory=dict)

    def bases(self) -> list[str]:
        """Return what the keys of the objects of each task begin with in the run's storage.

        Raises
        ------
        TypeError
            A task or parameter has no content that could be hashed.
        """
        common = json.dumps([self.name, self.version or code_version(self.fn), content_of(self.params)])
        names = (sha256(f"{common}{json.dumps(content_of(task))}".encode())[7:39] for task in self.tasks)
        return [f"{STAGES}{self.name}/{name}" for name in names]


class Outputs(Sequence[Stored]):
    """Outputs of a stage in the order of its tasks.

    Attributes
    ----------
    failures : dict
        Error of each task that failed, by its index, where the stage was to go on; its output is None.
    """

    def __init__(self, codec: Codec, stored: list[Stored | None], failures: dict[int, TaskError]) -> None:
        self._codec, self._stored, self.failures = codec, stored, failures

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: Any) -> Any:
        return self._stored[index]

    def value(self, index: int) -> Any:
        """Return what a task returned."""
        return self._codec.decode(self[index].read())

    def values(self) -> Iterator[Any]:
        """Yield what each task returned, one in memory at a time; those that failed are left out."""
        return (self.value(index) for index in range(len(self)) if index not in self.failures)


@dataclass(frozen=True, slots=True)
class _Work:
    task: Any
    base: str


@dataclass(frozen=True, slots=True)
class _Shared:
    fn: Callable[..., Any]
    filled: tuple[str, ...]
    params: Any
    encode: Callable[[Any], bytes]
    address: str | None


@dataclass(frozen=True, slots=True)
class _Uncommitted:
    """What a task returns whose worker cannot reach the run's storage."""

    data: bytes
    beside: dict[str, bytes]


def _perform(work: _Work, shared: _Shared, attempt: int) -> Stored | _Uncommitted | None:
    """Map function: run one task, and commit its output; None if another attempt has."""
    output = TaskOutput(shared.address, work.base, attempt)
    offered = {"params": shared.params, "output": output}
    data = shared.encode(shared.fn(work.task, **{name: offered[name] for name in shared.filled}))
    if shared.address is None:
        return _Uncommitted(data, output.beside)
    return commit(process_storage(shared.address), work.base, data)


class Stages:
    """The stages of one run, in order.

    Parameters
    ----------
    run : Run
        Where outputs are kept.
    executor : FunctionExecutor
    names : sequence of str
        What the stages are called, all of them, so that progress can say which of how many it is.
    together : callable, optional
        Called with a label, a number of tasks and how many are done already: a context in which one bar shows them.
    """

    def __init__(
        self,
        run: Run,
        executor: FunctionExecutor,
        names: Sequence[str],
        together: Callable[[str, int, int], AbstractContextManager[None]] | None = None,
    ) -> None:
        self._run, self._executor, self._names = run, executor, list(names)
        self._together = together or (lambda label, total, done: nullcontext())
        self._reaches = executor.reaches(run.storage)
        self._held = 0

    def run(self, stage: Stage, *, go_on: bool = False, meanwhile: Callable[[], object] | None = None) -> Outputs:
        """Compute what is missing of a stage; returns all of its outputs.

        Parameters
        ----------
        stage : Stage
        go_on : bool
            Leave out tasks that fail, and say so in the outputs, instead of raising the first failure.
        meanwhile : callable, optional
            Work of the driver that can be done while the tasks run.

        Raises
        ------
        TaskError
            A task failed. An exception of the stage's function is raised as its own type.
        """
        bases = stage.bases()
        first = {base: at for at, base in reversed(list(enumerate(bases)))}  # two tasks that are the same are run once
        there = {info.key for info in self._run.storage.list(f"{STAGES}{stage.name}/")}
        missing = [at for base, at in first.items() if not there & {f"{base}{VALUE}", f"{base}{REFERENCE}"}]
        missing.sort()
        label, done = self._label(stage), len(first) - len(missing)
        found: dict[str, Stored | None] = dict.fromkeys(first)
        failures: dict[str, TaskError] = {}
        self._run.check(f"{label}: {done:,} of {len(first):,}")
        with self._together(label, len(first), done), self._started(stage, bases, missing) as futures:
            if meanwhile is not None:
                meanwhile()
            for place, at in enumerate(missing):
                try:
                    found[bases[at]] = self._settled(bases[at], futures[place].result())
                except TaskError as error:
                    if not go_on:
                        raise
                    failures[bases[at]] = error
                futures.release(place)
                self._run.note = f"{label}: {done + place + 1:,} of {len(first):,}"
        self._look_up([base for base in first if found[base] is None and base not in failures], found)
        failed = {at: failures[base] for at, base in enumerate(bases) if base in failures}
        return Outputs(stage.codec, [found[base] for base in bases], failed)

    def _look_up(self, bases: Sequence[str], found: dict[str, Stored | None]) -> None:
        """Fill in the outputs that another attempt, or another driver, has committed."""
        with ThreadPoolExecutor(READERS) as readers:
            outputs = readers.map(lambda base: look_up(self._run.storage, base), bases)
            found.update((base, self._held_at_most(output)) for base, output in zip(bases, outputs, strict=True))

    @contextmanager
    def _started(self, stage: Stage, bases: Sequence[str], missing: Sequence[int]) -> Iterator[FutureList]:
        """Run the missing tasks; none of them goes on, and commits, once this has been left."""
        if not missing:
            yield FutureList()
            return
        address = self._run.address if self._reaches else None
        shared = _Shared(stage.fn, _filled(stage.fn), stage.params, stage.codec.encode, address)
        work = [_Work(self._sent(stage.tasks[at]), bases[at]) for at in missing]
        futures = self._executor.map(_perform, work, extra_args=(shared,), label=stage.name, **stage.options)
        self._run.keep_alive()
        try:
            yield futures
        except BaseException:
            self._executor.cancel(futures)
            raise

    def _label(self, stage: Stage) -> str:
        return f"{self._names.index(stage.name) + 1}/{len(self._names)} {stage.name}"

    def _settled(self, base: str, done: Stored | _Uncommitted | None) -> Stored | None:
        """Return an output, committed if its worker could not; None if only the storage knows what came out."""
        if isinstance(done, _Uncommitted):
            for name, data in done.beside.items():
                self._run.storage.put(name, data)
            done = commit(self._run.storage, base, done.data)
        return None if done is None else self._held_at_most(done)

    def _held_at_most(self, stored: Stored) -> Stored:
        """Let go of an output's content when too much is held already."""
        if stored.data is None:
            return stored
        self._held += stored.size
        return stored if self._held <= HELD else dataclasses.replace(stored, data=None)

    def _sent(self, task: Any) -> Any:
        """Return a task as workers get it: what they can read themselves without its content, the rest with it."""
        if isinstance(task, Stored):
            reached = self._executor.reaches(process_storage(task.address))
            return dataclasses.replace(task, data=None if reached else task.read())
        if isinstance(task, list | tuple):
            return getattr(task, "_make", type(task))(self._sent(each) for each in task)  # `_make`: of named tuples
        if isinstance(task, dict):
            return {key: self._sent(each) for key, each in task.items()}
        if dataclasses.is_dataclass(task) and not isinstance(task, type):
            named = {each.name: getattr(task, each.name) for each in dataclasses.fields(task) if each.init}
            sent = {name: self._sent(value) for name, value in named.items()}
            same = all(sent[name] is value for name, value in named.items())
            return task if same else dataclasses.replace(task, **sent)
        return task


def _filled(fn: Callable[..., Any]) -> tuple[str, ...]:
    _, *others = inspect.signature(fn).parameters.values()
    return tuple(one.name for one in others if one.name in ("params", "output") and one.default is one.empty)
