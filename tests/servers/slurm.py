"""A Slurm of this test run: one controller and three virtual nodes on this machine, and its own authentication."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.ports import free_port
from tests.servers.processes import end_with_parent

START = 60.0
NODES = ("n1", "n2", "n3")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

CONFIGURATION = """
ClusterName=fanfold
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
MpiDefault=none
PropagateResourceLimits=NONE
SwitchType=switch/none
KillWait=2
MessageTimeout=2
MinJobAge=300
DefMemPerCPU=500
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={n1} CPUs=2 RealMemory=4000
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={n2} CPUs=2 RealMemory=4000
NodeName=n3 NodeAddr=127.0.0.1 NodeHostname={host} Port={n3} CPUs=2 RealMemory=4000
PartitionName=main Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n[1-3] MaxTime=2 State=UP
PartitionName=stopped Nodes=n[1-3] State=DOWN
"""


class Slurm:
    """A controller, three nodes and munged, each a child of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "slurm.conf"
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start every server, and wait until the nodes take jobs."""
        for name in ("munge", "state", "spool", "log", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(mode=0o755)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        ports = {name: free_port() for name in ("controller", *NODES)}
        self.configuration.write_text(
            CONFIGURATION.format(folder=self.folder, host=socket.gethostname(), user=getpass.getuser(), **ports)
        )
        munge = self.folder / "munge"
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self.serve("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files)
        self.wait_until(lambda: (munge / "socket").exists())
        self.serve_controller()
        for node in NODES:
            self.serve_node(node)
        self.wait_until(lambda: self.run("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N").count("n") == 3)

    def serve_controller(self) -> None:
        """Start the controller; it takes up what it knew."""
        self.serve("slurmctld", "-D", "-f", str(self.configuration))

    def serve_node(self, node: str) -> None:
        """Start a node."""
        self.serve("slurmd", "-D", "-f", str(self.configuration), "-N", node, name=node)

    def serve(self, program: str, *arguments: str, name: str = "") -> None:
        with open(self.folder / "log" / f"{name or program}.out", "ab") as log:
            self.running[name or program] = subprocess.Popen(
                [find(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "SLURM_CONF": str(self.configuration)},
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill one of the servers."""
        process = self.running.pop(name)
        process.send_signal(number)
        process.wait()

    def run(self, program: str, *arguments: str) -> str:
        """Run one of Slurm's commands; returns what it prints, its errors too."""
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        done = subprocess.run(
            [find(program), *arguments], capture_output=True, text=True, timeout=START, check=False, env=environment
        )
        return done.stdout + done.stderr

    def jobs(self) -> list[str]:
        """Return the jobs that have not ended."""
        return self.run("squeue", "-h", "--array", "-o", "%i").split()

    def wait_until(self, condition) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + START
        while not condition():
            for name, process in self.running.items():
                assert process.poll() is None, self.log(name)
            assert time.monotonic() < deadline, self.log("slurmctld")
            time.sleep(0.02)

    def log(self, name: str) -> str:
        return (self.folder / "log" / f"{name}.out").read_text()[-2000:]

    def clear(self) -> None:
        """End every job."""
        self.run("scancel", "-f", "--user", getpass.getuser())
        self.wait_until(lambda: not self.jobs())

    def stop(self) -> None:
        """End every job and every server."""
        if "slurmctld" in self.running:
            self.clear()
        for name in list(self.running):
            self.kill(name)


def find(program: str) -> str:
    return shutil.which(program, path=SEARCHED) or program


@contextmanager
def running_slurm() -> Iterator[Slurm]:
    """Run Slurm; the environment leads its commands to it."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]
    if missing:
        pytest.skip(f"needs Slurm ({missing[0]}): apt-get install slurm-wlm munge")
    # Not below pytest's folder: a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="fanfold-slurm-") as folder, pytest.MonkeyPatch.context() as patch:
        cluster = Slurm(Path(folder))
        patch.setenv("SLURM_CONF", str(cluster.configuration))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Return a running Slurm."""
    with running_slurm() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_site(slurm: Slurm) -> dict[str, object]:
    """Return how the compute contract reaches this Slurm."""
    return {"compute": "slurm://main", "workers": 2}
