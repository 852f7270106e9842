"""Annotations in the formats of other programs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps._frame import Session
from apps._frame.tables import csv_bytes, visible
from apps.metabolomics import spatial_exports
from apps.metabolomics.annotated import Annotated, read_run
from apps.metabolomics.annotations import COLUMNS, TEXTS, Annotations
from apps.metabolomics.export_params import FORMATS, ExportParams
from apps.metabolomics.regions import read_regions
from core import ConfigError, InputError, open_storage
from core.storage import NotFound, split_address

INSTALL = "pip install 'fanfold[exports]'"
PIECE = 1 << 20
"""Bytes handed to the storage at once."""

Regions = NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """What is exported: a run, its annotations, the region of each of its pixels, if regions were given, and how."""

    run: Annotated
    annotations: Annotations
    regions: Regions
    params: ExportParams


def export(session: Session, params: ExportParams) -> None:
    """Run the command.

    Raises
    ------
    ConfigError
        The file exists, or the format needs a package that is not installed.
    InputError
        There is no finished run, nothing to export, or the regions do not fit.
    """
    run = read_run(params.run, params.fdr)
    target = params.to or f"{file_name(str(run.figures['dataset']))}{FORMATS[params.format]}"
    refuse_existing(target, params.overwrite)
    if not len(run.ions):
        raise InputError(f"{params.run} has no annotation at this level; there is nothing to export")
    regions = read_regions(params.regions, run.field) if params.regions else None
    what = Export(run, Annotations(run), regions, params)
    with tempfile.TemporaryDirectory(prefix="fanfold-export-") as folder:
        path = Path(folder) / f"export{FORMATS[params.format]}"
        WRITERS[params.format](what, path)
        size = path.stat().st_size
        put(target, pieces_of(path))
    found = {"file": target, "format": params.format, "annotations": len(run.ions), "bytes": size}
    session.show(found, f"{len(run.ions):,} annotations in {target}")


def file_name(dataset: str) -> str:
    """Return the name of a dataset as the beginning of a file's name."""
    return "".join(each if each.isalnum() or each in "-_. " else "_" for each in visible(dataset)).lstrip(".") or "run"


def refuse_existing(target: str, overwrite: bool) -> None:
    """Refuse to replace what is there, unless that was asked for."""
    root, key = split_address(target)
    try:
        open_storage(root).head(key)
    except NotFound:
        return
    if not overwrite:
        raise ConfigError(f"{target} exists; choose another place with --to, or add --overwrite")


def put(target: str, content: bytes | Iterable[bytes]) -> None:
    """Write an object at an address."""
    root, key = split_address(target)
    open_storage(root).put(key, content)


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield a file piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _package(name: str, wanted: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(f"--format {wanted} needs {name}; run {INSTALL}") from None


def write_csv(what: Export, path: Path) -> None:
    """Write the table of annotations as CSV."""
    path.write_bytes(what.annotations.csv())


def write_parquet(what: Export, path: Path) -> None:
    """Write the table of annotations as Parquet."""
    path.write_bytes(what.annotations.parquet())


def write_anndata(what: Export, path: Path) -> None:
    """Write pixels by ions, intensities of the first isotope images, float32, sparse.

    ``obs`` holds x, y, tic and, where regions were given, region; ``var`` the table of annotations; ``obsm['spatial']``
    x and y, where squidpy looks for them.
    """
    anndata = _package("anndata", "anndata")
    pandas = import_module("pandas")
    run = what.run
    y, x = np.divmod(run.field.pixels, run.field.width)
    observed: dict[str, Any] = {"x": x, "y": y, "tic": run.tic}
    if what.regions is not None:
        observed["region"] = what.regions
    rows = [each.values(what.annotations.dataset) for each in what.annotations]
    described = {
        name: [_described(value, name) for value in column]
        for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)
    }
    table = anndata.AnnData(
        X=matrix(run),
        obs=pandas.DataFrame(observed, index=[str(pixel) for pixel in run.field.pixels]),
        var=pandas.DataFrame(described, index=described["ion"]),
        obsm={"spatial": np.stack([x, y], axis=1).astype(np.float64)},
        uns={"width": run.field.width, "height": run.field.height, "norm": str(run.figures.get("norm", "none"))},
    )
    table.var = table.var.drop(columns="ion")
    table.write_h5ad(path, compression="gzip")


