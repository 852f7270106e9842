"""Sum formulas as people write them, understood exactly or refused: none is ever read as another mass.

``C6H12O6``, nested groups (``Fe(C5H5)2``, ``K4[Fe(CN)6]``), subscripts, spaces between elements, hydrates and salts
(``CuSO4·5H2O``), isotope labels (``[13C]6H12O6``, ``[13C6]H12O6``, ``¹³C₆H₁₂O₆``, ``D2O``) are understood. Charges,
placeholders (R, X), repeats (n), fractions, counts of zero and whatever has two readings are refused with a sentence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from apps.metabolomics.science.elements import ELECTRON_MASS, isotope_table

MAX_COUNT = 100_000
"""Atoms of one element beyond which a formula is taken for a mistake."""

_PLAIN = re.compile(r"(?:[A-Z][a-z]?(?:[1-9][0-9]*)?)+")
_CANONICAL = re.compile(
    "C{0}(?:H{0})?(?:Br{0})?(?:Cl{0})?(?:F{0})?(?:I{0})?(?:N{0})?(?:O{0})?(?:P{0})?(?:S{0})?".format(
        "(?:[2-9]|[1-9][0-9]{1,2})?"
    )
)
"""Carbon, hydrogen, then by the alphabet (Hill's order), each count above 1 and below 1,000."""
_PLAIN_PARTS = re.compile(r"([A-Z][a-z]?)([0-9]*)")
_TOKEN = re.compile(
    r"(?P<atom>[A-Z][a-z]?)(?P<atoms>[0-9]*)"
    r"|\[(?P<mass>[0-9]+)(?P<label>[A-Z][a-z]?)(?P<inner>[0-9]*)\](?P<labels>[0-9]*)"
    r"|(?P<open>[(\[{])"
    r"|(?P<close>[)\]}])(?P<repeat>[0-9]*)"
)
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SUPERSCRIPT_LABEL = re.compile(r"([⁰¹²³⁴⁵⁶⁷⁸⁹]+)([A-Z][a-z]?)")
_DOTS = str.maketrans("•∙⋅‧●・", "······")
_SPLIT_TOKEN = re.compile(r"[0-9]\s+[0-9]|[A-Za-z]\s+[a-z]|\[\s*[0-9]+\s+")
_CHARGE = re.compile(r"[+\-−–⁺⁻]")
_COMPANION = re.compile(r"[1-9][0-9]*(?:H2O|HF|HCl|HBr|HI|HNO3|H2SO4|H3PO4|NH3|CH4O|CH3OH|C2H6O|C2H5OH)")
"""What crystallises with a molecule and is written behind a full stop with its number."""
_WORDS = frozenset({"INF", "ND", "NaN", "TBC", "TBD", "UNK", "UNKNOWN"})
"""Words of tables that are made of symbols of elements; pandas and spreadsheets write NaN for an empty cell."""
_HYDROGEN = {"D": "[2H]", "T": "[3H]"}


class FormulaError(ValueError):
    """A formula or an adduct is not understood, or has more than one reading; the message is one sentence."""


class Composition(Mapping[str, int]):
    """How many atoms of each element: immutable, hashable, in Hill order.

    Parameters
    ----------
    counts : mapping or iterable of pairs
        Element (``C``) or isotope (``[13C]``) to count. Counts of zero are left out; negative ones are allowed, for
        what an ion loses.

    Notes
    -----
    ``str()`` is the canonical formula: carbon, hydrogen, then by the alphabet, or all by the alphabet without carbon
    (E. A. Hill, J. Am. Chem. Soc. 22, 478 (1900)); a label stands behind its element. Equal compositions have equal
    strings, and `parse_formula` reads the string back.
    """

    __slots__ = ("_counts", "_hash", "_text")

    def __init__(self, counts: Mapping[str, int] | Iterable[tuple[str, int]] = ()):
        present = {name: count for name, count in dict(counts).items() if count}
        carbon = "C" in present or any(_symbol(name) == "C" for name in present)
        rank = _hill_ranks(carbon)
        self._counts = {name: present[name] for name in sorted(present, key=rank.__getitem__)}
        self._text = "".join([name if count == 1 else f"{name}{count}" for name, count in self._counts.items()])
        self._hash = hash(self._text)

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Composition) else NotImplemented

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Composition({self._text!r})"

    def __reduce__(self) -> tuple[type[Composition], tuple[Any, ...]]:
        return Composition, (self._counts,)

    def plus(self, other: Mapping[str, int], times: int = 1) -> Composition:
        """Add `times` another composition; counts may become negative."""
        total = dict(self._counts)
        for name, count in other.items():
            total[name] = total.get(name, 0) + times * count
        return Composition(total)

    @property
    def is_possible(self) -> bool:
        """Whether there are atoms, and no count is negative."""
        return bool(self._counts) and min(self._counts.values()) > 0

    def monoisotopic_mass(self, charge: int = 0) -> float:
        """Mass with the commonest isotope of each element, less `charge` electrons, in unified atomic mass units."""
        table = isotope_table()
        return sum(table[name].most_abundant * n for name, n in self._counts.items()) - charge * ELECTRON_MASS


