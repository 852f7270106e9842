"""Platforms that misbehave: workers killed at random, starts that fail, double and late deliveries, stragglers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from core import FunctionExecutor, open_storage
from core.compute.cluster.slurm_commands import Commands
from core.compute.remote.slot import Slot
from core.task import keys, messages
from core.task.commit import read_commit
from core.task.protocol import BatchDone, Invocation
from core.types import JobDone, TaskDone, TaskSpeculated
from core.worker.dask import answer
from tests.servers.lambda_emulators import EmulatedLambda
from tests.servers.processes import processes
from tests.servers.slurm import find

ROOT = Path(__file__).parents[2]
TASKS, KILLS, EACH = 48, 3, 5
"""So many tasks; so many workers are killed, one whenever so many more tasks have begun."""

EVERY = 10
"""One start in so many fails, the first of them at once."""

SHIM = """#!/bin/sh
if [ -e {folder}/spoil ] && {{ [ -z "{verb}" ] || [ "$1" = "{verb}" ]; }}; then
    n=0
    while ! mkdir {folder}/start-$n 2>/dev/null; do n=$((n + 1)); done
    if [ $((n % 3)) = 0 ]; then mkdir {folder}/failed-$n; echo "{words}" >&2; exit {status}; fi
fi
exec {program} "$@"
"""
"""Stands before a platform's command. Of few starts, one in three fails."""


SITES = ["container", "aws_lambda", "slurm_cluster", "dask"]
MODES = [
    *((name, True) for name in SITES),
    *(pytest.param(name, False, marks=pytest.mark.slow) for name in SITES if name != "slurm_cluster"),
    pytest.param("lambda_events", True, marks=pytest.mark.slow),
]
"""Platforms whose workers are killed, with results in storage or in the replies."""


@dataclass
class Site:
    """A platform.

    `victims` gives the processes that do the platform's work for a backend; `spoil` makes starts fail from now on, and
    returns what counts them; `twice` has everything delivered twice, and returns what delivers it once more.
    """

    compute: str
    folder: Path
    victims: Callable[[Any], list[int]]
    spoil: Callable[[Any], Callable[[], int]]
    twice: Callable[[Any], Callable[[], None]]

    @property
    def store(self) -> str:
        return f"file://{self.folder}/store"

    def opened(self, heard: list[Any], **settings: Any) -> FunctionExecutor:
        chosen = {"workers": 2, "retries": 20, "durable": True, **settings}
        return FunctionExecutor(self.compute, self.store, listeners=[heard.append], **chosen)


class Doubled(Slot):
    """Two slots of a platform that get the same requests at the same time."""

    def __init__(self, slots: list[Slot], sent: list[tuple[bytes, Invocation]]) -> None:
        self._slots, self._sent = slots, sent
        self._pool = ThreadPoolExecutor(len(slots))

    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        replies = list(self._pool.map(lambda slot: slot.exchange(message, invocation), self._slots))
        self._sent.append((message, invocation))
        return replies[0]

    def interrupt(self) -> None:
        for slot in self._slots:
            slot.interrupt()

    def close(self) -> None:
        for slot in self._slots:
            slot.close()
        self._pool.shutdown()


def answered_twice(backend: Any) -> Callable[[], None]:
    """Have every request of a backend that answers sent twice at the same time."""
    sent: list[tuple[bytes, Invocation]] = []
    opened = backend.open_slot
    backend.open_slot = lambda index: Doubled([opened(2 * index), opened(2 * index + 1)], sent)

    def late() -> None:
        slot = opened(99)
        for message, invocation in sent:
            assert isinstance(messages.read_reply(slot.exchange(message, invocation), invocation), BatchDone)
        slot.close()

    return late


def shim(folder: Path, program: str, verb: str, words: str, status: int) -> Path:
    """Write a command that stands before a platform's own."""
    path = folder / Path(program).name
    path.write_text(SHIM.format(folder=folder, verb=verb, words=words, status=status, program=program))
    path.chmod(0o755)
    return path


def spoil_shim(folder: Path) -> Callable[[], int]:
    (folder / "spoil").touch()
    return lambda: len(list(folder.glob("failed-*")))


def parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.fixture
def container(containers: Any, tmp_path: Path) -> Site:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("needs Python 3.11 here, which the base image of the tests has")
    image = containers.runtime("base")
    program = shutil.which("podman")
    assert program is not None
    folder = tmp_path / "shim"
    folder.mkdir()
    engine = shim(folder, program, "run", "Error: database is locked", 125)

    def victims(backend: Any) -> list[int]:
        listed = containers.podman("ps", "--filter", f"name={backend._label}", "--format", "{{.Pid}}")
        return [int(text) for text in listed.stdout.split() if text != "0"]

    compute = f"container://{image}?engine={engine}&mount={tmp_path}"
    return Site(compute, tmp_path, victims, lambda backend: spoil_shim(folder), answered_twice)


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedLambda]:
    emulated = EmulatedLambda(tmp_path_factory.mktemp("chaos"), count=3)
    try:
        emulated.start()
        yield emulated
    finally:
        emulated.stop()


