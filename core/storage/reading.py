"""The one reader of small texts that somebody else may have written: JSON in a storage, and in files of keys.

Every field is known, present, of its type and within its bounds, or the text is refused in one printable sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import IntegrityError, printable

LARGEST_TEXT = 8 << 10
"""Bytes of a text; those of the product have some hundred."""

Check = Callable[[object], bool]


def is_text(limit: int) -> Check:
    """Return the check for printable text of at most so many characters."""
    return lambda value: isinstance(value, str) and len(value) <= limit and value.isprintable()


def is_number(low: float, high: float) -> Check:
    """Return the check for a finite number within bounds."""
    return lambda value: _is_real(value) and low <= value <= high  # type: ignore[operator]


def is_count(low: int, high: int) -> Check:
    """Return the check for a whole number within bounds."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_fields(data: bytes, place: str, fields: Mapping[str, Check]) -> dict[str, Any]:
    """Return the fields of a JSON object.

    Parameters
    ----------
    data : bytes
    place : str
        Where they were read, for the message.
    fields : mapping
        Each name with the check that its value must pass; all are there, and no other.

    Raises
    ------
    IntegrityError
        The bytes are anything else.
    """
    try:
        if len(data) > LARGEST_TEXT:
            raise ValueError(f"it has more than {LARGEST_TEXT} bytes")
        found = json.loads(data, parse_constant=_refuse, object_pairs_hook=_once)
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
        if strange := sorted(found.keys() ^ fields.keys()):
            raise ValueError(f"its fields are not those of {', '.join(fields)}: see {strange[0]!r}")
        for name, check in fields.items():
            if not check(found[name]):
                raise ValueError(f"{name} cannot be {found[name]!r:.80}")
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{printable(place)} cannot be used: {printable(error)}") from None
    return found


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it gives a field twice")
    return found
