"""The files that people have: names, links, formats and sizes that no example shows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from apps.face_align import align, aligning, batches, demo, stages
from apps.face_align.naming import RESULTS, output_keys
from apps.face_align.params import Params
from core import FunctionExecutor, InputError

Batch = Callable[..., Path]


def encoded(image: Any, extension: str = ".png") -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def photographs(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(demo.portrait(), ".jpg" if name.endswith(".jpg") else ".png"))
    return folder


def test_all_that_would_write_the_same_crop_are_named_and_counted(tmp_path: Path, serial: FunctionExecutor) -> None:
    source = photographs(tmp_path / "in", "a.jpg", "a.png", "b.bmp", "b.jpg", "b.png", "c.png")

    with pytest.raises(InputError, match="3 images would write over") as caught:
        align(source, tmp_path / "out", executor=serial, format="png")

    pairs = str(caught.value).splitlines()[1:]
    assert [pair.strip() for pair in pairs] == [
        "a.png and a.jpg: a.png",
        "b.jpg and b.bmp: b.png",
        "b.png and b.bmp: b.png",
    ]


def test_with_rename_every_image_has_a_crop_of_its_own(tmp_path: Path, serial: FunctionExecutor) -> None:
    names = ["a.jpg", "a.png", "a_png.png", "contact-sheet.png", "b.png"]
    source = photographs(tmp_path / "in", *names)

    result = align(source, tmp_path / "out", executor=serial, format="png", rename=True)

    outputs = {row.key: row.output for row in result.rows}
    assert result.counts["ok"] == 5
    assert len(set(outputs.values())) == 5
    assert not set(outputs.values()) & set(RESULTS)
    assert outputs["a.jpg"] == "a.png"
    assert outputs["a.png"] == "a_png.png"
    assert outputs["b.png"] == "b.png"


def test_a_renamed_crop_is_made_again_when_another_image_takes_its_name(
    tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = photographs(tmp_path / "in", "a.png")
    options: dict[str, Any] = {"executor": serial, "format": "png", "rename": True}
    align(source, tmp_path / "out", **options)
    (source / "a.jpg").write_bytes(encoded(demo.variant(demo.portrait(), angle=9.0), ".jpg"))

    result = align(source, tmp_path / "out", **options)

    assert {row.key: row.output for row in result.rows} == {"a.jpg": "a.png", "a.png": "a_png.png"}
    assert result.batches == (2,)
    fresh = align(source, tmp_path / "fresh", **options)
    for row in fresh.rows:
        assert (tmp_path / "fresh" / row.output).read_bytes() == (tmp_path / "out" / row.output).read_bytes()


def test_an_archive_with_one_name_twice_is_refused_or_renamed(tmp_path: Path, serial: FunctionExecutor) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", encoded(demo.portrait()))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", encoded(demo.variant(demo.portrait(), angle=9.0)))

    with pytest.raises(InputError, match=r"a\.png and a\.png: a\.png"):
        align(tmp_path / "x.zip", tmp_path / "out", executor=serial)
    result = align(tmp_path / "x.zip", tmp_path / "out", executor=serial, rename=True)
    again = align(tmp_path / "x.zip", tmp_path / "out", executor=serial, rename=True)

    assert [row.output for row in result.rows] == ["a.png", "a_png.png"]
    assert (tmp_path / "out/a.png").read_bytes() != (tmp_path / "out/a_png.png").read_bytes()
    assert again.pending == 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="macOS has no such names")
def test_a_name_that_is_not_utf_8_is_an_image_like_others(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = batch(1)
    name = os.fsdecode(b"caf\xe9.png")
    (source / name).write_bytes((source / "a/00.png").read_bytes())
    (source / os.fsdecode(b"d\xe9ja.png")).write_bytes(b"")

    result = align(source, tmp_path / "faces", executor=serial)
    again = align(source, tmp_path / "faces", executor=serial)

    assert result.counts["ok"] == 2
    assert again.pending == 0
    assert (tmp_path / "faces" / name).read_bytes() == (tmp_path / "faces/a/00.png").read_bytes()
    assert "d\\xe9ja.png" in (tmp_path / "faces/report.html").read_text("utf-8")
    keys = pq.read_table(tmp_path / "faces/manifest.parquet")["key"].to_pylist()
    assert keys == ["a/00.png", "caf\\xe9.png", "d\\xe9ja.png"]


def test_a_folder_of_all_that_people_have_is_aligned_and_counted(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = batch(
        1, **{name: b"x" for name in ("._00__png", "IMG_1__CR2", "IMG_2__HEIC", "photo", "notes__txt", "b__rar")}
    )
    (source / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (source / "IMG_2.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))

    result = align(source, tmp_path / "faces", executor=serial)

    rows = {row.key: row for row in result.rows}
    assert {key: row.status for key, row in rows.items() if row.status == "unsupported"} | {
        "IMG_2.HEIC": "unsupported"
    } == dict.fromkeys(["IMG_1.CR2", "IMG_2.HEIC", "b.rar"], "unsupported")
    assert "develop it to JPEG" in rows["IMG_1.CR2"].reason
    assert rows["a/00.png"].status == "ok"
    assert dict(result.left_out) == {
        "AppleDouble files": 1,
        "files without extension": 1,
        "links to nothing": 1,
        "other files": 1,
    }


def test_what_cannot_be_read_anyway_is_not_looked_at_again(
    batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = batch(1, IMG_1__CR2=b"raw")
    first = align(source, tmp_path / "faces", executor=serial)
    written = (tmp_path / "faces/report.html").stat().st_mtime_ns

    again = align(source, tmp_path / "faces", executor=serial)

    assert [row.status for row in again.rows] == ["unsupported", "ok"]
    assert (first.batches, again.batches, again.kept) == ((1,), (), 1)
    assert (tmp_path / "faces/report.html").stat().st_mtime_ns == written


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_an_image_that_lies_on_its_side_is_turned_where_that_is_asked_for(
    turn: int, batch: Batch, tmp_path: Path, serial: FunctionExecutor
) -> None:
    source = batch(1)
    upright = cv2.imread(str(source / "a/00.png"))
    cv2.imwrite(str(source / "a/00.png"), np.rot90(upright, turn // 90))  # which the turn clockwise undoes
    cv2.imwrite(str(source / "a/upright.png"), upright)

    plain = align(source, tmp_path / "plain", executor=serial)
    turned = align(source, tmp_path / "turned", executor=serial, rotate=True)

    assert [row.status for row in plain.rows] == ["no_face", "ok"]
    assert [row.turn for row in turned.rows] == [turn, 0]
    assert turned.rows[0].points == turned.rows[1].points
    assert (tmp_path / "turned/a/00.png").read_bytes() == (tmp_path / "turned/a/upright.png").read_bytes()


def test_a_face_cut_by_the_border_is_flagged(tmp_path: Path, serial: FunctionExecutor) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/cut.png"), demo.portrait()[:, 120:])
    cv2.imwrite(str(tmp_path / "in/whole.png"), demo.portrait())

    rows = align(tmp_path / "in", tmp_path / "out", executor=serial).rows

    assert [(row.status, row.cut) for row in rows] == [("ok", True), ("ok", False)]
    assert (rows[1].width, rows[1].height) == (300, 300)


def test_faces_of_a_crowd_sort_by_number_as_text_too(tmp_path: Path) -> None:
    names = output_keys("a.jpg", Params(select="all"), 12)

    assert names[0] == "a.face01.jpg"
    assert names == sorted(names)
    assert output_keys("a.jpg", Params(select="all"), 2) == ["a.face1.jpg", "a.face2.jpg"]


def test_crops_are_listed_in_the_natural_order_of_their_names(tmp_path: Path, serial: FunctionExecutor) -> None:
    names = ["face1.png", "face2.png", "face10.png", "x2/y10.png", "x10/y2.png"]
    source = photographs(tmp_path / "in", *names)

    rows = align(source, tmp_path / "out", executor=serial).rows

    assert [row.key for row in rows] == names


@pytest.mark.parametrize(
    ("memory", "upsample", "millions"),
    [(batches.MEMORY, 1, 50), (batches.MEMORY, 2, 13.5), (batches.MEMORY, 0, 50), (10**9, 1, 14)],
)
def test_an_image_for_which_a_worker_has_no_memory_is_too_large(memory: int, upsample: int, millions: float) -> None:
    assert batches.Job(Params(upsample=upsample), "", "", "", memory).max_pixels == pytest.approx(millions * 1e6)


def test_an_image_too_large_for_its_worker_is_a_row(batch: Batch, tmp_path: Path) -> None:
    with FunctionExecutor("serial", memory="301MB") as executor:
        (row,) = align(batch(1), tmp_path / "faces", executor=executor).rows

    assert row.status == "too_large"
    assert "more --memory" in row.reason


def test_what_was_too_large_is_tried_again_by_a_worker_with_more_memory(batch: Batch, tmp_path: Path) -> None:
    source = batch(1)
    found = []
    for memory in ("301MB", "301MB", "1GB", "1GB"):
        with FunctionExecutor("serial", memory=memory) as executor:
            result = align(source, tmp_path / "faces", executor=executor)
        found.append((result.pending, result.rows[0].status))

    assert found == [(1, "too_large"), (0, "too_large"), (1, "ok"), (0, "ok")]


def test_an_image_that_fills_the_memory_of_its_worker_is_a_row_and_the_others_are_aligned(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.face_align.science import images

    def swell(content: bytes, *limits: Any) -> images.Image:
        held = np.ones(600_000_000, np.uint8) if content == b"swell" else None
        while held is not None:
            pass
        return images.decode(content, *limits)

    monkeypatch.setattr(aligning, "decode", swell)
    monkeypatch.setattr(stages, "RETRIES", replace(stages.RETRIES, retries=0))

    with FunctionExecutor("process?start=fork", workers=1, memory="500MB") as executor:
        rows = align(batch(2, swell__png=b"swell"), tmp_path / "faces", executor=executor).rows

    assert [row.status for row in rows] == ["ok", "ok", "too_large"]
    assert "memory limit" in rows[2].reason
