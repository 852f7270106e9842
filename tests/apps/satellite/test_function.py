"""What a user's function may return, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.satellite.function import CellStack, UserFunction, call, load
from core import ConfigError, InputError
from tests.apps.satellite.conftest import Site, noisy

HEAD = "import numpy as np\nimport shapely\nLEFT, TOP = 500_000, 5_000_000\n"
STACK = CellStack(
    np.full((1, 1, 64, 64), 700, np.int16), np.ones((1, 64, 64), bool), ("red",), ("2024-06-01T10:00:00Z",),
    (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), 32632,
)  # fmt: skip


def returned(expression: str) -> Any:
    """Return what becomes of what a function returns; `red` is an image there."""
    source = f"{HEAD}def mine(cell):\n    red = cell.values[0, 0]\n    return {expression}\n"
    return call(UserFunction("mine.py", "mine", source), STACK)


def values(function: UserFunction | None) -> int:
    """Return the number of which the image `a` consists that a function returns."""
    assert function is not None
    (number,) = np.unique(call(function, STACK)[0]["a"])
    return int(number)


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


def written(folder: Path, files: dict[str, str]) -> str:
    """Write modules, `mine.py` among them; returns what names its function."""
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return f"{folder}/mine.py:mine"


SCALED = "def mine(cell):\n    from factor import FACTOR\n    return {'a': cell.values[0, 0] * FACTOR}\n"
HALVED = "import index.ratio as ratio\n\n\ndef mine(cell):\n    return {'a': ratio.half(cell.values[0, 0])}\n"
RATIO = "from .deep.low import TWO\nimport shift\n\n\ndef half(image):\n    return image // TWO + shift.BY\n"


def test_modules_beside_a_function_are_known_by_content_and_never_those_of_another_one(tmp_path: Path) -> None:
    given = [
        written(tmp_path / str(number), {"mine.py": SCALED, "factor.py": f"FACTOR = {number}\n"}) for number in (2, 3)
    ]

    made = [values(load(given[at])) for at in (0, 1, 0)]

    assert made == [1400, 2100, 1400]
    assert "factor" not in sys.modules


def test_a_package_beside_a_function_comes_along_with_what_it_imports_itself(tmp_path: Path) -> None:
    files = {"mine.py": HALVED, "shift.py": "BY = 1\n", "index/__init__.py": "", "index/ratio.py": RATIO}
    given = written(tmp_path, {**files, "index/deep/__init__.py": "", "index/deep/low.py": "TWO = 2\n"})

    assert values(load(given)) == 351


def test_a_module_beside_a_function_that_hides_one_of_python_is_refused(tmp_path: Path) -> None:
    given = written(tmp_path, {"mine.py": "import json\n\n\ndef mine(cell):\n    return {}\n", "json.py": ""})

    with pytest.raises(ConfigError, match=r"json\.py has the name of a module of Python's own"):
        load(given)


def test_a_run_whose_function_has_another_module_beside_it_is_refused(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", noisy(1))
    given = written(tmp_path, {"mine.py": SCALED, "factor.py": "FACTOR = 1\n"})
    arguments = ("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--cell", 64, "--function", given)
    assert main(*arguments)[0] == 0
    (tmp_path / "factor.py").write_text("FACTOR = 0\n")

    status, _, err = main(*arguments)

    assert status == 2
    assert "--function" in err
