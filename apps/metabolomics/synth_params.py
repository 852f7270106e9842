"""The parameters of ``synth``: what is in a synthetic specimen, and how it is measured."""

from __future__ import annotations

from dataclasses import dataclass

from apps._frame.params import MISSING, check_fields, number, setting, switch, whole
from apps.metabolomics.params import instrument_setting, place, polarity, resolving_power_setting
from core import ConfigError

ABOUT = """\
Make a dataset of known truth, with the database to annotate it with: OUT.imzML, OUT.ibd,
OUT-molecules.tsv and OUT-truth.csv.

Some molecules of the database are in the specimen, most of them near the limit of detection; compounds
that are not in it, and noise, give the others their chance. Two runs with the same flags write the same
bytes. With --pixels and --peaks the dataset has any size, and is written as it is made.
"""
EXAMPLES = """\
examples:
  python -m apps.metabolomics synth demo.imzML
  python -m apps.metabolomics synth s3://bucket/large.imzML --pixels 1e6 --peaks 1000
"""


def count(value: object) -> int:
    """Parse a whole number, also such as ``1e6``."""
    found = float(value) if isinstance(value, str) else value
    return whole(1, 10**9)(int(found) if isinstance(found, float) and found.is_integer() else found)


def imzml(value: object) -> str:
    """Parse an address; what does not end with ``.imzML`` gets that ending."""
    name, question, options = place(value).partition("?")
    if not name or name.endswith("/"):
        raise ValueError
    ending = "" if name.lower().endswith(".imzml") else ".imzML"
    return f"{name}{ending}{question}{options}"


@dataclass(frozen=True, kw_only=True)
class Specification:
    """Everything that determines a synthetic dataset."""

    pixels: int = setting(1200, count, "a whole number from 1 to 1e9", "pixels of the picture", "N")
    peaks: float = setting(
        100.0, number(0, 1e6), "a number from 0 to 1e6", "mean number of noise peaks of a pixel", "N"
    )
    molecules: int = setting(600, whole(1, 5000), "a whole number from 1 to 5000", "formulas of the database", "N")
    planted: int = setting(
        150, whole(0, 5000), "a whole number up to that", "of which so many are in the specimen", "N"
    )
    unknown: int = setting(
        1500, whole(0, 100_000), "a whole number from 0 to 100000", "compounds that are not in the database", "N"
    )
    signal: float = setting(
        16.0, number(1, 1e6), "a number from 1 to 1e6", "abundance of the strongest over the limit of detection", "X"
    )
    error: float = setting(0.6, number(0, 1000), "ppm from 0 to 1000", "standard deviation of the mass error", "PPM")
    polarity: str = setting("+", polarity, "+ or -", "of the ions", "+|-")
    instrument: str = instrument_setting()
    resolving_power: str = resolving_power_setting()
    seed: int = setting(
        1, whole(0, 2**63 - 1), "a whole number from 0 to 2**63 - 1", "seed of all that is random", "SEED"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.planted > self.molecules:
            raise ConfigError(f"--planted {self.planted} are more than --molecules {self.molecules}; plant fewer")


@dataclass(frozen=True, kw_only=True)
class SynthParams(Specification):
    """What is made, and where it is written."""

    to: str = setting(MISSING, imzml, "the address of a file", "where it is written", "OUT", positional=True)
    replace: bool = setting(False, switch, doc="replace what is there")