def is_canonical(text: str) -> bool:
    """Tell whether a formula is surely what ``str(parse_formula(text))`` gives; of others nothing is said.

    Most rows of a large database have such a one, and to parse it would take twenty times as long.
    """
    return _CANONICAL.fullmatch(text) is not None and text not in _WORDS


def parse_formula(text: str) -> Composition:
    """Read a sum formula.

    Parameters
    ----------
    text : str
        The formula of a neutral molecule.

    Returns
    -------
    Composition

    Raises
    ------
    FormulaError
        The formula is not understood, has two readings, or is no formula of a neutral molecule with a natural or
        labelled isotopic composition.
    """
    if not isinstance(text, str):
        raise FormulaError(f"a formula is text, not {text!r}")
    if text.strip() in _WORDS:
        raise FormulaError(f"formula {text!r} is a word")
    # Most formulas of a database are this plain, and a million of them should take seconds.
    if _PLAIN.fullmatch(text):
        counts: dict[str, int] = {}
        for name, digits in _PLAIN_PARTS.findall(text):
            _add(counts, name, _count(digits, text), text)
        return Composition(counts)
    plain = _normalised(text)
    if "·" in plain and "." in plain:
        raise FormulaError(f"formula {text!r} has a fraction, or · beside full stops; write whole numbers and · alone")
    parts = plain.split("·") if "·" in plain else _split_at_stops(plain, text)
    total = Composition()
    for number, part in enumerate(parts):
        times, rest = _coefficient(part, text, first=number == 0, alone=len(parts) == 1)
        total = total.plus(_parse_part(rest, text), times)
    _check_size(total, text)
    return total


def _normalised(text: str) -> str:
    if not text.strip():
        raise FormulaError("a formula is missing: the text is empty")
    if _SPLIT_TOKEN.search(text):
        raise FormulaError(f"formula {text!r} has a space within a count or a symbol; write it without")
    plain = "".join(text.split()).replace("​", "").replace("﻿", "")
    plain = _SUPERSCRIPT_LABEL.sub(lambda match: f"[{match[1].translate(_SUPERSCRIPTS)}{match[2]}]", plain)
    if _CHARGE.search(plain):
        raise FormulaError(f"formula {text!r} carries a charge or a bond; give the neutral molecule's sum formula")
    return plain.translate(_SUBSCRIPTS).translate(_DOTS)


def _split_at_stops(plain: str, text: str) -> list[str]:
    """Split ``C8H10N4O2.HCl`` at its full stops, where none can be a decimal point.

    ``C6H12.5O6`` reads as a fraction as well; in ``CuSO4.5H2O`` oxygen would stand twice if it were one.
    """
    parts = plain.split(".")
    for left, right in itertools.pairwise(parts):
        if right[:1].isdigit() and (left[-1:].isdigit() or not left):
            before = set(re.findall("[A-Z][a-z]?", left))
            after = set(re.findall("[A-Z][a-z]?", right))
            if not (before & after and _COMPANION.fullmatch(right)):
                raise FormulaError(
                    f"formula {text!r} has a full stop that may be a decimal point; write · between the parts of a "
                    f"hydrate or salt, and no fractions"
                )
    return parts


