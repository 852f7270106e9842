from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from apps._frame.manifest import STAGES
from apps._frame.report import FOLDER
from apps._frame.stages import Stage, Stages, TaskOutput
from apps._frame.stored import commit
from apps.face_align import align, aligning, batches, demo, stages
from apps.face_align.aligning import align_batch
from apps.face_align.batches import Batch as Images
from apps.face_align.batches import Work, look_for, plan_work
from apps.face_align.dataset import Item, read
from apps.face_align.naming import RESULTS
from apps.face_align.params import Params
from apps.face_align.result import Done, Row, from_json, to_csv, to_json, to_parquet
from core import ConfigError, FunctionExecutor, InputError, open_storage

Batch = Callable[..., Path]
Crops = Callable[[Path], dict[str, bytes]]


def encoded(image: Any, extension: str = ".png") -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def rows_of(folder: Path) -> dict[str, Any]:
    table = pq.read_table(folder / "manifest.parquet").to_pylist()
    return {row["key"]: SimpleNamespace(**row) for row in table}


def planned(source: Path, destination: Path, executor: FunctionExecutor, **options: Any) -> Work:
    """What a run would have to do."""
    job, found = look_for(Params(source=str(source), **options), str(destination), executor)
    return plan_work(job, found, executor.workers)


def aligned(work: Work, at: int, folder: Path, attempt: int = 0) -> None:
    """Align one batch as a worker does, and commit it."""
    base = f"{STAGES}align/task-{at}"
    done = align_batch(work.batches[at], work.job, TaskOutput(f"file://{folder}", base, attempt))
    commit(open_storage(str(folder)), base, to_json(done))


def test_three_lines_do_it(batch: Batch, tmp_path: Path, crops_in: Crops) -> None:
    result = align(batch(2), tmp_path / "faces")

    assert set(crops_in(tmp_path / "faces")) == {"a/00.png", "a/01.png"}
    assert result.counts["ok"] == 2
    assert {path.name for path in (tmp_path / "faces").iterdir()} == {"a", "manifest.json", ".run", *RESULTS} - {FOLDER}


def test_the_manifest_says_what_was_done(batch: Batch, tmp_path: Path, serial: FunctionExecutor) -> None:
    align(batch(1), tmp_path / "faces", executor=serial, size=100)

    row = rows_of(tmp_path / "faces")["a/00.png"]
    image = cv2.imread(str(tmp_path / "photographs/a/00.png"))
    expected = cv2.warpAffine(image, np.array(row.matrix).reshape(2, 3), (100, 100))
    assert np.array_equal(cv2.imread(str(tmp_path / "faces/a/00.png")), expected)
    assert (row.status, row.faces, row.face, row.output, len(row.points)) == ("ok", 1, 1, "a/00.png", 136)
    assert row.left is not None
    assert row.right is not None
    assert row.left < row.points[2 * 30] < row.right
    assert row.ms > 0


