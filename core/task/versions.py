"""The software that decides whether two processes can exchange pickles, and the refusal where it differs."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping

from core.errors import VersionMismatch
from core.version import __version__

RUNTIME = "FANFOLD_WORKER_RUNTIME"
"""Variable by which an image knows which runtime it is."""


def versions() -> dict[str, str]:
    """Return the versions that decide whether two processes can exchange pickles."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, "fanfold": __version__, **{name: _version(name) for name in ("cloudpickle", "numpy")}}


@functools.cache
def _version(name: str) -> str:
    """Return the version of a package; kept, since to read it costs more than to run a small batch."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def major(version: str) -> str:
    """Return the part of numpy's version that decides: arrays cross between releases of one major version."""
    return version.partition(".")[0]


def check_versions(
    theirs: Mapping[str, str],
    subject: str = "the job was made by other software than this worker's",
    runtime: str | None = None,
) -> None:
    """Refuse to exchange pickles with different software.

    Parameters
    ----------
    theirs : mapping
        Versions of the other side.
    subject : str
        What the refusal begins with.
    runtime : str, optional
        Name of the runtime that is to be built again; by default the one in whose image this process runs, if any.

    Raises
    ------
    VersionMismatch
        Python's minor version, fanfold, cloudpickle or numpy's major version differs.
    """
    ours = versions()

    def differs(name: str) -> bool:
        one, other = ours[name], theirs.get(name, "")
        return major(one) != major(other) if name == "numpy" else one != other

    different = [f"{name} {theirs.get(name, 'missing')} there and {ours[name]} here" for name in ours if differs(name)]
    if different:
        name = runtime or os.environ.get(RUNTIME)
        remedy = f"run: fanfold runtime build {name}" if name else "install the same"
        raise VersionMismatch(f"{subject}: {', '.join(different)}; {remedy}")
