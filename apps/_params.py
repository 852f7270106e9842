"""One table per app: the fields of a frozen dataclass are its flags, its TOML keys and its API, checked alike."""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, field, fields
from pathlib import Path
from typing import Any, TypeVar

from core import ConfigError

T = TypeVar("T")
Parse = Callable[[Any], Any]


def setting(default: Any, parse: Parse, expects: str, doc: str, metavar: str = "") -> Any:
    """Declare a field of a parameter set.

    Parameters
    ----------
    default : object
        Value when neither flag nor file gives one.
    parse : callable
        Turns flag text, a TOML value or a Python value into the checked value; raises ValueError when it does not fit.
    expects : str
        What fits, for the error message: "a whole number of at least 1".
    doc : str
        One line for ``--help``, with the unit.
    metavar : str
        How the value is shown in ``--help``.
    """
    return field(default=default, metadata={"parse": parse, "expects": expects, "doc": doc, "metavar": metavar})


def check_fields(params: Any) -> None:
    """Replace every field of a frozen parameter set by its parsed value; for ``__post_init__``.

    Raises
    ------
    ConfigError
        A value does not fit; the message names the flag, the value and what fits.
    """
    for row in fields(params):
        value = _parsed(row, getattr(params, row.name), flag_name(row.name))
        object.__setattr__(params, row.name, value)


def flag_name(name: str) -> str:
    """Return the flag of a field: ``mean_block`` is ``--mean-block``."""
    return "--" + name.replace("_", "-")


def add_flags(parser: Any, kind: type[Any]) -> None:
    """Add a flag for every field of a parameter set; a flag not given leaves no trace in the namespace."""
    for row in fields(kind):
        meta, default = row.metadata, row.default
        if default is False:
            parser.add_argument(flag_name(row.name), action="store_true", default=argparse.SUPPRESS, help=meta["doc"])
            continue
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        suffix = "" if shown in (None, "") else f" [{shown}]"
        parser.add_argument(
            flag_name(row.name),
            metavar=meta["metavar"] or row.name.upper(),
            default=argparse.SUPPRESS,
            help=(meta["doc"] + suffix).replace("%", "%%"),
        )


def build(kind: type[T], given: Mapping[str, object], config: str | None = None) -> T:
    """Build a parameter set from flags over a TOML file over defaults.

    Raises
    ------
    ConfigError
        The file cannot be read or has an unknown key, or a value does not fit.
    """
    known = {row.name: row for row in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, object] = {}
    for key, value in (read_toml(config) if config else {}).items():
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(f"{config}: there is no setting {key!r}; known: {', '.join(known)}")
        values[name] = _parsed(known[name], value, f"{config}: {key}")
    values.update((name, value) for name, value in given.items() if name in known)
    return kind(**values)


def read_toml(path: str) -> dict[str, Any]:
    """Read a TOML file of settings.

    Raises
    ------
    ConfigError
        The file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot read it: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--config {path}: not UTF-8 text; write the settings as TOML, as in days = 250") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {path}: not valid TOML: {error}") from None


def changed(params: Any) -> dict[str, object]:
    """Return the fields that differ from their defaults, in order."""
    pairs = ((row, getattr(params, row.name)) for row in fields(params))
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


def _parsed(row: Any, value: object, origin: str) -> Any:
    try:
        return row.metadata["parse"](value)
    except (ValueError, TypeError, OverflowError):
        raise ConfigError(f"{origin} {_show(value)}: expected {row.metadata['expects']}") from None


def _show(value: object, most: int = 60) -> str:
    text = value if isinstance(value, str) and value else repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def whole(least: int, most: int) -> Parse:
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
    """Accept true or false."""
    if not isinstance(value, bool):
        raise ValueError
    return value
