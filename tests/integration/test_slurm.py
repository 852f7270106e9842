"""A real Slurm, and what happens to its jobs: killed, cancelled, started again, over their limits, forgotten."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from core import ConfigError, FunctionExecutor, TaskError, open_storage
from core.compute.cluster import base as fleet
from core.errors import (
    AccessDenied,
    ComputeError,
    ComputeUnavailable,
    MemoryLimitExceeded,
    TaskTimeout,
    VersionMismatch,
)
from core.settings import state_dir

pytestmark = pytest.mark.usefixtures("slurm")


@pytest.fixture(autouse=True)
def _no_job_is_left(slurm):
    yield
    slurm.clear()


@pytest.fixture
def store(tmp_path):
    return f"file://{tmp_path}/store"


def opened(store, address="slurm://main", workers=2, **settings):
    return FunctionExecutor(address, store, workers=workers, **settings)


def await_file(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


def files_of_drivers():
    return sorted((state_dir() / "slurm").rglob("*"))


def waits(gate, begun):
    """Return a function that says where it runs, and then waits for a gate."""

    def run(x, gate=str(gate), begun=str(begun)):
        import os
        import time

        unit = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        with open(f"{begun}-{x}~", "w") as file:
            file.write(f"{unit} {os.environ['SLURMD_NODENAME']} {os.getppid()}")
        os.replace(f"{begun}-{x}~", f"{begun}-{x}")
        while not os.path.exists(gate):
            time.sleep(0.02)
        return x

    return run


def place(begun, x):
    """Return the array element, the node and the unit's own process that a task runs in."""
    path = Path(f"{begun}-{x}")
    await_file(path)
    unit, node, forkserver = path.read_text().split()
    return unit, node, parent_of(forkserver)


def parent_of(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_three_hundred_tasks_come_back_right_and_leave_no_file_and_no_job(slurm, store, tmp_path):
    with opened(store, workers=3) as executor:
        assert executor.map(lambda x: x * x, range(300)).results(120) == [x * x for x in range(300)]

    slurm.wait_until(lambda: not slurm.jobs())
    assert files_of_drivers() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_files_that_carry_keys_are_for_their_owner_alone_and_tasks_get_no_secret(store, tmp_path):
    def look(folder):
        found = {path: os.stat(path).st_mode & 0o777 for path in Path(folder).rglob("*")}
        return found, [name for name in os.environ if "SECRET" in name], os.environ.get("AWS_EC2_METADATA_DISABLED")

    assert "AWS_SECRET_ACCESS_KEY" in os.environ
    with opened(store) as executor:
        found, secrets, harmless = executor.call_async(look, str(state_dir() / "slurm")).result(60)

    assert secrets == []
    assert harmless == "true"
    requests = [mode for path, mode in found.items() if path.name == "0"]
    assert requests
    folders = {mode for path, mode in found.items() if path.suffix == "" and not path.name.isdigit()}
    assert folders == {0o700}


def test_variables_that_an_address_names_reach_tasks_by_a_file_for_their_owner_alone(slurm, s3_server, monkeypatch):
    halves = "fanfold-test-sec", uuid4().hex  # a function that had the whole would be what puts it into storage
    monkeypatch.setenv("SERVICE_TOKEN", "".join(halves))
    store = f"s3://fanfold/slurm-named?endpoint={s3_server.endpoint}"

    def look(*folders):
        secret = "".join(halves).encode()
        job = os.environ["SLURM_JOB_ID"]
        shown = [
            subprocess.run(["scontrol", *words], capture_output=True, check=True).stdout
            for words in (("-d", "show", "job", job), ("write", "batch_script", job, "-"))
        ]
        assert b"core.worker.entry" in shown[1]
        files = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]
        holding = [path for path in files if secret in path.read_bytes()]
        modes = {path.name: (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) for path in holding}
        return os.environ["SERVICE_TOKEN"].encode() == secret, any(secret in text for text in shown), modes

    names = "SERVICE_TOKEN,AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY"
    with opened(store, f"slurm://main?env={names}") as executor:
        has_it, is_shown, modes = executor.call_async(look, str(state_dir()), str(slurm.folder)).result(60)
        objects = [open_storage(store).get(info.key) for info in open_storage(store).list()]

    assert (has_it, is_shown) == (True, False)
    assert modes == {"exports": (0o600, 0o700)}
    assert objects
    assert not any("".join(halves).encode() in content for content in objects)
    assert files_of_drivers() == []


