"""Drivers killed for real, and files damaged between two of them: the same bytes as of an undisturbed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core import FunctionExecutor
from tests.apps.satellite.conftest import Site, noisy
from tests.servers.held import kill_held, start_held


def published(run: Path) -> dict[str, bytes]:
    files = (path for path in sorted(run.rglob("*")) if path.is_file() and ".run" not in path.parts)
    return {str(path.relative_to(run)): path.read_bytes() for path in files if not path.name.startswith("manifest.")}


def test_a_driver_killed_again_and_again_leaves_what_an_undisturbed_one_does(
    site: Site, tmp_path: Path, drawing_main: Any
) -> None:
    for date, epsg in enumerate((32632, 32632, 32633), 1):
        site.scene(f"s{date}", noisy(date, 192), when=f"2024-06-0{date}T10:00:00Z", epsg=epsg)
    arguments = ["run", "--input", f"{site.folder}/", "--cell", "64"]
    assert drawing_main(*arguments, "--output", tmp_path / "whole")[0] == 0
    target, count = tmp_path / "run", tmp_path / "count"

    for most in (5, 15):  # of 3 scenes and 18 cells
        driver = start_held("apps.satellite.__main__", count, most, *arguments, "--output", str(target), cwd=tmp_path)
        kill_held(driver, count, most)
        assert not (target / "result.json").exists()
    last = start_held("apps.satellite.__main__", count, 1000, *arguments, "--output", str(target), cwd=tmp_path)
    said = last.communicate(timeout=200)

    assert last.returncode == 0, said
    assert published(target) == published(tmp_path / "whole")


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_cell_that_was_damaged_meanwhile_is_computed_again(
    site: Site, main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for date in range(2):
        site.scene(f"s{date}", noisy(date), when=f"2024-06-0{date + 1}T10:00:00Z")
    arguments = ("run", "--input", f"{site.folder}/", "--cell", 64)
    main(*arguments, "--output", tmp_path / "whole")

    with monkeypatch.context() as patched:
        patched.setattr("apps.satellite.stages._publish", full_disk)
        status, _, err = main(*arguments, "--output", tmp_path / "run")
    assert (status, "Resume with" in err) == (1, True)
    first, second, *_ = sorted((tmp_path / "run").glob("cells/*/*/composite.tif"))
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    second.unlink()

    status, _, err = main("resume", tmp_path / "run")

    assert status == 0, err
    assert published(tmp_path / "run") == published(tmp_path / "whole")


@pytest.mark.parametrize(("stage", "following"), [("merge", "parts_of"), ("publish", "_publish")])
def test_shapes_that_were_lost_meanwhile_are_computed_again(
    stage: str, following: str, site: Site, main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.scene("one", noisy(1))
    arguments = ("run", "--input", f"{site.folder}/", "--cell", 64)
    main(*arguments, "--output", tmp_path / "whole")

    with monkeypatch.context() as patched:
        patched.setattr(f"apps.satellite.stages.{following}", full_disk)
        main(*arguments, "--output", tmp_path / "run")
    written = list((tmp_path / "run").rglob(f"{stage}/*.parquet"))
    for path in written:
        path.unlink()
    status, _, err = main("resume", tmp_path / "run")

    assert written
    assert status == 0, err
    assert published(tmp_path / "run") == published(tmp_path / "whole")


def test_workers_that_do_not_reach_the_run_give_the_same_files(
    site: Site, main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for date in range(2):
        site.scene(f"s{date}", noisy(date), when=f"2024-06-0{date + 1}T10:00:00Z")
    arguments = ("run", "--input", f"{site.folder}/", "--cell", 64)
    main(*arguments, "--output", tmp_path / "whole")
    monkeypatch.setattr(FunctionExecutor, "reaches", lambda self, storage: False)

    status, _, err = main(*arguments, "--output", tmp_path / "run")

    assert status == 0, err
    assert published(tmp_path / "run") == published(tmp_path / "whole")
