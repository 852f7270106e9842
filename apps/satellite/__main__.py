"""``python -m apps.satellite``: its commands."""

from __future__ import annotations

import sys

from apps._frame import App, Command
from apps.satellite.packages import check_installed
from apps.satellite.params import Params, QueryParams, ValidateParams, VerifyParams

ABOUT = """\
Process batches of satellite scenes: every scene is opened and checked, and passes or is rejected with
its reason; then each cell of a grid becomes a cloud-free composite of all dates, with NDVI, NDWI, NDVI
change, outlines of water and statistics of zones. Without --input a synthetic example is processed.

--input is STAC items or catalogues (1.0, 1.1), a prefix of them, Sentinel-2 SAFE folders or zips,
Landsat Collection 2 products with MTL, or GeoTIFFs.
"""
EXAMPLES = """\
examples:
  python -m apps.satellite run --input s3://bucket/items/ --output s3://bucket/runs/1
  python -m apps.satellite run --input products/ --bands green,red,nir --zones fields.geojson --output runs/1
  python -m apps.satellite run --input items/ --function mine.py:cell --output runs/2
  python -m apps.satellite query --output runs/1 --bbox 11.9,46.4,12.1,46.5 --result found
  python -m apps.satellite verify --output runs/1

Exit status is 1 too if a scene could not be used; what could be is published, and scenes.csv says why.
"""
WHERE = "apps.satellite"
QUERY = "Clip rasters and select features of a run by area."
VERIFY = "Check every file of a run against its hash."
VALIDATE = "Check the science on this backend."

APP = App(
    WHERE,
    [
        Command(
            "run", Params, f"{WHERE}.stages:run", f"{WHERE}.stages:plan", ABOUT, EXAMPLES, "satellite-runs",
            needs=check_installed,
        ),
        Command("query", QueryParams, f"{WHERE}.query:query", about=QUERY, needs=check_installed),
        Command("verify", VerifyParams, f"{WHERE}.query:verify", about=VERIFY, needs=check_installed),
        Command("validate", ValidateParams, f"{WHERE}.validation:run", about=VALIDATE, needs=check_installed),
    ],
)  # fmt: skip
main = APP.main

if __name__ == "__main__":
    sys.exit(main())