def test_nodes_without_credentials_for_the_storage_are_named_at_once_with_what_would_help(s3_server):
    store = f"s3://fanfold/slurm-denied?endpoint={s3_server.endpoint}"

    with opened(store) as executor:
        future = executor.call_async(abs, -1)

        with pytest.raises(AccessDenied, match=r"there are no credentials on .*~/.aws/credentials.*\?env=AWS_ACC"):
            future.result(60)


def test_a_unit_asks_for_what_the_options_say(slurm, store, tmp_path):
    gate = tmp_path / "gate"
    address = f"slurm://main?cpus=2&time=90m&folder={tmp_path}/shared"
    with opened(store, address, workers=2, memory="100MB") as executor:
        futures = executor.map(waits(gate, tmp_path / "begun"), range(2), batch_size=1)
        units = {place(tmp_path / "begun", x)[0] for x in range(2)}
        told = slurm.run("scontrol", "show", "job", units.copy().pop())
        gate.touch()
        assert futures.results(60) == [0, 1]

    assert len(units) == 1, "one unit runs two batches at the same time"
    assert "TimeLimit=01:30:00" in told
    assert "CPUs/Task=2" in told
    assert f"MinMemoryNode={-(-2 * (100_000_000 + (64 << 20)) // (1 << 20)) + 192}M" in told
    assert not (tmp_path / "shared").exists()


def test_a_task_over_the_jobs_memory_is_ended_by_slurm_and_named_in_its_words(store):
    def grow(x):
        held = [bytearray(os.urandom(1 << 20)) * 900]
        while x == 1:
            pass
        return len(held)

    with opened(store, retries=0) as executor:
        (future,) = executor.map(grow, [1], batch_size=1)
        error = future.exception(90)

    assert isinstance(error, MemoryLimitExceeded)
    assert "emory limit" in str(error)
    assert "Slurm's job" in str(error)


def test_a_killed_unit_costs_no_result_and_no_batch_that_was_done_or_waited_counts(store, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    run = waits(gate, begun)

    def stuck(x, attempt):
        return run(x) if x == 1 and attempt == 0 else x, attempt

    with opened(store, workers=1, retries=1) as executor:
        futures = executor.map(stuck, range(4), batch_size=1)
        os.kill(place(begun, 1)[2], signal.SIGKILL)
        assert futures.results(90) == [(0, 0), (1, 1), (2, 0), (3, 0)]


def test_a_job_that_somebody_cancels_while_it_runs_is_tried_again(slurm, store, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"

    with opened(store) as executor:
        futures = executor.map(waits(gate, begun), range(2), batch_size=1)
        slurm.run("scancel", place(begun, 0)[0])
        gate.touch()
        assert futures.results(90) == [0, 1]


def test_a_job_that_somebody_cancels_before_it_runs_ends_the_executor_and_says_so(slurm, store):
    with opened(store, "slurm://stopped") as executor:
        future = executor.call_async(int)
        slurm.wait_until(lambda: len(slurm.jobs()) == 1)
        slurm.run("scancel", slurm.jobs()[0])
        with pytest.raises(ComputeError, match=r"somebody cancelled job \d+_0 before it began"):
            future.result(60)


def test_a_requeued_job_runs_again_without_what_it_had_done(slurm, store, tmp_path):
    gate, begun, runs = tmp_path / "gate", tmp_path / "begun", tmp_path / "runs"
    run = waits(gate, begun)

    def noted(x):
        with open(runs, "a") as file:
            file.write(f"{x}\n")
        return run(x) if x == 2 else x

    with opened(store, workers=1) as executor:
        futures = executor.map(noted, range(4), batch_size=1)
        unit = place(begun, 2)[0]
        Path(f"{begun}-2").unlink()
        slurm.run("scontrol", "requeue", unit)
        assert place(begun, 2)[0] == unit
        gate.touch()
        assert futures.results(90) == [0, 1, 2, 3]

    assert sorted(runs.read_text().split()) == ["0", "1", "2", "2", "3"]


def test_a_killed_slurmstepd_costs_no_result(store, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"

    with opened(store, workers=1) as executor:
        futures = executor.map(waits(gate, begun), range(2), batch_size=1)
        step = parent_of(place(begun, 0)[2])
        assert b"slurmstepd" in Path(f"/proc/{step}/cmdline").read_bytes()
        os.kill(step, signal.SIGKILL)
        gate.touch()
        assert futures.results(90) == [0, 1]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)], ids=["ended", "killed"]
)
def test_a_controller_that_is_started_again_meanwhile_goes_unnoticed(slurm, store, tmp_path, number):
    gate, begun = tmp_path / "gate", tmp_path / "begun"

    with opened(store) as executor:
        futures = executor.map(waits(gate, begun), range(4), batch_size=1)
        place(begun, 0)
        slurm.kill("slurmctld", number)
        slurm.serve_controller()
        gate.touch()
        assert futures.results(90) == [0, 1, 2, 3]


