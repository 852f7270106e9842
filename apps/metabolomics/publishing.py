"""The files that an annotation leaves behind, made from what its stages have written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from apps._frame.params import as_flags, build, parse_settings
from apps._frame.publishing import Content
from apps._frame.report import FOLDER, report_files
from apps._frame.tables import json_text
from apps.metabolomics.annotated import Annotated
from apps.metabolomics.annotations import Annotations, intensities
from apps.metabolomics.drawing import Draw, Drawn, here
from apps.metabolomics.figures import SCORE_EDGES, read_scores
from apps.metabolomics.params import Params
from apps.metabolomics.pictures import grey_png
from apps.metabolomics.report import MOST_IMAGES, SHOWN, fdr_counts, overview, report_of, rgb_of
from apps.metabolomics.result import FIGURES, IonImage

IMAGES = "images/"
RESULTS = (
    "annotations.csv", "annotations.parquet", "intensities.parquet", "tic.png", "rgb.png", IMAGES, "report.html",
    FOLDER, "diagnostics.json",
)  # fmt: skip
"""What `files` gives, beside what the stages write themselves; those with a ``/`` are folders."""
EMBEDDED = 13 << 20
"""Bytes of pictures that the page holds at most, so that it stays below 20 MB: 500 annotations of 100 x 100 pixels."""


def files(run: Annotated, draw: Draw = here) -> dict[str, Content]:
    """Return the results of an annotation by name; large ones are made as they are written."""
    annotations = Annotations(run)
    rgb, as_files = rgb_of(run), run.figures.get("images") != "none"
    seen = lru_cache(maxsize=1)(lambda: overview(run, annotations))
    ions = run.ions.column("ion").to_pylist()[: max(SHOWN, MOST_IMAGES)]
    drawn = draw(run, ions, as_files, seen)
    written: dict[str, Content] = {
        "annotations.csv": annotations.csv(),
        "annotations.parquet": annotations.parquet(),
        "intensities.parquet": intensities(run),
        "tic.png": grey_png(IonImage(run.field.pixels, run.tic), run.field),
        **({"rgb.png": rgb[0]} if rgb else {}),
        **(dict(image_files(run, drawn)) if as_files else {}),
        "diagnostics.json": (json_text(diagnostics(run), indent=2) + "\n").encode(),
    }
    return written | report_files(report_of(run, annotations, seen(), drawn, command_of(run)), embedded=EMBEDDED)


def command_of(run: Annotated) -> str:
    """Return the command that makes a run, by the parameters in its figures."""
    settings = parse_settings(Params, run.figures["parameters"], FIGURES)
    flags = as_flags(build(Params, {}, None, settings))
    return shlex.join(["python", "-m", "apps.metabolomics", "annotate", *flags])


def image_files(run: Annotated, drawn: Callable[[str], Drawn]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield name and content of the isotope images of the best annotations, by their rank, ion and isotope peak."""
    held = ~np.isnan(run.matrix("mz"))
    for number, ion in enumerate(run.ions.column("ion").to_pylist()[:MOST_IMAGES]):
        for peak in np.flatnonzero(held[number]):
            yield f"{IMAGES}{number + 1:04d}_{ion}_{peak}.png", _file(drawn, ion, int(peak))


def _file(drawn: Callable[[str], Drawn], ion: str, peak: int) -> Iterator[bytes]:
    yield drawn(ion).files[peak]


def diagnostics(run: Annotated) -> dict[str, Any]:
    """Return figures by which a run is judged, for programs."""
    scores = read_scores(run.storage)
    error, adducts = run.column("massError"), np.asarray(run.ions.column("adduct").to_pylist(), object)
    by_adduct = {adduct: error[(adducts == adduct) & np.isfinite(error)] for adduct in sorted(set(adducts))}
    return {
        "annotations": fdr_counts(run),
        "ions_with_images": {"targets": scores.ions[0], "decoys": scores.ions[1], "not_scored": scores.unscored},
        "msm": {"edges": SCORE_EDGES.tolist(), "targets": scores.targets.tolist(), "decoys": scores.decoys.tolist()},
        "mass_error_ppm": {
            adduct: {
                "ions": int(found.size),
                "median": float(np.median(found)),
                "median_deviation": float(np.median(np.abs(found - np.median(found)))),
            }
            for adduct, found in by_adduct.items()
            if found.size
        },
        "tic": {
            "pixels": int(run.tic.size),
            "empty": int((run.tic == 0.0).sum()),
            "median": float(np.median(run.tic)) if run.tic.size else None,
        },
        "databases": run.figures.get("databases", []),
        "quirks": run.figures.get("quirks", []),
    }
