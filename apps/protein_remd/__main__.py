"""``python -m apps.protein_remd``."""

from __future__ import annotations

import os
import sys

from apps._frame import App, Command
from apps.protein_remd.params import AnalyzeParams, DemuxParams, Params, RunParams, ValidateParams, VerifyParams
from apps.protein_remd.presets import EXAMPLES as NAMED
from apps.protein_remd.presets import PRESETS

ABOUT = """\
Run a campaign of replica-exchange molecular dynamics: every round is one map job, in which each
replica runs a segment at its temperature; then neighbouring temperatures attempt to swap.

Without flags it runs alanine dipeptide in implicit water for a short while.
"""
EXAMPLES = """\
examples:
  python -m apps.protein_remd --sequence GYDPETGTWG --rounds 200 --output runs/chignolin
  python -m apps.protein_remd run --config campaign.toml --output s3://bucket/runs/1 --compute dask://scheduler:8786
  python -m apps.protein_remd run --engine harmonic --dof 30 --temperatures 300,330,365 --rounds 100
  python -m apps.protein_remd resume runs/chignolin --rounds 500
"""
WHERE = "apps.protein_remd"

APP = App(
    WHERE,
    [
        Command(
            "run",
            Params,
            f"{WHERE}.stages:run",
            f"{WHERE}.planning:plan",
            ABOUT,
            EXAMPLES,
            "protein-remd-runs",
            {"preset": PRESETS, "example": NAMED},
        ),  # fmt: skip
        Command("status", RunParams, f"{WHERE}.reading:status", about="Say how far a campaign is, and how it mixes."),
        Command(
            "ladder", Params, f"{WHERE}.stages:pilot", f"{WHERE}.planning:plan", "Run a pilot, and propose a ladder."
        ),
        Command("analyze", AnalyzeParams, f"{WHERE}.analysis:analyze", about="Estimate by MBAR, with a verdict."),
        Command("demux", DemuxParams, f"{WHERE}.trajectories:demux", about="Write continuous trajectories."),
        Command("report", RunParams, f"{WHERE}.reading:report", about="Make tables and report again from the rounds."),
        Command("verify", VerifyParams, f"{WHERE}.checks:verify", about="Check a run, and compute parts of it again."),
        Command("validate", ValidateParams, f"{WHERE}.checks:validate", about="Check the physics on this backend."),
    ],
)

if __name__ == "__main__":
    # MBAR's matrices are small: threads of a BLAS library only wait for each other, on the processors of the workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(APP.main())
