"""Parameters of an application: one frozen dataclass for flags, a TOML file and the Python API.

What an application declares its own with is here: `setting`, `section`, `check_fields` and parsers. A section is a
dataclass within the dataclass: ``[md]`` in the file, ``--md-timestep`` (or ``--timestep``, if nothing else is called
so) as a flag, ``Params(md=MD(timestep=2.0))`` in Python::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class MD:
        timestep: float = setting(2.0, number(0, 5), "femtoseconds from 0 to 5", "time step", "FS")
        steps: int = setting(5000, whole(1), doc="steps of a segment", metavar="N")

        def __post_init__(self) -> None:
            check_fields(self)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Params:
        source: str = setting(MISSING, text, "a folder or prefix", "what to read", "SOURCE", positional=True)
        md: MD = section(MD)

        def __post_init__(self) -> None:
            check_fields(self)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any

from apps._frame.flags import add_flags, as_flags, build, changed
from core import ConfigError
from core.fields import (
    as_settings,
    check_fields,
    parse_settings,
    read_toml,
    row_of,
    rows,
    section,
    sections,
    setting,
)
from core.parsers import Parser, choice, number, optional, several, switch, text, whole
from core.settings import ExecutorConfig, parse_duration, parse_size

__all__ = [
    "MISSING",
    "Common",
    "Parser",
    "add_flags",
    "as_flags",
    "as_settings",
    "build",
    "changed",
    "check_fields",
    "choice",
    "number",
    "optional",
    "parse_duration",
    "parse_settings",
    "parse_size",
    "read_file",
    "section",
    "setting",
    "several",
    "switch",
    "text",
    "whole",
]

EXECUTION = ("compute", "storage", "runtime", "notify", "workers", "memory", "timeout", "retries")
"""Settings of the executor that every command has; in a file they stand under ``[execution]``."""


def _place(value: object) -> str:
    if not text(value).strip():  # as of a shell's variable that is not set: no run is to land in the working folder
        raise ValueError
    return text(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every command can be told besides its own parameters."""

    output: str | None = setting(None, optional(_place), "a folder or prefix", "where the run is kept", "ADDRESS")
    overwrite: bool = setting(False, switch, doc="start anew, and replace what is in the output's place")
    json: bool = setting(False, switch, doc="one JSON object on stdout, progress as JSON lines on stderr")
    dry_run: bool = setting(False, switch, doc="print tasks, CPU seconds, GB-seconds, requests and price; run nothing")
    quiet: bool = setting(False, switch, doc="no progress and no table")
    verbose: bool = setting(False, switch, doc="log what happens; show tracebacks")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.quiet and self.verbose:
            raise ConfigError("--quiet and --verbose exclude each other; drop one of the two")


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What a file says: parameters and what all commands have, parsed; settings of the executor, as they stand."""

    params: dict[str, Any]
    common: dict[str, Any]
    execution: dict[str, Any]


def read_file(table: Any, path: str) -> FileSettings:
    """Read a TOML file of parameters; everything that a flag sets can stand in it.

    What is common to all commands (`Common`) stands at the top or under ``[execution]``.

    Raises
    ------
    ConfigError
        The file cannot be read, a key is unknown (the nearest known one is named), or a value does not fit.
    """
    given = dict(read_toml(path))
    execution = given.pop("execution", {})
    if not isinstance(execution, Mapping):
        raise ConfigError(f"{path}: execution = {execution!r}: expected a table, [execution]")
    common: dict[str, Any] = {}
    rest: list[dict[str, Any]] = []
    for place, values in (("", given), ("execution", execution)):
        known = {key for key in values if _is_common(table, place, key, values[key])}
        common |= parse_settings(Common, {key: values[key] for key in known}, path, place)
        rest.append({key: value for key, value in values.items() if key not in known})
    for key in rest[1]:
        row_of(ExecutorConfig, key, f"{path}: [execution]", EXECUTION)
    parse_settings(ExecutorConfig, rest[1], path, "execution")
    chosen = {key.replace("-", "_"): value for key, value in rest[1].items()}
    return FileSettings(parse_settings(table, rest[0], path), common, chosen)


def _is_common(table: Any, place: str, key: str, value: Any) -> bool:
    name = key.replace("-", "_")
    own = not place and (name in rows(table) or (name in sections(table) and isinstance(value, Mapping)))
    return name in rows(Common) and not own
