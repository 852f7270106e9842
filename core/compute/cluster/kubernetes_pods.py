"""What the state of a pod means for the batches in it: how it ended, why it does not start."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping
from typing import Any

from core.compute.cluster.base import WorkerJob, WorkerJobEnd, parse_notes
from core.errors import ComputeDenied, ComputeError, ConfigError, VersionMismatch
from core.task.protocol import LossReason

_NO_IMAGE = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NEVER = re.compile(r"persistentvolumeclaim .+ not found|unbound immediate PersistentVolumeClaims", re.I)
_NOTES = re.compile(r"\d*\n?([+-]\d+\n?)*")
_NOT_ADMITTED = re.compile(r"OutOf|UnexpectedAdmission|NodeAffinity", re.I)
_NO_ENTRY = re.compile(r"No module named '?core\b")
_WRONG_USE, _NO_PROGRAM = 2, (126, 127, 128)
_SIGNALLED = 128

_PAIRS = re.compile(r"([\w./-]+)=([\w.]+)")
_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_UNITS |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z]*)")


class Pending:
    """Since when units wait for a pod that runs, and what the cluster said about it."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: dict[int, float] = {}
        self._words: dict[int, str] = {}

    def begin(self, number: int) -> None:
        """Note that a unit waits from now on."""
        self._since[number] = time.monotonic()

    def heard(self, number: int, words: str) -> None:
        """Keep what the cluster says of a unit that waits."""
        if words:
            self._words[number] = words

    def end(self, number: int) -> None:
        """Note that a unit runs, or has ended."""
        self._since.pop(number, None)
        self._words.pop(number, None)

    def overdue(self) -> int | None:
        """Return the unit that has waited longest, if that is too long."""
        number = min(self._since, key=self._since.__getitem__, default=None)
        if number is None or time.monotonic() - self._since[number] <= self._limit:
            return None
        return number

    def error(self, namespace: str, number: int) -> ComputeError:
        """Return the exception of a unit that has waited too long, with what the cluster said of it."""
        words = self._words.get(number) or "the cluster does not say why"
        return ComputeError(
            f"kubernetes: no pod of namespace {namespace} has started within {self._limit:g} s: {words}; ask for "
            "less (cpu=, memory), have the cluster grow or mended, or wait longer (wait=)"
        )


def has_begun(pod: Mapping[str, Any]) -> bool:
    """Whether a pod's container runs, or has."""
    state = _state(pod)
    return "running" in state or bool(state.get("terminated", {}).get("startedAt"))


def _state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    rows = pod["status"].get("containerStatuses") or [{}]
    state: Mapping[str, Any] = rows[0].get("state") or {}
    return state


def check_start(pod: Mapping[str, Any], image: str, image_works: bool) -> str:
    """Return why a pod has not begun, "" if that is not told.

    Raises
    ------
    ConfigError
        It never will: image, secret or volume is wrong.
    """
    waiting = _state(pod).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _NO_IMAGE and not image_works:
        raise ConfigError(
            f"kubernetes: image {image} cannot be pulled: {message or reason}; push it with 'fanfold runtime push', "
            "and give the service account the registry's credentials (imagePullSecrets)"
        )
    if reason in _NO_CONTAINER:
        raise ConfigError(f"kubernetes: a container of image {image} cannot be made: {message or reason}")
    for row in pod["status"].get("conditions") or []:
        if row["type"] == "PodScheduled" and row["status"] == "False":
            words = str(row.get("message", ""))
            if _NEVER.search(words):
                raise ConfigError(f"kubernetes: pods cannot have the volume of volume=: {words}")
            return words
    return f"{reason}: {message}" if message else str(reason)