class Refusals:
    """Refuses one request in `EVERY`."""

    def __init__(self) -> None:
        self.asked = self.refused = 0

    def empty(self) -> bool:
        self.asked += 1
        return self.asked % EVERY != 1

    def get(self) -> tuple[int, str, dict[str, str], bytes]:
        self.refused += 1
        return 500, "ServiceException", {}, b'{"Message": "made by the test"}'


@pytest.fixture
def aws_lambda(service: EmulatedLambda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    def victims(backend: Any) -> list[int]:
        emulators = [emulator.process.pid for emulator in service.emulators if emulator.process is not None]
        return [*emulators, *(pid for pid in processes("awslambdaric") if parent(pid) in emulators)]

    def spoil(backend: Any) -> Callable[[], int]:
        refusals = Refusals()
        monkeypatch.setattr(service, "refusals", refusals)
        return lambda: refusals.refused

    return Site(service.address(), tmp_path, victims, spoil, answered_twice)


@pytest.fixture
def slurm_cluster(slurm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "shim"
    folder.mkdir()
    words = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
    shim(folder, find("sbatch"), "", words, 1)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def twice(backend: Any) -> Callable[[], None]:
        submit = Commands.submit
        copies: list[Path] = []

        def submit_twice(self: Commands, options: list[str], script: str) -> str:
            place = Path(next(text for text in options if text.startswith("--output=")).partition("=")[2]).parent
            for path in place.iterdir():
                copies.append(tmp_path / f"copy-{len(copies)}")
                shutil.copy(path, copies[-1])
            submit(self, options, script)
            return submit(self, options, script)

        monkeypatch.setattr(Commands, "submit", submit_twice)

        def late() -> None:
            for copy in copies:
                command = f"exec {sys.executable} -m core.worker.entry job {copy}"
                said = slurm.run("sbatch", "--wait", f"--chdir={ROOT}", "--output=/dev/null", "--wrap", command)
                assert "error" not in said, said

        return late

    yield Site(
        "slurm://main",
        tmp_path,
        lambda backend: processes("core.worker.entry", "job", str(backend._folder)),
        lambda backend: spoil_shim(folder),
        twice,
    )
    slurm.clear()


@pytest.fixture
def dask(dask_cluster: Any, tmp_path: Path) -> Site:
    def victims(backend: Any) -> list[int]:
        nannies = {process.pid for process in dask_cluster.processes[1:]}
        return [pid for pid in processes("spawn_main") if parent(pid) in nannies]

    def around(backend: Any, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Change how a backend submits to Dask, once it is connected."""
        start = backend.start

        def started() -> None:
            start()
            backend.client.map = change(backend.client.map)

        backend.start = started

    def spoil(backend: Any) -> Callable[[], int]:
        submitted: list[bool] = []

        def refuse(*_: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        def flaky(submit: Callable[..., Any]) -> Callable[..., Any]:
            def call(function: Any, *arguments: Any, **options: Any) -> Any:
                submitted.append(len(submitted) % EVERY == 0)
                return submit(refuse if submitted[-1] else function, *arguments, **options)

            return call

        around(backend, flaky)
        return lambda: sum(submitted)

    def twice(backend: Any) -> Callable[[], None]:
        from distributed import Client

        sent: list[tuple[list[bytes], list[str]]] = []

        def doubled(submit: Callable[..., Any]) -> Callable[..., Any]:
            def call(function: Any, bodies: Any, names: Any, *, key: list[str], pure: bool) -> Any:
                sent.extend(zip(bodies, names, strict=True))
                copies.append(submit(function, bodies, names, key=[f"copy-{name}" for name in key], pure=pure))
                return submit(function, bodies, names, key=key, pure=pure)

            return call

        def late() -> None:
            with Client(dask_cluster.address.removeprefix("dask://"), set_as_default=False) as client:
                for bodies, names in sent:
                    for body in client.submit(answer, bodies, names, key=names[0], pure=False).result():
                        assert messages.decode(body)[0]["kind"] == "committed"

        copies: list[Any] = []
        around(backend, doubled)
        return late

    return Site(dask_cluster.address, tmp_path, victims, spoil, twice)


@pytest.fixture
def lambda_events(service: EmulatedLambda, aws_lambda: Site) -> Site:
    return replace(aws_lambda, compute=service.address(call="async", silence="3s"))


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> Site:
    return request.getfixturevalue(request.param)


def committed(executor: Any) -> list[int]:
    """Return the tasks that the commits of an executor's latest job hold, one entry for each time they do."""
    (run,) = executor._history.jobs()[-1:]
    found: list[int] = []
    for info in run._storage.list(keys.commits(run.job_id)):
        named = keys.parse_commit(info.key)
        if named is not None and named.attempt is None:
            if read_commit(run._storage, run._ref(named.batch, named.item)) is not None:
                found += run.record.task_ids(named.batch, named.item)
    return sorted(found)


def assert_each_once(heard: list[Any], tasks: int) -> None:
    assert sorted(event.stats.task_id for event in heard if type(event) is TaskDone) == list(range(tasks))
    assert [(event.tasks, event.failed, event.cancelled) for event in heard if type(event) is JobDone] == [
        (tasks, 0, 0)
    ]


@pytest.mark.parametrize(("name", "durable"), MODES)
def test_workers_killed_at_random_and_starts_that_fail_lose_and_repeat_no_result(name, durable, request):
    site: Site = request.getfixturevalue(name)
    heard: list[Any] = []
    killed: list[int] = []
    ended = threading.Event()
    chance = random.Random(1)
    begun = site.folder / "begun"
    begun.mkdir()

    def square(x, begun=str(begun), last=TASKS - 1):
        import os
        import time
        import uuid

        open(f"{begun}/{uuid.uuid4().hex}", "w").close()
        time.sleep(0.02)
        while x == last and not os.path.exists(f"{begun}-enough"):
            time.sleep(0.02)
        return x, x * x

    def kill(backend: Any) -> None:
        while len(killed) < KILLS and not ended.wait(0.01):
            if len(os.listdir(begun)) >= EACH * (len(killed) + 1) and (victims := site.victims(backend)):
                with suppress(ProcessLookupError):
                    victim = chance.choice(victims)
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)
        begun.with_name("begun-enough").touch()

    with site.opened(heard, durable=durable) as executor, ThreadPoolExecutor(1) as other:
        failures = site.spoil(executor._backend)
        killing = other.submit(kill, executor._backend)
        try:
            results = executor.map(square, range(TASKS), batch_size=3).results(200)
            commits = committed(executor) if durable else list(range(TASKS))
        finally:
            ended.set()
            killing.result()

    assert results == [(x, x * x) for x in range(TASKS)]
    assert commits == list(range(TASKS))
    assert len(killed) == KILLS
    assert failures() > 0
    assert_each_once(heard, TASKS)
    assert list(open_storage(site.store).list()) == []


def test_what_is_delivered_twice_or_late_counts_once(site):
    heard: list[Any] = []
    runs = site.folder / "runs"
    runs.mkdir()

    def token(x, runs=str(runs)):
        import os
        import time
        import uuid

        ident = f"{x}-{uuid.uuid4().hex}"
        open(f"{runs}/{ident}", "w").close()
        while x == 0 and sum(name.startswith("0-") for name in os.listdir(runs)) < 2:
            time.sleep(0.01)
        return ident

    def ran() -> Counter[str]:
        return Counter(name.partition("-")[0] for name in os.listdir(runs))

    with site.opened(heard, workers=1) as executor:
        late = site.twice(executor._backend)
        futures = executor.map(token, range(6), batch_size=2)
        results = futures.results(120)
        stored = open_storage(site.store)
        before, ran_before = {info.key: info.etag for info in stored.list(keys.commits(futures.job_id))}, ran()
        late()

        assert ran()["0"] > ran_before["0"] >= 2
        assert {info.key: info.etag for info in stored.list(keys.commits(futures.job_id))} == before
        assert committed(executor) == list(range(6))
        assert futures.results(0) == results

    assert [int(ident.partition("-")[0]) for ident in results] == list(range(6))
    assert set(results) <= set(os.listdir(runs))
    assert_each_once(heard, 6)


def test_a_straggler_is_overtaken_by_its_copy(site):
    heard: list[Any] = []
    gate = site.folder / "gate"

    def run(x, attempt, gate=str(gate)):
        import os
        import time

        time.sleep(0.02)
        while x == 7 and attempt == 0 and not os.path.exists(gate):
            time.sleep(0.02)
        return x, attempt

    with site.opened(heard, speculation=True) as executor:
        results = executor.map(run, range(20), batch_size=1).results(120)
        commits = committed(executor)
        gate.touch()

    assert [x for x, _ in results] == list(range(20))
    assert results[7][1] >= 1
    assert commits == list(range(20))
    assert 7 in [event.task_id for event in heard if type(event) is TaskSpeculated]
    assert_each_once(heard, 20)
