"""Lipids by rule: every sum composition of the common classes, as a backbone and its chains less water.

A class is its backbone's formula, how many chains it carries, and by which bond. A fatty acid of c carbons and d double
bonds is C(c)H(2c-2d)O2; bound as an ester or amide it brings that less H2O, bound as an ether (from an alcohol of two
more hydrogens and one oxygen less) C(c)H(2c+2-2d)O less H2O. Names are those of Liebisch et al., "Update on LIPID MAPS
classification, nomenclature, and shorthand notation for MS-derived lipid structures", J. Lipid Res. 61, 1539 (2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class LipidClass:
    """A class of lipids.

    Attributes
    ----------
    name : str
        Abbreviation before the carbons, such as ``PC`` or ``PC O-``.
    backbone : mapping
        Atoms of what the chains are bound to.
    chains : int
        How many; all bring their carbons and double bonds to the sum.
    carbons : range
        Sums of carbons, of the chains and, in sphingolipids, of the base.
    double_bonds : int
        Most in all.
    ethers : int
        How many of the chains are bound as ethers.
    """

    name: str
    backbone: Mapping[str, int]
    chains: int
    carbons: range
    double_bonds: int
    ethers: int = 0


def _atoms(carbon: int, hydrogen: int, nitrogen: int, oxygen: int, phosphorus: int = 0) -> Mapping[str, int]:
    return MappingProxyType({"C": carbon, "H": hydrogen, "N": nitrogen, "O": oxygen, "P": phosphorus})


GLYCEROL = _atoms(3, 8, 0, 3)
_PHOSPHATES = {
    "PC": _atoms(8, 20, 1, 6, 1),
    "PE": _atoms(5, 14, 1, 6, 1),
    "PS": _atoms(6, 14, 1, 8, 1),
    "PI": _atoms(9, 19, 0, 11, 1),
    "PG": _atoms(6, 15, 0, 8, 1),
    "PA": _atoms(3, 9, 0, 6, 1),
}
"""Glycerol with its phosphate and head group, both other hydroxyls free."""
_SPHINGOSINES = {
    "Cer": _atoms(0, 3, 1, 2),
    "HexCer": _atoms(6, 13, 1, 7),
    "Hex2Cer": _atoms(12, 23, 1, 12),
    "GM3": _atoms(23, 40, 2, 20),
    "SHexCer": _atoms(6, 13, 1, 10),
    "CerP": _atoms(0, 4, 1, 5, 1),
    "SM": _atoms(5, 15, 2, 5, 1),
}
"""A sphingoid base C(c)H(2c+3-2d)NO2 less its C(c)H(2c-2d), with its head group."""
_SULPHUR = {"SHexCer": 1}

CLASSES = (
    LipidClass("FA", _atoms(0, 2, 0, 1), 1, range(8, 31), 6),
    LipidClass("CAR", _atoms(7, 15, 1, 3), 1, range(2, 27), 6),
    LipidClass("CE", _atoms(27, 46, 0, 1), 1, range(12, 27), 6),
    LipidClass("MG", GLYCEROL, 1, range(12, 27), 6),
    LipidClass("DG", GLYCEROL, 2, range(24, 49), 12),
    LipidClass("TG", GLYCEROL, 3, range(36, 67), 12),
    *(LipidClass(f"L{name}", backbone, 1, range(12, 27), 6) for name, backbone in _PHOSPHATES.items()),
    *(LipidClass(f"L{name} O-", _PHOSPHATES[name], 1, range(14, 25), 4, 1) for name in ("PC", "PE")),
    *(LipidClass(name, backbone, 2, range(26, 49), 12) for name, backbone in _PHOSPHATES.items()),
    *(LipidClass(f"{name} O-", _PHOSPHATES[name], 2, range(28, 45), 8, 1) for name in ("PC", "PE")),
    LipidClass("CL", _atoms(9, 22, 0, 13, 2), 4, range(60, 85), 16),
    *(LipidClass(name, backbone, 1, range(30, 47), 4) for name, backbone in _SPHINGOSINES.items()),
)
"""Bounds of the sums are those of lipids seen in tissues of animals, with room; no list of lipids was copied."""


def lipid_formula(kind: LipidClass, carbons: int, double_bonds: int) -> str:
    """Return the formula, in Hill order, of a sum composition of a class."""
    atoms = dict(kind.backbone)
    atoms["C"] += carbons
    # A chain less water has two hydrogens less than its carbons ask for, and one oxygen; as an ether neither.
    atoms["H"] += 2 * carbons - 2 * double_bonds - 2 * (kind.chains - kind.ethers)
    atoms["O"] += kind.chains - kind.ethers
    atoms["S"] = _SULPHUR.get(kind.name, 0)
    return "".join(f"{atom}{count if count > 1 else ''}" for atom, count in _hill(atoms) if count)


def _hill(atoms: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(atoms.items(), key=lambda pair: (pair[0] not in "CH", pair[0]))


def lipids() -> Iterator[tuple[str, str]]:
    """Yield name and formula of every lipid, class by class; at most one double bond to three carbons of a chain."""
    for kind in CLASSES:
        for carbons in kind.carbons:
            most = min(kind.double_bonds, max(0, carbons // 3 - kind.chains))
            for double_bonds in range(most + 1):
                yield (
                    f"{kind.name}{'' if kind.name.endswith('-') else ' '}{carbons}:{double_bonds}",
                    lipid_formula(kind, carbons, double_bonds),
                )
