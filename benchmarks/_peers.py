"""Peers whose pins no other package bears: each has an environment of its own, made when it is first measured.

``lithops`` pins old clients of clouds, ``s3fs`` one release of botocore, and ``ray`` is large. They lie in the user's
cache folder; another release of Python, or another list below, is another environment.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PEERS: dict[str, Sequence[str]] = {
    "lithops": ("lithops[aws]>=3.5", "numpy", "pandas"),
    "ray": ("ray>=2.9", "numpy"),
    "s3fs": ("dask[dataframe]>=2024.8", "distributed>=2024.8", "s3fs>=2024.6"),
}


def python_of(peer: str) -> str:
    """Return the interpreter that has a peer: this one, unless the peer needs an environment of its own.

    Raises
    ------
    RuntimeError
        The environment cannot be made; the message ends with the last words of pip.
    """
    if peer not in PEERS:
        return sys.executable
    folder = _folder(peer, PEERS[peer])
    if not (folder / "complete").exists():
        print(f"making an environment for {peer}, once: {folder}", file=sys.stderr, flush=True)
        _make(folder, PEERS[peer])
    return str(folder / "bin" / "python")


def _folder(peer: str, packages: Sequence[str]) -> Path:
    from platformdirs import user_cache_path

    mark = hashlib.sha256("\n".join([sys.version, sys.base_prefix, *packages]).encode()).hexdigest()[:12]
    return user_cache_path("fanfold-benchmarks") / f"{peer}-{mark}"


def _make(folder: Path, packages: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", folder], [*pip, *packages]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
            raise RuntimeError(f"no environment could be made: {words[-1]}")
    (folder / "complete").touch()
