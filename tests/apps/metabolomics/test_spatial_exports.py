from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from apps.metabolomics.__main__ import main
from apps.metabolomics.annotated import Annotated
from tests.apps.metabolomics.test_exports import address, dense, exported

MakeRun = Callable[..., Annotated]


def test_colocalisation_is_a_table_of_ions_by_ions(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(count=10)

    found = pd.read_csv(exported(run, tmp_path, "colocalisation"), index_col="ion")

    ions = run.ions.column("ion").to_pylist()
    assert found.index.tolist() == found.columns.tolist() == ions
    assert np.diag(found) == pytest.approx(1.0)
    assert (found.to_numpy() == found.to_numpy().T).all()


def test_regions_are_described_ion_by_ion(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(count=6)
    numbers = np.repeat([0, 1, 2], 36).astype(np.uint8).reshape(9, 12)
    Image.fromarray(numbers).save(tmp_path / "regions.png")

    found = pd.read_csv(exported(run, tmp_path, "regions", "--regions", str(tmp_path / "regions.png")))

    regions = numbers.ravel()[run.field.pixels]
    row = found[(found.ion == run.ions.column("ion")[0].as_py()) & (found.region == 2)].iloc[0]
    values = dense(run)[:, 0]
    assert len(found) == 2 * len(run.ions)
    assert row["pixels"] == (regions == 2).sum()
    assert row["mean"] == pytest.approx(values[regions == 2].mean())
    brighter = values[regions == 2][:, None] - values[regions == 1]
    assert row["separation"] == pytest.approx(((brighter > 0) + (brighter == 0) / 2).mean())


def test_one_region_is_not_compared_with_others(make_run: MakeRun, tmp_path: Path) -> None:
    np.save(tmp_path / "regions.npy", np.ones((9, 12), dtype=np.int64))

    found = pd.read_csv(exported(make_run(), tmp_path, "regions", "--regions", str(tmp_path / "regions.npy")))

    assert found["separation"].isna().all()
    assert found["mean"].notna().all()


def test_segments_are_a_picture_that_can_be_given_back_as_regions(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(count=10)

    picture = exported(run, tmp_path, "segments", "--segments", "3")

    labels = np.asarray(Image.open(picture))
    mask = run.field.mask()
    assert labels.shape == (9, 12)
    assert set(labels[mask]) == {1, 2, 3}
    assert not labels[~mask].any()
    found = pd.read_csv(exported(run, tmp_path, "regions", "--regions", str(picture)))
    assert sorted(set(found.region)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("flags", "said"),
    [(("--format", "regions"), "needs regions"), (("--format", "segments", "--segments", "200"), "has 101 pixels")],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    target = tmp_path / "out"

    assert main(["export", address(make_run()), "--to", str(target), *flags]) == 2

    assert said in capsys.readouterr().err
    assert not target.exists()