def _described(value: Any, name: str) -> Any:
    if name in TEXTS:
        return visible(value)
    return np.nan if value is None else value


def matrix(run: Annotated) -> Any:
    """Return intensities as a sparse matrix float32[pixels with a spectrum, ions]."""
    from scipy import sparse

    values, rows, ends = list[Any](), list[Any](), [0]
    for ion in run.ions.column("ion").to_pylist():
        image = run.image(ion)
        values.append(image.values.astype(np.float32))
        rows.append(np.searchsorted(run.field.pixels, image.pixels))
        ends.append(ends[-1] + image.pixels.size)
    parts = (np.concatenate(values), np.concatenate(rows), np.asarray(ends))
    return sparse.csc_matrix(parts, shape=(run.field.pixels.size, len(run.ions))).tocsr()


def write_ome_tiff(what: Export, path: Path) -> None:
    """Write the first isotope images as a stack, float32, a channel an ion under its name; 0 where is no spectrum.

    The size of a pixel, where the dataset says it, is in the OME metadata, in micrometres.
    """
    tifffile = _package("tifffile", "ome-tiff")
    run = what.run
    ions = [str(ion) for ion in run.ions.column("ion").to_pylist()]
    metadata: dict[str, Any] = {"axes": "CYX", "Channel": {"Name": ions}}
    size = run.figures.get("pixel_size_um")
    if size:
        across, down = size
        metadata |= {"PhysicalSizeX": across, "PhysicalSizeXUnit": "µm",
                     "PhysicalSizeY": down, "PhysicalSizeYUnit": "µm"}  # fmt: skip
    planes = (run.image(ion).dense(run.field.width, run.field.height).astype(np.float32) for ion in ions)
    tifffile.imwrite(
        path, planes, shape=(len(ions), run.field.height, run.field.width), dtype=np.float32, ome=True,
        metadata=metadata, compression="zlib", photometric="minisblack", bigtiff=True, software="fanfold",
    )  # fmt: skip


def write_metaboanalyst(what: Export, path: Path) -> None:
    """Write a table with a sample a row: its name, its label, and the intensity of each ion.

    Samples are the pixels of the regions, which are their labels; without regions all pixels, with one label.
    """
    run = what.run
    ions = [str(ion) for ion in run.ions.column("ion").to_pylist()]
    labels = np.ones(run.field.pixels.size, np.int64) if what.regions is None else what.regions
    taken = np.flatnonzero(labels)
    y, x = np.divmod(run.field.pixels, run.field.width)
    intensities = matrix(run)

    def rows() -> Iterator[list[Any]]:
        for at in taken:
            label = "all" if what.regions is None else f"region {labels[at]}"
            yield [f"x{x[at]}y{y[at]}", label, *intensities[int(at)].toarray()[0].tolist()]

    with path.open("wb") as file:
        file.write(csv_bytes(["Sample", "Label", *ions], ()))
        for row in rows():
            file.write(csv_bytes(row, ()))


def write_colocalisation(what: Export, path: Path) -> None:
    """Write ions by ions, how much they lie in the same places."""
    path.write_bytes(spatial_exports.colocalisation_csv(what.run))


def write_regions(what: Export, path: Path) -> None:
    """Write what each ion does in each region."""
    if what.regions is None:
        raise ConfigError("--format regions needs regions: give --regions an image of whole numbers")
    path.write_bytes(spatial_exports.regions_csv(what.run, what.regions))


def write_segments(what: Export, path: Path) -> None:
    """Write the segment of each pixel as a picture."""
    pixels = what.run.field.pixels.size
    if what.params.segments > pixels:
        raise ConfigError(f"--segments is {what.params.segments}, and {what.params.run} has {pixels} pixels")
    path.write_bytes(spatial_exports.segments_png(what.run, what.params.segments, what.params.seed))


WRITERS: Mapping[str, Callable[[Export, Path], None]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "anndata": write_anndata,
    "ome-tiff": write_ome_tiff,
    "metaboanalyst": write_metaboanalyst,
    "colocalisation": write_colocalisation,
    "regions": write_regions,
    "segments": write_segments,
}
