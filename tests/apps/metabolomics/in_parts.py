"""The application, which reads and unites small databases by as many tasks as large ones."""

from __future__ import annotations

import sys

from apps.metabolomics import formulas
from apps.metabolomics.__main__ import APP
from apps.metabolomics.databases import cutting

cutting.LOOK, cutting.cuts.__defaults__ = 1000, (2000,)
formulas.DEALT_BYTES, formulas.UNITED_ROWS = 0, 80

if __name__ == "__main__":
    sys.exit(APP.main(sys.argv[1:]))
