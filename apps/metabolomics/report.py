"""The report of an annotation: a table to explore, each row leading to its ion images, and the figures behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow.compute as pc

from apps._frame.report import (
    Block,
    Card,
    Cards,
    Facts,
    Figures,
    Grid,
    Link,
    Picture,
    Report,
    Table,
    Text,
)  # fmt: skip
from apps._frame.tables import counted
from apps.metabolomics import figures as charts
from apps.metabolomics.annotated import Annotated
from apps.metabolomics.annotations import Annotation, Annotations
from apps.metabolomics.drawing import Drawn
from apps.metabolomics.panels import Alike, colocalized, key_of, name_of, panels_of, rate, three_digits
from apps.metabolomics.pictures import coloured_png, levels, rgb_png, side_by_side, significant
from apps.metabolomics.result import IonImage

LEVELS = (0.05, 0.1, 0.2, 0.5)
"""False discovery rates at which annotations are counted, as METASPACE does."""
SHOWN = 500
"""Annotations whose images are in the report, the best ones."""
MOST_IMAGES = 500
"""Annotations of which images are written as files, the best ones; all are among the run's ion images."""
ROWS = 5000
"""Rows of the table at most; a browser sorts more of them slowly."""
BEST = 24
"""Ions on the contact sheet."""
GRID_SIDE, TIC_SIDE = 120, 480
"""Pixels a side of an image: on the contact sheet, of the whole current."""
MOST_CARDS = 3
"""Levels of the false discovery rate that have a card, the lowest ones."""
CAPTION = 40
"""Letters of a name on the contact sheet at most."""

HEADER = (
    "ion", "molecules", "m/z", "MSM", "FDR", "ρ spatial", "ρ spectral", "ρ chaos", "error, ppm", "max. intensity",
    "isomers", "isobars",
)  # fmt: skip


@dataclass(frozen=True)
class Overview:
    """What the page shows of all annotations together, and of each those that are like it."""

    shown: Sequence[Annotation]
    charts: Figures
    alike: Sequence[Alike]


def overview(run: Annotated, annotations: Annotations) -> Overview:
    """Draw the charts, and compare the images of the annotations that have some in the page."""
    shown = list(islice(annotations, ROWS))
    return Overview(shown, _charts(run), colocalized(run, shown[:SHOWN]))


def report_of(
    run: Annotated, annotations: Annotations, seen: Overview, drawn: Callable[[str], Drawn], again: str = ""
) -> Report:
    """Return what the page says.

    Parameters
    ----------
    seen : Overview
    drawn : callable
        Gives the pictures of an ion that is among the first `SHOWN`.
    again : str, optional
        The command that makes the run.
    """
    figures, count = run.figures, len(annotations)
    lead = (
        f"{counted(count, 'annotation')} at a false discovery rate of {float(figures['fdr']):.0%} in "
        f"{annotations.dataset}: {run.field.width:,} x {run.field.height:,} pixels, "
        f"{run.field.pixels.size:,} with a spectrum."
    )
    shown = seen.shown
    blocks: list[Block] = [_cards(run, shown), *_care(run)]
    if shown:
        blocks += [_best(run, shown), _table(run, shown, count)]
    blocks += [*_truth(figures), seen.charts, *_counts(run), Facts("What it stands on", _facts(figures))]
    if again:
        blocks.append(Text("The same again", [again], code=True))
    blocks += panels_of(run, shown[:SHOWN], seen.alike, drawn)
    versions = ", ".join(f"{name} {release}" for name, release in figures.get("versions", {}).items())
    return Report(f"Annotations: {annotations.dataset}", lead, blocks, versions)


def fdr_counts(run: Annotated) -> dict[str, int]:
    """Return how many annotations there are at each of the usual levels, as far as the run's own reaches."""
    fdr, asked = run.column("fdr"), float(run.figures["fdr"])
    return {f"{level:g}": int((fdr <= level).sum()) for level in sorted({*LEVELS, asked}) if level <= asked}


