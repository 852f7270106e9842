"""Settings as the fields of a frozen dataclass: flag, TOML key, variable and Python value of each, checked alike.

One table a dataclass: ``core.settings.ExecutorConfig`` is that of an executor, every application has its own. A table
within a table is a section: ``[md]`` in a file, ``--md-timestep`` as a flag, ``md=MD(timestep=2)`` in Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from core.errors import ConfigError
from core.parsers import Parse

T = TypeVar("T")

_LONGEST_SHOWN = 60


def setting(
    default: Any,
    parse: Parse,
    expects: str = "",
    doc: str = "",
    metavar: str = "",
    *,
    positional: bool = False,
    identity: bool = True,
) -> Any:
    """Declare a field of a table of settings.

    Parameters
    ----------
    default : object
        Value when it is given nowhere; ``dataclasses.MISSING`` for one that must be given.
    parse : callable
        Turns text, a TOML value or a Python value into the checked value; raises ValueError when it does not fit.
    expects : str
        What fits, for the error message: "a whole number of at least 1"; by default what the parser says.
    doc : str
        One line for ``--help`` and ``fanfold doctor``, with the unit.
    metavar : str
        How the value is shown in ``--help``.
    positional : bool
        On a command line it is an argument of its own, without a flag.
    identity : bool
        It decides what is computed; where it does not (how work is split, how long it goes on), a run that was begun
        with another value may be resumed with this one.
    """
    expects = expects or getattr(parse, "expects", "")
    if not (expects and doc):
        raise TypeError("a setting says what it expects, or its parser does, and what it is for")
    about = {"expects": expects, "doc": doc, "metavar": metavar, "positional": positional, "identity": identity}
    return field(default=default, metadata={"parse": parse, **about})


def section(kind: type[Any]) -> Any:
    """Declare a field that is a table of settings itself, a frozen dataclass all of whose settings have a default."""
    return field(default_factory=kind, metadata={"section": kind})


def rows(table: Any) -> dict[str, Field[Any]]:
    """Return the settings of a table, a dataclass or an instance of one, by name; other fields are none."""
    return {row.name: row for row in fields(table) if "parse" in row.metadata}


def sections(table: Any) -> dict[str, type[Any]]:
    """Return the tables within a table by name."""
    return {row.name: row.metadata["section"] for row in fields(table) if "section" in row.metadata}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A setting and the way to it: the names of its sections and its own."""

    path: tuple[str, ...]
    row: Field[Any]

    @property
    def name(self) -> str:
        """The whole name, such as ``md.timestep``."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """The whole flag, such as ``--md-timestep``; of a positional argument, how it is shown."""
        if self.row.metadata["positional"]:
            return str(self.row.metadata["metavar"] or self.row.name.upper())
        return flag_name("_".join(self.path))

    def of(self, params: Any) -> Any:
        """Return the value that an instance of the table has."""
        for name in self.path:
            params = getattr(params, name)
        return params


def leaves(table: Any, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield the settings of a table and of its sections, in order."""
    for row in fields(table):
        if "parse" in row.metadata:
            yield Leaf((*path, row.name), row)
        elif "section" in row.metadata:
            yield from leaves(row.metadata["section"], (*path, row.name))


def row_of(table: Any, name: str, origin: str, only: Sequence[str] = ()) -> Field[Any]:
    """Return the setting that `origin` calls `name`, one of all or of those named.

    Raises
    ------
    ConfigError
        There is no such setting; the message names `origin`, the nearest one and those that there are.
    """
    known = {key: row for key, row in rows(table).items() if key in only or not only}
    if name.replace("-", "_") not in known:
        ways = {key: (key,) for key in known} if only else _ways(table)
        there = [*known, *(f"[{each}]" for each in sections(table))]
        raise ConfigError(f"{origin} has no setting {name!r}{_nearest(name, ways)}; known: {', '.join(there)}")
    return known[name.replace("-", "_")]


def _ways(table: Any) -> dict[str, tuple[str, ...]]:
    """Return where each setting and section of a table is, by the names that somebody might give it."""
    by_name = {key: leaf.path for leaf in leaves(table) for key in (leaf.name, leaf.path[-1])}
    return {**by_name, **{name: (name,) for name in sections(table)}}