def check_refusal(message: str) -> str:
    """Return why the cluster makes no pod, or no Job, now.

    Raises
    ------
    ComputeDenied
        It never will: a quota or policy is against it.
    ConfigError
        There is no such service account.
    """
    if "serviceaccount" in message and "not found" in message:
        raise ConfigError(f"kubernetes: pods cannot have the account of service_account=: {message}")
    if "failed quota" in message:
        raise ComputeDenied(f"kubernetes: {message}; give the executor memory=, from which a pod's limits follow")
    if "exceeded quota" in message:
        lists = dict(re.findall(r"(requested|limited): ([^ ]+(?:,[^ ]+)*)", message))
        asked: dict[str, str] = dict(_PAIRS.findall(lists.get("requested", "")))
        most: dict[str, str] = dict(_PAIRS.findall(lists.get("limited", "")))
        for name, amount in asked.items():
            if _amount(amount) > _amount(most.get(name, amount)):
                raise ComputeDenied(
                    f"kubernetes: one pod needs {name}={amount}, and the namespace's quota is {most[name]} in all: "
                    f"{message}; lower cpu= or memory, or have the quota raised"
                )
        return message
    if "forbidden" in message:
        raise ComputeDenied(f"kubernetes: a policy of the namespace does not allow the pods: {message}")
    return message


def _amount(text: str) -> float:
    match = _QUANTITY.fullmatch(text)
    return float(match[1]) * _UNITS.get(match[2], 1.0) if match else 0.0


def end_of_pod(worker_job: WorkerJob, pod: Mapping[str, Any], image: str) -> WorkerJobEnd | None:
    """Return how a pod ended, None if it has not; sets which batches it was running.

    Raises
    ------
    VersionMismatch, ComputeError
        No pod of this image can run the batches.
    """
    name, status = pod["metadata"]["name"], pod["status"]
    where = f"pod {name} on node {pod['spec'].get('nodeName', 'none')}"
    ended = _state(pod).get("terminated", {})
    words = (ended.get("message") or "").strip()
    if ended and words and _NOTES.fullmatch(words):
        worker_job.running, words = parse_notes(words.splitlines()), ""
    if status.get("phase") == "Succeeded":
        return WorkerJobEnd(None)
    if pod["metadata"].get("deletionTimestamp") and not worker_job.ending:
        # A pod that has a node may run before its state says so.
        return WorkerJobEnd(
            "died", f"{where} was deleted, by somebody or with its node", bool(pod["spec"].get("nodeName"))
        )
    if status.get("phase") != "Failed":
        return None
    if ended.get("reason") == "OOMKilled":
        return WorkerJobEnd(
            "memory", f"{where} used more than its memory limit{_limit(pod)} and was killed (OOMKilled)"
        )
    if why := status.get("reason"):
        told = status.get("message", "")
        reason: LossReason = "memory" if why == "Evicted" and "memory" in told else "died"
        return WorkerJobEnd(reason, f"{where} ended as {why}: {told}", not _NOT_ADMITTED.match(why))
    return _end_of_program(ended, words, where, image)


def _end_of_program(ended: Mapping[str, Any], words: str, where: str, image: str) -> WorkerJobEnd:
    """Return how a worker ended by itself, as its exit status and last words tell."""
    code = int(ended.get("exitCode", 1))
    if "VersionMismatch" in words and code == _WRONG_USE:
        raise VersionMismatch(words.partition("VersionMismatch: ")[2])
    if code in (_WRONG_USE, *_NO_PROGRAM) or _NO_ENTRY.search(words):
        raise ComputeError(
            f"kubernetes: image {image} cannot run batches ({words or ended.get('reason') or f'status {code}'}); it "
            "must be one of fanfold's runtimes, in this version"
        )
    how = f"status {code}"
    if code > _SIGNALLED and code - _SIGNALLED in set(signal.Signals):
        how = signal.Signals(code - _SIGNALLED).name
    return WorkerJobEnd("died", f"{where} ended with {how}{f': {words}' if words else ''}")


def _limit(pod: Mapping[str, Any]) -> str:
    limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory")
    return f" of {limit}" if limit else ""
