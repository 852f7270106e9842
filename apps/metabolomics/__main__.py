"""``python -m apps.metabolomics``: its commands."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from apps._frame import App, Command, Session
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


def later(module: str, name: str) -> Any:
    """Return a command that asks for the packages it needs before it imports what needs them."""

    def command(session: Session, params: Any) -> Any:
        check_installed()
        return getattr(import_module(f"apps.metabolomics.{module}"), name)(session, params)

    return command


APP = App(
    "apps.metabolomics",
    [
        Command("annotate", Params, later("stages", "run"), later("planning", "plan"), ABOUT, EXAMPLES, RUNS),
        Command("index", ReadingParams, later("indexing", "index"), about=ABOUT_INDEX, output=CACHE),
        Command("ions", MoleculeParams, later("library", "ions"), about=ABOUT_IONS, output=CACHE),
        Command(
            "validate", ValidateParams, "apps.metabolomics.validate:validate", about=ABOUT_VALIDATE,
            examples=EXAMPLES_VALIDATE,
        ),
        Command("synth", SynthParams, later("synth", "synth"), about=ABOUT_SYNTH, examples=EXAMPLES_SYNTH),
        Command("report", ReportParams, later("republish", "report"), about=ABOUT_REPORT),
        Command("export", ExportParams, later("exports", "export"), about=ABOUT_EXPORT),
        Command("table", TableParams, later("datasets", "table"), about=ABOUT_TABLE),
        Command("compare", CompareParams, later("compare", "compare"), about=ABOUT_COMPARE),
    ],
)  # fmt: skip
main = APP.main

if __name__ == "__main__":
    sys.exit(main())
