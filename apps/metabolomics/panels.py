"""All there is to say of one annotation, beside the table that leads there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from apps._frame.report import Cell, Facts, Figures, Link, Panel, Picture, Plain, Table
from apps.metabolomics.annotated import Annotated
from apps.metabolomics.annotations import Annotation
from apps.metabolomics.drawing import Drawn
from apps.metabolomics.figures import spectrum_svg
from apps.metabolomics.pictures import significant
from apps.metabolomics.science.colocalisation import colocalisation

ALIKE, LEAST_ALIKE, ALIKE_SIDE = 6, 0.5, 128
"""Colocalised ions that a panel names at most, their least cosine, and pixels a side of the images compared."""
NAMES = 3
"""Molecules that a row names; its panel names more."""
LISTED_NAMES = 50

Alike = Sequence[tuple[Annotation, float]]
"""Annotations whose images are like one's, with their cosine."""


def panels_of(
    run: Annotated, shown: Sequence[Annotation], alike: Sequence[Alike], drawn: Callable[[str], Drawn]
) -> list[Panel]:
    """Return a panel for each of some annotations, with those that are like it, and what is drawn of it."""
    return [_panel(run, each, like, drawn(each.ion)) for each, like in zip(shown, alike, strict=True)]


def three_digits(value: float | None) -> str:
    """Write a score; a dash for one that was not needed."""
    return "–" if value is None else f"{value:.3f}"


def rate(fdr: float) -> str:
    """Write a false discovery rate, which is never 0."""
    return f"{100 * fdr:.2g}%" if fdr < 0.1 else f"{fdr:.0%}"


def key_of(number: int) -> str:
    """Return the key of an annotation's panel, by its rank from 0."""
    return f"ion-{number + 1}"


def name_of(each: Annotation) -> str:
    """Name the first few molecules of an annotation, its formula where none is known."""
    names = each.names
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more if names else each.formula


def colocalized(run: Annotated, shown: Sequence[Annotation]) -> list[Alike]:
    """Return, for each of some annotations, those whose images are most alike, with their cosine."""
    if not shown:
        return []
    found = colocalisation(run.image_set([each.ion for each in shown], ALIKE_SIDE))
    np.fill_diagonal(found, 0.0)
    nearest = np.argsort(-found, axis=1, kind="stable")[:, :ALIKE]
    return [
        [(shown[other], float(found[at, other])) for other in row if found[at, other] >= LEAST_ALIKE]
        for at, row in enumerate(nearest)
    ]


def _panel(run: Annotated, each: Annotation, alike: Alike, drawn: Drawn) -> Panel:
    mz, theory, total, pixels = (run.matrix(name)[each.number] for name in ("mz", "theory", "total", "n_pixels"))
    held = np.flatnonzero(~np.isnan(mz))
    spectrum = spectrum_svg(mz, theory, total)
    relative = total / (np.nanmax(total) or 1.0) * 100.0
    peaks = [
        [f"{mz[peak]:.5f}", f"{theory[peak]:.2f}", f"{relative[peak]:.2f}", f"{int(pixels[peak]):,}", significant(top)]
        for peak, top in zip(held, drawn.tops, strict=True)
    ]
    isotopes = Picture(drawn.row, f"Isotope images of {each.ion}", "Isotope images in the order of their m/z, "
                       "each in its own scale; the brightest 1% of the pixels alike.")  # fmt: skip
    brightest = "max. share of the total ion current" if run.figures.get("norm") == "tic" else "max. intensity"
    blocks: list[Plain] = [
        Figures([isotopes, Picture(spectrum, f"Spectrum of {each.ion}", "Measured (up) against theory (down).")]),
        Table("", ["m/z", "theory", "measured", "pixels", brightest], peaks),
        Facts("", _facts_of(each)),
    ]
    if alike:
        rows: list[list[Cell]] = [
            [Link(other.ion, f"#{key_of(other.number)}"), name_of(other), f"{cosine:.2f}"] for other, cosine in alike
        ]
        note = "Cosine of the first isotope images without their weaker halves, of the ions that have images here."
        blocks.append(Table("Colocalised", ["ion", "molecules", "cosine"], rows, note))
    return Panel(key_of(each.number), each.ion, blocks)


def _facts_of(each: Annotation) -> list[tuple[str, str]]:
    names = [f"{molecule.name} ({molecule.id}, {database})" for database, molecule in each.molecules[:LISTED_NAMES]]
    if len(each.molecules) > LISTED_NAMES:
        names.append(f"and {len(each.molecules) - LISTED_NAMES:,} more")
    product = f"{three_digits(each.chaos)} chaos x {each.spatial:.3f} spatial x {each.spectral:.3f} spectral"
    error = "" if each.mass_error is None else f"{each.mass_error:+z.2f} ppm"
    rows = [
        ("MSM", f"{each.msm:.4f} = {product}"),
        ("False discovery rate", rate(each.fdr)),
        ("Formula, adduct", ", ".join(filter(None, [each.formula, each.chem_mod, each.neutral_loss, each.adduct]))),
        ("Mass error", error),
        ("Molecules", "; ".join(names)),
        ("Isomers", ", ".join(each.isomers)),
        ("Isobars", ", ".join(each.isobars)),
    ]
    return [row for row in rows if row[1]]
