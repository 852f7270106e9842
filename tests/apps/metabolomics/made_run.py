"""A finished annotation of made-up values, as a run leaves it behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apps.metabolomics.annotated import MOLECULES, PIXELS, Annotated, encode_pixels, read_run
from apps.metabolomics.databases import Molecule
from apps.metabolomics.molecules import encode_molecules
from apps.metabolomics.result import ALL_IONS, FIGURES, ION_IMAGES, IonImage, encode_images, ions_schema
from core import open_storage

PEAKS = 4


def made_ions(count: int, seed: int, level: float) -> list[dict[str, Any]]:
    """Targets of which the first half are accepted, with as many decoys, as an annotation writes them."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(2 * count):
        target, accepted = number < count, number < (count + 1) // 2
        mz = 150.0 + 7.0 * number + 1.00336 * np.arange(PEAKS)
        score = 1.0 - 0.5 * number / count if accepted else 0.3 * rng.random()
        row: dict[str, Any] = {
            "formula": f"C{number + 6}H12O6" if target else f"C{number - count + 6}H12O6",
            "chemMod": "", "neutralLoss": "", "adduct": ["+H", "+Na", "+K"][number % 3] if target else "+He",
            "charge": 1, "decoy": not target, "spatial": score, "spectral": 0.99, "chaos": 0.98,
            "msm": score * 0.99 * 0.98, "fdr": round(level * number / count, 4) if accepted else None,
            "minIntensity": 1.0, "maxIntensity": 1000.0, "totalIntensity": 1e5,
            "massError": float(rng.normal(0.4, 0.5)) if accepted else None,
        }  # fmt: skip
        row["ion"] = row["formula"] + row["adduct"]
        for peak in range(PEAKS):
            row |= {f"mz_{peak}": mz[peak], f"theory_{peak}": 100.0 / 4**peak,
                    f"n_pixels_{peak}": 12, f"total_{peak}": 5e4 / 4**peak}  # fmt: skip
        rows.append(row)
    return rows


def spots(width: int, height: int, pixels: np.ndarray, seed: int) -> list[IonImage]:
    """A blob with noise, weaker by isotope, on the pixels that have a spectrum."""
    rng = np.random.default_rng(seed)
    rows, columns = np.divmod(pixels, width)
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2.0 * max(1.0, width / 6) ** 2))
    images = []
    for peak in range(PEAKS):
        values = 1000.0 / 4**peak * blob * rng.uniform(0.6, 1.0, blob.size)
        shown = values > 5.0 * 1.5**peak / 4**peak
        images.append(IonImage(pixels[shown].astype(np.int32), values[shown]))
    return images


def made_run(
    tmp_path: Path, name: str = "run", *, count: int = 8, width: int = 12, height: int = 9, seed: int = 1,
    level: float = 0.1, change: Callable[[list[dict[str, Any]]], object] = lambda rows: None, **figures: Any,
) -> Annotated:  # fmt: skip
    """Write a finished annotation of twice `count` ions, half of them decoys, and read it.

    `change` may change the rows of its table, by which images, molecules and names follow.
    """
    storage = open_storage(str(tmp_path / name))
    rows = made_ions(count, seed, level)
    change(rows)
    columns = ions_schema(PEAKS)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, columns), sink)
    storage.put(ALL_IONS, sink.getvalue().to_pybytes())
    every = np.arange(width * height, dtype=np.int32)
    pixels = every[every % 17 != 3] if every.size > 17 else every
    storage.put(PIXELS, encode_pixels(pixels, np.random.default_rng(seed).uniform(1e3, 1e4, pixels.size)))
    accepted = [row for row in rows if row["fdr"] is not None]
    peaks = [sum(row[f"mz_{peak}"] is not None for peak in range(PEAKS)) for row in accepted]
    found = ((row["ion"], spots(width, height, pixels, at)[: peaks[at]]) for at, row in enumerate(accepted))
    storage.put(f"{ION_IMAGES}000.parquet", encode_images(found))
    formulas = {row["formula"] for row in accepted}
    molecules = [Molecule(row["formula"], f"molecule {at}", f"M{at}") for at, row in enumerate(rows)]
    storage.put(MOLECULES, encode_molecules(("made", each) for each in molecules if each.formula in formulas))
    said = {
        "dataset": name, "width": width, "height": height, "fdr": level, "ppm": 3.0, "formulas": count,
        "databases": [{"name": "made", "rows": count, "formulas": count, "rejected": 0}],
        "parameters": {"polarity": "+", "adducts": ["+H", "+Na", "+K"]}, "versions": {"fanfold": "0.1.0"},
    }  # fmt: skip
    storage.put(FIGURES, json.dumps(said | figures).encode())
    return read_run(str(tmp_path / name))
