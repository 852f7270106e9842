"""A backend whose workers are processes of their own on this machine, behind the protocol of remote ones."""

import sys

from core.compute.remote.base import RemoteBackend
from core.compute.remote.pipe import PipeSlot
from core.compute.remote.slot import NotStarted, WorkerEnded


def explain_exit(status, last, began):
    """Say how a worker's process ended."""
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    message = f"its worker ended {how}" + (f": {last.splitlines()[-1]}" if last else "")
    return WorkerEnded(message) if began else NotStarted(message)


class PipeBackend(RemoteBackend):
    """Talks to its workers over their standard streams."""

    name = "pipe"
    command = (sys.executable, "-m", "core.worker.entry", "worker")

    def __init__(self, address, config):
        super().__init__(address, config, config.workers or 2)
        self.largest = int(address.options.get("largest", 0)) or None

    def open_slot(self, index):
        return PipeSlot(self.command, explain_exit)
