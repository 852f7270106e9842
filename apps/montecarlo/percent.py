"""Numbers that may be written as percentages, signs everywhere or nowhere: never a hundred times what is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from core import ConfigError

EVERYWHERE = "write the percent sign everywhere or nowhere"


def fraction(text: str) -> float:
    """Turn ``97.5%`` into 0.975, rounded once, and ``0.975`` into the same.

    Raises
    ------
    ValueError
        It is no finite number.
    """
    digits = text.strip()
    try:
        value = Decimal(digits.removesuffix("%").strip())
    except InvalidOperation:
        raise ValueError(text) from None
    if not value.is_finite():
        raise ValueError(text)
    return float(value.scaleb(-2) if digits.endswith("%") else value)


def fractions(value: Any, *, summing_to_one: bool = False) -> list[float]:
    """Turn a list, or text separated by commas, into fractions: ``5%,95%``, ``5,95`` and ``0.05,0.95`` are the same.

    Without signs, numbers are percentages if one is above 1 and none is between 0 and 1; with `summing_to_one`, if they
    sum to 100.

    Raises
    ------
    ConfigError
        Some have a sign and some have not, or it is unclear whether they are percentages.
    ValueError
        One is no number.
    """
    texts = _texts(value)
    signs = [text.endswith("%") for text in texts]
    if any(signs) and not all(signs):
        raise ConfigError(f"{','.join(texts)}: {EVERYWHERE}")
    numbers = [fraction(text) for text in texts]
    if any(signs) or not numbers:
        return numbers
    if summing_to_one:
        are_percent = abs(sum(numbers) - 100.0) < 1e-7
    else:
        are_percent = max(numbers) > 1.0
        odd = next((text for text, number in zip(texts, numbers, strict=True) if 0.0 < number < 1.0), None)
        if are_percent and odd is not None:
            raise ConfigError(f"{','.join(texts)}: is {odd} a fraction or a percentage? {EVERYWHERE}")
    return [fraction(f"{text}%") for text in texts] if are_percent else numbers


def shares(
    parse: Callable[[Any], float], *, sorted_once: bool = False, summing_to_one: bool = False
) -> Callable[[Any], Any]:
    """Parse fractions as `fractions` does, each checked by `parse`; ascending and distinct where `sorted_once`."""

    def parse_all(value: Any) -> tuple[float, ...]:
        found = [parse(number) for number in fractions(value, summing_to_one=summing_to_one)]
        if sorted_once and len(set(found)) != len(found):
            raise ValueError(value)
        return tuple(sorted(found) if sorted_once else found)

    return parse_all


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value else []
    parts: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(part, bool) or not isinstance(part, int | float | str) for part in parts):
        raise ValueError(value)
    return [str(part).strip() for part in parts]


def yearly(value: Any) -> float:
    """Parse a rate or volatility a year: ``3%`` or ``0.03``.

    Raises
    ------
    ConfigError
        It is 1 or more without a percent sign: ``3`` is 300%, and hardly meant.
    ValueError
        It is no number.
    """
    (text,) = _texts(value) or [""]
    result = fraction(text)
    if abs(result) >= 1.0 and not text.endswith("%"):
        raise ConfigError(
            f"{text} would be {100 * result:g}% a year; write {text}%, or {100 * result:g}% if it is meant"
        )
    return result
