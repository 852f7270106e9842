"""CPU time of the annotation's kernels beside other ways to do the same: ``python -m benchmarks.metabolomics_kernels``.

Prints Markdown tables, all measured in one run on one core, compiled loops once compiled.

- centroids: isotope patterns from compositions, of molecules and of decoys with implausible elements, and from the
  formulas of the database that comes with the application to the patterns of all its ions, 20 decoys each; beside it
  IsoSpecPy, which lists isotopologues and leaves the envelope and its centroids to do.
- sort: peaks by m/z, beside numpy's stable argsort.
- chaos: the measure of an image, beside a threshold, dilation, erosion and labelling by scipy at each level.
- scores: spatial, spectral and chaos of ions on two datasets, beside the same from dense images, one ion at a time,
  with numpy and scipy; and beside what METASPACE's production engine reached on one core of another machine, on
  datasets of these sizes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_matrix

from apps.metabolomics.databases import shipped
from apps.metabolomics.library import compose
from apps.metabolomics.modifiers import Chemistry, chemistry
from apps.metabolomics.params import MoleculeParams
from apps.metabolomics.science.centroids import Instrument, Patterns, count_atoms, patterns, patterns_of_counts, windows
from apps.metabolomics.science.chaos import LEVELS, measure_of_chaos, measures_of_chaos
from apps.metabolomics.science.decoys import DECOY_ELEMENTS
from apps.metabolomics.science.formulas import Composition
from apps.metabolomics.science.scores import image, score_ions
from apps.metabolomics.science.sorting import sort_peaks
from benchmarks._measure import machine, table

ORBITRAP = Instrument("orbitrap", 140_000)
PPM = 3.0
REPEATS = 5
MOLECULES = MoleculeParams(polarity="+")
IONS = 50_000
PEAKS = 8_000_000
ENGINE = {"small": 1_170, "large": 465}
"""Ions a second of METASPACE's production engine, chaos included."""
TABLES = ("centroids", "sort", "chaos", "scores")


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


def molecules(count: int, random: np.random.Generator) -> list[Composition]:
    """Draw compositions such as metabolites and lipids have; every second one has a decoy's element too."""
    carbon = random.integers(4, 50, count)
    hydrogen = (carbon * random.uniform(0.8, 2.1, count)).astype(int) + 2
    atoms = {
        "C": carbon, "H": hydrogen, "N": random.integers(0, 5, count), "O": random.integers(0, 14, count),
        "P": random.integers(0, 2, count), "S": random.integers(0, 2, count),
    }  # fmt: skip
    extra = random.integers(0, len(DECOY_ELEMENTS), count)
    drawn = []
    for i in range(count):
        ion = Composition({name: int(column[i]) for name, column in atoms.items()})
        drawn.append(ion.plus({DECOY_ELEMENTS[extra[i]]: 1}) if i % 2 else ion)
    return drawn


def of_database(formulas: list[str], made: Chemistry) -> None:
    for batch in compose(formulas, 0, made, MOLECULES):
        patterns_of_counts(batch.elements, batch.atoms, batch.charge, ORBITRAP)


def centroids_table() -> str:
    ions = molecules(IONS, np.random.default_rng(0))
    elements, counts = count_atoms(ions)
    formulas = list(dict.fromkeys(shipped().formulas.to_pylist()))
    made = chemistry(MOLECULES)
    count = sum(len(batch.rows) for batch in compose(formulas, 0, made, MOLECULES))
    rows = [
        [f"{count:,} ions of {len(formulas):,} formulas", count / seconds(lambda: of_database(formulas, made))],
        ["compositions in a matrix", len(ions) / seconds(lambda: patterns_of_counts(elements, counts, 1, ORBITRAP))],
        ["compositions one by one", len(ions) / seconds(lambda: patterns(ions, 1, ORBITRAP))],
    ]
    try:
        from IsoSpecPy import IsoThreshold
    except ImportError:
        rows.append(["IsoSpecPy, isotopologues alone: not installed", 0.0])
    else:
        few = [str(ion) for ion in ions[:2000]]
        spent = seconds(lambda: [np.asarray(IsoThreshold(1e-4, ion).masses) for ion in few])
        rows.append(["IsoSpecPy, isotopologues alone", len(few) / spent])
    ours = rows[1][1]
    cells = [[str(name), f"{rate:,.0f}", f"{rate / ours:.2f}" if rate else ""] for name, rate in rows]
    cells[0].append(">= 20,000")
    return table(["isotope patterns", "ions/s", "of ours", "goal"], [[*row, ""][:4] for row in cells])


