"""The validate command: facts of a dataset, and what is unusual in it with the remedy, in two tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from apps._frame.tables import TextTable, counted, facts_text, size_text
from apps.metabolomics.imzml.dataset import Dataset, tasks
from apps.metabolomics.imzml.elements import NAMES
from apps.metabolomics.imzml.opening import Remedies, examine, judge
from apps.metabolomics.imzml.pair import PIECE, find_pair
from apps.metabolomics.imzml.probe import Seen, look, see
from apps.metabolomics.imzml.quirks import Quirk
from apps.metabolomics.imzml.spectra import read_arrays
from apps.metabolomics.validate_params import ValidateParams
from core import InputError

if TYPE_CHECKING:
    from apps._frame import Session

TASK_BYTES = 32 << 20
"""Bytes of the spectra of one task where all are looked at."""
VERDICTS = {
    "fine": "The dataset can be annotated, and nothing is unusual in it.",
    "quirks": "The dataset can be annotated.",
    "refused": "Annotating refuses the dataset as it is.",
}


def validate(session: Session, params: ValidateParams) -> int:
    """Command: check a dataset; returns 1 if annotating would refuse it."""
    figures = check(session, params)
    session.show(figures, as_text)
    return 1 if figures["verdict"] == "refused" else 0


def check(session: Session, params: ValidateParams) -> dict[str, Any]:
    """Return facts and quirks of a dataset, JSON-ready.

    Raises
    ------
    InputError
        One of its two files is not there.
    """
    xml, ibd = find_pair(params.source)
    facts: dict[str, Any] = {"imzml_bytes": xml.size, "ibd_bytes": ibd.size}
    remedies = Remedies(
        polarity=params.polarity,
        z=params.z,
        allow_truncated=params.allow_truncated,
        ignore_uuid=params.ignore_uuid,
        centroid=params.centroid,
    )
    try:
        silent = session.json or session.quiet
        with tqdm(None, "header", xml.size, leave=False, unit="B", unit_scale=True, disable=silent or None) as bar:
            dataset = examine(params.source, remedies, bar.update)
        quirks = list(dataset.quirks)
        seen, hashed = look_at_all(session, dataset) if params.whole else (look(dataset, params.spectra), "")
        quirks = [*judge(dataset, seen, centroid=params.centroid).quirks, *_peak_quirks(seen)]
        facts |= _facts(replace(dataset, mode=judge(dataset, seen, centroid=params.centroid).mode), seen)
        if hashed:
            facts["checksum_of_ibd"] = hashed
            quirks += _checksum_quirks(dataset, hashed)
    except InputError as error:
        sentence, _, remedy = str(error).removeprefix(f"{params.source}: ").rpartition("; ")
        quirks = [Quirk("unreadable", sentence or remedy, remedy if sentence else "export it again", fatal=True)]
    # Annotating asks for a polarity where neither the file nor the user tells it.
    quirks = [replace(each, fatal=True) if each.code == "no-polarity" else each for each in quirks]
    fatal = any(quirk.fatal for quirk in quirks)
    return {
        "command": "validate",
        "dataset": params.source,
        "verdict": "refused" if fatal else "quirks" if quirks else "fine",
        "facts": facts,
        "quirks": [asdict(quirk) for quirk in sorted(quirks, key=lambda each: not each.fatal)],
    }


def look_at_all(session: Session, dataset: Dataset) -> tuple[Seen, str]:
    """Look at every spectrum, and hash the .ibd if the header states a checksum, on the executor."""
    parts: list[tuple[Dataset, str]] = [(dataset.between(*each), "") for each in tasks(dataset, TASK_BYTES)]
    if algorithm := dataset.facts.get("checksum_algorithm"):
        # The longest task begins first.
        parts.insert(0, (dataset.between(dataset.first, dataset.first), str(algorithm)))
    seen, hashed = Seen(), ""
    for each, digits in session.executor.map(look_at_part, parts).results():
        seen += Seen(**each)
        hashed = hashed or digits
    return seen, hashed


def look_at_part(part: tuple[Dataset, str]) -> tuple[dict[str, Any], str]:
    """Map function: look at the spectra of a part, and hash the .ibd if an algorithm is named."""
    dataset, algorithm = part
    seen = Seen()
    for mz, intensity in zip(*read_arrays(dataset, dataset.first, dataset.first + dataset.n_spectra), strict=True):
        if len(mz):
            seen += see(mz, intensity)
    return asdict(seen), checksum(dataset, algorithm) if algorithm else ""


def checksum(dataset: Dataset, algorithm: str) -> str:
    """Return the hexadecimal digits of a checksum of the .ibd, which is read in pieces."""
    found = hashlib.new(algorithm, usedforsecurity=False)
    for start in range(0, dataset.ibd.size, PIECE):
        found.update(dataset.ibd.get(start, min(start + PIECE, dataset.ibd.size)))
    return found.hexdigest()


def _checksum_quirks(dataset: Dataset, hashed: str) -> list[Quirk]:
    if hashed == dataset.facts["checksum"]:
        return []
    sentence = f"the checksum of {dataset.ibd.name} is not the one that the header states"
    return [Quirk("checksum", sentence, "the .ibd is damaged or was changed after the export: copy it again")]


def _peak_quirks(seen: Seen) -> list[Quirk]:
    of = f"of {seen.peaks:,} peaks looked at"
    quirks = []
    for code, count, what in (
        ("not-finite", seen.not_finite, "have an m/z or intensity that is no finite number"),
        ("not-positive", seen.not_positive, "have an m/z of zero or below, or an intensity below zero"),
    ):
        if count:
            quirks.append(Quirk(code, f"{count:,} {of} {what}", "they are dropped", count))
    if seen.unsorted:
        quirks.append(
            Quirk(
                "unsorted",
                f"m/z fall within {seen.unsorted:,} of {seen.spectra:,} spectra looked at",
                "they are sorted",
                seen.unsorted,
            )
        )
    if seen.beyond:
        quirks.append(
            Quirk(
                "intensity",
                f"{seen.beyond:,} {of} have an intensity beyond the range of 32-bit numbers",
                "scale the intensities",
                seen.beyond,
                fatal=True,
            )
        )
    return quirks


def _facts(dataset: Dataset, seen: Seen) -> dict[str, Any]:
    pixels = len(dataset.mask)
    return {
        "spectra_in_file": dataset.facts["spectra"],
        "spectra": dataset.n_spectra,
        "width": dataset.width,
        "height": dataset.height,
        "first_position": [dataset.x, dataset.y],
        "z": dataset.z,
        "pixels_with_a_spectrum": pixels,
        "pixel_size_micrometres": dataset.pixel_size,
        "polarity": dataset.polarity,
        "mode": dataset.mode,
        "storage": "continuous" if dataset.continuous else "processed",
        "elements": [asdict(each) for each in dataset.elements],
        "peaks": dataset.n_peaks,
        "spectra_looked_at": seen.spectra,
        "peaks_looked_at": seen.peaks,
        "zero_intensities": seen.zeros,
        "mz_range": [seen.lowest, seen.highest] if seen.peaks else None,
        **{name: dataset.facts[name] for name in ("uuid", "checksum_algorithm", "checksum") if name in dataset.facts},
    }


def as_text(figures: dict[str, Any]) -> str:
    """Return what is printed: facts, quirks, and the verdict."""
    parts = [facts_text(_fact_rows(figures["dataset"], figures["facts"]))]
    if figures["quirks"]:
        rows = [
            ["refused" if each["fatal"] else "said", each["sentence"], each["remedy"]] for each in figures["quirks"]
        ]
        parts.append(TextTable("What is unusual", ["", "what", "remedy"], rows, left=("what", "remedy")).text())
    return "\n\n".join([*parts, VERDICTS[figures["verdict"]]])


def _fact_rows(address: str, facts: dict[str, Any]) -> Sequence[tuple[str, str]]:
    rows = [
        ("Dataset", address),
        ("Files", f"{size_text(facts['imzml_bytes'])} of XML, {size_text(facts['ibd_bytes'])} of spectra"),
    ]
    if "spectra" not in facts:
        return rows
    area = facts["width"] * facts["height"]
    size, limits = facts["pixel_size_micrometres"], facts["mz_range"]
    scale = f", {size[0]:g} x {size[1]:g} µm each" if size else ""
    slice_ = f", z = {facts['z']}" if facts["z"] is not None else ""
    share = facts["pixels_with_a_spectrum"] / area
    looked = facts["spectra_looked_at"]
    zeros = (
        f", {facts['zero_intensities'] / facts['peaks_looked_at']:.1%} of them zero" if facts["peaks_looked_at"] else ""
    )
    kinds = "; ".join(
        f"m/z {_stored(each['mz'], each['mz_zlib'])}, intensities {_stored(each['intensity'], each['intensity_zlib'])}"
        for each in facts["elements"]
    )
    rows += [
        ("Spectra", f"{facts['spectra']:,} of {facts['spectra_in_file']:,} in the file, {facts['peaks']:,} values"),
        ("Picture", f"{facts['width']:,} x {facts['height']:,} pixels{scale}, {share:.1%} of them measured{slice_}"),
        ("Polarity, mode", f"{facts['polarity'] or 'not told'}, {facts['mode'] or 'not told'}"),
        ("Stored", f"{facts['storage']}: {kinds}"),
        ("Looked at", f"{counted(looked, 'spectrum') if looked == 1 else f'{looked:,} spectra'}, "
                      f"{facts['peaks_looked_at']:,} values{zeros}"),
    ]  # fmt: skip
    if limits is not None:
        rows.append(("m/z", f"{limits[0]:.4f} to {limits[1]:.4f}"))
    if "checksum_of_ibd" in facts:
        agrees = facts["checksum_of_ibd"] == facts["checksum"]
        rows.append(("Checksum", f"{facts['checksum_algorithm']} {'agrees' if agrees else 'differs'}"))
    elif "checksum" in facts:
        rows.append(("Checksum", f"{facts['checksum_algorithm']}, not compared (--whole compares it)"))
    return rows


def _stored(element: str, packed: bool) -> str:
    return NAMES[element] + (", packed" if packed else "")
