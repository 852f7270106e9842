"""``python -m apps.metabolomics``: its commands."""

from __future__ import annotations

import sys

from apps._frame import App, Command
from apps.metabolomics.cache import CACHE
from apps.metabolomics.export_params import (
    ABOUT_COMPARE,
    ABOUT_EXPORT,
    ABOUT_REPORT,
    ABOUT_TABLE,
    CompareParams,
    ExportParams,
    ReportParams,
    TableParams,
)
from apps.metabolomics.packages import check_installed
from apps.metabolomics.params import MoleculeParams, Params, ReadingParams
from apps.metabolomics.synth_params import ABOUT as ABOUT_SYNTH
from apps.metabolomics.synth_params import EXAMPLES as EXAMPLES_SYNTH
from apps.metabolomics.synth_params import SynthParams
from apps.metabolomics.validate_params import ABOUT as ABOUT_VALIDATE
from apps.metabolomics.validate_params import EXAMPLES as EXAMPLES_VALIDATE
from apps.metabolomics.validate_params import ValidateParams

WHERE = "apps.metabolomics"
RUNS = "metabolomics-runs"

ABOUT = """\
Annotate an imaging mass spectrometry dataset: which molecules of a database it shows, with ion images,
scores as METASPACE's engine gives them, and a false discovery rate. Without flags it makes a small
dataset of known truth, annotates that, and says how many of its molecules were found.
"""
EXAMPLES = """\
examples:
  python -m apps.metabolomics annotate brain.imzML --db molecules.tsv --polarity + --output brain
  python -m apps.metabolomics annotate s3://bucket/brain.imzML --output s3://bucket/brain --compute lambda://fn
  python -m apps.metabolomics annotate brain.imzML --db lipids.csv --output brain-lipids
  python -m apps.metabolomics annotate brain.imzML --dry-run
  python -m apps.metabolomics annotate --dry-run --plan-size 50GB --plan-rows 1e8 --compute lambda://fn

A run that was stopped goes on when the same command is given again; another database on the same
dataset begins where the dataset is indexed already.
"""


ABOUT_INDEX = """\
Index a dataset, so that annotations of it begin with their scores.

Its peaks are sorted by m/z into segments, in the cache where annotate looks for them.
"""
ABOUT_IONS = """\
Compute the isotope patterns of databases, so that annotations with them need not.

They are kept in the cache where annotate looks for them, for any dataset.
"""


APP = App(
    WHERE,
    [
        Command(
            "annotate", Params, f"{WHERE}.stages:run", f"{WHERE}.planning:plan", ABOUT, EXAMPLES, RUNS,
            needs=check_installed,
        ),
        Command(
            "index", ReadingParams, f"{WHERE}.indexing:index", about=ABOUT_INDEX, output=CACHE, needs=check_installed
        ),
        Command("ions", MoleculeParams, f"{WHERE}.library:ions", about=ABOUT_IONS, output=CACHE, needs=check_installed),
        Command(
            "validate", ValidateParams, f"{WHERE}.validate:validate", about=ABOUT_VALIDATE,
            examples=EXAMPLES_VALIDATE,
        ),
        Command(
            "synth", SynthParams, f"{WHERE}.synth:synth", about=ABOUT_SYNTH, examples=EXAMPLES_SYNTH,
            needs=check_installed,
        ),
        Command("report", ReportParams, f"{WHERE}.republish:report", about=ABOUT_REPORT, needs=check_installed),
        Command("export", ExportParams, f"{WHERE}.exports:export", about=ABOUT_EXPORT, needs=check_installed),
        Command("table", TableParams, f"{WHERE}.datasets:table", about=ABOUT_TABLE, needs=check_installed),
        Command("compare", CompareParams, f"{WHERE}.compare:compare", about=ABOUT_COMPARE, needs=check_installed),
    ],
)  # fmt: skip
main = APP.main

if __name__ == "__main__":
    sys.exit(main())
