"""What a user's function may return, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.satellite.function import CellStack, UserFunction, call
from core import InputError
from tests.apps.satellite.conftest import Site, noisy

HEAD = "import numpy as np\nimport shapely\nLEFT, TOP = 500_000, 5_000_000\n"


def returned(expression: str) -> Any:
    """Return what becomes of what a function returns; `red` is an image there."""
    source = f"{HEAD}def mine(cell):\n    red = cell.values[0, 0]\n    return {expression}\n"
    stack = CellStack(
        np.full((1, 1, 64, 64), 700, np.int16), np.ones((1, 64, 64), bool), ("red",), ("2024-06-01T10:00:00Z",),
        (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), 32632,
    )  # fmt: skip
    return call(UserFunction("mine.py", "mine", source), stack)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("None", "NoneType"),
        ("{}", "arrays by name"),
        ("({'a': red}, [], 3)", "arrays by name, or these and features"),
        ("{'a': red[:3]}", r"\(3, 64\)"),
        ("{'a': red.astype(complex)}", "complex"),
        ("{'a': red.astype(int) * 1000}", "16 bits"),
        ("{'a': red * 0.5, 'b': red.astype(int) * 1_000_000}", "b beyond 16 bits"),
        ("{'a': red.astype(float) * 1e300}", "32 bits"),
        ("{'': red}", "names are empty or the same"),
        ("{1: red, '1': red}", "names are empty or the same"),
        ("({'a': red}, [(shapely.box(9, 45, 9.1, 45.1), {})])", "outside its cell"),
        ("({'a': red}, [(shapely.Polygon(), {})])", "outside its cell"),
        ("({'a': red}, [(shapely.Polygon([(LEFT, TOP), (LEFT + 9, TOP - 9), (LEFT + 9, TOP), (LEFT, TOP - 9)]), {})])",
         "not valid: Self-intersection"),
        ("({'a': red}, [(shapely.Point(LEFT, TOP), {'x': float('nan')})])", "properties"),
        ("({'a': red}, [3])", "no pair"),
    ],
)  # fmt: skip
def test_what_is_no_image_or_feature_is_refused_in_a_sentence(expression: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        returned(expression)


def test_numbers_of_numpy_are_properties_too() -> None:
    _, features = returned("({'a': red}, [(shapely.Point(LEFT, TOP), {'x': np.float32(0.5), 'n': np.int16(3)})])")

    assert json.loads(features[0][1]) == {"x": 0.5, "n": 3}


def test_no_data_of_integers_is_no_number_among_floats() -> None:
    images, _ = returned("{'a': red * 0.5, 'b': np.where(red > 0, cell.nodata, red)}")

    assert np.isnan(images["b"]).all()


@pytest.mark.parametrize(
    "expression",
    [
        "{('a' if cell.transform[2] == LEFT else 'b'): cell.values[0, 0]}",
        "{'a': cell.values[0, 0] * (1 if cell.transform[2] == LEFT else 0.5)}",
    ],
)
def test_images_of_other_names_or_kinds_in_some_cells_are_refused(
    site: Site, main: Any, tmp_path: Path, expression: str
) -> None:
    site.scene("one", noisy(1))
    (tmp_path / "mine.py").write_text(f"{HEAD}def mine(cell):\n    return {expression}\n")

    status, _, err = main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--cell", 64, "--function",
        f"{tmp_path}/mine.py:mine",
    )  # fmt: skip

    assert status == 2
    assert "in all cells" in err
    assert not (tmp_path / "run/result.json").exists()
