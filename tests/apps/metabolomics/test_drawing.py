"""Pictures that tasks draw are those that a report draws where it is made again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from apps._frame import App, Command, Session
from apps.metabolomics import drawing
from apps.metabolomics.annotated import read_run
from apps.metabolomics.params import Params
from apps.metabolomics.publishing import files


@pytest.mark.parametrize("norm", ["none", "tic"])
def test_tasks_draw_what_a_report_draws_by_itself(make_run, tmp_path: Path, norm):
    run = make_run(count=24, norm=norm)
    ions = run.ions.column("ion").to_pylist()
    called = []

    def command(session: Session, params: Params) -> None:
        with session.open_run(("result.json",)) as opened:
            tags = {info.key: info.etag for info in run.storage.list("ion_images/")}
            draw = drawing.by_tasks(session.stages(opened, ["draw"]), run.storage.address, tags)
            drawn, alone = draw(run, ions, True, lambda: called.append(1)), drawing.here(run, ions, True, list)
            for ion in [*ions, ions[0]]:
                assert drawn(ion).row == alone(ion).row
                assert list(drawn(ion).tops) == list(alone(ion).tops)
                assert list(drawn(ion).files) == list(alone(ion).files)
            opened.publish({"result.json": b"{}"})

    app = App("apps.metabolomics", [Command("annotate", Params, command, output="runs")])
    assert app.main(["annotate", "--output", str(tmp_path / "drawn"), "--compute", "serial"]) == 0
    assert called == [1]


def test_a_report_made_again_has_the_same_bytes(planted, annotate, tmp_path: Path):
    dataset, database = planted
    annotate("annotate", dataset, "--db", database, "--output", "run", "--fdr", "0.5", "--norm", "tic")
    before = {path: _hash(path) for path in _pictures(tmp_path / "run")}

    annotate("report", "run")

    assert len(before) > 8
    assert {path: _hash(path) for path in _pictures(tmp_path / "run")} == before
    page = files(read_run(str(tmp_path / "run")))["report.html"]
    assert (tmp_path / "run/report.html").read_bytes() == b"".join([page] if isinstance(page, bytes) else page)


def _pictures(folder: Path) -> list[Path]:
    return [folder / "report.html", *sorted((folder / "images").iterdir())]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