def test_a_controller_that_does_not_answer_for_long_is_named(slurm, store, monkeypatch):
    monkeypatch.setattr(fleet, "UNAVAILABLE_TIMEOUT", 0.5)
    with opened(store) as executor:
        assert executor.call_async(int).result(60) == 0
        slurm.kill("slurmctld", signal.SIGTERM)
        try:
            with pytest.raises(ComputeUnavailable, match="slurm"):
                executor.call_async(int).result(60)
        finally:
            slurm.serve_controller()
            slurm.wait_until(lambda: "UP" in slurm.run("scontrol", "ping"))


def test_a_partition_that_does_not_exist_is_refused_with_those_that_do(store):
    with (
        opened(store, "slurm://nowhere") as executor,
        pytest.raises(ConfigError, match="'nowhere'.*main, short, stopped"),
    ):
        executor.map(abs, [1])


def test_a_job_that_slurm_takes_but_can_never_start_ends_with_its_reason(slurm, store):
    with opened(store, "slurm://short?time=1h") as executor, pytest.raises(ComputeError, match="never start"):
        executor.call_async(int).result(60)

    slurm.wait_until(lambda: not slurm.jobs())


def test_memory_that_no_node_has_is_refused_in_slurms_words(store):
    with opened(store, memory="900GB") as executor, pytest.raises(ConfigError, match="Memory specification"):
        executor.call_async(int).result(60)


def test_nodes_without_the_interpreter_are_named_with_what_would_help(store):
    with opened(store, "slurm://main?python=/no/python") as executor:
        with pytest.raises(ComputeError, match=r"node n\d cannot run.*/no/python.*python="):
            executor.call_async(int).result(60)


def test_nodes_with_other_software_are_refused(store, monkeypatch):
    monkeypatch.setattr(fleet, "versions", lambda: {"python": "3.9", "fanfold": "0", "cloudpickle": "1"})

    with opened(store) as executor, pytest.raises(VersionMismatch, match="install the same"):
        executor.call_async(int).result(60)


def test_a_cancelled_job_leaves_the_cluster(slurm, store, tmp_path):
    begun = tmp_path / "begun"

    with opened(store) as executor:
        futures = executor.map(waits(tmp_path / "never", begun), range(4), batch_size=1)
        place(begun, 0)
        executor.cancel(futures)
        slurm.wait_until(lambda: not slurm.jobs())
        assert all(future.cancelled() for future in futures)
        assert executor.call_async(int).result(60) == 0


DRIVER = """
import sys
from core import FunctionExecutor
def run(x, begun=sys.argv[2]):
    import time
    open(begun, "w").close()
    time.sleep(1000)
with FunctionExecutor("slurm://main", sys.argv[1], workers=1) as executor:
    executor.map(run, range(3), batch_size=1).results()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_driver_that_ends_early_leaves_nothing_behind_once_the_next_has_begun(slurm, store, tmp_path, number):
    begun = tmp_path / "begun"
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, store, str(begun)], cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL
    )
    await_file(begun)
    driver.send_signal(number)
    driver.wait(60)

    if number == signal.SIGKILL:
        assert files_of_drivers() != []
        with opened(store) as executor:
            assert executor.call_async(int).result(60) == 0

    slurm.wait_until(lambda: not slurm.jobs())
    assert files_of_drivers() == []


@pytest.mark.slow
def test_a_job_over_its_time_is_ended_by_slurm_and_named(slurm, store, tmp_path):
    begun = tmp_path / "begun"

    with opened(store, "slurm://main?time=1m", retries=0) as executor:
        (future,) = executor.map(waits(tmp_path / "never", begun), [0], batch_size=1)
        slurm.run("scontrol", "update", f"JobId={place(begun, 0)[0]}", "TimeLimit=0")
        error = future.exception(120)

    assert isinstance(error, TaskTimeout)
    assert isinstance(error, TaskError)
    assert "TIMEOUT" in str(error)


@pytest.mark.slow
def test_a_node_that_fails_costs_no_result(slurm, store, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"

    with opened(store, workers=1) as executor:
        futures = executor.map(waits(gate, begun), range(2), batch_size=1)
        _, node, process = place(begun, 0)
        slurm.kill(node)
        os.kill(process, signal.SIGKILL)
        gate.touch()
        try:
            assert futures.results(240) == [0, 1]
        finally:
            slurm.serve_node(node)
