"""Adducts, chemical modifications and neutral losses: what an ion gains and loses, however it is spelled."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from apps.metabolomics.science.elements import isotope_table
from apps.metabolomics.science.formulas import Composition, FormulaError, parse_formula

MAX_CHARGE = 8
MAX_MULTIPLIER = 4

_USUAL = {"H4N": "NH4", "HO": "OH", "CHO2": "HCOO", "C2H3O2": "CH3COO"}
"""Groups that chemists, and METASPACE's names of adducts, write in another order than Hill's."""
_BRACKETED = re.compile(
    r"\[(?P<multiplier>[0-9]*)M(?P<change>[^\[\]]*(?:\[[0-9]+[A-Z][a-z]?\][^\[\]]*)*)\](?P<charge>[0-9+\-]*)"
)
_TERM = re.compile(r"([+-])((?:[A-Za-z0-9()]|\[[0-9]+[A-Z][a-z]?\])+)")


class Change(Composition):
    """What an ion gains and loses: a composition with signs, and what it loses by itself.

    Parameters
    ----------
    gain, loss : Composition
        With counts above zero. A molecule must have the atoms of `loss` before it gains any.
    """

    __slots__ = ("gain", "loss")

    def __init__(self, gain: Composition, loss: Composition):
        super().__init__(gain.plus(loss, -1))
        self.gain, self.loss = gain, loss

    def __reduce__(self) -> tuple[type[Change], tuple[Any, ...]]:
        return Change, (self.gain, self.loss)

    def applied(self, molecule: Composition) -> Composition | None:
        """Change a molecule; None where it lacks what it would lose, or nothing is left."""
        if any(molecule.get(name, 0) < count for name, count in self.loss.items()):
            return None
        changed = molecule.plus(self)
        return changed if changed else None


NOTHING = Change(Composition(), Composition())


@dataclass(frozen=True, slots=True)
class Adduct:
    """What makes an ion of a molecule; equal when the ions are.

    Attributes
    ----------
    name : str
        ``+H``, ``-H2O+H``, ``[M]+``; in brackets with several molecules or charges: ``[2M+H]+``, ``[M+2H]2+``.
    charge : int
        Elementary charges with their sign.
    multiplier : int
        Molecules in the ion.
    change : Change
    """

    name: str = field(compare=False)
    charge: int
    multiplier: int
    change: Change

    @property
    def loss(self) -> Composition:
        """Atoms that the molecules must have before anything is gained."""
        return self.change.loss


def parse_adduct(text: str, polarity: Literal["+", "-"]) -> Adduct:
    """Read an adduct.

    Parameters
    ----------
    text : str
        METASPACE's spelling (``+H``, ``-H``, ``-H2O+H``, ``[M]+``) or the bracketed one (``[M+NH4]+``, ``[2M+H]+``,
        ``[M+2H]2+``, ``M+H``). The short spelling has one charge, of the sign of the polarity.
    polarity : {"+", "-"}

    Returns
    -------
    Adduct
        Its name is the canonical one: losses first, then gains.

    Raises
    ------
    FormulaError
        The adduct is not understood, its charge is of the other polarity, or it changes nothing.
    """
    sign = 1 if polarity == "+" else -1
    plain = normalised(text)
    multiplier, charge, body = 1, sign, plain
    bracketed = _BRACKETED.fullmatch(plain)
    if bracketed is not None:
        multiplier = int(bracketed["multiplier"] or 1)
        charge = _charge(bracketed["charge"], text, sign)
        body = bracketed["change"]
    elif plain.startswith("M"):
        body = plain[1:]
    if charge * sign < 0:
        raise FormulaError(f"adduct {text!r} has the other polarity; the data's is {polarity}")
    if not 1 <= multiplier <= MAX_MULTIPLIER or abs(charge) > MAX_CHARGE:
        raise FormulaError(
            f"adduct {text!r} has {multiplier} molecules and {abs(charge)} charges; up to {MAX_MULTIPLIER} and "
            f"{MAX_CHARGE} are understood"
        )
    terms = _terms(body)
    if terms is None or (not terms and bracketed is None):
        raise FormulaError(f"adduct {text!r} is not understood; write it as +H, -H2O+H, [M]+, [2M+H]+ or [M+2H]2+")
    losses, gains = [[_term(formula, text) for mark, formula in terms if mark == wanted] for wanted in "-+"]
    change = Change(_sum(gains), _sum(losses))
    if terms and not change:
        raise FormulaError(f"adduct {text!r} changes nothing; write [M]{polarity} for the bare ion")
    return Adduct(adduct_name(losses, gains, multiplier, charge), charge, multiplier, change)


def _terms(text: str) -> list[tuple[str, str]] | None:
    """Split ``-H2O+2Na`` into signs and formulas; None where it is not made of these alone."""
    terms = _TERM.findall(text)
    return terms if "".join(mark + formula for mark, formula in terms) == text else None


def normalised(text: str) -> str:
    """Take spaces away around signs and brackets, and write minus signs as hyphens."""
    return re.sub(r"\s*([+\-\[\]])\s*", r"\1", text.strip().replace("−", "-").replace("–", "-"))


def _charge(text: str, adduct: str, sign: int) -> int:
    match = re.fullmatch(r"([0-9]*)([+-])|([+-])([0-9]+)", text)
    if match is not None:
        digits, mark = match[1] or match[4], match[2] or match[3]
        value = int(digits or 1)
        if value:
            return value if mark == "+" else -value
    if text in ("++", "--", "+++", "---"):
        return len(text) if text[0] == "+" else -len(text)
    raise FormulaError(
        f"adduct {adduct!r} has no charge behind its bracket; write it as [M+H]{'+' if sign > 0 else '-'}"
    )


def _term(formula: str, whole: str) -> tuple[int, Composition]:
    """Read ``2H`` or ``NH4`` as a number of times a formula; `whole` is what it stands in, for messages."""
    match = re.match(r"([0-9]+)([A-Z][a-z]?)?", formula)
    times = int(match[1]) if match else 1
    try:
        if not times:
            raise FormulaError("a count of zero")
        # Nobody means fifteen NH4; 2H and 3H are hydrogens, as in [M+2H]2+.
        if match and match[2] != "H" and (label := f"[{times}{match[2]}]") in isotope_table():
            raise FormulaError(f"{match[0]} may be a label or a count; write isotope labels as {label}")
        return times, parse_formula(formula[match.end(1) :] if match else formula)
    except FormulaError as error:
        raise FormulaError(f"{whole!r} is not understood: {error}") from None


def _sum(terms: list[tuple[int, Composition]]) -> Composition:
    total = Composition()
    for times, composition in terms:
        total = total.plus(composition, times)
    return total


def adduct_name(
    losses: list[tuple[int, Composition]], gains: list[tuple[int, Composition]], multiplier: int, charge: int
) -> str:
    """Spell an adduct, losses first: as METASPACE does where it can, else in brackets."""

    def spelled(mark: str, terms: list[tuple[int, Composition]]) -> str:
        formulas = [(times, _USUAL.get(str(composition), str(composition))) for times, composition in terms]
        return "".join(sorted(f"{mark}{times if times > 1 else ''}{formula}" for times, formula in formulas))

    body = spelled("-", losses) + spelled("+", gains)
    if multiplier == 1 and abs(charge) == 1 and body:
        return body
    sign = "+" if charge > 0 else "-"
    return f"[{multiplier if multiplier > 1 else ''}M{body}]{abs(charge) if abs(charge) > 1 else ''}{sign}"


def parse_modification(text: str) -> Change:
    """Read a chemical modification or neutral loss: ``-H2O``, ``+C2H2O``, ``-H+C3H5O``.

    Raises
    ------
    FormulaError
        It is not understood, or changes nothing.
    """
    terms = _terms(normalised(text))
    if not terms:
        raise FormulaError(f"modification {text!r} is not understood; write it as -H2O or +C2H2O")
    losses, gains = [[_term(formula, text) for mark, formula in terms if mark == wanted] for wanted in "-+"]
    change = Change(_sum(gains), _sum(losses))
    if not change:
        raise FormulaError(f"modification {text!r} changes nothing; leave it out")
    return change
