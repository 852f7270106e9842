"""``python -m apps.face_align``: its commands."""

from __future__ import annotations

import sys

from apps._frame import App, Command
from apps.face_align.packages import check_installed
from apps.face_align.params import Params, ValidateParams

ABOUT = """\
Find the largest face of each image, bring its landmarks to fixed places, and write the crop under
the image's own name. Crops are pixel for pixel those of openface's AlignDlib. Without SOURCE it runs
on a small demonstration batch made from photographs that scikit-image ships.

SOURCE is a folder or bucket prefix (s3://bucket/prefix), a .zip or .tar, WebDataset shards
(shards-{000..099}.tar, or a folder of them), a text file of keys or addresses, or one image.

The packaged landmark models were trained on the iBUG 300-W faces, whose licence excludes commercial
use; --landmark-model names another.
"""
EXAMPLES = """\
examples:
  python -m apps.face_align photos --output faces
  python -m apps.face_align s3://bucket/lfw/test/images --output s3://bucket/output
  python -m apps.face_align group-photos.zip --output faces --select all --format png --size 112
  python -m apps.face_align photos --output faces --dry-run

A run that was stopped goes on when the same command is given again; one that is done aligns only
what has changed since.
"""
VALIDATE = """\
Check the aligner where it runs: crops against stored digests, landmarks and boxes against dlib's own.
"""
WHERE = "apps.face_align"

APP = App(
    WHERE,
    [
        Command(
            "run", Params, f"{WHERE}.stages:run", f"{WHERE}.stages:plan", ABOUT, EXAMPLES, "face-align-runs",
            needs=check_installed,
        ),
        Command("validate", ValidateParams, f"{WHERE}.validation:run", about=VALIDATE, needs=check_installed),
    ],
)  # fmt: skip
main = APP.main

if __name__ == "__main__":
    sys.exit(main())
