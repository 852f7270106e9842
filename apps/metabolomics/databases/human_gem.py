"""Metabolites of Human-GEM, from its SBML, as neutral formulas; and the tool that writes the shipped database.

::

    python -m apps.metabolomics.databases.human_gem Human-GEM.xml

Human-GEM is the work of its contributors (https://github.com/SysBioChalmers/Human-GEM), licensed under CC BY 4.0;
J. L. Robinson et al., "An atlas of human metabolism", Sci. Signal. 13, eaaz1482 (2020). Changed here, as that licence
wants said: charges are taken off, and what has no definite formula is left out.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from apps.metabolomics.databases.lipids import lipids
from apps.metabolomics.databases.tables import SHIPPED

_SBML = "{http://www.sbml.org/sbml/level3/version1/core}"
_FBC = "{http://www.sbml.org/sbml/level3/version1/fbc/version2}"

ELEMENTS = frozenset({"C", "H", "N", "O", "P", "S", "F", "Cl", "Br", "I", "Se", "As", "Fe"})
"""What metabolites are made of; anything else stands for a salt, a metal ion or a residue."""
ODD = frozenset({"H", "N", "P", "F", "Cl", "Br", "I", "As"})
"""Elements of odd valence: a neutral molecule that is no radical has an even number of their atoms together."""
LARGEST = 150
"""Carbon atoms; what has more is a protein or polysaccharide that no instrument images as one ion."""
_STANDS_FOR_MORE = re.compile(
    r"protein|globin|cytochrome|glycogen|dextrin|chitin|starch|amylo|free chain|\(n(?:[-+]\d)?\)|pool|complex|gums?\b",
    re.IGNORECASE,
)
"""Names of chains and proteins, which the model gives the formula of a piece."""

HEAD = """\
# Molecules for imaging mass spectrometry: metabolites of Human-GEM, and lipids by rule.
# Metabolites (MAM...): Human-GEM 1.18.0 of 2023-12-08, https://github.com/SysBioChalmers/Human-GEM, CC BY 4.0
# (https://creativecommons.org/licenses/by/4.0/); J. L. Robinson et al., Sci. Signal. 13, eaaz1482 (2020),
# doi:10.1126/scisignal.aaz1482. Changed: charges were taken off, one H a charge (choline is C5H13NO, and its +H the
# cation), and what has no definite formula was left out: residues (R, X), proteins, polymers, salts, metal ions,
# molecules without carbon, radicals, and formulas that no neutral molecule can have.
# Lipids (class, carbons, double bonds): made by a rule, apps/metabolomics/databases/lipids.py; no rights are claimed.
"""


@dataclass(frozen=True, slots=True)
class Metabolite:
    """A metabolite of the model, neutral."""

    id: str
    name: str
    formula: str


def metabolites(sbml: BinaryIO, left_out: Counter[str] | None = None) -> Iterator[Metabolite]:
    """Yield each metabolite once, whatever compartments it is in, with the first of its formulas that can be.

    Parameters
    ----------
    sbml : binary stream
        The model, SBML level 3 with flux balance constraints (``fbc``) version 2.
    left_out : Counter, optional
        Gets how many were left out, by why.
    """
    waiting: dict[str, str] = {}
    yielded: set[str] = set()
    for _, element in ElementTree.iterparse(sbml):
        if element.tag != f"{_SBML}species":
            continue
        identity = element.attrib["id"].removesuffix(element.attrib["compartment"])
        name = element.attrib.get("name", identity)
        formula = element.attrib.get(f"{_FBC}chemicalFormula", "")
        charge = int(element.attrib.get(f"{_FBC}charge", "0"))
        element.clear()
        if identity in yielded:
            continue
        found = neutral(formula, charge)
        if isinstance(found, str) or _STANDS_FOR_MORE.search(name):
            waiting.setdefault(identity, found if isinstance(found, str) else "a chain or protein")
            continue
        yielded.add(identity)
        waiting.pop(identity, None)
        yield Metabolite(identity, name, "".join(f"{atom}{n if n > 1 else ''}" for atom, n in found.items()))
    if left_out is not None:
        left_out.update(waiting.values())


def neutral(formula: str, charge: int) -> dict[str, int] | str:
    """Return the atoms of a neutral molecule in Hill order, or why it has none: one H is added a negative charge."""
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    if not formula or "".join(map("".join, parts)) != formula or {"R", "X"} & {atom for atom, _ in parts}:
        return "no definite formula"
    atoms: Counter[str] = Counter()
    for atom, count in parts:
        atoms[atom] += int(count or 1)
    atoms["H"] -= charge
    if not set(atoms) <= ELEMENTS:
        return "a salt, a metal ion or a residue"
    if not atoms["C"]:
        return "no carbon"
    if atoms["C"] > LARGEST:
        return "a protein or polymer"
    if atoms["H"] < 0 or sum(atoms[atom] for atom in ODD) % 2:
        return "a radical, or a formula that no neutral molecule can have"
    return {atom: atoms[atom] for atom in sorted(atoms, key=lambda atom: (atom not in "CH", atom)) if atoms[atom]}


def write_database(sbml: BinaryIO, target: Path) -> Counter[str]:
    """Write the database that comes with the application; returns how many metabolites were left out, by why."""
    left_out: Counter[str] = Counter()
    rows = [(each.id, each.name, each.formula) for each in metabolites(sbml, left_out)]
    rows.sort()
    rows += [(name, name, formula) for name, formula in lipids()]
    lines = "".join("\t".join(row) + "\n" for row in [("id", "name", "formula"), *rows])
    target.write_bytes(gzip.compress(f"{HEAD}{lines}".encode(), 9, mtime=0))
    return left_out


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as model:
        print(dict(write_database(model, SHIPPED)))
