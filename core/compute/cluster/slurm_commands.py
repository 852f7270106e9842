"""Slurm's commands: what they are asked, what they answer, and which of their errors mean what."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import ComputeDenied, ComputeError, ComputeUnavailable, ConfigError, FanfoldError

OPTIONS = ("python", "time", "cpus", "account", "qos", "constraint", "folder", "env")
"""What an address may say besides the partition."""

COMMAND_TIMEOUT = 30.0
"""Seconds that a command may take."""

DEFAULT_LARGEST_ARRAY = 1001
"""Elements of an array where the cluster does not say (``man slurm.conf``, "MaxArraySize")."""

_COLUMNS = {
    "ArrayJobID": 16,
    "ArrayTaskID": 12,
    "State": 20,
    "exit_code": 12,
    "RestartCnt": 12,
    "NodeList": 40,
    "Reason": 64,
}
"""Columns of ``squeue``, of fixed width: the one format that every version prints alike."""

_LATER = re.compile(
    r"unable to contact|timed out|temporarily|not responding|connect(ion)? (failure|refused|reset)|standby"
    r"|zero bytes|backup controller|communication|protocol authentication|try again|munge",
    re.I,
)
_DENIED = re.compile(r"permission|denied|not permitted|not allowed|policy|limit|user's group", re.I)
_WRONG = re.compile(r"invalid|unrecogni[sz]ed|not available|can ?not be satisfied|specification", re.I)
_SECRET = re.compile(r"(KEY|KEY_ID|TOKEN|PASSWORD|PASSWD|CREDENTIALS|CONNECTION_STRING)$|SECRET", re.I)
_PATHS = ("GOOGLE_APPLICATION_CREDENTIALS",)
"""Variables that are named like secrets and hold the path of a file with one."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class JobState:
    """What Slurm says of one job; `status` as ``os.wait`` gives it."""

    state: str
    status: int
    restarts: int
    node: str
    reason: str


CANCELLED = JobState("CANCELLED", 0, 0, "", "")


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands on this machine, in a given environment, which jobs inherit."""

    environment: Mapping[str, str] = field(repr=False)

    def largest_array(self) -> int:
        """Return how many elements an array may have."""
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", self.call("scontrol", "show", "config"))
        return int(found[1]) if found else DEFAULT_LARGEST_ARRAY

    def partitions(self) -> dict[str, int]:
        """Return the partitions that one may see, and the MiB of memory of the largest node in each."""
        found: dict[str, int] = {}
        for row in self.call("sinfo", "-h", "-e", "-o", "%R|%m").split():
            name, _, memory = row.partition("|")
            found[name] = max(found.get(name, 0), _number(memory.rstrip("+")))
        return found

    def submit(self, options: Sequence[str], script: str) -> str:
        """Submit a job; returns its number."""
        return self.call("sbatch", "--parsable", "--requeue", *options, script=script).strip().partition(";")[0]

    def jobs(self, numbers: Sequence[str]) -> dict[str, JobState]:
        """Return the state of every element of arrays, by ``array_element``, as far as Slurm remembers them."""
        columns = ",".join(f"{name}:{width}" for name, width in _COLUMNS.items())
        try:
            text = self.call("squeue", "-h", "--array", "--states=all", f"--jobs={','.join(numbers)}", "-O", columns)
        except ConfigError:  # "Invalid job id specified": the last of them is forgotten
            return {}
        found = {}
        for line in text.splitlines():
            cells, start = [], 0
            for width in _COLUMNS.values():
                cells.append(line[start : start + width].strip())
                start += width
            array, element, state, status, restarts, node, reason = cells
            found[f"{array}_{element}"] = JobState(state, _number(status), _number(restarts), node, reason)
        return found

    def accounted(self, ident: str) -> JobState | None:
        """Ask the accounting database, where there is one, for a job that ``squeue`` has forgotten."""
        with suppress(FanfoldError):
            for line in self.call("sacct", "-n", "-X", "-P", "-j", ident, "-o", "State,ExitCode,NodeList").splitlines():
                state, status, node = line.split("|")
                code, _, number = status.partition(":")
                return JobState(state.split()[0], _number(code) << 8 | _number(number), 0, node, "")
        return None

    def cancel(self, *which: str) -> None:
        """End jobs; those that have ended already are no error."""
        with suppress(ConfigError, ComputeDenied):
            self.call("scancel", "--quiet", *which)

    def call(self, program: str, *arguments: str, script: str = "") -> str:
        """Run a command; returns what it prints.

        Raises
        ------
        ConfigError
            An option of the address cannot work, or the command is not there.
        ComputeDenied
            Slurm refuses the user, or a limit of the site is reached.
        ComputeUnavailable
            Slurm does not answer now.
        ComputeError
            Anything else, in Slurm's words.
        """
        try:
            done = subprocess.run(
                [program, *arguments],
                input=script,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT,
                check=False,
                env=self.environment,
                start_new_session=True,  # Ctrl-C is for the driver, which then cancels what was submitted
            )
        except subprocess.TimeoutExpired:
            raise ComputeUnavailable(f"slurm: {program} took longer than {COMMAND_TIMEOUT:g} s") from None
        except FileNotFoundError:
            raise ConfigError(f"slurm: there is no {program} on this machine's PATH") from None
        if done.returncode == 0:
            return done.stdout
        lines = [line.partition("error: ")[2] or line for line in done.stderr.splitlines() if line.strip()]
        raise explain(program, "; ".join(lines) or f"status {done.returncode}")


def explain(program: str, words: str) -> FanfoldError:
    """Return the exception for what a command wrote to standard error."""
    message = f"slurm: {program} says: {words}"
    if _LATER.search(words):
        return ComputeUnavailable(message)
    if _DENIED.search(words):
        return ComputeDenied(f"{message}; ask for an account, qos or partition that allows it, or for fewer workers")
    if _WRONG.search(words):
        return ConfigError(f"{message}; see the options {', '.join(OPTIONS)}, and memory")
    return ComputeError(message)


def environment(python: str | None) -> dict[str, str]:
    """Return the environment of jobs: the driver's, but for secrets and for what an outer job would impose.

    Parameters
    ----------
    python : str, optional
        The interpreter that brings its own fanfold; without one it is this process's, with this fanfold.
    """
    chosen = {
        name: value
        for name, value in os.environ.items()
        if (name in _PATHS or not _SECRET.search(name)) and (not name.startswith("SLURM_") or name == "SLURM_CONF")
    }
    if "SLURM_CONF" in chosen:
        chosen["SLURM_CONF"] = os.path.abspath(chosen["SLURM_CONF"])
    source = str(Path(__file__).resolve().parents[3])
    if python is None and source not in {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}:
        known = chosen.get("PYTHONPATH")
        chosen["PYTHONPATH"] = f"{source}:{known}" if known else source
    return chosen


def exports(names: Sequence[str]) -> bytes:
    """Return shell commands that set variables to what they are here.

    Raises
    ------
    ConfigError
        One has no value here.
    """
    for name in names:
        if not _VARIABLE.fullmatch(name) or name not in os.environ:
            raise ConfigError(
                f"slurm: env= names {name!r}, which is no variable that is set here; set it, or leave it out"
            )
    return b"".join(os.fsencode(f"export {name}={shlex.quote(os.environ[name])}\n") for name in names)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
