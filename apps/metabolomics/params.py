"""The documented parameter set of an annotation: the same for flags, TOML and API."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apps._frame.params import check_fields, choice, number, optional, parse_size, setting, several, switch, text, whole
from core import ConfigError

DEFAULT_ADDUCTS = {"+": ("+H", "+Na", "+K"), "-": ("-H", "+Cl")}
"""Of METASPACE, by polarity."""
POLARITIES = {"+": "+", "positive": "+", "-": "-", "negative": "-"}
INSTRUMENTS = ("orbitrap", "fticr", "tof")
DECOY_SEEDS = ("formula", "metaspace")
MOST_PEAKS = 8
"""Isotope peaks of a pattern at most: later ones are below any detection limit."""


def place(value: Any) -> str:
    """Accept an address; a path is taken from the working folder of now, so that a run can be resumed elsewhere."""
    given = text(value)
    return given if "://" in given or not given else os.path.abspath(os.path.expanduser(given))


def polarity(value: Any) -> str:
    """Parse the sign of the ions, also by its word."""
    try:
        return POLARITIES[text(value).strip().lower()]
    except KeyError:
        raise ValueError from None


def resolving_power(value: Any) -> str:
    """Parse such as ``140000@200``; the m/z is 200 unless given. Returns it in full."""
    found = re.fullmatch(r"([0-9.]+(?:[eE]\+?\d+)?k?)(?:@([0-9.]+))?", str(value).strip())
    if found is None:
        raise ValueError
    power = float(found[1].rstrip("k")) * (1000 if found[1].endswith("k") else 1)
    at_mz = float(found[2] or 200)
    if not (100 <= power <= 1e8 and 10 <= at_mz <= 1e5):
        raise ValueError
    return f"{power:.15g}@{at_mz:.15g}"


def instrument_setting() -> Any:
    """Return the setting of what an annotation takes an instrument for, and a synthetic dataset is made by."""
    about = "how resolving power falls with m/z"
    return setting("orbitrap", choice(*INSTRUMENTS), f"one of {', '.join(INSTRUMENTS)}", about, "NAME")


def resolving_power_setting() -> Any:
    """Return the setting of an instrument's resolving power, likewise."""
    expects = "a resolving power, and the m/z at which it is, such as 140000@200"
    return setting("140000@200", resolving_power, expects, "full width at half maximum, and where", "R@MZ")


def _given(parse: Callable[[Any], Any], empty: Any = "") -> Callable[[Any], Any]:
    return lambda value: value if value == empty else parse(value)


