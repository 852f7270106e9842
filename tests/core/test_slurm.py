import os
import subprocess

import pytest

from core import ConfigError
from core.compute.base import open_backend
from core.compute.cluster.base import WorkerJob, note, read_notes, take_notes
from core.compute.cluster.slurm_commands import environment, explain, exports
from core.errors import ComputeDenied, ComputeError, ComputeUnavailable
from core.settings import ExecutorConfig, parse_address
from core.task.protocol import Invocation


def opened(address, **settings):
    return open_backend(parse_address(address), ExecutorConfig(**settings))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("slurm://main?cpu=2", "no option 'cpu'; known: python, time, cpus"),
        ("slurm://main?cpus=0", "cpus=0"),
        ("slurm://main?cpus=many", "cpus=many"),
        ("slurm://main?time=soon", "time=soon"),
        ("slurm://main?folder=shared", "folder=shared must be an absolute path"),
        ("slurm://main?python=python3", "python=python3 must be an absolute path"),
        ("slurm://main --uid=0", "no name of a partition"),
        ("slurm://main?account=a b", "'a b' is no name"),
    ],
)
def test_an_address_that_cannot_work_is_refused_with_what_would(address, words):
    with pytest.raises(ConfigError, match=words):
        opened(address)


def test_a_machine_without_slurm_says_where_to_run_instead(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="no sbatch.*login node"):
        opened("slurm://main").start()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", ComputeUnavailable),
        ("Batch job submission failed: Socket timed out on send/recv operation", ComputeUnavailable),
        ("Slurm temporarily unable to accept job, sleeping and retrying", ComputeUnavailable),
        ("Batch job submission failed: Resource temporarily unavailable", ComputeUnavailable),
        ("Batch job submission failed: Slurm backup controller in standby mode", ComputeUnavailable),
        ("Batch job submission failed: Protocol authentication error", ComputeUnavailable),
        ("Batch job submission failed: Invalid partition name specified", ConfigError),
        ("Batch job submission failed: Invalid qos specification", ConfigError),
        ("Batch job submission failed: Invalid account or account/partition combination specified", ConfigError),
        ("Batch job submission failed: Invalid feature specification", ConfigError),
        ("Batch job submission failed: Requested node configuration is not available", ConfigError),
        (
            "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or "
            "time limits)",
            ComputeDenied,
        ),
        ("QOSMaxSubmitJobPerUserLimit; Batch job submission failed: Job violates accounting/QOS policy", ComputeDenied),
        ("Batch job submission failed: Access/permission denied", ComputeDenied),
        ("Batch job submission failed: User's group not permitted to use this partition", ComputeDenied),
        ("Batch job submission failed: Unspecified error", ComputeError),
    ],
)
def test_what_slurm_says_becomes_an_error_of_the_right_kind_in_its_words(words, kind):
    error = explain("sbatch", words)

    assert type(error) is kind
    assert words in str(error)


def test_jobs_inherit_neither_secrets_nor_what_an_outer_job_imposes(monkeypatch, tmp_path):
    given = {
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "s",
        "SERVICE_API_KEY": "s",
        "PGPASSWORD": "s",
        "AZURE_STORAGE_CONNECTION_STRING": "AccountKey=s",
        "SLURM_MEM_PER_CPU": "1",
        "SLURM_CONF": "slurm.conf",
        "AWS_PROFILE": "reader",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/user/key.json",
        "OMP_NUM_THREADS": "1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    inherited = environment(None)

    assert {name: inherited[name] for name in given if name in inherited} == {
        "SLURM_CONF": str(tmp_path / "slurm.conf"),
        "AWS_PROFILE": "reader",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/user/key.json",
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize("name", ["NOT_SET", "A;rm", "PATH,NOT_SET"])
def test_a_variable_to_pass_on_that_is_not_set_is_refused(monkeypatch, name):
    monkeypatch.delenv("NOT_SET", raising=False)

    with pytest.raises(ConfigError, match="which is no variable that is set here"):
        opened(f"slurm://main?env={name}")


def test_a_variable_reaches_the_shell_as_it_is_whatever_it_holds(monkeypatch):
    value = "a'b \\n$(c) \n`d`\udce9"
    monkeypatch.setenv("NAMED", value)

    commands = exports(["NAMED"]) + b'printf "%s" "$NAMED"'

    assert os.fsdecode(subprocess.run(["sh"], input=commands, capture_output=True, check=True, env={}).stdout) == value


def test_memory_that_grew_after_a_failure_stops_at_what_a_node_has():
    backend = opened("slurm://main?cpus=2", workers=4)
    backend._node_memory = 4000

    def asked(attempt, memory):
        return backend._memory(WorkerJob(0, {0: Invocation(0, "job", b"", "", [0], attempt, memory=memory)}))

    assert asked(0, None) is None
    assert asked(0, 100 << 20) == 2 * (100 + 64) + 192
    assert asked(0, 8000 << 20) > 4000
    assert asked(1, 8000 << 20) == 4000


def test_notes_name_the_batches_that_run_and_begin_anew_when_the_unit_does(tmp_path):
    path = str(tmp_path / "0")

    assert not take_notes(path)
    for batch_id in (5, 6, 7):
        note(path, batch_id, True)
    note(path, 6, False)
    assert read_notes(path) == {5, 7}
    assert take_notes(path)
    assert read_notes(path) == frozenset()


def test_a_unit_that_cannot_take_notes_runs_all_the_same(tmp_path):
    path = str(tmp_path / "no-folder" / "0")

    assert not take_notes(path)
    note(path, 1, True)
    assert read_notes(path) == frozenset()
