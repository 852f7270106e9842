from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from apps.metabolomics.__main__ import main
from apps.metabolomics.annotated import Annotated
from apps.metabolomics.export_params import FORMATS
from core import open_storage

MakeRun = Callable[..., Annotated]


def address(run: Annotated) -> str:
    return run.storage.address.removeprefix("file://")


def exported(run: Annotated, folder: Path, form: str, *flags: str) -> Path:
    target = folder / f"out{FORMATS[form]}"
    assert main(["export", address(run), "--format", form, "--to", str(target), "--quiet", *flags]) == 0
    return target


def dense(run: Annotated) -> np.ndarray:
    """Intensities of the pixels that have a spectrum, by ion."""
    ions = run.ions.column("ion").to_pylist()
    images = [run.image(ion).dense(run.field.width, run.field.height).ravel() for ion in ions]
    return np.stack(images, axis=1)[run.field.pixels]


def test_anndata_reads_pixels_by_ions(make_run: MakeRun, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    run = make_run(count=10)

    found = anndata.read_h5ad(exported(run, tmp_path, "anndata"))

    assert found.shape == (run.field.pixels.size, 5)
    assert np.array_equal(found.X.toarray(), dense(run).astype(np.float32))
    assert found.var_names.tolist() == run.ions.column("ion").to_pylist()
    assert found.var["moleculeNames"].iloc[0] == "molecule 0, molecule 10"
    assert found.var["msm"].to_numpy().tolist() == run.column("msm").tolist()
    pixels = found.obs["y"] * run.field.width + found.obs["x"]
    assert pixels.tolist() == run.field.pixels.tolist()
    assert found.obsm["spatial"].tolist() == found.obs[["x", "y"]].to_numpy().tolist()
    assert found.obs["tic"].tolist() == run.tic.tolist()


def test_tifffile_reads_a_stack_with_the_names_of_its_ions_and_the_size_of_a_pixel(
    make_run: MakeRun, tmp_path: Path
) -> None:
    tifffile = pytest.importorskip("tifffile")
    run = make_run(count=6, pixel_size_um=[50.0, 25.0])

    with tifffile.TiffFile(exported(run, tmp_path, "ome-tiff")) as found:
        stack, described = found.asarray(), found.ome_metadata

    for place, ion in enumerate(run.ions.column("ion").to_pylist()):
        assert np.array_equal(stack[place], run.image(ion).dense(12, 9).astype(np.float32))
        assert f'Name="{ion}"' in described
    assert 'PhysicalSizeX="50.0"' in described
    assert 'PhysicalSizeY="25.0"' in described


def test_a_stack_of_one_ion_and_one_pixel_is_an_image(make_run: MakeRun, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    run = make_run(count=1, width=1, height=1)

    assert tifffile.imread(exported(run, tmp_path, "ome-tiff")).size == 1


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_hold_the_annotations_up_to_a_level(make_run: MakeRun, tmp_path: Path, form: str) -> None:
    run = make_run(count=40)

    target = exported(run, tmp_path, form, "--fdr", "0.02")

    found = pd.read_csv(target) if form == "csv" else pq.read_table(target).to_pandas()
    assert len(found) == int((run.column("fdr") <= 0.02).sum())
    assert found["fdr"].max() <= 0.02


def test_metaboanalyst_gets_pixels_as_samples_with_their_regions_as_labels(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(count=4)
    regions = np.zeros((9, 12), np.uint8)
    regions[2:4, 5:9], regions[6, :] = 1, 2
    np.save(tmp_path / "regions.npy", regions)

    target = exported(run, tmp_path, "metaboanalyst", "--regions", str(tmp_path / "regions.npy"))

    rows = list(csv.reader(target.open()))
    taken = np.flatnonzero(regions.ravel()[run.field.pixels])
    assert rows[0] == ["Sample", "Label", *run.ions.column("ion").to_pylist()]
    assert {row[1] for row in rows[1:]} == {"region 1", "region 2"}
    assert np.array([row[2:] for row in rows[1:]], np.float32).tolist() == dense(run)[taken].astype(np.float32).tolist()
    assert rows[1][0] == "x5y2"


def test_regions_are_a_column_of_anndata(make_run: MakeRun, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    run = make_run(count=4)
    np.save(tmp_path / "regions.npy", np.arange(108).reshape(9, 12))

    found = anndata.read_h5ad(exported(run, tmp_path, "anndata", "--regions", str(tmp_path / "regions.npy")))

    assert found.obs["region"].tolist() == run.field.pixels.tolist()


def test_regions_are_read_from_a_png(make_run: MakeRun, tmp_path: Path) -> None:
    from PIL import Image

    run = make_run(count=2)
    Image.fromarray(np.full((9, 12), 3, np.uint8)).save(tmp_path / "regions.png")

    target = exported(run, tmp_path, "metaboanalyst", "--regions", str(tmp_path / "regions.png"))

    assert target.read_text().count("region 3") == run.field.pixels.size


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        (np.zeros((9, 12), int), "marks no pixel"),
        (np.ones((12, 9), int), "has 9 x 12 pixels, the dataset 12 x 9"),
        (np.ones((9, 12)), "regions are whole numbers"),
        (np.ones((9, 12, 3), int), "regions are whole numbers"),
        (np.where(np.arange(108).reshape(9, 12) < 50, -1, 2), "values below 0"),
        (None, "no image of regions"),
        (b"\x93NUMPY\x01\x00\x08\x00{'a':(((", "no image of regions"),
    ],
)
def test_regions_that_do_not_fit_are_refused(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], regions: np.ndarray | bytes | None, said: str
) -> None:
    place = tmp_path / "regions.npy"
    if regions is None:
        place.write_text("no image")
    elif isinstance(regions, bytes):
        place.write_bytes(regions)
    else:
        np.save(place, regions)
    run = make_run(count=2)

    status = main(["export", address(run), "--regions", str(place), "--to", str(tmp_path / "x.csv")])

    assert status == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_an_image_too_large_to_be_unpacked_is_refused(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    Image.fromarray(np.ones((9, 12), np.uint8)).save(tmp_path / "regions.png")

    status = main(["export", address(make_run(count=2)), "--regions", str(tmp_path / "regions.png")])

    assert status == 2
    assert "no image of regions" in capsys.readouterr().err


def test_a_file_that_is_there_is_replaced_only_when_asked(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, target = make_run(count=2), tmp_path / "mine.csv"
    target.write_text("mine")

    assert main(["export", address(run), "--to", str(target)]) == 2
    assert target.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err

    assert main(["export", address(run), "--to", str(target), "--overwrite"]) == 0
    assert target.read_text() != "mine"


def test_a_file_is_named_after_its_dataset_in_the_working_folder(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(count=2, dataset="../a brain")

    assert main(["export", address(run), "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (tmp_path / "_a brain-annotations.csv").stat().st_size == said["bytes"]


def test_an_export_goes_to_an_object_store(make_run: MakeRun) -> None:
    run = make_run(count=2)

    assert main(["export", address(run), "--to", "memory://exports/a/b.csv", "--quiet"]) == 0

    rows = list(csv.DictReader(io.StringIO(open_storage("memory://exports").get("a/b.csv").decode())))
    assert [row["ion"] for row in rows] == ["C6H12O6+H"]


def test_nothing_to_export_is_said(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(count=2, change=lambda rows: [row.update(fdr=None) for row in rows])

    assert main(["export", address(run), "--to", str(tmp_path / "x.csv")]) == 2
    assert "nothing to export" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["anndata", "ome-tiff"])
def test_a_package_that_is_missing_is_named_with_its_remedy(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    monkeypatch.setitem(sys.modules, {"anndata": "anndata", "ome-tiff": "tifffile"}[form], None)
    run = make_run(count=2)

    assert main(["export", address(run), "--format", form, "--to", str(tmp_path / "x")]) == 2
    assert "pip install 'fanfold[exports]'" in capsys.readouterr().err


def test_a_report_is_made_again_from_the_run_alone(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(count=6)
    place = Path(address(run))
    assert main(["report", address(run), "--quiet"]) == 0
    first = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    (place / "report.html").unlink()
    (place / "images/9999_old_0.png").write_bytes(b"of an earlier report")

    assert main(["report", address(run), "--quiet"]) == 0

    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == first
    assert {"annotations.csv", "report.html", "tic.png", "diagnostics.json"} <= {path.name for path in first}
