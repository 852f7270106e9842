"""A composite against odc-stac's, on items of STAC 1.0, which it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.apps.satellite.conftest import Site, noisy, pixels

odc = pytest.importorskip("odc.stac", reason="needs odc-stac: pip install '.[oracles]'")


@pytest.mark.filterwarnings("ignore")
def test_a_composite_is_odc_stacs_within_half_a_step(site: Site, main: Any, tmp_path: Path) -> None:
    import pystac

    random = np.random.default_rng(8)
    outline = [[9.0, 45.13], [9.03, 45.13], [9.03, 45.16], [9.0, 45.16], [9.0, 45.13]]
    items = []
    for date in range(4):
        scl = random.choice(np.array([4, 5, 8, 9], np.uint8), (100, 100))
        images = noisy(date, 200, ("green", "red", "nir"))
        place = {"proj:shape": [200, 200], "proj:transform": [10, 0, 500_000, 0, -10, 5_000_000]}
        coarse = {"proj:shape": [100, 100], "proj:transform": [20, 0, 500_000, 0, -20, 5_000_000]}
        path = site.scene(
            f"s{date}", images, when=f"2024-06-0{date + 1}T10:00:00Z", scl=scl, version="1.0.0",
            assets={**dict.fromkeys(images, place), "scl": coarse},
        )  # fmt: skip
        item = pystac.Item.from_file(str(path))
        item.geometry = {"type": "Polygon", "coordinates": [outline]}
        item.bbox = [9.0, 45.13, 9.03, 45.16]
        item.stac_extensions = ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"]
        item.make_asset_hrefs_absolute()
        items.append(item)
    box = odc.load(items[:1], bands=["red"], crs="EPSG:32632", resolution=10).odc.geobox
    loaded = odc.load(items, bands=["green", "red", "nir", "scl"], geobox=box, resampling="nearest", nodata=0)
    clear = np.isin(loaded["scl"].values, (4, 5))

    status, _, err = main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--bands", "green,red,nir", "--cell", 64
    )

    assert status == 0, err
    row, column = round((5_000_000 - box.affine.f) / 10), round((500_000 - box.affine.c) / 10)
    part = np.s_[:, row : row + 200, column : column + 200]
    valid = clear[part]
    for band in ("green", "red", "nir"):
        theirs = np.where(valid, loaded[band].values[part], np.nan)
        some = valid.any(0)
        ours = pixels(tmp_path / "run", band)[:200, :200]
        assert np.abs(ours[some] - np.nanmedian(theirs[:, some], 0)).max() <= 0.5
        assert ((ours == -32768) == ~some).all()
