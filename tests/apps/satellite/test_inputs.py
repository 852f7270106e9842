"""Which objects are scenes, and that none is passed over without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.apps.satellite.conftest import Site, flat, noisy, rows_of
from tests.apps.satellite.test_headers import written


def test_rasters_beside_json_that_is_no_item_are_not_passed_over_silently(tmp_path: Path, main: Any) -> None:
    written(tmp_path / "in/2024-06-01.tif", np.full((128, 128), 3000, np.uint16), nodata=0)
    (tmp_path / "in/notes.json").write_text("{}")
    flags = ("--bands", "red", "--band-names", "red", "--scale", "1e-4", "--mask", "none")

    status, _, err = main("run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", *flags)

    assert status == 2
    assert "name GeoTIFFs by --input themselves" in err


def test_a_collection_of_items_among_other_files_is_a_row(site: Site, main: Any, tmp_path: Path) -> None:
    item = site.scene("one", flat(64))
    collection = {"type": "FeatureCollection", "features": [json.loads(item.read_text())]}
    (site.folder / "found.json").write_text(json.dumps(collection))

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    rows = rows_of(tmp_path / "run")
    assert (status, rows["one"]["status"], rows["found.json"]["status"]) == (1, "accepted", "rejected")
    assert "--input itself" in rows["found.json"]["reason"]


def test_a_changed_band_of_a_product_is_noticed_when_a_run_is_taken_up(real: Path, main: Any, tmp_path: Path) -> None:
    import shutil

    product = tmp_path / "in"
    product.mkdir()
    for path in (real / "landsat_c2").glob("LC08_L2SP_005009*[!c].*"):
        shutil.copy(path, product)
    run = ("run", "--input", f"{product}/", "--output", tmp_path / "run", "--bands", "green,red,nir")
    assert main(*run)[0] == 0
    band = next(product.glob("*SR_B4.TIF"))
    band.write_bytes(band.read_bytes()[:-1] + b"\0")

    status, _, err = main(*run)

    assert status == 2
    assert "has changed since run" in err


def test_what_a_query_finds_is_not_written_into_the_run(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", noisy(1, 64))
    run = tmp_path / "run"
    main("run", "--input", f"{site.folder}/", "--output", run)

    status, _, err = main("query", "--output", run, "--bbox", "8,45,10,46", "--result", run / "index")

    assert status == 2
    assert "within the run itself" in err
    assert main("verify", "--output", run)[0] == 0
