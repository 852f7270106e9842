from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from apps.satellite.maps import NOTHING, _colour, _map
from tests.apps.satellite.conftest import Site, noisy

EXTENT = (300.0, 301.0, 5000.0, 5001.0)
GREY = np.round(np.array(to_rgb(NOTHING)) * 255)


def is_grey(picture: bytes) -> float:
    """Return the part of a picture that has the colour of what has no valid pixel."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), float)
    return float((pixels == GREY).all(2).mean())


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_nothing_is_valid_a_map_has_a_colour_of_its_own(value: float) -> None:
    image = np.full((10, 10), value)
    half = image.copy()
    half[:, :5] = np.nan

    whole = is_grey(_map(image, EXTENT, False, "PiYG", -1.0, 1.0))
    parted = is_grey(_map(half, EXTENT, False, "PiYG", -1.0, 1.0))

    assert whole < 0.001
    assert parted > 0.1


def test_where_nothing_is_valid_natural_colours_are_not_those_of_snow() -> None:
    image = np.ones((10, 10, 3))
    image[:, :5] = np.nan

    assert is_grey(_colour(image, EXTENT)) > 0.1


def test_zones_with_too_many_cells_for_a_map_are_named(
    site: Site, main: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("apps.satellite.maps.MOST_CELLS", 1)
    site.scene("a", noisy(0, 100))

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--cell", 64)

    assert (status, err) == (0, "")
    text = (tmp_path / "run/report.html").read_text("utf-8")
    assert "<img" not in text
    assert "EPSG:32632: more than" in text