@dataclass(frozen=True, kw_only=True)
class ReadingParams:
    """Which dataset, and how it is read: all that decides what its index holds."""

    source: str = setting(
        "", place, "an imzML file", "the dataset, whose .ibd lies beside it; a synthetic one unless given", "X.imzML",
        positional=True,
    )  # fmt: skip
    z: int | None = setting(
        None, optional(whole(-(10**9), 10**9)), "a whole number", "the slice of a dataset with several z", "Z"
    )
    centroid: bool = setting(False, switch, doc="find the peaks of profile spectra")
    allow_truncated: bool = setting(False, switch, doc="read what a truncated .ibd still has")
    ignore_uuid: bool = setting(False, switch, doc="read an .ibd whose UUID is not the one of the imzML")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class MoleculeParams:
    """Which ions are looked for, and how their isotope patterns look."""

    db: tuple[str, ...] = setting(
        (), several(place), "addresses of TSV or CSV files, separated by commas",
        "databases with a column of formulas; the one that comes with it unless given", "FILE,FILE,...",
    )  # fmt: skip
    polarity: str = setting(
        "", _given(polarity), "+ or -", "of the ions; what the dataset says unless given", "+|-"
    )  # fmt: skip
    adducts: tuple[str, ...] = setting(
        (), several(text, distinct=True), "adducts such as +H, separated by commas",
        "adducts that are looked for; +H,+Na,+K or -H,+Cl by polarity unless given", "ADDUCT,...",
    )  # fmt: skip
    neutral_losses: tuple[str, ...] = setting(
        (), several(text, distinct=True), "losses such as -H2O, separated by commas",
        "neutral losses that are looked for besides none", "LOSS,...",
    )  # fmt: skip
    chem_mods: tuple[str, ...] = setting(
        (), several(text, distinct=True), "modifications such as +CO2-H, separated by commas",
        "chemical modifications that are looked for besides none", "MOD,...",
    )  # fmt: skip
    instrument: str = instrument_setting()
    resolving_power: str = resolving_power_setting()
    n_peaks: int = setting(
        4, whole(2, MOST_PEAKS), f"a whole number from 2 to {MOST_PEAKS}", "isotope peaks of a pattern", "N"
    )
    decoys: int = setting(
        20, whole(1, 60), "a whole number from 1 to 60", "decoy adducts of each formula", "N"
    )  # fmt: skip
    decoy_seed: str = setting(
        "formula", choice(*DECOY_SEEDS), f"one of {', '.join(DECOY_SEEDS)}",
        "how decoys are drawn: by each formula's own hash, or as METASPACE does, which depends on the database's order",
        "NAME",
    )  # fmt: skip
    engine_compat: bool = setting(
        False, switch,
        doc="copy METASPACE's engine where it differs: the nearest of its eight resolving powers, no score for smooth "
        "images of one object, rates above 1",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Params(MoleculeParams, ReadingParams):
    """Which dataset, which molecules, and everything that determines what is found."""

    ppm: float = setting(
        3.0, number(0, 1000, open_ends=True), "parts per million above 0 and below 1000",
        "half width of the window around each m/z", "PPM",
    )  # fmt: skip
    min_px: int = setting(
        1, whole(1, 10**9), "a whole number of at least 1", "pixels that the first image and another must have", "N"
    )
    levels: int = setting(
        30, whole(2, 1000), "a whole number from 2 to 1000", "intensity levels of the measure of chaos", "N"
    )
    fdr: float = setting(
        0.1, number(0, 1), "a share from 0 to 1", "false discovery rate up to which ions are accepted", "SHARE"
    )
    recalibrate: bool = setting(False, switch, doc="correct m/z by the median error of confident ions first")
    mask: str = setting(
        "", place, "a PNG or .npy image", "leave out the pixels where this image, of the dataset's size, is 0", "FILE"
    )
    norm: str = setting(
        "none", choice("none", "tic"), "one of none, tic",
        "what intensities are divided by in images and exports; scores take them as they are", "NAME",
    )  # fmt: skip
    images: str = setting(
        "png", choice("png", "none"), "one of png, none", "whether ion images are written as files too", "NAME"
    )
    rgb: tuple[str, ...] = setting(
        (),
        several(text),
        "three ions, separated by commas",
        "ions shown together in red, green and blue",
        "ION,ION,ION",
    )
    cache: str = setting(
        "", place, "a folder or prefix",
        "where indexed datasets and isotope patterns are kept for other runs; metabolomics-cache beside the output "
        "unless given", "ADDRESS", identity=False,
    )  # fmt: skip
    plan_size: int | None = setting(
        None, optional(parse_size), "a size such as 50GB", "with --dry-run: bytes of a dataset that is not there",
        "SIZE", identity=False,
    )  # fmt: skip
    plan_spectra: int = setting(
        1_000_000,
        whole(1, 10**10),
        "a whole number of at least 1",
        "with --plan-size: its spectra",
        "N",
        identity=False,
    )
    plan_rows: int = setting(
        10_000_000, whole(1, 10**11), "a whole number of at least 1", "with --plan-size: molecules of its database",
        "N", identity=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.rgb) not in (0, 3):
            raise ConfigError(f"--rgb {','.join(self.rgb)}: expected three ions, separated by commas")

    @property
    def reading(self) -> ReadingParams:
        """What decides the index of the dataset."""
        return ReadingParams(**{name: getattr(self, name) for name in ReadingParams.__dataclass_fields__})

    @property
    def molecules(self) -> MoleculeParams:
        """What decides the isotope patterns."""
        return MoleculeParams(**{name: getattr(self, name) for name in MoleculeParams.__dataclass_fields__})