def _coefficient(part: str, text: str, *, first: bool, alone: bool) -> tuple[int, str]:
    match = re.match("([0-9]+)([A-Z][a-z]?)?", part)
    if match is None:
        return 1, part
    # 13C6 may be meant for six labels; two waters or HCl behind a dot are never taken for deuterium.
    label = f"[{match[1]}{match[2]}]" in isotope_table() and (first or match[2] != "H")
    if alone or label:
        raise FormulaError(
            f"formula {text!r} begins with a number; write isotope labels as [13C]6 and one molecule, not several"
        )
    return _count(match[1], text), part[match.end(1) :]


def _parse_part(part: str, text: str) -> Composition:
    """Read elements, labels and nested groups; `text` is the whole formula, for messages."""
    stack: list[tuple[str, dict[str, int]]] = [("", {})]
    position = 0
    while position < len(part):
        match = _TOKEN.match(part, position)
        if match is None:
            raise FormulaError(_what_is_wrong(part[position:], text))
        position = match.end()
        if match["atom"]:
            _add(stack[-1][1], match["atom"], _count(match["atoms"], text), text)
        elif match["label"]:
            if match["inner"] and match["labels"]:
                raise FormulaError(f"formula {text!r} counts a label twice, inside its brackets and behind them")
            name = f"[{int(match['mass'])}{match['label']}]"
            _add(stack[-1][1], name, _count(match["inner"] or match["labels"], text), text)
        elif match["open"]:
            stack.append((_PAIRS[match["open"]], {}))
        else:
            closing, group = stack.pop()
            if closing != match["close"]:
                raise FormulaError(f"formula {text!r} has a {match['close']!r} where none was opened")
            if not group:
                raise FormulaError(f"formula {text!r} has an empty group")
            repeat = _count(match["repeat"], text)
            for name, count in group.items():
                stack[-1][1][name] = stack[-1][1].get(name, 0) + count * repeat
    if len(stack) > 1:
        raise FormulaError(f"formula {text!r} lacks a closing {stack[-1][0]!r}")
    if not stack[0][1]:
        raise FormulaError(f"formula {text!r} has an empty part")
    return Composition(stack[0][1])


def _add(counts: dict[str, int], name: str, count: int, text: str) -> None:
    name = _HYDROGEN.get(name, name)
    if name not in isotope_table():
        raise FormulaError(_unknown(name, text))
    total = counts[name] = counts.get(name, 0) + count
    if total > MAX_COUNT:
        raise FormulaError(f"formula {text!r} has more than {MAX_COUNT} atoms of {name}")


def _check_size(composition: Composition, text: str) -> None:
    for name, count in composition.items():
        if count > MAX_COUNT:
            raise FormulaError(f"formula {text!r} has more than {MAX_COUNT} atoms of {name}")


def _count(digits: str, text: str) -> int:
    if not digits:
        return 1
    if digits.startswith("0"):
        what = "a count of zero" if not digits.strip("0") else "a count that begins with zero"
        raise FormulaError(f"formula {text!r} has {what}")
    if len(digits) > len(str(MAX_COUNT)):
        raise FormulaError(f"formula {text!r} has more than {MAX_COUNT} atoms of one element")
    return int(digits)


def _unknown(name: str, text: str) -> str:
    if name in ("R", "X", "A", "M", "Z", "Q"):
        return f"formula {text!r} has the placeholder {name}, which stands for no one composition"
    if name.startswith("["):
        return f"formula {text!r} has {name}, which is no isotope that can be a label"
    return f"formula {text!r} has {name}, which is no element with a natural isotopic composition"


def _what_is_wrong(rest: str, text: str) -> str:
    if rest[0] in "nmxyz":
        return f"formula {text!r} repeats a group {rest[0]} times, which is no one composition"
    if rest[0] == "*":
        return f"formula {text!r} has a *, which may be a placeholder; write · between the parts of a hydrate or salt"
    return f"formula {text!r} is not understood from {rest[:12]!r} on"


def _symbol(name: str) -> str:
    return name.strip("[]0123456789") if name.startswith("[") else name


@cache
def _hill_ranks(carbon: bool) -> dict[str, int]:
    def key(name: str) -> tuple[int, str, str]:
        symbol = _symbol(name)
        first = ("C", "H").index(symbol) if carbon and symbol in ("C", "H") else 2
        return first, symbol, name if name.startswith("[") else ""

    return {name: rank for rank, name in enumerate(sorted(isotope_table(), key=key))}
