"""Container engines: podman, docker or buildah, whichever works here, behind the few things asked of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import ComputeError, ConfigError
from core.settings import parse_size

ENGINES = ("podman", "docker", "buildah")
"""In the order in which they are tried: the first runs without a service."""

INFO_TIMEOUT = 30.0
"""Seconds in which an engine that works says so."""

SAID = "fanfold: "
"""What a sentence begins with that a build of ours ends with; the engine's own words come after it."""

ENTRY = ("python", "-m", "core.worker.entry")
"""Entry point of every image."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that works: its command, and whose options that command takes."""

    command: str
    kind: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image of this machine: bytes, seconds since the epoch of its making, and every ``repository:tag`` it has."""

    ident: str
    names: tuple[str, ...]
    size: int
    created: float


def find_engine(command: str | None = None) -> Engine:
    """Return the first engine that works, or the one asked for.

    Raises
    ------
    ConfigError
        None works; the message says why each does not.
    """
    reasons: list[str] = []
    for candidate in (command,) if command else ENGINES:
        if shutil.which(candidate) is None:
            reasons.append(f"{candidate} is not installed")
            continue
        try:
            version = subprocess.run([candidate, "--version"], capture_output=True, text=True, timeout=INFO_TIMEOUT)
            # A client can be there without the service that does its work.
            answer = subprocess.run([candidate, "info"], capture_output=True, text=True, timeout=INFO_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(f"{candidate} does not answer ({error})")
            continue
        if answer.returncode == 0:
            known = [kind for kind in ENGINES if kind in version.stdout.lower()]
            return Engine(candidate, known[0] if known else Path(candidate).name)
        reasons.append(f"{candidate} does not work ({_last_line(answer.stderr) or 'no reason given'})")
    raise ConfigError(f"no container engine works here: {'; '.join(reasons)}; install podman, for example")


def build_image(
    engine: Engine,
    context: Path,
    dockerfile: str,
    arguments: Mapping[str, str],
    names: Sequence[str],
    *,
    target: str = "",
    show: bool,
) -> str:
    """Build an image; returns its identifier.

    Parameters
    ----------
    context : Path
        Folder whose files the build may read.
    dockerfile : str
        Path of the Dockerfile in it.
    arguments : mapping
        Build arguments.
    names : sequence of str
        Every ``repository:tag`` to give to the image.
    target : str
        Stage to end with, if it is not the last.
    show : bool
        Pass what the engine says on to standard error; otherwise it is kept for the message of a failure.
    """
    command = ["build", "--file", str(context / dockerfile)]
    if engine.kind != "docker":
        # The default format has no health check. Layers are kept, so that the next build is short.
        command += ["--format", "docker", "--layers"]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name in names:
        command += ["--tag", name]
    if target:
        command += ["--target", target]
    with tempfile.NamedTemporaryFile("r", prefix="fanfold-image-") as ident:
        _call(engine, *command, "--iidfile", ident.name, str(context), show=show)
        return Path(ident.name).read_text().strip()


def list_images(engine: Engine, label: str) -> list[Image]:
    """Return the named images that carry a label."""
    if engine.kind == "buildah":
        rows = json.loads(_call(engine, "images", "--json", "--filter", f"label={label}") or "[]") or []
        images = [
            Image(row["id"], _plain(row["names"]), parse_size(row["size"]), _seconds(row["createdatraw"]))
            for row in rows
        ]
    else:
        rows = _inspected(engine, label)
        images = [Image(row["Id"], _plain(row["RepoTags"]), row["Size"], _seconds(row["Created"])) for row in rows]
    return [image for image in images if image.names]


def _inspected(engine: Engine, label: str, attempts: int = 3) -> list[dict[str, Any]]:
    """Return what the engine tells of the images that carry a label; one that is deleted meanwhile is none."""
    idents = dict.fromkeys(_call(engine, "image", "ls", "--quiet", "--filter", f"label={label}").split())
    try:
        return json.loads(_call(engine, "image", "inspect", *idents)) if idents else []
    except ComputeError:
        if attempts == 1:
            raise
        return _inspected(engine, label, attempts - 1)


def run_entry(engine: Engine, image: str, *arguments: str) -> str:
    """Run an entry point of a local image, without a network; returns what it printed."""
    if engine.kind != "buildah":
        flags = ("--rm", "--network=none", "--no-healthcheck", "--pull=never")
        return _call(engine, "run", *flags, image, *arguments)
    container = _call(engine, "from", "--pull-never", image).strip()
    try:
        return _call(engine, "run", "--network=none", container, "--", *ENTRY, *arguments)
    finally:
        _call(engine, "rm", container)


def tag_image(engine: Engine, image: str, name: str) -> None:
    """Give a local image a further name."""
    _call(engine, "tag", image, name)


def push_image(engine: Engine, name: str, *, show: bool) -> None:
    """Send a local image to the registry that its name begins with."""
    _call(engine, "push", name, show=show)


def remove_image(engine: Engine, name: str) -> None:
    """Take a name from a local image; with its last name the image goes."""
    _call(engine, "rmi", name)


def _call(engine: Engine, *arguments: str, show: bool = False) -> str:
    done = subprocess.run(
        [engine.command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if show else subprocess.PIPE,
        stderr=None if show else subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        ours = [line.removeprefix(SAID) for line in (done.stderr or "").splitlines() if line.startswith(SAID)]
        reason = "see above" if show else "; ".join(ours) or _last_line(done.stderr) or f"exit status {done.returncode}"
        raise ComputeError(f"{engine.command} {arguments[0]} failed: {reason}")
    return done.stdout or ""


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _plain(names: Sequence[str] | None) -> tuple[str, ...]:
    """Leave out the registry that podman gives to images that have none."""
    return tuple(name.removeprefix("localhost/") for name in names or () if not name.endswith("<none>"))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
