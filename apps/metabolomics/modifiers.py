"""What makes ions of a formula: modifications, losses and adducts, of targets and of their decoys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar, cast

from apps.metabolomics.params import DEFAULT_ADDUCTS, MoleculeParams
from apps.metabolomics.science.adducts import NOTHING, Adduct, Change, normalised, parse_adduct, parse_modification
from apps.metabolomics.science.decoys import decoy_adduct, decoy_candidates
from apps.metabolomics.science.formulas import FormulaError
from core import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Modifier:
    """One way to make an ion of a formula.

    Attributes
    ----------
    chem_mod, neutral_loss : str
        Empty for none.
    adduct : str
        Canonical.
    charge : int
    decoy : bool
    group : int
        Ions of one group are ranked together: a target modifier is a group of its own; the decoys of all target adducts
        of one modification, loss, charge and number of molecules are one.
    family : int
        Of a target modifier, the group of its decoys; of decoys their own.
    """

    chem_mod: str
    neutral_loss: str
    adduct: str
    charge: int
    decoy: bool
    group: int
    family: int

    @property
    def suffix(self) -> str:
        """What stands behind the formula in the name of an ion."""
        return f"{self.chem_mod}{self.neutral_loss}{self.adduct}"


@dataclass(frozen=True, slots=True)
class Chemistry:
    """All modifiers of a run, and what they change.

    Attributes
    ----------
    modifiers : tuple of Modifier
        Targets first.
    changes : tuple of (modification, loss, Adduct)
        The same in compositions.
    targets : tuple of Adduct
        Target adducts, each once.
    decoy_place : dict
        Place of a family's first decoy among the modifiers; those of the other candidates follow in their order.
    candidates : int
        Decoy elements that there are to choose from.
    """

    modifiers: tuple[Modifier, ...]
    changes: tuple[tuple[Change, Change, Adduct], ...]
    targets: tuple[Adduct, ...]
    decoy_place: dict[int, int]
    candidates: int

    @property
    def n_targets(self) -> int:
        """Target modifiers."""
        return sum(not each.decoy for each in self.modifiers)


def chemistry(params: MoleculeParams) -> Chemistry:
    """Return the modifiers that parameters ask for.

    Raises
    ------
    ConfigError
        An adduct, a loss or a modification is not understood, an adduct is of the other polarity, or two ways lead to
        ions of one name.
    """
    polarity = cast(Literal["+", "-"], params.polarity)
    names = params.adducts or DEFAULT_ADDUCTS[polarity]
    understood = (_understood("--adducts", partial(parse_adduct, name, polarity)) for name in names)
    targets = list(dict.fromkeys(understood))  # two spellings of an adduct are one
    mods = _changes("--chem-mods", params.chem_mods)
    losses = _changes("--neutral-losses", params.neutral_losses)
    bases = [(mod, loss) for mod in mods for loss in losses]
    elements = decoy_candidates(targets)
    kinds = list(dict.fromkeys((adduct.charge, adduct.multiplier) for adduct in targets))
    n_targets = len(bases) * len(targets)
    found: list[Modifier] = []
    changes: list[tuple[Change, Change, Adduct]] = []
    family = {
        (base, kind): n_targets + at
        for at, (base, kind) in enumerate((base, kind) for base in range(len(bases)) for kind in kinds)
    }

    def add(base: int, adduct: Adduct, *, decoy: bool) -> None:
        (mod, mod_change), (loss, loss_change) = bases[base]
        own = family[base, (adduct.charge, adduct.multiplier)]
        group = own if decoy else len(found)
        found.append(Modifier(mod, loss, adduct.name, adduct.charge, decoy, group, own))
        changes.append((mod_change, loss_change, adduct))

    for base in range(len(bases)):
        for adduct in targets:
            add(base, adduct, decoy=False)
    _refuse_two_ways([modifier.suffix for modifier in found])
    places: dict[int, int] = {}
    for base in range(len(bases)):
        for kind in kinds:
            places[family[base, kind]] = len(found)
            like = next(adduct for adduct in targets if (adduct.charge, adduct.multiplier) == kind)
            for element in elements:
                add(base, decoy_adduct(element, like), decoy=True)
    return Chemistry(tuple(found), tuple(changes), tuple(targets), places, len(elements))


def _refuse_two_ways(suffixes: Sequence[str]) -> None:
    """Refuse modifiers whose ions have one name: what is told by ion would be of both."""
    twice = next((suffix for suffix, count in Counter(suffixes).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(
            f"--adducts, --neutral-losses and --chem-mods make {twice} in two ways; leave one of them out, so that "
            "each ion is looked for once"
        )


def _changes(flag: str, texts: Sequence[str]) -> list[tuple[str, Change]]:
    found = [("", NOTHING)]
    for text in texts:
        change = _understood(flag, partial(parse_modification, text))
        if all(change != before for _, before in found):
            found.append(("".join(normalised(text).split()), change))
    return found


def _understood(flag: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except FormulaError as error:
        raise ConfigError(f"{flag}: {error}") from None
