from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

for package in ("rasterio", "imagecodecs", "tifffile", "shapely", "pyproj"):
    pytest.importorskip(package, reason=f"needs {package}: pip install '.[satellite]'")

from apps.satellite.cog import Band, cog_bytes  # noqa: E402
from apps.satellite.science.grid import Raster  # noqa: E402
from core import open_storage  # noqa: E402

REAL = Path(__file__).parents[4] / "shared" / "data" / "satellite"
"""Real small products, which are no part of the repository."""
Images = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="session")
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"real products are not at {REAL}")
    return REAL


Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def drawing_main(capfd: pytest.CaptureFixture[str]) -> Main:
    """Run the command line in this process, serially; gives its exit status, standard output and standard error."""
    from apps.satellite.__main__ import main as entry

    def call(*argv: object) -> tuple[int, str, str]:
        words = [str(each) for each in argv]
        serial = [] if "--compute" in words or words[0] == "verify" else ["--compute", "serial"]
        try:
            status = entry([*words, *serial])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return call


@pytest.fixture
def main(drawing_main: Main) -> Main:
    """Run the command line likewise, by cells as small as the scenes are and with empty maps, which take longest."""

    def call(*argv: object) -> tuple[int, str, str]:
        argv = (*argv, "--cell", 128) if argv[0] == "run" and "--cell" not in argv else argv
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("apps.satellite.maps._drawn", lambda *_, **__: b"")
            return drawing_main(*argv)

    return call


class Site:
    """A folder of scenes that a test makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def scene(
        self,
        name: str,
        images: Images,
        *,
        when: str = "2024-06-01T10:00:00Z",
        corner: tuple[float, float] = (500_000.0, 5_000_000.0),
        pixel: float = 10.0,
        epsg: int = 32632,
        platform: str = "sentinel-2a",
        version: str = "1.1.0",
        scl: NDArray[np.uint8] | None = None,
        properties: Mapping[str, Any] | None = None,
        assets: Mapping[str, Mapping[str, Any]] | None = None,
        checksums: bool = False,
        dtype: str = "uint16",
    ) -> Path:
        """Write the files of a scene and its item, of STAC 1.0 or 1.1; returns the item."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        side = next(iter(images.values())).shape[0]
        classes = np.full((side // 2, side // 2), 4, np.uint8) if scl is None else scl
        files = {}
        for band, image in {**images, "scl": classes}.items():
            size = pixel * side / image.shape[0]
            kind = np.uint8 if band == "scl" else dtype
            raster = Raster(*corner, size, size, image.shape[1], image.shape[0])
            files[band] = cog_bytes([Band(band, image.astype(kind), mean=False)], raster, epsg, 0, deflate=True)
            (place / f"{band}.tif").write_bytes(files[band])
        told: dict[str, Any] = {}
        for band, data in files.items():
            told[band] = {"href": f"{band}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
            key = "bands" if version.startswith("1.1") else "eo:bands"
            common = "eo:common_name" if version.startswith("1.1") else "common_name"
            if band != "scl":
                told[band][key] = [{"name": band, common: band}]
            if checksums:
                told[band]["file:checksum"] = f"1220{hashlib.sha256(data).hexdigest()}"
            told[band].update((assets or {}).get(band, {}))
        code = {"proj:code": f"EPSG:{epsg}"} if version.startswith("1.1") else {"proj:epsg": epsg}
        item = {
            "type": "Feature",
            "stac_version": version,
            "id": name,
            "geometry": None,
            "properties": {
                "datetime": when,
                "platform": platform,
                "s2:processing_baseline": "02.12",
                **code,
                **(properties or {}),
            },
            "links": [],
            "assets": told,
        }
        path = place / f"{name}.json"
        path.write_text(json.dumps(item))
        return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "scenes")


def flat(side: int = 128, **bands: int) -> dict[str, NDArray[np.uint16]]:
    """Images of one number each; of four bands unless others are named."""
    given = {"blue": 800, "green": 900, "red": 700, "nir": 3000, **bands}
    return {name: np.full((side, side), number, np.uint16) for name, number in given.items()}


def noisy(
    seed: int, side: int = 128, bands: Sequence[str] = ("blue", "green", "red", "nir")
) -> dict[str, NDArray[np.uint16]]:
    random = np.random.default_rng(seed)
    return {name: random.integers(1, 9000, (side, side)).astype(np.uint16) for name in bands}


def rows_of(run: Path) -> dict[str, dict[str, str]]:
    """The table of scenes of a run, by name."""
    import csv
    import io

    return {row["name"]: row for row in csv.DictReader(io.StringIO((run / "scenes.csv").read_text("utf-8")))}


def pixels(run: Path, band: str) -> NDArray[Any]:
    """A band of all cells of a run of one zone, put together, from the corner where sites' scenes begin."""
    import rasterio

    pieces = []
    for path in sorted(run.glob("cells/*/*/composite.tif")):
        with rasterio.open(path) as dataset:
            image = dataset.read(dataset.descriptions.index(band) + 1)
            pieces.append((dataset.transform, image, dataset.nodata))
    left, top = min(each.c for each, _, _ in pieces), max(each.f for each, _, _ in pieces)
    size, side = pieces[0][0].a, pieces[0][1].shape[0]
    places = [(round((top - each.f) / size), round((each.c - left) / size)) for each, _, _ in pieces]
    whole = np.full((max(row for row, _ in places) + side, max(column for _, column in places) + side), pieces[0][2])
    for (row, column), (_, image, _) in zip(places, pieces, strict=True):
        whole[row : row + side, column : column + side] = image
    down, right = round((top - 5_000_000) / size), round((500_000 - left) / size)
    return whole.astype(pieces[0][1].dtype)[max(down, 0) :, max(right, 0) :]


def put_files(folder: Path, address: str) -> None:
    """Copy what is below a folder to a storage."""
    storage = open_storage(address)
    for path in folder.rglob("*"):
        if path.is_file():
            storage.put(str(path.relative_to(folder)), path.read_bytes())
