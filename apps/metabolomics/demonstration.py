"""What is annotated where no dataset is given; and how annotations of a synthetic dataset compare with its truth."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from apps._frame.manifest import exists
from apps._frame.tables import TextTable
from apps.metabolomics.params import Params
from apps.metabolomics.result import read_accepted
from apps.metabolomics.synth import addresses, generate
from apps.metabolomics.synth_params import Specification
from apps.metabolomics.truth import LEVELS, assess, read_truth
from core import InputError, open_storage
from core.storage import Storage, split_address

LEVEL = 0.5
"""False discovery rate of a demonstration, unless another one is asked for: all of the usual levels are shown."""


def demonstrated(params: Params, output: str) -> Params:
    """Return the parameters that annotate a synthetic dataset, which is made beside the output unless it is there."""
    place, mark, query = output.partition("?")
    found = addresses(f"{place.rstrip('/')}-demo/demo.imzML{mark}{query}")
    root, key = split_address(found["truth"])
    if not exists(open_storage(root), key):  # it is written last
        generate(found["dataset"], Specification(polarity=params.polarity or "+"))
    given = Params(source=found["dataset"], db=params.db or (found["database"],))
    level = LEVEL if params.fdr == Params.__dataclass_fields__["fdr"].default else params.fdr
    return replace(params, source=given.source, db=given.db, fdr=level)


def compared(storage: Storage, params: Params) -> list[dict[str, Any]]:
    """Return how many of the ions in a synthetic dataset were found, and how many others, at each level.

    Empty for any other dataset, which has no truth beside it.
    """
    try:
        address = addresses(params.source)["truth"]
        root, key = split_address(address)
        truth = open_storage(root)
        if not exists(truth, key):
            return []
        planted = {(each.formula, each.adduct) for each in read_truth(truth.get(key), address) if each.formula}
    except InputError:
        return []
    ions = read_accepted(storage, params.fdr)
    columns = (ions.column(name).to_pylist() for name in ("formula", "adduct", "fdr", "chemMod", "neutralLoss"))
    rows = [(formula, adduct, fdr) for formula, adduct, fdr, *other in zip(*columns, strict=True) if not any(other)]
    return [asdict(each) for each in assess(planted, rows, [level for level in LEVELS if level <= params.fdr])]


def truth_text(found: list[dict[str, Any]]) -> str:
    """Return the comparison as a table for the terminal."""
    rows = [
        [f"{each['level']:.0%}", f"{each['annotated']:,}", f"{each['right']:,}",
         _percent(each["sensitivity"]), _percent(each["false_discovery_rate"])]
        for each in found
    ]  # fmt: skip
    header = ["estimated FDR", "annotated", "in the specimen", "sensitivity", "actual FDR"]
    return TextTable("Against the truth", header, rows).text()


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
