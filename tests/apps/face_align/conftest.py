from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dlib", reason="needs dlib: pip install '.[faces]'")
cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install '.[faces]'")
pytest.importorskip("skimage", reason="needs the photographs of scikit-image: pip install '.[faces]'")

from apps.face_align import demo  # noqa: E402
from apps.face_align.naming import RESULTS  # noqa: E402
from core import FunctionExecutor  # noqa: E402

Batch = Callable[..., Path]


@pytest.fixture(scope="session")
def head() -> Any:
    """Head and shoulders of a portrait, RGB, (300, 300, 3)."""
    return cv2.cvtColor(demo.portrait(), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="session")
def serial() -> Iterator[FunctionExecutor]:
    with FunctionExecutor("serial") as executor:
        yield executor


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Write a folder of `count` portraits turned by different angles, and of the files given by name."""

    def write(count: int = 3, **files: bytes) -> Path:
        folder = tmp_path / "photographs"
        (folder / "a").mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = demo.variant(demo.portrait(), angle=number - 9.0)
            cv2.imwrite(str(folder / f"a/{number:02d}.png"), image)
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_bytes(content)
        return folder

    return write


@pytest.fixture
def main(capfd: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], tuple[int, str, str]]:
    """Run the command line in this process; gives its exit status, standard output and standard error."""
    from apps.face_align.__main__ import main as entry

    def call(argv: Sequence[str]) -> tuple[int, str, str]:
        try:
            status = entry(argv)
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return call


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The manifest below a destination, as any program reads it."""
    return list(csv.DictReader(io.StringIO((folder / "manifest.csv").read_text("utf-8"))))


def contents(folder: Path) -> dict[str, bytes]:
    """The crops below a destination by key."""
    results = {*RESULTS, "manifest.json"}
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if str(path.relative_to(folder)) not in results and ".run" not in path.parts
    }


@pytest.fixture
def crops_in() -> Callable[[Path], dict[str, bytes]]:
    return contents
