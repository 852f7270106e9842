"""Compile every kernel for what stages call it with: ``python -m apps.metabolomics.precompile``.

An image that does so when it is built spares each of its containers the time.
"""

from __future__ import annotations

import numpy as np

from apps.metabolomics.science.centroids import Instrument, patterns, windows
from apps.metabolomics.science.chaos import measures_of_chaos
from apps.metabolomics.science.formulas import parse_formula
from apps.metabolomics.science.scores import image, score_ions
from apps.metabolomics.science.sorting import sort_peaks


def main() -> None:
    """Call each of them once."""
    found = patterns([parse_formula("C6H12O6")], 1, Instrument("orbitrap", 140_000))
    mz = found.mz[0]
    for spread in (np.linspace(100.0, 1000.0, 3), np.linspace(100.0, 1000.0, 3, dtype=np.float32)):
        sort_peaks(spread)
    pixel, intensity = np.arange(mz.size, dtype=np.int32), np.ones(mz.size, np.float32)
    score_ions(mz, pixel, intensity, *windows(found, 3.0), found.intensity, mz.size, mz.size, 1)
    pixels, values = image(mz, pixel, intensity, mz[0], mz[-1])
    measures_of_chaos(pixels, values, np.array([0, pixels.size]), mz.size, 1)


if __name__ == "__main__":
    main()
