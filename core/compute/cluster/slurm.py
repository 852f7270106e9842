"""Jobs of a Slurm cluster: ``slurm://PARTITION``, driven from a machine that has Slurm's commands.

Units are elements of job arrays. Their lists of batches lie in a folder that the nodes share with the driver; inputs
and results are in the executor's storage. All is learnt from ``squeue``, so no accounting database is needed.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from core.compute.base import check_options
from core.compute.cluster.base import ClusterBackend, WorkerJob, WorkerJobEnd, read_notes
from core.compute.cluster.slurm_commands import CANCELLED, OPTIONS, Commands, JobState, environment, exports
from core.errors import AccessDenied, ComputeError, ConfigError, FanfoldError, VersionMismatch
from core.settings import Address, ExecutorConfig, parse_duration, state_dir
from core.storage.owner import this_owner
from core.task.leases import Lease
from core.task.protocol import LossReason

DEFAULT_WORKERS = 32
"""Tasks that run at the same time unless ``workers`` says."""

OVERHEAD, WORKER_OVERHEAD = 192 << 20, 64 << 20
"""Bytes that a unit needs beside the memory of its tasks, and each of its worker processes: interpreters with numpy."""

MOST_RESTARTS = 3
"""How often Slurm may start a unit again by itself before the unit counts as lost."""

_ENDS: dict[str, LossReason | None] = {
    "COMPLETED": None,
    "FAILED": "died",
    "CANCELLED": "died",
    "NODE_FAIL": "died",
    "REVOKED": "died",
    "BOOT_FAIL": "killed",
    "PREEMPTED": "killed",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "memory",
}
"""States that a job does not leave (``man squeue``, "JOB STATE CODES"), and what they mean for its tasks."""

_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_NEVER = re.compile(r"BadConstraints|Partition(Config|TimeLimit)|Invalid(Account|QOS)|(Account|QOS)NotAllowed", re.I)
_HELD = re.compile(r"launch.?failed.?requeued.?held|JobHoldMaxRequeue", re.I)
_MEMORY = re.compile(r"exceeded .{0,12}memory limit|oom.kill", re.I)
_NO_ACCESS = re.compile(r"^fanfold: AccessDenied: ([^;]*)")
_NO_ENTRY = re.compile(r"No module named '?core\b")
_STATUS_WRONG_USE, _STATUS_NO_PYTHON = 2, (126, 127)

_EXPORTS = "exports"

_NAME = re.compile(r"[\w.,+-]+")


class SlurmBackend(ClusterBackend):
    """Runs batches in jobs of a Slurm partition.

    Address: ``slurm://PARTITION`` or ``slurm`` (the cluster's default partition), with the options of `OPTIONS`.
    """

    name = "slurm"

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        check_options("compute backend 'slurm'", address.options, OPTIONS)
        get = address.options.get
        try:
            cpus = int(get("cpus", "1"))
            self._minutes = math.ceil(parse_duration(get("time", "")) / 60) if "time" in address.options else None
            if cpus < 1:
                raise ValueError
        except ValueError:
            raise ConfigError(
                f"slurm: cpus={get('cpus', '1')} must be a whole number of at least 1, and time={get('time', '1h')} "
                "a time such as 30m or 2h"
            ) from None
        for name in ("python", "folder"):
            if not os.path.isabs(get(name, "/")):
                raise ConfigError(f"slurm: {name}={get(name)} must be an absolute path, the same on every node")
        for text in (address.where or "default", *(get(name, "x") for name in ("account", "qos"))):
            if not _NAME.fullmatch(text):
                raise ConfigError(f"slurm: {text!r} is no name of a partition, account or quality of service")
        super().__init__(address, config, config.workers or max(DEFAULT_WORKERS, cpus), cpus)
        self._base = Path(get("folder") or state_dir() / "slurm")
        self._token = f"fanfold-{uuid4().hex[:8]}"
        self._folder = self._base / f"{this_owner()}:{self._token}"
        self._numbers_of_launches = itertools.count()
        self._files: dict[int, Path] = {}
        self._slurm = Commands(environment(get("python")))
        self._exports = exports([name for name in get("env", "").split(",") if name])
        self._largest_array = self._node_memory = 0

    def prepare(self) -> None:
        """Check that Slurm answers and has the partition, and make this driver's folder.

        Raises
        ------
        ConfigError
            There are no commands of Slurm here, or no such partition.
        ComputeError
            The shared folder cannot be written to.
        ComputeUnavailable
            Slurm does not answer.
        """
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "slurm: there is no sbatch on this machine's PATH; run the driver on a login node of the cluster, or "
                "install Slurm's client commands and its slurm.conf"
            )
        self._largest_array = self._slurm.largest_array()
        partitions = self._slurm.partitions()
        wanted = self.address.where.split(",") if self.address.where else list(partitions)
        for name in wanted:
            if name not in partitions:
                known = ", ".join(sorted(partitions))
                raise ConfigError(f"slurm: there is no partition {name!r} that you may see; there are: {known}")
        self._node_memory = max((partitions[name] for name in wanted), default=0)
        try:
            self._sweep()
            self._folder.mkdir(mode=0o700, parents=True)
            if self._exports:
                self._write(self._folder / _EXPORTS, self._exports)
        except OSError as error:
            raise self._unusable(error) from None

    def _write(self, path: Path, content: bytes) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)

    def _unusable(self, error: OSError) -> ComputeError:
        return ComputeError(
            f"slurm: the shared folder {self._base} cannot be written to: {error.strerror}; name another with folder="
        )

    def _sweep(self) -> None:
        """End what drivers of this machine left that were killed: each job's key is in a file of theirs."""
        for left in self._base.glob("*:fanfold-*"):
            owner, _, token = left.name.rpartition(":")
            if not Lease(owner, math.inf, "", 0.0, 0, 0).alive():
                self._slurm.cancel("--name", token)
                shutil.rmtree(left, ignore_errors=True)

    def launch(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Submit a job array for each size of memory that units need."""
        groups: dict[int | None, list[WorkerJob]] = {}
        for worker_job in worker_jobs:
            groups.setdefault(self._memory(worker_job), []).append(worker_job)
        submitted: list[WorkerJob] = []
        try:
            for memory, group in groups.items():
                for start in range(0, len(group), self._largest_array):
                    chunk = group[start : start + self._largest_array]
                    self._submit(chunk, memory)
                    submitted += chunk
        except FanfoldError:
            with suppress(FanfoldError):
                self.end(submitted)
            raise

    def _memory(self, worker_job: WorkerJob) -> int | None:
        """Return the MiB that a unit asks for; a task that was given more after a failure gets a node's at most."""
        limits = [batch.memory for batch in worker_job.batches.values() if batch.memory is not None]
        if not limits:
            return None
        needed = math.ceil(((max(limits) + WORKER_OVERHEAD) * self.width + OVERHEAD) / (1 << 20))
        repeated = any(batch.attempt for batch in worker_job.batches.values())
        return min(needed, self._node_memory) if repeated and self._node_memory else needed

    def _submit(self, worker_jobs: Sequence[WorkerJob], memory: int | None) -> None:
        folder = self._folder / str(next(self._numbers_of_launches))
        try:
            folder.mkdir(mode=0o700)
            for index, worker_job in enumerate(worker_jobs):
                path = folder / str(index)
                self._write(path, worker_job.requests(self.versions))
                self._files[worker_job.number] = path
        except OSError as error:
            raise self._unusable(error) from None
        options = {
            "array": f"0-{len(worker_jobs) - 1}",
            "job-name": self._token,
            "partition": self.address.where,
            "nodes": "1",
            "ntasks": "1",
            "cpus-per-task": str(self.width),
            "mem": f"{memory}M" if memory else "",
            "time": str(self._minutes or ""),
            **{name: self.address.options.get(name, "") for name in ("account", "qos", "constraint")},
            "output": f"{str(folder).replace('%', '%%')}/%a.log",
            "export": "ALL",
        }
        given = [f"--{name}={value}" for name, value in options.items() if value]
        python = self.address.options.get("python", sys.executable)
        # Slurm keeps a job's script and environment, some sites for years: what is secret is read from the folder.
        exported = f". {shlex.quote(str(self._folder / _EXPORTS))}\n" if self._exports else ""
        words = f"{shlex.quote(python)} -P -m core.worker.entry job {shlex.quote(str(folder))}"
        ident = self._slurm.submit(given, f'#!/bin/sh\n{exported}exec {words}/"$SLURM_ARRAY_TASK_ID" {self.width}\n')
        for index, worker_job in enumerate(worker_jobs):
            worker_job.ident = f"{ident}_{index}"

    def observe(self, worker_jobs: Sequence[WorkerJob]) -> dict[int, WorkerJobEnd]:
        """Ask ``squeue`` for the units, and ``sacct`` for those that it has forgotten."""
        rows = self._slurm.jobs(sorted({worker_job.ident.partition("_")[0] for worker_job in worker_jobs}))
        arrays = {ident.partition("_")[0] for ident in rows}
        ends: dict[int, WorkerJobEnd] = {}
        for worker_job in worker_jobs:
            row = rows.get(worker_job.ident) or self._slurm.accounted(worker_job.ident)
            if row is None and worker_job.ident.partition("_")[0] in arrays and not self._has_begun(worker_job):
                row = CANCELLED  # what is cancelled before it begins is not listed, but the rest of its array is
            if row is not None:
                worker_job.began = worker_job.began or row.restarts > 0 or row.state not in _WAITING
            worker_job.running = read_notes(str(self._files[worker_job.number]))
            end = self._end_of(worker_job, row)
            if end is not None:
                ends[worker_job.number] = end
        return ends

    def _has_begun(self, worker_job: WorkerJob) -> bool:
        return self._files[worker_job.number].with_suffix(".log").exists()

    def _end_of(self, worker_job: WorkerJob, row: JobState | None) -> WorkerJobEnd | None:
        if row is None:
            return WorkerJobEnd("died", f"Slurm does not know its job {worker_job.ident} any more")
        if row.state in _WAITING and not worker_job.ending:
            return self._end_before_start(worker_job, row)
        if row.state not in _ENDS:
            return None
        if row.state == "CANCELLED" and not worker_job.ending and not self._has_begun(worker_job):
            raise ComputeError(
                f"slurm: somebody cancelled job {worker_job.ident} before it began; what is done is kept for "
                "FunctionExecutor.attach"
            )
        reason, words = _ENDS[row.state], self._words(worker_job)
        code = os.waitstatus_to_exitcode(row.status) if row.state == "FAILED" else 0
        self._check_node(worker_job, row.node, code, words)
        if reason == "died" and _MEMORY.search(words):
            reason = "memory"
        how = f" with {signal.Signals(-code).name}" if code < 0 else f" with status {code}" if code else ""
        told = f": {words}" if words and reason else ""
        where = f"Slurm's job {worker_job.ident} on {row.node or 'no node'}"
        return WorkerJobEnd(reason, f"{where} ended as {row.state}{how}{told}")

    def _end_before_start(self, worker_job: WorkerJob, row: JobState) -> WorkerJobEnd | None:
        """End a job that waits where it will not start again; see that it can start at all."""
        if _NEVER.search(row.reason):
            raise ComputeError(
                f"slurm: job {worker_job.ident} will never start ({row.reason}); change the partition or the "
                "options time, cpus, account, qos, constraint or memory"
            )
        if not _HELD.search(row.reason) and row.restarts <= MOST_RESTARTS:
            return None
        self.end([worker_job])
        what = f"Slurm's job {worker_job.ident} was started {row.restarts + 1} times and is held: {row.reason}"
        return WorkerJobEnd("died", what)

    def _check_node(self, worker_job: WorkerJob, node: str, code: int, words: str) -> None:
        """Give up on nodes that cannot run any batch, as their exit status and words tell."""
        if code == 1 and (denied := _NO_ACCESS.search(words)):
            raise AccessDenied(
                f"slurm: node {node} cannot use the storage of the job ({denied[1]}); variables that hold secrets do "
                "not reach the nodes: put credentials into a file of your home folder (~/.aws/credentials), or name "
                "the variables in the address (slurm://PARTITION?env=AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY)"
            )
        if code not in (_STATUS_WRONG_USE, *_STATUS_NO_PYTHON) and not (code == 1 and _NO_ENTRY.search(words)):
            return
        if "VersionMismatch" in words:
            raise VersionMismatch(words.partition("VersionMismatch: ")[2])
        raise ComputeError(
            f"slurm: node {node} cannot run job {worker_job.ident} ({words or f'status {code}'}); the nodes "
            f"need the Python of python= with fanfold in it, and must share the folder {self._base}"
        )

    def _words(self, worker_job: WorkerJob) -> str:
        """Return the line of a unit's output that says most: Slurm's on memory, else its last error, else the last."""
        try:
            with open(self._files[worker_job.number].with_suffix(".log"), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        except OSError:
            return ""
        tests: tuple[Callable[[str], object], ...] = (_MEMORY.search, lambda line: line.startswith("slurmstepd"), len)
        return next((line[:300] for test in tests for line in reversed(lines) if test(line)), "")

    def end(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Cancel units."""
        if worker_jobs:
            self._slurm.cancel(*(worker_job.ident for worker_job in worker_jobs))

    def tidy(self, worker_jobs: Sequence[WorkerJob]) -> None:
        """Delete the files of ended units."""
        for worker_job in worker_jobs:
            path = self._files.pop(worker_job.number)
            for left in (path, *path.parent.glob(f"{path.name}.*")):
                left.unlink(missing_ok=True)
            with suppress(OSError):  # others of the launch still run
                path.parent.rmdir()

    def release(self) -> None:
        """Cancel even jobs whose submission was never confirmed, and delete this driver's folder."""
        try:
            self._slurm.cancel("--name", self._token)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # other drivers use it
                self._base.rmdir()
