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
from apps.face_align.dataset import read
from apps.face_align.demo import PORTRAIT, photographs
from core import ConfigError

Main = Callable[[Sequence[str]], tuple[int, str, str]]
Batch = Callable[..., Path]


def test_without_arguments_a_demonstration_runs(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    status, out, _ = main(["--compute", "serial"])

    runs = list((tmp_path / "face-align-runs").iterdir())
    assert status == 0
    assert len(runs) == 1
    assert len(list((runs[0] / "faces").glob("[!.]*/*.*"))) == 13
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
    assert "crops of 1 image could not be written" in err


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
    assert '<a href="a/00.png"><img alt="a/00.png" src="data:image/jpeg;base64,' in html
    assert "<figcaption>a/01.png</figcaption>" in html
    assert "iBUG 300-W" in html


def test_the_same_command_again_shows_what_there_is(main: Main, batch: Batch, tmp_path: Path) -> None:
    command = [str(batch(2)), "--output", str(tmp_path / "faces"), "--compute", "serial", "--json"]
    first = main(command)
    before = (tmp_path / "faces/report.html").stat().st_mtime_ns

    again = main(command)

    assert json.loads(again[1]) == json.loads(first[1])
    assert (tmp_path / "faces/report.html").stat().st_mtime_ns == before


def test_a_run_is_resumed_by_its_address_alone(
    main: Main, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.face_align import aligning, batches

    def interrupted(item: Any, storage: Any) -> bytes:
        if item.name == "a/01.png":
            raise KeyboardInterrupt
        return read(item, storage)

    monkeypatch.chdir(batch(2).parent)
    monkeypatch.setattr(batches, "BATCH_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(aligning, "read", interrupted)
    stopped = main(["photographs", "--output", "faces", "--size", "64", "--compute", "serial", "--quiet"])
    monkeypatch.undo()
    monkeypatch.chdir("/")

    resumed = main(["resume", str(tmp_path / "faces"), "--json", "--compute", "serial"])

    assert stopped[0] == 130
    assert "python -m apps.face_align resume faces --compute serial" in stopped[2]
    found = json.loads(resumed[1])
    assert (found["status"]["ok"], found["aligned_now"], found["kept_from_earlier"]) == (2, 1, 1)
    assert (tmp_path / "faces/a/01.png").exists()


def test_other_parameters_are_refused_by_name(main: Main, batch: Batch, tmp_path: Path) -> None:
    command = [str(batch(1)), "--output", str(tmp_path / "faces"), "--compute", "serial", "--quiet"]
    main(command)

    status, out, err = main([*command, "--upsample", "0"])

    assert (status, out) == (2, "")
    assert "--upsample 0: run" in err
    assert "was begun with 1" in err


def test_status_says_how_far_a_run_is(main: Main, batch: Batch, tmp_path: Path) -> None:
    main([str(batch(1)), "--output", str(tmp_path / "faces"), "--compute", "serial", "--quiet"])

    found = json.loads(main(["status", str(tmp_path / "faces"), "--json"])[1])

    assert (found["app"], found["state"]) == ("apps.face_align", "finished")


def test_parameters_may_stand_in_a_file(main: Main, batch: Batch, tmp_path: Path) -> None:
    settings = f'source = "{batch(1)}"\noutput = "{tmp_path}/faces"\nsize = 64\nselect = "all"\n'
    (tmp_path / "run.toml").write_text(settings + '[execution]\ncompute = "serial"\n')

    found = json.loads(main(["--config", str(tmp_path / "run.toml"), "--json"])[1])

    assert found["crops"] == 1
    assert (tmp_path / "faces/a/00.face1.png").exists()


def test_the_aligner_is_validated_where_it_runs(main: Main) -> None:
    status, out, _ = main(["validate", "--compute", "process", "--json", "--quiet"])

    found = json.loads(out)
    assert status == 0
    assert (found["compute"], found["failed"], len(found["checks"])) == ("process", 0, 17)


def test_validation_says_what_differs_and_fails(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.face_align import validation

    monkeypatch.setitem(validation.DIGESTS["inner-eyes"], "far", "0123456789abcdef")

    status, out, _ = main(["validate", "--compute", "serial"])

    assert status == 1
    assert "crop, far, inner-eyes        stored digest         0123456789abcdef  1bee30bba62ba7b6  DIFFERS" in out
    assert "1 of 17 checks failed" in out


def test_a_contact_sheet_names_each_crop(main: Main, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "in").mkdir()
    sheets = []
    for name in ("a.png", "a name that is much longer than the crop.png"):
        (tmp_path / "in/a.png").unlink(missing_ok=True)
        (tmp_path / "in" / name).write_bytes((photographs() / PORTRAIT).read_bytes())
        main([str(tmp_path / "in"), "--output", str(tmp_path / name[:4]), "--compute", "serial", "--quiet"])
        sheets.append(cv2.imread(str(tmp_path / name[:4] / "contact-sheet.png")))

    short, long = (sheet[6 + 180 : 6 + 180 + 13] for sheet in sheets)
    assert np.array_equal(sheets[0][6:186, 6:186], sheets[1][6:186, 6:186])
    assert (short < 128).any()
    assert (long < 128).sum() > 2 * (short < 128).sum()
    assert (long[:, -6:] == 255).all()


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
