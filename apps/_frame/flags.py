"""Parameters as flags of a command line: declared, read, and written again."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, TypeVar

from core.fields import Leaf, flag_name, leaves, made, parse_field, read_settings

T = TypeVar("T")


def add_flags(parser: Any, table: Any, names: Sequence[str] = (), taken: Container[str] = ()) -> None:
    """Add a flag for every setting, or for those named, to a parser of argparse.

    A flag that is not given leaves no trace in the namespace, where a setting of a section has its whole name, such as
    ``md.timestep``. Such a one has its plain flag, ``--timestep``, beside the whole one if no other flag is called so
    and it is not `taken`. The help of those named says what fits, since their default may stand elsewhere; that of all
    says the default.
    """
    all_leaves = list(leaves(table))
    last = [leaf.path[-1] for leaf in all_leaves]
    for leaf in all_leaves:
        if names and leaf.name not in names:
            continue
        flags = [leaf.flag]
        plain = flag_name(leaf.path[-1])
        if len(leaf.path) > 1 and last.count(leaf.path[-1]) == 1 and plain not in taken:
            flags.insert(0, plain)
        _add_flag(parser, leaf, flags, explain=bool(names))


def _add_flag(parser: Any, leaf: Leaf, flags: list[str], explain: bool) -> None:
    from argparse import SUPPRESS

    meta, default = leaf.row.metadata, leaf.row.default
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    suffix = "" if shown in (None, "", False, MISSING) else f" [{shown}]"
    about = (meta["doc"] + (f": {meta['expects']}" if explain and default is not False else suffix)).replace("%", "%%")
    metavar = meta["metavar"] or leaf.row.name.upper()
    if meta["positional"]:
        parser.add_argument(leaf.name, metavar=metavar, nargs="?", default=SUPPRESS, help=about)
    elif default is False:
        parser.add_argument(*flags, action="store_true", dest=leaf.name, default=SUPPRESS, help=about)
        # Over a file that says true.
        off = [f"--no-{flag[2:]}" for flag in flags]
        parser.add_argument(*off, action="store_false", dest=leaf.name, default=SUPPRESS, help=SUPPRESS)
    else:
        parser.add_argument(*flags, dest=leaf.name, metavar=metavar, default=SUPPRESS, help=about)


def build(
    table: type[T], given: Mapping[str, object], config: str | None = None, below: Mapping[str, Any] | None = None
) -> T:
    """Build a parameter set from flags, by their whole names, over a TOML file over defaults.

    Parameters
    ----------
    below : mapping, optional
        What ``parse_settings`` returned, in place of the file.

    Raises
    ------
    ConfigError
        The file cannot be read or has an unknown key, a value does not fit, or one that must be given is not.
    """
    values = dict(below or {}) if config is None else read_settings(table, config)
    for leaf in leaves(table):
        if leaf.name not in given:
            continue
        inner = values
        for name in leaf.path[:-1]:
            inner[name] = dict(inner.get(name, {}))
            inner = inner[name]
        inner[leaf.path[-1]] = parse_field(leaf.row, given[leaf.name], leaf.flag)
    return made(table, values)


def changed(params: Any) -> dict[str, object]:
    """Return the settings that differ from their defaults, by whole names, in order."""
    pairs = ((leaf, leaf.of(params)) for leaf in leaves(params))
    return {leaf.name: value for leaf, value in pairs if leaf.row.default is MISSING or value != leaf.row.default}


def as_flags(params: Any) -> list[str]:
    """Return the command-line arguments that give this parameter set, positional ones last."""
    values = changed(params)
    flags: list[str] = []
    last: list[str] = []
    for leaf in leaves(params):
        value = values.get(leaf.name, MISSING)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if value is MISSING:
            continue
        if leaf.row.metadata["positional"]:
            last.append(text)
        elif value is True:
            flags.append(leaf.flag)
        elif value is False:
            flags.append(f"--no-{leaf.flag[2:]}" if leaf.row.default is False else f"{leaf.flag}=false")
        else:
            # With '=' a value may begin with '-', as a touch level of -10% does.
            flags += [f"{leaf.flag}={text}"] if text.startswith("-") else [leaf.flag, text]
    return [*flags, *(["--"] if any(text.startswith("-") for text in last) else []), *last]