def _nearest(name: str, ways: Mapping[str, tuple[str, ...]]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name.replace("-", "_"), ways, n=1)
    if not close:
        return ""
    *within, last = ways[close[0]]
    return f" (is it {last!r}{' in [' + '.'.join(within) + ']' if within else ''}?)"


def parse_field(row: Field[Any], value: object, where: str) -> Any:
    """Return the checked value of a setting.

    Raises
    ------
    ConfigError
        The value does not fit; the message begins with `where`, such as ``--days``, and says what fits.
    """
    try:
        return row.metadata["parse"](value)
    except ConfigError as error:
        raise ConfigError(f"{where.removesuffix(' =')}: {error}") from None
    except (ValueError, TypeError, KeyError, OverflowError):
        raise ConfigError(f"{where} {_shown(value)}: expected {row.metadata['expects']}") from None


def _shown(value: object) -> str:
    shown = value if isinstance(value, str) and value.strip() else repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 3] + "..."


def check_fields(params: Any) -> None:
    """Replace every field of a frozen parameter set by its parsed value; for ``__post_init__``.

    A section may be given as a mapping.

    Raises
    ------
    ConfigError
        A value does not fit; the message names the flag, the value and what fits.
    """
    for name, row in rows(params).items():
        object.__setattr__(params, name, parse_field(row, getattr(params, name), Leaf((name,), row).flag))
    for name, kind in sections(params).items():
        value = getattr(params, name)
        if isinstance(value, Mapping):
            object.__setattr__(params, name, made(kind, parse_settings(kind, value, f"[{name}]")))
        elif not isinstance(value, kind):
            raise ConfigError(f"{name} = {_shown(value)}: expected {kind.__name__}, or a mapping of its settings")


def flag_name(name: str) -> str:
    """Return the flag of a field: ``mean_block`` is ``--mean-block``."""
    return "--" + name.replace("_", "-")


def made(table: type[T], values: Mapping[str, Any]) -> T:
    """Return an instance of a table from what ``parse_settings`` returned.

    Raises
    ------
    ConfigError
        A setting that must be given is not, or two do not go together.
    """
    for name, row in rows(table).items():
        if row.default is MISSING and name not in values:
            raise ConfigError(f"{Leaf((name,), row).flag} is missing: expected {row.metadata['expects']}")
    inner = {name: made(kind, values[name]) for name, kind in sections(table).items() if name in values}
    return table(**{**values, **inner})


def read_settings(table: Any, path: str | Path) -> dict[str, Any]:
    """Return the checked settings that a TOML file gives; see ``parse_settings``."""
    return parse_settings(table, read_toml(path), str(path))


def parse_settings(table: Any, given: Mapping[str, Any], origin: str, place: str = "") -> dict[str, Any]:
    """Return checked settings by name, those of a section in a dict of their own.

    Parameters
    ----------
    given : mapping
        Names with ``_`` or ``-``, and values as TOML has them.
    origin : str
        Where they stand, for the message; `place` is the section there.

    Raises
    ------
    ConfigError
        A key is unknown or given twice, or its value does not fit.
    """
    values: dict[str, Any] = {}
    within = f"{origin}: [{place}]" if place else origin
    for key, value in given.items():
        name = key.replace("-", "_")
        if name in values:
            raise ConfigError(f"{within} gives {name} twice; drop one of {name} and {name.replace('_', '-')}")
        kind = sections(table).get(name)
        if kind is None:
            row = row_of(table, key, within)
            values[name] = parse_field(row, value, f"{within} {key} =" if place else f"{origin}: {key} =")
        elif isinstance(value, Mapping):
            values[name] = parse_settings(kind, value, origin, f"{place}.{key}" if place else key)
        else:
            raise ConfigError(f"{within}: {key} = {_shown(value)}: expected a table, [{key}]")
    return values


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises
    ------
    ConfigError
        The file is missing, unreadable or not TOML.
    """
    import tomllib

    try:
        return tomllib.loads(Path(path).read_text("utf-8-sig"))  # editors of Windows begin a file with a mark
    except OSError as error:
        raise ConfigError(f"cannot read configuration file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"configuration file {path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration file {path} is not valid TOML: {error}") from None


def as_settings(params: Any) -> dict[str, Any]:
    """Return every setting by name as JSON and TOML can hold it, those of a section in a dict of their own."""
    values: dict[str, Any] = {name: _plain(getattr(params, name)) for name in rows(params)}
    return values | {name: as_settings(getattr(params, name)) for name in sections(params)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
