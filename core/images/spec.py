"""What a runtime is made of: the files of the source tree that go into its image, and the tag they give it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from core.errors import ConfigError
from core.task.versions import major, versions

BASE = "base"
PREFIX = "fanfold-"
PINNED_PYTHON = "python:3.11.11-slim-bookworm"
PINS = f"runtimes/{BASE}/requirements.txt"

_TAG_DIGITS = 12
_SINGLE_FILES = ("LICENSE", "README.md", "pyproject.toml")
OPTIONAL_FILES = {"REQUIREMENTS": "further/requirements.txt", "CONSTRAINTS": "further/constraints.txt"}
"""Build arguments of the base, and the files in a build that they then name."""

_TIME = 1577836800
"""Modification time of every file in a build, 2020-01-01: engines take a file with another time for another file."""


class BuildFile(NamedTuple):
    """A file of a build: its bytes, and whether it is a program."""

    data: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """What a runtime is made of.

    Attributes
    ----------
    name : str
        Folder below ``runtimes`` of the source tree.
    source : Path
        The source tree.
    registry : str
        What comes before the image's name, such as ``registry.example.org/team``; empty for this machine alone.
    base : str
        Image that brings Python; by default one with the Python of this process.
    requirements : Path, optional
        Further packages to install, a line each as pip reads them.
    constraints : Path, optional
        Versions that those must have, as pip reads them, besides the versions that the base pins.
    arguments : mapping
        Further build arguments of the runtime's Dockerfile. A value ``@FILE`` puts a file into the build, and names it
        there.
    client : mapping
        Versions of the software that must be able to exchange pickles with the runtime; this process's unless given.
    """

    name: str
    source: Path
    registry: str = ""
    base: str = field(default_factory=lambda: default_base(versions()["python"]))
    requirements: Path | None = None
    constraints: Path | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    client: Mapping[str, str] = field(default_factory=versions)

    @property
    def repository(self) -> str:
        """The image's name without tag."""
        return f"{self.registry}/{PREFIX}{self.name}" if self.registry else PREFIX + self.name


def default_base(python: str) -> str:
    """Return the image that brings a minor version of Python: the Dockerfiles' own where that is the one."""
    return PINNED_PYTHON if PINNED_PYTHON.startswith(f"python:{python}.") else f"python:{python}-slim-bookworm"


def runtime_name(reference: str) -> str | None:
    """Return the name by which ``fanfold runtime`` knows an image, None if it was built in another way."""
    registry, _, last = reference.removeprefix("localhost/").rpartition("/")
    if not last.startswith(PREFIX):
        return None
    return f"{registry}/{split_name(last)[1]}" if registry else split_name(last)[1]


def split_name(text: str) -> tuple[str, str, str]:
    """Return registry, runtime and tag of ``[REGISTRY/][fanfold-]RUNTIME[:TAG]``; those not given are empty."""
    registry, _, last = text.rpartition("/")
    name, _, tag = last.partition(":")
    name = name.removeprefix(PREFIX)
    if not name:
        raise ConfigError(f"{text!r} names no runtime; expected [registry/]runtime, such as {BASE} or montecarlo")
    return registry, name, tag


def find_source(start: str | Path | None = None) -> Path:
    """Return the source tree that runtimes are built from: `start`, this package's own, or the working folder.

    Raises
    ------
    ConfigError
        None of them has Dockerfiles.
    """
    candidates = [Path(start)] if start is not None else [Path(__file__).resolve().parents[2], Path.cwd()]
    for folder in candidates:
        if (folder / "runtimes" / BASE / "Dockerfile").is_file():
            return folder.resolve()
    raise ConfigError(
        f"{' and '.join(map(str, candidates))}: no source tree with runtimes/{BASE}/Dockerfile; runtimes are built "
        "from a checkout, which --source names"
    )


def content(spec: RuntimeSpec) -> dict[str, BuildFile]:
    """Return every file that goes into a build, by its path in it.

    Raises
    ------
    ConfigError
        There is no such runtime, or a file of it, or one that a build argument gives, cannot be used.
    """
    known = sorted(path.parent.name for path in spec.source.glob("runtimes/*/Dockerfile"))
    if spec.name not in known:
        raise ConfigError(f"there is no runtime {spec.name!r} in {spec.source}; known: {', '.join(known)}")
    folders = {"core", "apps", f"runtimes/{BASE}", f"runtimes/{spec.name}"}
    paths = [spec.source / name for name in _SINGLE_FILES]
    paths += [path for folder in folders for path in (spec.source / folder).rglob("*") if _belongs(path)]
    packages = {"REQUIREMENTS": spec.requirements, "CONSTRAINTS": spec.constraints}
    try:
        files = {str(path.relative_to(spec.source)): BuildFile(path.read_bytes()) for path in sorted(paths)}
        files |= {_place(name): _given(name, value[1:]) for name, value in spec.arguments.items() if value[:1] == "@"}
        files |= {OPTIONAL_FILES[name]: BuildFile(path.read_bytes()) for name, path in packages.items() if path}
        files[PINS] = BuildFile(fit_pins((spec.source / PINS).read_text(), spec.client).encode())
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None
    return files


def fit_pins(pins: str, client: Mapping[str, str]) -> str:
    """Return requirements in which what a handshake compares has the version of the client, all else its pin."""

    def fitted(line: str) -> str:
        name, _, pinned = line.partition("==")
        is_other = {"cloudpickle": client.get(name) != pinned, "numpy": major(client.get(name, "")) != major(pinned)}
        return f"{name}=={client[name]}" if name in client and is_other.get(name) else line

    return "".join(f"{fitted(line)}\n" for line in pins.splitlines())


def _given(argument: str, file: str) -> BuildFile:
    if not re.fullmatch(r"[A-Za-z_]\w*", argument, re.ASCII):
        raise ConfigError(f"{argument!r} is no name of a build argument; expected letters, digits and _")
    path = Path(os.path.expanduser(file))
    # A pipe or a device may never end.
    if not file or not (path.is_file() or not path.exists()):
        raise ConfigError(f"build argument {argument}: {file or 'nothing'} after @ is not a file")
    found = BuildFile(path.read_bytes(), os.access(path, os.X_OK))
    if not found.data:
        raise ConfigError(f"build argument {argument}: {file} is empty")
    return found


def build_arguments(spec: RuntimeSpec) -> dict[str, str]:
    """Return the build arguments of a runtime; files that were given are named by their places in the build."""
    return {name: _place(name) if value.startswith("@") else value for name, value in spec.arguments.items()}


def _place(argument: str) -> str:
    return f"further/{argument}"


def _belongs(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def content_tag(spec: RuntimeSpec, files: Mapping[str, BuildFile]) -> str:
    """Return the tag of a runtime: a hash of its files, its base and its build arguments."""
    digest = hashlib.sha256(json.dumps([spec.name, spec.base, sorted(build_arguments(spec).items())]).encode())
    for name, (data, executable) in sorted(files.items()):
        digest.update(f"\0{name}\0{len(data)}\0{executable:d}\0".encode())
        digest.update(data)
    return digest.hexdigest()[:_TAG_DIGITS]


def write_files(folder: Path, files: Mapping[str, BuildFile]) -> None:
    """Lay out the files of a build in an empty folder."""
    for name, (data, executable) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if executable else 0o644)
        os.utime(path, (_TIME, _TIME))
