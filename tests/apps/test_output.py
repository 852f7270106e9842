from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps import _output
from apps._output import RunFolder
from core import ConfigError, FanfoldError


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_appear_together_when_published(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.publish({"result.json": b"{}", "a.csv": b"1"})

    assert listing(tmp_path / "run") == {"result.json", "a.csv"}


def test_a_folder_in_use_by_another_process_is_refused_with_its_number(tmp_path: Path) -> None:
    hold = f"from apps._output import RunFolder; f = RunFolder({str(tmp_path)!r}); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"is in use by another run \(process {other.pid}\)"):
            RunFolder(tmp_path)
        other.communicate("\n")


def test_a_folder_left_by_a_killed_run_is_tidied_and_taken_over(tmp_path: Path) -> None:
    hold = (
        "import os; from apps._output import RunFolder\n"
        f"f = RunFolder({str(tmp_path)!r}); os.mkdir(f.path / '.partial-1'); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        other.kill()

    with RunFolder(tmp_path) as folder:
        folder.publish({"result.json": b"{}"})

    assert listing(tmp_path) == {"result.json"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_at_the_last_file_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write = _output._write_through

    def failing(path: Path, content: bytes) -> None:
        if path.name == "result.json":
            raise OSError(code, os.strerror(code))
        write(path, content)

    monkeypatch.setattr(_output, "_write_through", failing)
    with pytest.raises(FanfoldError, match="nothing was written"), RunFolder(tmp_path / "run") as folder:
        folder.publish({"a.csv": b"1", "result.json": b"{}"})

    assert not (tmp_path / "run").exists()


def test_the_final_file_is_the_last_to_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(b).name), replace(a, b)))

    with RunFolder(tmp_path) as folder:
        folder.publish({"result.json": b"{}", "b": b"", "a": b""})

    assert order == ["b", "a", "result.json"]


def test_a_failed_run_removes_only_what_it_made(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with pytest.raises(RuntimeError), RunFolder(kept / "new" / "run"):
        raise RuntimeError

    assert listing(kept) == set()

    (kept / "mine.txt").write_text("x")
    with pytest.raises(RuntimeError), RunFolder(kept):
        raise RuntimeError

    assert listing(kept) == {"mine.txt"}


def test_a_finished_folder_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")

    with pytest.raises(ConfigError, match="add --overwrite"):
        RunFolder(tmp_path)
    with RunFolder(tmp_path, overwrite=True) as folder:
        folder.publish({"result.json": b"new"})

    assert (tmp_path / "result.json").read_bytes() == b"new"
    assert listing(tmp_path) == {"result.json"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(ConfigError, match="permission denied"):
        RunFolder(tmp_path / "run")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="not a directory; choose another with --output"):
        RunFolder(tmp_path / "file" / "run")


def test_run_paths_differ() -> None:
    assert _output.new_run_path("runs").parent == Path("runs")
    assert len({_output.new_run_path("runs") for _ in range(20)}) > 15
