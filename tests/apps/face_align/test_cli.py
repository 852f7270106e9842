from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.face_align import models, packages
from core import ConfigError

Main = Callable[[Sequence[str]], tuple[int, str, str]]
Batch = Callable[..., Path]


def test_without_arguments_a_demonstration_runs(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    status, out, _ = main(["--compute", "serial"])

    runs = list((tmp_path / "face-align-runs").iterdir())
    assert status == 0
    assert len(runs) == 1
    assert len(list((runs[0] / "faces").rglob("*/*.*"))) == 13
    assert f"Report: {runs[0]}/faces/report.html" in out


def test_the_help_states_the_licence_of_the_models(main: Main) -> None:
    status, out, _ = main(["--help"])

    assert status == 0
    assert "excludes commercial" in out
    assert "--landmark-model" in out


def test_a_dry_run_writes_nothing(main: Main, batch: Batch, tmp_path: Path) -> None:
    status, out, _ = main([str(batch(3)), "--output", str(tmp_path / "faces"), "--dry-run"])

    assert status == 0
    assert "To align   3; 0 kept" in out
    assert "1 invocation, " in out
    assert "7 storage requests\nCost       nothing on your own machines" in out
    assert not (tmp_path / "faces").exists()


def test_json_is_one_object(main: Main, batch: Batch, tmp_path: Path) -> None:
    source = str(batch(1))
    flags = [source, "--output", str(tmp_path / "faces"), "--compute", "serial", "--json"]

    planned, done = json.loads(main([*flags, "--dry-run"])[1]), json.loads(main(flags)[1])

    assert (planned["to_align"], done["status"]["ok"]) == (1, 1)
    assert (planned["charged"]["invocations"], planned["charged"]["requests"]) == (1, 3)


def test_an_output_that_cannot_be_written_ends_with_status_one(main: Main, batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "faces/a/00.png").mkdir(parents=True)

    status, _, err = main([str(batch(1)), "--output", str(tmp_path / "faces"), "--compute", "serial", "--quiet"])

    assert status == 1
    assert "1 crops could not be written" in err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--size", "3"], "--size 3: expected a whole number from 8 to 4096"),
        (["--landmarks", "nose"], "--landmarks nose: expected one of inner-eyes, outer-eyes, five-points"),
        (["--quality", "0"], "--quality 0: expected a whole number from 1 to 100"),
        (["--upsample", "9"], "--upsample 9: expected a whole number from 0 to 4"),
        (["--select", "all", "--skip-multi"], "--skip-multi drops what --select all is for; drop one of the two"),
        (["--landmark-model", "/no/such.dat"], "there is no object 'such.dat' in file:///no"),
        (["--output", "/proc/faces"], ""),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    flags: list[str], sentence: str, main: Main, batch: Batch, tmp_path: Path
) -> None:
    given = ["--output", str(tmp_path / "faces"), *flags, "--compute", "serial", "--quiet"]

    status, out, err = main([str(batch(1)), *given])

    assert status in (1, 2)
    assert out == ""
    assert err.strip().startswith("apps.face_align: " + sentence)
    assert "Traceback" not in err


def test_a_source_without_images_is_wrong_input(main: Main, tmp_path: Path) -> None:
    status, _, err = main([str(tmp_path / "nothing"), "--output", str(tmp_path / "faces")])

    assert status == 2
    assert "there is no file or folder" in err


def test_a_model_that_is_none_is_wrong_input(main: Main, batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "model.dat").write_bytes(b"nothing of the kind" * 100)

    status, _, err = main([str(batch(1)), "--landmark-model", str(tmp_path / "model.dat"), "--quiet"])

    assert status == 2
    assert "not a dlib shape predictor" in err


def test_a_model_with_other_landmarks_is_wrong_input(main: Main, batch: Batch) -> None:
    five = str(models.packaged("five-points"))

    status, _, err = main([str(batch(1)), "--landmark-model", five, "--quiet"])

    assert status == 2
    assert "has 5 landmarks, but --landmarks inner-eyes" in err


def test_a_model_may_be_packed(main: Main, batch: Batch, tmp_path: Path) -> None:
    import bz2

    (tmp_path / "five.dat.bz2").write_bytes(bz2.compress(models.packaged("five-points").read_bytes(), 1))
    flags = ["--landmarks", "five-points", "--compute", "serial", "--quiet"]

    source = str(batch(1))
    plain = main([source, *flags, "--output", str(tmp_path / "plain")])
    packed = main(
        [source, *flags, "--landmark-model", str(tmp_path / "five.dat.bz2"), "--output", str(tmp_path / "own")]
    )

    assert (plain[0], packed[0]) == (0, 0)
    assert (tmp_path / "plain/a/00.png").read_bytes() == (tmp_path / "own/a/00.png").read_bytes()


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"needs cv2, dlib, .*; run pip install 'fanfold\[faces\]'"):
        packages.check_installed()


def test_another_opencv_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.__version__", "5.0.0")

    with pytest.raises(ConfigError, match="OpenCV 5.0.0 computes other pixels"):
        packages.check_installed()


def test_a_report_shows_counts_failures_and_the_command(main: Main, batch: Batch, tmp_path: Path) -> None:
    import cv2

    source = batch(2, **{"a<b__png": b""})
    main([str(source), "--output", str(tmp_path / "faces"), "--size", "64", "--compute", "serial", "--quiet"])

    html = (tmp_path / "faces/report.html").read_text()
    sheet: Any = cv2.imread(str(tmp_path / "faces/contact-sheet.png"))
    assert "the file is empty" in html
    assert "a&lt;b.png" in html
    assert f"python -m apps.face_align {source} --output file://{tmp_path}/faces --size 64" in html
    crop = cv2.imread(str(tmp_path / "faces/a/00.png"))
    assert np.array_equal(sheet[6:70, 6:70], crop)
    assert 'src="data:image/png' in html
    assert "iBUG 300-W" in html


def test_a_batch_without_a_face_has_a_report_without_a_sheet(main: Main, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/empty.png").write_bytes(b"")

    status, _, _ = main([str(tmp_path / "in"), "--output", str(tmp_path / "faces"), "--compute", "serial", "--quiet"])

    assert status == 0
    assert (tmp_path / "faces/report.html").exists()
    assert not (tmp_path / "faces/contact-sheet.png").exists()


def test_without_the_packages_the_command_says_what_adds_them(tmp_path):
    code = "import sys; sys.modules['cv2'] = None; from apps.face_align.__main__ import main; sys.exit(main([]))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env)

    assert ended.returncode == 2
    assert "pip install 'fanfold[faces]'" in ended.stderr
    assert list(tmp_path.iterdir()) == []
