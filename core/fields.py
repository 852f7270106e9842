"""Settings as the fields of a frozen dataclass: flag, TOML key, variable and Python value of each, checked alike.

One table a dataclass: ``core.settings.ExecutorConfig`` is that of an executor, every application has its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any, TypeVar

from core.errors import ConfigError

T = TypeVar("T")
Parse = Callable[[Any], Any]

_LONGEST_SHOWN = 60
_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def setting(default: Any, parse: Parse, expects: str, doc: str, metavar: str = "") -> Any:
    """Declare a field of a table of settings.

    Parameters
    ----------
    default : object
        Value when it is given nowhere.
    parse : callable
        Turns text, a TOML value or a Python value into the checked value; raises ValueError when it does not fit.
    expects : str
        What fits, for the error message: "a whole number of at least 1".
    doc : str
        One line for ``--help`` and ``fanfold doctor``, with the unit.
    metavar : str
        How the value is shown in ``--help``.
    """
    return field(default=default, metadata={"parse": parse, "expects": expects, "doc": doc, "metavar": metavar})


def rows(table: Any) -> dict[str, Field[Any]]:
    """Return the settings of a table, a dataclass or an instance of one, by name; other fields are none."""
    return {row.name: row for row in fields(table) if "parse" in row.metadata}


def row_of(table: Any, name: str, origin: str) -> Field[Any]:
    """Return the setting that `origin` calls `name`.

    Raises
    ------
    ConfigError
        There is no such setting; the message names `origin` and those that there are.
    """
    known = rows(table)
    if name.replace("-", "_") not in known:
        raise ConfigError(f"{origin} has no setting {name!r}; known: {', '.join(known)}")
    return known[name.replace("-", "_")]


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

    Raises
    ------
    ConfigError
        A value does not fit; the message names the flag, the value and what fits.
    """
    for name, row in rows(params).items():
        object.__setattr__(params, name, parse_field(row, getattr(params, name), flag_name(name)))


def flag_name(name: str) -> str:
    """Return the flag of a field: ``mean_block`` is ``--mean-block``."""
    return "--" + name.replace("_", "-")


def add_flags(parser: Any, table: Any, names: Sequence[str] = ()) -> None:
    """Add a flag for every setting, or for those named, to a parser of argparse.

    A flag that is not given leaves no trace in the namespace. The help of those named says what fits, since their
    default may stand elsewhere; that of all says the default.
    """
    from argparse import SUPPRESS

    known = rows(table)
    for name in names or known:
        row = known[name]
        meta, default = row.metadata, row.default
        if default is False:
            parser.add_argument(flag_name(name), action="store_true", default=SUPPRESS, help=meta["doc"])
            continue
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        suffix = "" if shown in (None, "") else f" [{shown}]"
        about = (meta["doc"] + (f": {meta['expects']}" if names else suffix)).replace("%", "%%")
        parser.add_argument(flag_name(name), metavar=meta["metavar"] or name.upper(), default=SUPPRESS, help=about)


def build(table: type[T], given: Mapping[str, object], config: str | None = None) -> T:
    """Build a parameter set from flags over a TOML file over defaults.

    Raises
    ------
    ConfigError
        The file cannot be read or has an unknown key, or a value does not fit.
    """
    values = read_settings(table, config) if config else {}
    known = rows(table)
    return table(**values | {name: value for name, value in given.items() if name in known})


def read_settings(table: Any, path: str | Path) -> dict[str, Any]:
    """Return the checked settings that a TOML file gives.

    Raises
    ------
    ConfigError
        The file is missing, unreadable or not TOML, a key is unknown or its value does not fit.
    """
    given = [(row_of(table, key, str(path)), key, value) for key, value in read_toml(path).items()]
    return {row.name: parse_field(row, value, f"{path}: {key} =") for row, key, value in given}


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises
    ------
    ConfigError
        The file is missing, unreadable or not TOML.
    """
    import tomllib

    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"configuration file {path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration file {path} is not valid TOML: {error}") from None


def changed(params: Any) -> dict[str, object]:
    """Return the fields that differ from their defaults, in order."""
    pairs = ((row, getattr(params, name)) for name, row in rows(params).items())
    return {row.name: value for row, value in pairs if row.default is MISSING or value != row.default}


def as_flags(params: Any) -> list[str]:
    """Return the command-line flags that give this parameter set."""
    flags: list[str] = []
    for name, value in changed(params).items():
        if value is True:
            flags.append(flag_name(name))
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            # With '=' a value may begin with '-', as a touch level of -10% does.
            flags += [f"{flag_name(name)}={text}"] if text.startswith("-") else [flag_name(name), text]
    return flags


def whole(least: int, most: float = math.inf) -> Parse:
    """Parse whole numbers within bounds; ``100_000`` and ``1e6`` are whole numbers too."""

    def parse(value: Any) -> int:
        number = value
        if isinstance(value, str):
            number = float(value) if "e" in value.lower() else int(value)
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise ValueError
        return number

    return parse


def number(least: float = -math.inf, most: float = math.inf, *, open_ends: bool = False) -> Parse:
    """Parse finite numbers within bounds, which are themselves excluded when `open_ends`."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        result = float(value)
        inside = least < result < most if open_ends else least <= result <= most
        if not math.isfinite(result) or not inside:
            raise ValueError
        return result

    return parse


def optional(parse: Parse) -> Parse:
    """Also accept None, for "not given"."""
    return lambda value: None if value is None else parse(value)


def choice(*names: str) -> Parse:
    """Parse one of some names."""

    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return parse


def several(parse: Parse, *, distinct: bool = False, ordered: bool = False) -> Parse:
    """Parse a list, or text separated by commas, into a tuple; sorted when `ordered`."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            parts: Sequence[Any] = [part.strip() for part in value.split(",")] if value else ()
        else:
            parts = value if isinstance(value, list | tuple) else (value,)
        items = tuple(parse(part) for part in parts)
        if distinct and len(set(items)) != len(items):
            raise ValueError
        return tuple(sorted(items)) if ordered else items

    return parse_all


def text(value: Any) -> str:
    """Accept text."""
    if not isinstance(value, str):
        raise ValueError
    return value


def switch(value: Any) -> bool:
    """Accept true or false, and the words for them in text, such as ``yes`` and ``off``."""
    if isinstance(value, str):
        value = _SWITCHES[value.strip().lower()]
    if not isinstance(value, bool):
        raise ValueError
    return value
