"""What is not loaded before it is needed: help is quick, and GDAL is in no process that workers are forked from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def loaded_after(code: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after some code."""
    program = f"{code}\nimport sys\nprint('LOADED', *sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED ")[2].split())


def test_flags_and_help_load_nothing_heavy() -> None:
    loaded = loaded_after("from apps.satellite.__main__ import APP\nAPP.session(['run', '--bands', 'red,nir'])")

    assert not loaded & {"numpy", "rasterio", "shapely", "pyarrow", "numba"}


def test_a_driver_has_no_gdal_when_its_workers_are_forked() -> None:
    assert "rasterio" not in loaded_after("import apps.satellite.stages as stages\nstages._versions()")