def _cards(run: Annotated, shown: Sequence[Annotation]) -> Cards:
    figures = run.figures
    counts = list(fdr_counts(run).items())[:MOST_CARDS]
    cards = [Card(f"Annotations at {float(level):.0%} FDR", f"{number:,}") for level, number in counts]
    formulas = len(set(run.ions.column("formula").to_pylist()))
    cards.append(Card("Formulas annotated", f"{formulas:,}", f"of {_number(figures.get('formulas'))} looked for"))
    error = run.column("massError")
    if np.isfinite(error).any():
        middle = float(np.nanmedian(error))
        spread = float(np.nanmedian(np.abs(error - middle)))
        cards.append(Card("Median mass error", f"{middle:+z.2f} ppm", f"half of them within {spread:.2f} of it"))
    if shown:
        cards.append(Card("Best score", f"{shown[0].msm:.3f}", f"{name_of(shown[0])}"))
    return Cards(cards)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number"


def _care(run: Annotated) -> Iterator[Text]:
    notes = [f"{note}"[:1].upper() + f"{note}"[1:] for note in run.figures.get("notes", ())]
    if not len(run.ions):
        notes.insert(
            0,
            "Nothing was annotated at this level. Look at the mass errors that the instrument is known for (--ppm), "
            "the polarity, the adducts, and whether the database has what the sample holds; a higher --fdr shows what "
            "came near.",
        )
    missing = [ion for ion in run.figures.get("rgb") or () if ion not in run.images]
    if missing:
        notes.append(f"Not shown in colours, since not annotated at this level: {', '.join(map(str, missing))}.")
    if notes:
        yield Text("Read with care", notes)


def _caption(each: Annotation) -> str:
    name = name_of(each)
    return name if len(name) <= CAPTION else f"{name[: CAPTION - 1]}…"


def _best(run: Annotated, shown: Sequence[Annotation]) -> Grid:
    pictures = []
    for each in shown[:BEST]:
        small = side_by_side([levels(run.image(each.ion), run.field, GRID_SIDE)], GRID_SIDE)
        pictures.append(
            Picture(coloured_png(small), each.ion, f"{each.ion}: {_caption(each)}", f"#{key_of(each.number)}")
        )
    note = "Best scores first; each leads to its isotope images. Brightest 1% of the pixels shown alike."
    return Grid("Ion images", pictures, note)


def _table(run: Annotated, shown: Sequence[Annotation], count: int) -> Table:
    rows = (
        [
            Link(each.ion, f"#{key_of(each.number)}") if each.number < SHOWN else each.ion, name_of(each),
            f"{each.mz:.4f}", f"{each.msm:.3f}", rate(each.fdr), f"{each.spatial:.3f}", f"{each.spectral:.3f}",
            three_digits(each.chaos), "–" if each.mass_error is None else f"{each.mass_error:+z.2f}",
            significant(each.max_intensity), str(len(each.isomers)), str(len(each.isobars)),
        ]
        for each in shown
    )  # fmt: skip
    note = (
        "Isomers: other accepted ions of the same composition. Isobars: others of which a peak's window overlaps. They "
        "are named beside the images."
    )
    if count > SHOWN:
        note += f" The first {SHOWN:,} lead to their images, and those of the first {MOST_IMAGES:,} are files."
    if count > ROWS:
        note += f" These are the best {ROWS:,} of {count:,}; annotations.csv has them all."
    return Table("Annotations", HEADER, rows, note, browse=True)


def _charts(run: Annotated) -> Figures:
    scores = charts.read_scores(run.storage)
    left = f" {scores.unscored:,} that could not reach the level were not scored to the end." if scores.unscored else ""
    total = IonImage(run.field.pixels, run.tic)
    pictures = [
        Picture(charts.fdr_png(run.column("fdr"), float(run.figures["fdr"])), "Annotations by false discovery rate"),
        Picture(
            charts.scores_png(scores), "Distributions of the scores of targets and decoys",
            f"Of {counted(scores.ions[0], 'target')} and {counted(scores.ions[1], 'decoy')} with images.{left}",
        ),
        Picture(
            charts.mass_error_png(
                run.column("mz_0"), run.column("massError"), run.column("msm"), run.figures.get("recalibration") or ()
            ),
            "Mass error against m/z", "Mean m/z of the peaks of each first isotope image against theory.",
        ),
        Picture(coloured_png(side_by_side([levels(total, run.field, TIC_SIDE)], TIC_SIDE)), "Total ion current",
                "Total ion current; the brightest 1% of the pixels alike."),
    ]  # fmt: skip
    rgb = rgb_of(run)
    if rgb is not None:
        pictures.append(Picture(rgb[0], "Three ions", rgb[1]))
    return Figures(pictures, "How sure, and where")


