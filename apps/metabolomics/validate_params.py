"""The parameters of ``validate``."""

from __future__ import annotations

from dataclasses import dataclass

from apps._frame.params import setting, switch, whole
from apps.metabolomics.params import ReadingParams, polarity
from core import ConfigError

ABOUT = """\
Check an imzML dataset before it is annotated: what it holds, what is unusual in it, and the remedy.

It says of each thing whether annotating refuses it, and which flag lets it pass; flags that are given
here are taken as given there. The exit status is 1 if annotating would refuse the dataset.
"""
EXAMPLES = """\
examples:
  python -m apps.metabolomics validate brain.imzML
  python -m apps.metabolomics validate s3://bucket/brain.imzML --whole --json
  python -m apps.metabolomics validate cut-off.imzML --allow-truncated
"""


def sign(value: object) -> str:
    """Parse a polarity, or none."""
    return "" if value == "" else polarity(value)


@dataclass(frozen=True, kw_only=True)
class ValidateParams(ReadingParams):
    """Which dataset, how it would be read, and how much of it is looked at."""

    polarity: str = setting("", sign, "+ or -", "of the ions; what the dataset says unless given", "+|-")
    spectra: int = setting(
        200, whole(1, 1_000_000), "a whole number from 1 to 1000000", "spectra looked at, evenly from the dataset", "N"
    )
    whole: bool = setting(False, switch, doc="look at all spectra, and compare the checksum of the .ibd")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.source:
            raise ConfigError("validate needs an imzML file as its first argument: validate X.imzML")
