"""The parameters of ``export``, ``report`` and ``compare``."""

from __future__ import annotations

from dataclasses import dataclass

from apps._frame.params import MISSING, check_fields, choice, number, optional, setting, several, switch, text, whole
from apps.metabolomics.params import place

FORMATS = {
    "csv": "-annotations.csv", "parquet": "-annotations.parquet", "anndata": ".h5ad", "ome-tiff": ".ome.tiff",
    "metaboanalyst": "-metaboanalyst.csv", "colocalisation": "-colocalisation.csv", "regions": "-regions.csv",
    "segments": "-segments.png",
}  # fmt: skip
"""What a file is called behind the name of its dataset, by format."""

ABOUT_REPORT = """\
Write the report, tables and images of a finished annotation again, from what its run keeps.
"""
ABOUT_EXPORT = """\
Write the annotations of a finished run in the format of another program.

csv and parquet: the table of annotations. anndata: pixels by ions, with both described (scanpy, squidpy).
ome-tiff: a stack of ion images (napari, QuPath, ImageJ). metaboanalyst: pixels as samples, ions as features.
colocalisation: ions by ions, how much they lie in the same places. regions: each ion in each region.
segments: parts of the sample that hold the same ions, by k-means, as a picture that --regions takes.
"""
ABOUT_COMPARE = """\
Compare the annotations of a run with those of another, or with a table such as METASPACE exports.

It says which ions both have, how far their figures differ, and how the two agree at each level of the
false discovery rate.
"""
ABOUT_TABLE = """\
Write the annotations of several datasets side by side, one row an ion.

Of each dataset: false discovery rate, MSM, and mean intensity over its spectra; also where an ion was not
accepted, but has images.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportParams:
    """Of ``report``: which run."""

    run: str = setting(
        MISSING, place, "the folder or prefix of a run", "folder or prefix of a finished run", "RUN", positional=True
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportParams(ReportParams):
    """Of ``export``: which run, in which format, how sure, and where to."""

    format: str = setting("csv", choice(*FORMATS), f"one of {', '.join(FORMATS)}", "format of the file", "NAME")
    fdr: float | None = setting(
        None, optional(number(0, 1)), "a share from 0 to 1",
        "false discovery rate up to which ions are exported; that of the run unless given", "SHARE",
    )  # fmt: skip
    regions: str = setting(
        "", place, "a PNG or .npy image of whole numbers",
        "regions of the sample by number, 0 for none: labels of the samples in metaboanalyst, a column in anndata",
        "FILE",
    )  # fmt: skip
    segments: int = setting(5, whole(2, 255), "a whole number from 2 to 255", "parts of the sample to look for", "N")
    seed: int = setting(0, whole(0, 2**32 - 1), "a whole number of at least 0", "of the search for segments", "N")
    to: str = setting(
        "", place, "an address", "where the file goes; the working folder, under the dataset's name, unless given",
        "FILE",
    )  # fmt: skip
    overwrite: bool = setting(False, switch, doc="replace the file if there is one")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareParams(ReportParams):
    """Of ``compare``: which two."""

    reference: str = setting(
        MISSING, place, "a run, or a CSV file", "another run, or a table such as METASPACE exports", "REFERENCE",
        positional=True,
    )  # fmt: skip
    to: str = setting("", text, "an address", "CSV file of all ions of both, side by side", "FILE")
    overwrite: bool = setting(False, switch, doc="replace the file if there is one")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableParams:
    """Of ``table``: which runs, how sure, and where to."""

    runs: tuple[str, ...] = setting(
        (), several(place, distinct=True), "folders or prefixes of runs, separated by commas",
        "finished runs, one a dataset", "RUN,RUN,...", positional=True,
    )  # fmt: skip
    fdr: float | None = setting(
        None, optional(number(0, 1)), "a share from 0 to 1",
        "false discovery rate up to which an ion counts as annotated; that of each run unless given", "SHARE",
    )  # fmt: skip
    to: str = setting(
        "", place, "an address", "the CSV file; annotations-of-datasets.csv in the working folder unless given", "FILE"
    )
    overwrite: bool = setting(False, switch, doc="replace the file if there is one")

    def __post_init__(self) -> None:
        check_fields(self)
