"""Runs batches in live containers of this machine, by podman or docker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.compute.base import check_options
from core.compute.local.threads import usable_cores
from core.compute.remote.base import RemoteBackend
from core.compute.remote.pipe import PipeSlot, check_hello
from core.compute.remote.slot import NotStarted, Slot, WorkerEnded
from core.errors import ConfigError
from core.images.engines import Engine, find_engine
from core.images.spec import runtime_name
from core.settings import Address, ExecutorConfig, default_storage, parse_size

OPTIONS = ("cpus", "memory", "network", "mount", "env", "engine", "user")

PROCESSES = 512
"""Processes and threads that a container may have: enough for numerical libraries, an end to fork bombs."""

KILLED, ENGINE_FAILED, NOT_EXECUTABLE, NOT_FOUND = 137, 125, 126, 127
"""Exit statuses of ``podman run`` (podman-run(1), "Exit Status")."""

STARTS = 3
"""Starts that fail one after the other before the image is to blame, and not the engine's passing trouble."""

END_TIMEOUT = 30.0
"""Seconds that the engine has to end a container."""


class ContainerBackend(RemoteBackend):
    """Keeps one container for each worker.

    Address: ``container://IMAGE?option=value``; without an image, the executor's runtime.

    - ``cpus``, ``memory``: what each container may use.
    - ``network``: none by default; ``host``, ``bridge`` or a network's name.
    - ``mount``: folders, separated by commas, that containers see under the same path, with ``:ro`` to be read only. A
      storage at ``file://`` is always there.
    - ``env``: names of variables to pass on, separated by commas; none is otherwise.
    - ``user``: user and group number; by default the image's, or the caller's where a folder can be written to.
    - ``engine``: podman or docker; the first that works.

    Containers have a read-only root file system, no capabilities and no way to new privileges.
    """

    name = "container"

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        options = address.options
        check_options("container", options, OPTIONS)
        image = address.where or config.runtime
        if not image:
            raise ConfigError("container names no image: container://IMAGE, or runtime=IMAGE")
        self.image: str = image
        try:
            self._cpus = float(options.get("cpus", 0))
            self._memory = parse_size(options["memory"]) if "memory" in options else None
        except ValueError:
            raise ConfigError("container needs cpus= as a number, memory= as a size such as 2GiB") from None
        super().__init__(address, config, config.workers or usable_cores())
        self._engine: Engine | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._failed_starts = 0
        self._label = f"fanfold-{os.getpid()}-{os.urandom(4).hex()}"

    def prepare(self) -> None:
        """Find an engine.

        Raises
        ------
        ConfigError
            None works here.
        """
        self._engine = find_engine(self.address.options.get("engine"))
        if self._engine.kind == "buildah":
            raise ConfigError("container needs podman or docker; buildah builds images but keeps no containers")
        # podman's monitor leaves a file "oom" in its working folder when a container runs out of memory.
        self._folder = tempfile.TemporaryDirectory(prefix="fanfold-container-")

    def release(self) -> None:
        """Remove the engine's working folder."""
        if self._folder is not None:
            self._folder.cleanup()

    def open_slot(self, index: int) -> Slot:
        """Start a container."""
        assert self._engine is not None
        assert self._folder is not None
        name = f"{self._label}-{index}"
        command = [self._engine.command, "run", "--name", name, *self._flags(), self.image, "worker"]
        return PipeSlot(command, self._explain, lambda: self._remove(name), self._check, self._folder.name)

    def _flags(self) -> list[str]:
        options = self.address.options
        flags = ["--rm", "--interactive", "--read-only", "--tmpfs=/tmp:rw,mode=1777", "--cap-drop=ALL"]
        flags += ["--security-opt=no-new-privileges", f"--pids-limit={PROCESSES}", "--log-driver=none"]
        flags += [f"--network={options.get('network', 'none')}", "--no-healthcheck"]
        if self._cpus:
            flags.append(f"--cpus={self._cpus:g}")
        if self._memory:
            flags += [f"--memory={self._memory}", f"--memory-swap={self._memory}"]
        mounts = self._mounts()
        flags += [f"--volume={path}:{path}:{mode}" for path, mode in mounts.items()]
        if "user" in options:
            flags.append(f"--user={options['user']}")
        elif "rw" in mounts.values():
            flags.append(f"--user={os.getuid()}:{os.getgid()}")
        return flags + [f"--env={name}" for name in options.get("env", "").split(",") if name]

    def _mounts(self) -> dict[Path, str]:
        """Return the folders that containers share with this machine, and whether they may write to them."""
        mounts = {}
        for entry in filter(None, self.address.options.get("mount", "").split(",")):
            path, _, mode = entry.partition(":")
            if mode not in ("", "ro", "rw") or not Path(path).is_dir():
                raise ConfigError(
                    f"container cannot mount {entry!r}: it must be a folder that is there, then :ro if wanted"
                )
            mounts[Path(path).absolute()] = mode or "rw"
        storage = self.config.storage or default_storage()
        if storage.startswith("file://") and (self.config.storage or self.config.durable):
            folder = Path(storage.removeprefix("file://").partition("?")[0])
            folder.mkdir(parents=True, exist_ok=True)
            if not any(folder.is_relative_to(path) for path, mode in mounts.items() if mode == "rw"):
                mounts[folder.absolute()] = "rw"
        return mounts

    def _check(self, hello: Mapping[str, Any]) -> None:
        self._failed_starts = 0
        check_hello(hello, f"image {self.image}", runtime_name(self.image))

    def _explain(self, status: int, last: str, began: bool) -> Exception:
        """Say how a container ended."""
        said = f": {last.splitlines()[-1]}" if last else ""
        is_refused = status in (NOT_EXECUTABLE, NOT_FOUND) or (status == ENGINE_FAILED and not began)
        if is_refused:
            self._failed_starts += 1
        if is_refused and self._failed_starts >= STARTS:
            return ConfigError(
                f"image {self.image} does not start{said}; 'fanfold runtime list' shows the runtimes of this machine"
            )
        how = "was killed" if status == KILLED else f"ended with status {status}"
        if status < 0:
            how = f"was lost: the engine's command ended by signal {-status}"
        limit = f", perhaps for its memory of {self._memory / 1e6:.0f} MB" if status == KILLED and self._memory else ""
        message = f"its container {how}{limit}{said}"
        return WorkerEnded(message) if began else NotStarted(message)

    def _remove(self, name: str) -> None:
        """End a container, and free its name: to kill the command that started it would leave it running."""
        assert self._engine is not None
        at_once = ["--time=0"] if self._engine.kind == "podman" else []
        command = [self._engine.command, "rm", "--force", *at_once, name]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # an engine that hangs ends nothing, now or later
            subprocess.run(command, capture_output=True, timeout=END_TIMEOUT, check=False)