def test_the_same_crops_for_any_number_of_workers(batch: Batch, tmp_path: Path, crops_in: Crops) -> None:
    source = batch(8, **{"cut__jpg": encoded(demo.portrait(), ".jpg")[:3000], "empty__png": b""})
    outcomes = []
    for workers in (1, 2, 4):
        with FunctionExecutor(workers=workers) as executor:
            result = align(source, tmp_path / str(workers), executor=executor)
        rows = [(row.key, row.status, row.points, row.matrix) for row in result.rows]
        outcomes.append((crops_in(tmp_path / str(workers)), rows))

    assert len(outcomes[0][0]) == 8
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_every_fault_is_a_row_and_no_stop(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.face_align.science.images.MAX_PIXELS", 2_000_000)
    head = demo.portrait()
    source = batch(
        1,
        empty__png=b"",
        text__jpg=b"not an image",
        cut__jpg=encoded(head, ".jpg")[:4000],
        huge__png=encoded(np.zeros((1500, 1500, 3), np.uint8)),
        nobody__png=(demo.photographs() / "coffee.png").read_bytes(),
        tiny__png=encoded(head[:3, :3]),
        thin__png=encoded(head[:1]),
    )

    align(source, tmp_path / "faces", executor=serial)

    assert {key: row.status for key, row in rows_of(tmp_path / "faces").items()} == {
        "a/00.png": "ok",
        "cut.jpg": "decode_error",
        "empty.png": "decode_error",
        "huge.png": "too_large",
        "nobody.png": "no_face",
        "text.jpg": "decode_error",
        "thin.png": "no_face",
        "tiny.png": "no_face",
    }


def test_a_file_that_vanishes_is_a_row(batch: Batch, tmp_path: Path, serial: FunctionExecutor) -> None:
    source = batch(2)
    work = planned(source, tmp_path / "faces", serial)
    (source / "a/01.png").unlink()

    rows = align_batch(work.batches[0], work.job, TaskOutput(f"file://{tmp_path}/faces", "x", 0)).rows

    assert [row.status for row in rows] == ["ok", "read_error"]
    assert "a/01.png" in rows[1].reason


def test_a_crop_that_cannot_be_written_is_a_row(batch: Batch, tmp_path: Path, serial: FunctionExecutor) -> None:
    source = batch(2)
    (tmp_path / "faces/a/00.png").mkdir(parents=True)

    result = align(source, tmp_path / "faces", executor=serial)

    assert [row.status for row in result.rows] == ["write_error", "ok"]
    assert [row.output for row in result.rows] == ["", "a/01.png"]


def test_an_image_of_which_one_crop_could_not_be_written_counts_as_unwritten(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    (tmp_path / "faces/two.face2.png/kept").mkdir(parents=True)

    result = align(batch(1, two__png=two_faces()), tmp_path / "faces", executor=serial, select="all")

    assert [row.status for row in result.rows] == ["ok", "ok", "write_error"]
    assert {name: count for name, count in result.counts.items() if count} == {"ok": 1, "write_error": 1}


def test_a_storage_that_does_not_answer_fails_the_batch_to_be_tried_again(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serial: FunctionExecutor
) -> None:
    work = planned(batch(1), tmp_path / "faces", serial)

    def refuse(item: Item, storage: Any) -> bytes:
        raise ConnectionError("away")

    monkeypatch.setattr(aligning, "read", refuse)

    with pytest.raises(ConnectionError):
        align_batch(work.batches[0], work.job, TaskOutput(f"file://{tmp_path}/faces", "x", 0))
    assert not (tmp_path / "faces").exists()
    assert isinstance(ConnectionError(), stages.RETRIES.retry_on)


def test_what_is_unchanged_is_not_done_again(batch: Batch, tmp_path: Path, serial: FunctionExecutor) -> None:
    source = batch(3, empty__png=b"")
    align(source, tmp_path / "faces", executor=serial)
    (source / "a/01.png").write_bytes((source / "a/02.png").read_bytes())
    (tmp_path / "faces/a/00.png").unlink()

    result = align(source, tmp_path / "faces", executor=serial)

    assert result.batches == (2,)
    assert [row.status for row in result.rows] == ["ok", "ok", "ok", "decode_error"]
    assert (tmp_path / "faces/a/01.png").read_bytes() == (tmp_path / "faces/a/02.png").read_bytes()
    assert (tmp_path / "faces/a/00.png").exists()


def test_a_run_with_other_parameters_is_refused_by_their_name(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor, crops_in: Crops
) -> None:
    source = batch(2)
    align(source, tmp_path / "faces", executor=serial)
    before = crops_in(tmp_path / "faces")

    with pytest.raises(ConfigError, match="--size 90: run .* was begun with 180; .* or add --overwrite"):
        align(source, tmp_path / "faces", executor=serial, size=90)

    assert crops_in(tmp_path / "faces") == before


@pytest.mark.parametrize("change", [{"size": 90}, {"landmarks": "outer-eyes"}, {}])
def test_everything_is_done_again_on_demand(
    change: dict[str, Any], batch: Batch, tmp_path: Path, serial: FunctionExecutor, crops_in: Crops
) -> None:
    source = batch(2)
    align(source, tmp_path / "faces", executor=serial)
    fresh = align(source, tmp_path / "fresh", executor=serial, **change)

    result = align(source, tmp_path / "faces", executor=serial, overwrite=True, **change)

    assert result.batches == fresh.batches == (2,)
    assert crops_in(tmp_path / "faces") == crops_in(tmp_path / "fresh")


def test_a_run_that_was_stopped_goes_on_after_its_last_commit(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor, monkeypatch: pytest.MonkeyPatch, crops_in: Crops
) -> None:
    monkeypatch.setattr(batches, "BATCH_SECONDS", (0.0, 0.0))
    source = batch(4)
    whole = align(source, tmp_path / "whole", executor=serial)
    monkeypatch.setattr(stages, "finish", lambda *_: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        align(source, tmp_path / "faces", executor=serial)
    work = planned(source, tmp_path / "faces", serial)
    for at in range(2):
        aligned(work, at, tmp_path / "faces")
    stopped = crops_in(tmp_path / "faces")
    monkeypatch.undo()
    monkeypatch.setattr(batches, "BATCH_SECONDS", (0.0, 0.0))

    result = align(source, tmp_path / "faces", executor=serial)

    assert len(stopped) == 2
    assert result.batches == (1, 1)
    assert crops_in(tmp_path / "faces") == crops_in(tmp_path / "whole")
    assert [(row.key, row.points) for row in result.rows] == [(row.key, row.points) for row in whole.rows]


def test_a_further_attempt_begins_after_what_the_last_one_put_beside(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligning, "COMMIT_SECONDS", 0.0)
    work = planned(batch(4), tmp_path / "faces", serial)
    begun: list[str] = []

    def fail_third(item: Item, storage: Any) -> bytes:
        begun.append(item.name)
        if item.name == "a/02.png" and begun.count("a/02.png") == 1:
            raise ConnectionError("away")
        return read(item, storage)

    monkeypatch.setattr(aligning, "read", fail_third)
    with pytest.raises(ConnectionError):
        align_batch(work.batches[0], work.job, TaskOutput(f"file://{tmp_path}/faces", "x", 0))
    begun_first, begun[:] = set(begun), ["a/02.png"]

    done = align_batch(work.batches[0], work.job, TaskOutput(f"file://{tmp_path}/faces", "x", 1))

    assert begun_first >= {"a/00.png", "a/01.png", "a/02.png"}
    assert set(begun) == {"a/02.png", "a/03.png"}
    assert [row.key for row in done.rows] == ["a/00.png", "a/01.png", "a/02.png", "a/03.png"]
    assert [row.status for row in done.rows] == ["ok"] * 4


def test_a_run_that_lost_its_driver_within_a_batch_keeps_what_the_batch_put_beside(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligning, "COMMIT_SECONDS", 0.0)
    source = batch(3)
    work = planned(source, tmp_path / "faces", serial)
    two = Images(work.batches[0].items[:2])
    align_batch(two, work.job, TaskOutput(f"file://{tmp_path}/faces", f"{STAGES}align/task", 0))

    left = planned(source, tmp_path / "faces", serial)

    assert [row.key for row in left.kept] == ["a/00.png", "a/01.png"]
    assert left.pending == 1


def test_an_image_whose_crop_could_not_be_written_is_done_again(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = batch(2)
    (tmp_path / "faces/a/00.png").mkdir(parents=True)
    align(source, tmp_path / "faces", executor=serial)
    (tmp_path / "faces/a/00.png").rmdir()

    result = align(source, tmp_path / "faces", executor=serial)
    again = align(source, tmp_path / "faces", executor=serial)

    assert [row.status for row in result.rows] == ["ok", "ok"]
    assert (result.pending, again.pending) == (1, 0)


def test_a_source_that_has_lost_an_image_has_a_manifest_without_it(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = batch(2)
    align(source, tmp_path / "faces", executor=serial)
    (source / "a/01.png").unlink()

    result = align(source, tmp_path / "faces", executor=serial)

    assert result.pending == 0
    assert set(rows_of(tmp_path / "faces")) == {"a/00.png"}


@pytest.mark.parametrize(
    ("mine", "options"),
    [
        ("a/00.png", {}),
        ("a/00.jpg", {"format": "jpg"}),
        ("a/00.face1.png", {"select": "all"}),
        ("a/00.face2.png", {"select": "all"}),
        ("report.html", {}),
        ("manifest.csv", {}),
        ("contact-sheet.png", {}),
    ],
)
def test_a_file_of_the_users_own_is_never_replaced(
    mine: str, options: dict[str, Any], batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = batch(1)
    (tmp_path / "faces" / mine).parent.mkdir(parents=True)
    (tmp_path / "faces" / mine).write_bytes(b"my own")

    with pytest.raises(ConfigError, match=f"has {mine}, which no run of apps.face_align wrote"):
        align(source, tmp_path / "faces", executor=serial, **options)

    assert [path for path in (tmp_path / "faces").rglob("*") if path.is_file()] == [tmp_path / "faces" / mine]
    assert (tmp_path / "faces" / mine).read_bytes() == b"my own"


@pytest.mark.parametrize("compute", ["serial", "process"])
def test_a_run_that_was_interrupted_before_its_first_commit_goes_on(
    compute: str, batch: Batch, tmp_path: Path, crops_in: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = batch(3)

    def interrupted(*_: Any) -> None:
        while not (tmp_path / "faces/a/00.png").exists():
            pass
        raise KeyboardInterrupt

    with FunctionExecutor(compute, workers=1) as executor:
        monkeypatch.setattr(Stages, "_settled", interrupted)
        if compute == "serial":
            monkeypatch.setattr(Stages, "run", lambda self, stage, **_: align_batch_then(interrupted, stage))
        with pytest.raises(KeyboardInterrupt):
            align(source, tmp_path / "faces", executor=executor)
        monkeypatch.undo()

        result = align(source, tmp_path / "faces", executor=executor)

    assert result.counts["ok"] == 3
    assert len(crops_in(tmp_path / "faces")) == 3


def align_batch_then(interrupt: Callable[..., None], stage: Stage) -> None:
    align_batch(stage.tasks[0], stage.params, TaskOutput(stage.params.destination, "x", 0))
    interrupt()


def test_crops_of_its_own_are_replaced_when_their_images_change(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = batch(1, two__png=two_faces())
    align(source, tmp_path / "faces", executor=serial, select="all")
    before = (tmp_path / "faces/two.face2.png").read_bytes()
    turned = demo.variant(cv2.imdecode(np.frombuffer(two_faces(), np.uint8), cv2.IMREAD_COLOR), angle=3.0)
    (source / "two.png").write_bytes(encoded(turned))

    result = align(source, tmp_path / "faces", executor=serial, select="all")

    assert result.batches == (1,)
    assert (tmp_path / "faces/two.face2.png").read_bytes() != before


COLLISIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "one extension": (["a.jpg", "a.png"], {"format": "png"}),
    "the report": (["contact-sheet.png"], {}),
    "the report, by format": (["contact-sheet.tif"], {"format": "png"}),
    "numbered faces": (["a.jpg", "a.png"], {"select": "all", "format": "webp"}),
}


@pytest.mark.parametrize("name", COLLISIONS)
def test_inputs_that_would_write_the_same_crop_are_refused_before_anything_is_written(
    name: str, tmp_path: Path, serial: FunctionExecutor
) -> None:
    names, settings = COLLISIONS[name]
    source = tmp_path / "photographs"
    source.mkdir()
    for file in names:
        (source / file).write_bytes(encoded(demo.portrait()))

    with pytest.raises(InputError, match="would write over another crop"):
        align(source, tmp_path / "faces", executor=serial, **settings)

    assert not (tmp_path / "faces").exists()


def test_the_same_name_in_two_formats_does_not_collide(tmp_path: Path, serial: FunctionExecutor) -> None:
    source = tmp_path / "photographs"
    source.mkdir()
    for file in ("a.jpg", "a.png"):
        (source / file).write_bytes(encoded(demo.portrait()))

    assert align(source, tmp_path / "faces", executor=serial).counts["ok"] == 2


def test_inputs_are_never_written_over(batch: Batch, serial: FunctionExecutor) -> None:
    source = batch(1)
    before = (source / "a/00.png").read_bytes()

    with pytest.raises(InputError):
        align(source, source, executor=serial)

    assert (source / "a/00.png").read_bytes() == before


def test_results_may_lie_below_the_source(batch: Batch, serial: FunctionExecutor) -> None:
    source = batch(2)

    counts = [align(source, source / "faces", executor=serial).counts["ok"] for _ in range(2)]

    assert counts == [2, 2]


def two_faces() -> bytes:
    small = cv2.resize(demo.portrait(), (200, 200), interpolation=cv2.INTER_AREA)
    return encoded(np.vstack([np.hstack([demo.portrait()]), np.pad(small, ((0, 0), (50, 50), (0, 0)))]))


@pytest.mark.parametrize(
    ("settings", "statuses", "outputs"),
    [
        ({}, ["ok"], ["two.png"]),
        ({"skip_multi": True}, ["multiple"], [""]),
        ({"select": "all"}, ["ok", "ok"], ["two.face1.png", "two.face2.png"]),
        ({"skip_multi": True, "min_face": 80}, ["ok"], ["two.png"]),
        ({"min_face": 500}, ["no_face"], [""]),
        ({"format": "jpg"}, ["ok"], ["two.jpg"]),
    ],
)
def test_which_faces_are_cropped(
    settings: dict[str, Any], statuses: list[str], outputs: list[str], tmp_path: Path, serial: FunctionExecutor
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/two.png").write_bytes(two_faces())

    rows = align(tmp_path / "in", tmp_path / "out", executor=serial, **settings).rows

    assert [row.status for row in rows] == statuses
    assert [row.output for row in rows] == outputs
    assert all((tmp_path / "out" / row.output).exists() for row in rows)


def test_a_quality_and_a_longest_side_change_the_crops(batch: Batch, tmp_path: Path, serial: FunctionExecutor) -> None:
    source = batch(1)

    sizes = []
    for number, settings in enumerate([{"quality": 95}, {"quality": 20}]):
        align(source, tmp_path / str(number), executor=serial, format="jpg", **settings)
        sizes.append(os.path.getsize(tmp_path / str(number) / "a/00.jpg"))
    reduced = align(source, tmp_path / "reduced", executor=serial, max_side=200)

    assert sizes[1] < sizes[0] / 2
    assert max(reduced.rows[0].points) < 200


@pytest.mark.parametrize("kind", ["zip", "tar", "list"])
def test_an_archive_or_list_gives_the_crops_of_its_folder(
    kind: str, batch: Batch, tmp_path: Path, serial: FunctionExecutor, crops_in: Crops
) -> None:
    import shutil

    source = batch(2)
    align(source, tmp_path / "folder", executor=serial)
    if kind == "list":
        (source / "keys.txt").write_text("a/00.png\na/01.png\n")
        archive = str(source / "keys.txt")
    else:
        archive = shutil.make_archive(str(tmp_path / "batch"), kind, source)

    align(archive, tmp_path / "faces", executor=serial)

    assert crops_in(tmp_path / "faces") == crops_in(tmp_path / "folder")


def test_objects_in_memory_need_the_serial_backend(batch: Batch, serial: FunctionExecutor) -> None:
    source = batch(1)

    assert align(source, "memory://faces", executor=serial).counts["ok"] == 1
    assert open_storage("memory://faces").head("a/00.png").size > 0
    with FunctionExecutor(workers=1) as executor, pytest.raises(ConfigError, match="do not see memory://faces"):
        align(source, "memory://faces", executor=executor)


def test_the_result_is_the_same_on_s3(
    batch: Batch, tmp_path: Path, s3_server: Any, crops_in: Crops, serial: FunctionExecutor
) -> None:
    source = batch(4, empty__png=b"")
    bucket = open_storage("s3://fanfold/face-align")
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        bucket.put(f"photographs/{path.relative_to(source)}", path.read_bytes())
    local = align(source, tmp_path / "faces", executor=serial)

    with FunctionExecutor(workers=2) as executor:
        remote = align("s3://fanfold/face-align/photographs", "s3://fanfold/face-align/faces", executor=executor)
        again = align("s3://fanfold/face-align/photographs", "s3://fanfold/face-align/faces", executor=executor)

    written = {info.key.removeprefix("faces/"): bucket.get(info.key) for info in bucket.list("faces/")}
    crops = {
        key: content
        for key, content in written.items()
        if key not in RESULTS and not key.startswith((".run/", "manifest"))
    }
    assert crops == crops_in(tmp_path / "faces")
    assert [(row.key, row.status, row.points) for row in remote.rows] == [
        (row.key, row.status, row.points) for row in local.rows
    ]
    assert again.pending == 0
    assert set(RESULTS) - {FOLDER} <= set(written)


def test_a_manifest_survives_its_formats() -> None:
    rows = [
        Row(
            "a,b\n.jpg", "tag", "ok", 2, 1, 640, 480, 90, -1, 2, 30, 40, True, (1, -2, 3), (0.1, -2.5e-7), 1.5, "x.jpg",
        ),
        Row("é.jpg", "", "decode_error", reason='said "no"'),
        Row("\udce9.jpg", "", "no_face"),
        Row("=1+1.jpg", "", "no_face"),
    ]  # fmt: skip

    table = pq.read_table(io.BytesIO(to_parquet(rows) or b"")).to_pylist()
    lines = list(csv.DictReader(io.StringIO(to_csv(rows).decode())))

    assert from_json(to_json(Done(tuple(rows), {"warp": 0.1}))) == Done(tuple(rows), {"warp": 0.1})
    assert [row["key"] for row in table] == ["a,b\n.jpg", "é.jpg", "\\xe9.jpg", "=1+1.jpg"]
    assert [row["key"] for row in lines] == ["a,b\n.jpg", "é.jpg", "\\xe9.jpg", "'=1+1.jpg"]
    assert [row["cut"] for row in table[:2]] == [True, False]
    assert table[0]["points"] == [1, -2, 3]
    assert lines[0]["points"] == "1 -2 3"
    assert table[0]["matrix"] == [0.1, -2.5e-7]
    assert (table[1]["left"], table[1]["status"]) == (None, "decode_error")
    assert (lines[1]["left"], lines[1]["reason"]) == ("", 'said "no"')


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"nonsense", b'{"rows": [[1]], "seconds": {}}', b"[" * 10_000])
def test_what_is_no_commit_of_a_batch_has_no_rows(content: bytes) -> None:
    assert from_json(content) == Done((), {})


def work_of(images: int, workers: int) -> list[float]:
    """CPU seconds of each batch that as many equal images are formed into; none is left out, none moved."""
    items = [Item(f"{number:05d}.jpg", "tag", 15_000, "", "") for number in range(images)]
    seconds = [batches.estimate_seconds(item, Params()) for item in items]
    made = list(batches.form_batches(items, seconds, workers))
    assert [item for one in made for item in one.items] == items
    return [sum(batches.estimate_seconds(item, Params()) for item in one.items) for one in made]


def test_batches_hold_seconds_of_work() -> None:
    work = work_of(20_000, workers=2)

    assert all(0.4 <= one <= 10 for one in work[:-1])
    assert sum(5 <= one for one in work) > len(work) / 2


@pytest.mark.parametrize("images", [1000, 1008, 1111, 20_000])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_batches_shrink_so_that_workers_end_together(images: int, workers: int) -> None:
    work = work_of(images, workers)
    ends = [0.0] * workers
    for one in work:
        ends[ends.index(min(ends))] += one

    assert work[:-1] == sorted(work[:-1], reverse=True)
    assert max(ends) - min(ends) < 0.6
    assert len(work) < 12 * workers + sum(work) / 8


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="align has no option 'sise'"):
        align("photographs", "faces", sise=3)


def test_the_figures_are_json(batch: Batch, tmp_path: Path, serial: FunctionExecutor) -> None:
    align(batch(1, empty__png=b""), tmp_path / "faces", executor=serial)

    figures = json.loads((tmp_path / "faces/result.json").read_text())

    assert figures["status"] == {**dict.fromkeys(figures["status"], 0), "ok": 1, "decode_error": 1}
    assert figures["cpu_seconds"]["detect"] > 0