def sort_table() -> str:
    random = np.random.default_rng(0)
    rows = []
    for name, dtype in (("float64", np.float64), ("float32", np.float32)):
        mz = np.exp(random.uniform(np.log(50), np.log(2000), PEAKS)).astype(dtype)
        own = seconds(partial(sort_peaks, mz), 3)
        other = seconds(partial(np.argsort, mz, kind="stable"), 3)
        rows.append([name, f"{PEAKS / own / 1e6:.1f}", f"{PEAKS / other / 1e6:.1f}", f"{other / own:.1f}x", ">= 3x"])
    return table(["sort of 8 M peaks", "M peaks/s", "stable argsort", "ratio", "goal"], rows)


def labelled_chaos(picture: NDArray[Any]) -> float:
    cross, square = ndimage.generate_binary_structure(2, 1), np.ones((3, 3), dtype=bool)
    objects = 0
    for k in range(LEVELS):
        mask = ndimage.binary_dilation(picture > picture.max() * k / LEVELS, cross)
        objects += ndimage.label(ndimage.binary_erosion(mask, square, border_value=1))[1]
    return 1.0 - objects / LEVELS / np.count_nonzero(picture) if objects else 0.0


def tissue(size: int, share: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw a smooth image with noise of which so many pixels are above the detection limit."""
    smooth = ndimage.gaussian_filter(random.random((size, size)), size / 20)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    picture = smooth * random.lognormal(0, 0.3, smooth.shape)
    picture[picture < np.quantile(picture, 1 - share)] = 0.0
    return picture


def chaos_table() -> str:
    random = np.random.default_rng(0)
    rows = []
    for size, share in ((100, 0.8), (100, 0.1), (450, 0.8), (450, 0.1), (1000, 0.8), (1000, 0.01)):
        picture = tissue(size, share, random)
        pixels = np.flatnonzero(picture).astype(np.int32)
        values = picture.ravel()[pixels]
        assert measure_of_chaos(pixels, values, size, size) == labelled_chaos(picture)
        many = max(1, 200_000 // pixels.size)
        offsets = np.arange(many + 1) * pixels.size
        held = np.tile(pixels, many), np.tile(values, many), offsets
        own = seconds(partial(measures_of_chaos, *held, size, size)) / many
        other = seconds(partial(labelled_chaos, picture), 3)
        rows.append(
            [
                f"{size} x {size}",
                f"{share:.0%}",
                f"{own * 1e3:.3f}",
                f"{other * 1e3:.1f}",
                f"{other / own:.0f}x",
                ">= 9x",
            ]
        )
    return table(["image", "pixels not 0", "sweep, ms", "scipy, ms", "ratio", "goal"], rows)


@dataclass(frozen=True)
class Dataset:
    name: str
    size: tuple[int, int]
    mz: NDArray[np.float64]
    pixel: NDArray[np.int32]
    intensity: NDArray[np.float32]

    @property
    def grid(self) -> int:
        return self.size[0] * self.size[1]


def synthesise(name: str, size: tuple[int, int], peaks: int, found: Patterns, planted: int) -> Dataset:
    """Plant the isotope images of the first ions, and fill up with peaks anywhere."""
    random = np.random.default_rng(1)
    grid = size[0] * size[1]
    mz, pixel, intensity = [], [], []
    for ion in range(planted):
        abundance = ndimage.gaussian_filter(random.random(size), 3).ravel()
        for k in range(found.count[ion]):
            height = abundance * found.intensity[ion, k] * random.lognormal(5, 0.3, grid)
            kept = np.flatnonzero(height > np.quantile(height, 0.2))
            mz.append(found.mz[ion, k] * (1 + random.normal(0, 0.7e-6, kept.size)))
            pixel.append(kept.astype(np.int32))
            intensity.append(height[kept].astype(np.float32))
    noise = peaks - sum(map(len, mz))
    mz.append(np.exp(random.uniform(np.log(80), np.log(1000), noise)))
    pixel.append(random.integers(0, grid, noise, dtype=np.int32))
    intensity.append(random.lognormal(3, 1, noise).astype(np.float32))
    together = np.concatenate(mz)
    order = np.argsort(together)
    return Dataset(name, size, together[order], np.concatenate(pixel)[order], np.concatenate(intensity)[order])


def compiled_scores(data: Dataset, found: Patterns) -> NDArray[np.float64]:
    low, high = windows(found, PPM)
    scores = score_ions(data.mz, data.pixel, data.intensity, low, high, found.intensity, data.grid, data.grid)
    bound = scores.spatial * scores.spectral
    some = np.flatnonzero(bound > 0)
    images = [image(data.mz, data.pixel, data.intensity, low[i, 0], high[i, 0]) for i in some]
    chaos = np.zeros(len(bound))
    chaos[some] = measures_of_chaos(
        np.concatenate([pixels for pixels, _ in images]), np.concatenate([values for _, values in images]),
        np.cumsum([0, *(len(pixels) for pixels, _ in images)]), data.size[1], data.size[0],
    )  # fmt: skip
    return bound * chaos


def dense_scores(data: Dataset, found: Patterns, ions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score from dense images, one ion after the other."""
    low, high = windows(found, PPM)
    msm = np.zeros(ions.size)
    for at, ion in enumerate(ions):
        images = np.zeros((found.mz.shape[1], data.grid))
        for k in range(found.count[ion]):
            first, stop = np.searchsorted(data.mz, low[ion, k]), np.searchsorted(data.mz, high[ion, k], side="right")
            place = np.divmod(data.pixel[first:stop], data.size[1])
            images[k] = coo_matrix((data.intensity[first:stop], place), shape=data.size).toarray().ravel()
        if not (images[0].any() and images[1:].any()):
            continue
        theory, sums = found.intensity[ion], images[:, images[0] > 0].sum(axis=1)
        spectral = 1.0 - np.mean(np.abs(theory / np.linalg.norm(theory) - sums / np.linalg.norm(sums)))
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = np.nan_to_num(np.corrcoef(images)[0, 1:])
        spatial = np.clip(np.average(correlation, weights=theory[1:]), 0.0, 1.0)
        if spatial * spectral > 0 and np.count_nonzero(images[0]) > 1:
            msm[at] = spatial * spectral * labelled_chaos(images[0].reshape(data.size))
    return msm


def scores_table(large_peaks: int) -> str:
    random = np.random.default_rng(2)
    ions = [ion for ion in molecules(20_000, random) if ion.monoisotopic_mass() > 80]
    found = patterns(ions, 1, ORBITRAP)
    rows = []
    for name, size, peaks, planted in (
        ("small", (40, 48), 1_330_000, 100), ("large", (100, 100), large_peaks, large_peaks // 64_000)
    ):  # fmt: skip
        data = synthesise(name, size, peaks, found, planted)
        few = random.choice(len(ions), 200, replace=False)
        own, dense = compiled_scores(data, found), dense_scores(data, found, few)
        assert np.allclose(own[few], dense, atol=1e-6)
        rate = len(ions) / seconds(partial(compiled_scores, data, found), 3)
        other = few.size / seconds(partial(dense_scores, data, found, few), 1)
        what = f"{size[0]} x {size[1]} pixels, {peaks / 1e6:.1f} M peaks, {planted} of {len(ions):,} ions in it"
        beside = [f"{other:,.0f}", f"{rate / other:.0f}x", f"{ENGINE[name]:,}", f"{rate / ENGINE[name]:.0f}x"]
        rows.append([what, f"{rate:,.0f}", *beside, ">= 20x the engine"])
    return table(["dataset", "ions/s", "dense images", "ratio", "engine", "ratio", "goal"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metabolomics_kernels", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--large-peaks", type=int, default=32_000_000, help="of the large dataset; 3 GB of memory")
    arguments = parser.parse_args()
    print(f"{machine()}, numpy {np.__version__}.\n")
    makers: dict[str, Callable[[], str]] = {
        "centroids": centroids_table, "sort": sort_table, "chaos": chaos_table,
        "scores": lambda: scores_table(arguments.large_peaks),
    }  # fmt: skip
    for name in arguments.tables:
        print(f"{name} ...", file=sys.stderr, flush=True)
        print(makers[name]() + "\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
