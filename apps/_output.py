"""The folder a run writes: claimed before computing, filled at once at the end, never left half-written."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from core import ConfigError, FanfoldError

LOCK_NAME = ".running"
STAGING_PREFIX = ".partial-"
FULL = {errno.ENOSPC: "no space is left there", errno.EDQUOT: "your quota there is used up",
        errno.EFBIG: "a file would be larger than allowed there"}  # fmt: skip


def new_run_path(parent: str) -> Path:
    """Return a fresh folder name such as ``parent/20260131-174503-1f3a``."""
    return Path(parent) / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


class RunFolder:
    """A claimed output folder; a context manager.

    Parameters
    ----------
    path : path
        The folder; made if missing.
    final : str
        The file that marks a finished run; written last.
    overwrite : bool
        Whether an earlier finished run may be replaced.

    Raises
    ------
    ConfigError
        The folder cannot be made or written, another run is using it, or it holds a finished run.
    """

    def __init__(self, path: str | Path, *, final: str = "result.json", overwrite: bool = False) -> None:
        self.path = Path(path)
        self._final = final
        self._made: list[Path] = []
        try:
            self._make(self.path)
            self._lock = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            self._unmake()
            raise ConfigError(
                f"cannot write to output folder {self.path}: {_reason(error)}; choose another with --output"
            ) from None
        try:
            self._claim(overwrite)
        except BaseException:
            os.close(self._lock)
            raise

    def _make(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self._made.append(folder)

    def _claim(self, overwrite: bool) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run that held it may have removed the file since it was opened here; nobody else sees that one.
            if not os.path.samestat(os.fstat(self._lock), os.stat(self.path / LOCK_NAME)):
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            owner = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            raise ConfigError(
                f"output folder {self.path} is in use by another run{f' (process {owner})' if owner else ''}; "
                "wait for it, or choose another with --output"
            ) from None
        # A run that was killed could not tidy up; whoever holds the lock may.
        for remains in self.path.glob(f"{STAGING_PREFIX}*"):
            shutil.rmtree(remains, ignore_errors=True)
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self._release()
            raise ConfigError(f"cannot write to output folder {self.path}: {_reason(error)}") from None
        if (self.path / self._final).exists() and not overwrite:
            self._release()
            raise ConfigError(
                f"output folder {self.path} holds a finished run; choose another with --output, or add --overwrite"
            )

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Write every file of the run, or none of them.

        All are written and flushed beside their places first, then renamed into them, the final one last.

        Raises
        ------
        FanfoldError
            The disk is full or failed; nothing of this run is left.
        """
        staging = self.path / f"{STAGING_PREFIX}{os.getpid()}"
        try:
            staging.mkdir()
            for name, content in files.items():
                _write_through(staging / name, content)
            names = [name for name in files if name != self._final]
            (self.path / self._final).unlink(missing_ok=True)
            for name in [*names, *([self._final] if self._final in files else [])]:
                os.replace(staging / name, self.path / name)
        except OSError as error:
            raise FanfoldError(
                f"cannot write the results to {self.path}: {_reason(error)}; nothing was written; free some space or "
                "choose another folder with --output"
            ) from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _release(self) -> None:
        (self.path / LOCK_NAME).unlink(missing_ok=True)

    def _unmake(self) -> None:
        for folder in reversed(self._made):
            try:
                folder.rmdir()
            except OSError:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        os.close(self._lock)
        if kind is not None:
            self._unmake()


def _write_through(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _reason(error: OSError) -> str:
    return FULL.get(error.errno or 0, (error.strerror or str(error)).lower())