def rgb_of(run: Annotated) -> tuple[bytes, str] | None:
    """Return the three ions that were asked for in one picture, with its caption; None without, or if one is missing.

    An ion that was not accepted has no images.
    """
    ions = [str(ion) for ion in run.figures.get("rgb") or ()]
    if len(ions) != 3 or any(ion not in run.images for ion in ions):
        return None
    picture = rgb_png([run.image(ion) for ion in ions], run.field, TIC_SIDE)
    return picture, "Red {}, green {}, blue {}, each in its own scale.".format(*ions)


def _truth(figures: Mapping[str, Any]) -> Iterator[Table]:
    """Yield, of a synthetic dataset, what is right of its annotations."""
    found: Sequence[Mapping[str, Any]] = figures.get("truth") or ()
    if found:
        rows = [
            [
                f"{each['level']:.0%}", f"{each['annotated']:,}", f"{each['right']:,}", _share(each["sensitivity"]),
                _share(each["false_discovery_rate"]),
            ]
            for each in found
        ]  # fmt: skip
        header = ["estimated rate, at most", "annotated", "in the specimen", "sensitivity", "actual rate"]
        note = "The dataset is synthetic, so what is in it is known. Sensitivity is of all ions that are in it."
        yield Table("Against the truth", header, rows, note)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _counts(run: Annotated) -> Iterator[Table]:
    asked = list(fdr_counts(run))
    kinds = pc.binary_join_element_wise(*(run.ions.column(name) for name in ("chemMod", "neutralLoss", "adduct")), "")
    fdr, names = run.column("fdr"), np.asarray(kinds.to_pylist(), object)
    rows = [
        [f"M{kind}", *(f"{int((fdr[names == kind] <= float(level)).sum()):,}" for level in asked)]
        for kind in sorted(set(names))
    ]
    if rows:
        yield Table("Annotations by adduct", ["", *(f"at {float(level):.0%} FDR" for level in asked)], rows)
    databases: Sequence[Mapping[str, Any]] = run.figures.get("databases", ())
    if databases:
        shown = {name: {database for database, _ in each} for name, each in run.molecules.items()}
        formulas = set(run.ions.column("formula").to_pylist())
        lines = [
            [
                str(each["name"]), *(_number(each.get(part)) for part in ("rows", "formulas", "rejected")),
                f"{sum(each['name'] in shown.get(formula, ()) for formula in formulas):,}",
            ]
            for each in databases
        ]  # fmt: skip
        header = ["", "molecules", "unique formulas", "rows left out", "formulas annotated"]
        yield Table("Databases", header, lines)
        left_out = [
            [str(each["name"]), str(row["line"]), str(row["value"]), str(row["reason"])]
            for each in databases
            for row in each.get("examples", ())
        ]
        if left_out:
            note = "The first of them; diagnostics.json counts all by their reason."
            yield Table("Rows left out", ["database", "line", "value", "why"], left_out, note, browse=True)


def _facts(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    parameters: Mapping[str, Any] = figures.get("parameters", {})
    rows = [(name.replace("_", " "), _plain(value)) for name, value in parameters.items()]
    return [row for row in rows if row[1]] + [
        ("Scores", "MSM of METASPACE's engine: spatial, spectral and chaos, each from 0 to 1"),
        ("False discovery rate", "by decoy adducts, for each modifier and adduct apart"),
    ]


def _plain(value: Any) -> str:
    """Write a parameter; empty for one that was not given."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None or value is False else "yes" if value is True else str(value)
