"""Parsers of settings: from text, a TOML value or a Python value to the checked value, and what fits in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)
Parse = Callable[[Any], Any]

_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Parser(Generic[T_co]):
    """A parser that says what it expects, such as "a whole number of at least 1"."""

    parse: Callable[[Any], T_co]
    expects: str

    def __call__(self, value: Any) -> T_co:
        """Return the checked value; raises ValueError when it does not fit."""
        return self.parse(value)


def whole(least: int, most: float = math.inf) -> Parser[int]:
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

    bounds = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Parser(parse, f"a whole number {bounds}")


def number(least: float = -math.inf, most: float = math.inf, *, open_ends: bool = False) -> Parser[float]:
    """Parse finite numbers within bounds, which are themselves excluded when `open_ends`."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        result = float(value)
        inside = least < result < most if open_ends else least <= result <= most
        if not math.isfinite(result) or not inside:
            raise ValueError
        return result

    return Parser(parse, f"a number{_bounds(least, most, open_ends)}")


def _bounds(least: float, most: float, open_ends: bool) -> str:
    low, high = least > -math.inf, most < math.inf
    if low and high:
        return f" between {least:g} and {most:g}" if open_ends else f" from {least:g} to {most:g}"
    if low:
        return f" above {least:g}" if open_ends else f" of at least {least:g}"
    return f" {'below' if open_ends else 'of at most'} {most:g}" if high else ""


def optional(parse: Parse) -> Parser[Any]:
    """Also accept None, for "not given"."""
    return Parser(lambda value: None if value is None else parse(value), getattr(parse, "expects", ""))


def choice(*names: str) -> Parser[str]:
    """Parse one of some names."""

    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return Parser(parse, f"one of {', '.join(name for name in names if name)}")


def several(parse: Parse, *, distinct: bool = False, ordered: bool = False) -> Parser[tuple[Any, ...]]:
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

    each = getattr(parse, "expects", "")
    return Parser(parse_all, f"{each}, or several{' different ones' if distinct else ''} separated by commas")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _switch(value: Any) -> bool:
    if isinstance(value, str):
        value = _SWITCHES[value.strip().lower()]
    if not isinstance(value, bool):
        raise ValueError
    return value


text = Parser(_text, "text")
"""Parses text."""
switch = Parser(_switch, "true or false")
"""Parses true or false, and the words for them in text, such as ``yes`` and ``off``."""
