"""What an alignment leaves beside its crops: manifest, contact sheet, report, and figures for programs."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import cv2

from apps._frame.params import as_flags
from apps._frame.plan import Plan, StagePlan
from apps._frame.report import Block, Card, Cards, Facts, Grid, Picture, Report, Table, Text, report_files
from apps._frame.tables import counted, facts_text, json_text, size_text
from apps.face_align.batches import STAGE, Work
from apps.face_align.params import Params
from apps.face_align.result import OK, Result, Row, to_csv, to_parquet
from apps.face_align.sheet import Crop, contact_sheet, read_crops
from core import __version__
from core.storage import Storage

SHEET_CROPS = 144
"""Crops on the contact sheet and in the report at most, spread evenly over their names."""
LABELS = {
    "ok": "aligned",
    "no_face": "no face found",
    "multiple": "several faces, skipped",
    "decode_error": "damaged or unknown",
    "too_large": "too large",
    "unsupported": "of a kind that cannot be read",
    "read_error": "could not be read",
    "write_error": "could not be written",
}
STAGES = ("start", "decode", "detect", "landmarks", "warp", "encode", "storage")
LICENCE = (
    "The packaged landmark models were trained on the iBUG 300-W faces, whose licence excludes commercial use; so "
    "does theirs. With --landmark-model another can be used."
)
_FOUND = ("ok", "no_face", "multiple")


def versions() -> dict[str, str]:
    """Return the releases of what decides the pixels of a crop."""
    return {"opencv": cv2.__version__, "dlib": version("dlib-bin")}


def figures(result: Result) -> dict[str, Any]:
    """Return the figures of a run, for programs."""
    counts = result.counts
    return {
        "source": result.params.source,
        "destination": result.destination,
        "images": sum(counts.values()),
        "crops": sum(row.status == OK for row in result.rows),
        "status": counts,
        "cut_by_the_border": sum(row.cut for row in result.rows),
        "aligned_now": result.pending,
        "kept_from_earlier": result.kept,
        "left_out": dict(result.left_out),
        "wall_seconds": round(result.wall_seconds, 3),
        "cpu_seconds": {name: round(result.seconds.get(name, 0.0), 3) for name in STAGES},
        "batches": len(result.batches),
        "workers": result.workers,
        "parameters": result.params.fingerprint(result.model),
        "model": result.model,
        "versions": {"fanfold": __version__, "python": platform.python_version(), **versions()},
    }


def plan(work: Work) -> Plan:
    """Return what a run would take."""
    images, batches = len(work.found.items), len(work.batches)
    size = sum(item.size for batch in work.batches for item in batch.items)
    kept = len({(row.key, row.etag) for row in work.kept})
    total = sum(item.size for item in work.found.items if not item.fault)  # others may say anything
    facts = [
        ("Images", f"{images:,} ({size_text(total)})"),
        ("Left out", _left_out(work.found.left_out)),
        ("To align", f"{work.pending:,}; {kept:,} kept from earlier runs"),
        ("Batches", f"{batches:,}, their CPU time guessed from the files' sizes"),
        ("Output", work.job.destination),
    ]
    numbers = {
        "source": work.job.params.source,
        "destination": work.job.destination,
        "images": images,
        "bytes": total,
        "left_out": dict(work.found.left_out),
        "to_align": work.pending,
        "kept_from_earlier": kept,
        "batches": batches,
    }
    each = work.cpu_seconds / max(1, batches)
    stage = StagePlan(STAGE, batches, each, _PLANNED_BYTES, gets=work.pending, puts=work.pending, bytes_in=size)
    return Plan([stage], facts, numbers)


_PLANNED_BYTES = 1 << 30
"""Memory of a worker with its models and an image of 12 million pixels."""


def _left_out(found: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in found.items()) or "nothing"


def terminal(found: Mapping[str, Any]) -> str:
    """Return the text that is printed when a run is done."""
    lines = [("Images", f"{found['images']:,}")]
    lines += [(f"  {LABELS[name]}", f"{count:,}") for name, count in found["status"].items() if count]
    if found["left_out"]:
        lines.append(("Left out", _left_out(found["left_out"])))
    if found["kept_from_earlier"]:
        lines.append(("  of these, from earlier", f"{found['kept_from_earlier']:,}"))
    cut = f", {found['cut_by_the_border']:,} cut by the border" if found["cut_by_the_border"] else ""
    cpu = sum(found["cpu_seconds"].values())
    batches = f"{found['batches']:,} batch{'es' * (found['batches'] != 1)}"
    took = f"{found['wall_seconds']:.2f} s, {cpu:.2f} CPU s in {batches} on {counted(found['workers'], 'worker')}"
    return facts_text([*lines, ("Crops", f"{found['crops']:,} in {found['destination']}{cut}"), ("Took", took)])


def files(result: Result, storage: Storage) -> dict[str, bytes | Iterable[bytes]]:
    """Return all that a run publishes beside its crops, by name; crops are read back from where they were written."""
    found = figures(result)
    rows = [row for row in result.rows if row.status == OK]
    if len(rows) > SHEET_CROPS:
        rows = [rows[len(rows) * place // SHEET_CROPS] for place in range(SHEET_CROPS)]
    crops = read_crops(storage, rows)
    published: dict[str, bytes | Iterable[bytes]] = {"manifest.csv": to_csv(result.rows)}
    parquet = to_parquet(result.rows)
    if parquet is not None:
        published["manifest.parquet"] = parquet
    if crops:
        published["contact-sheet.png"] = contact_sheet(crops)
    published.update(report_files(_report(result, found, crops)))
    return published | {"result.json": f"{json_text(found, indent=2)}\n".encode()}


def _report(result: Result, found: dict[str, Any], crops: Sequence[Crop]) -> Report:
    lead = (
        f"{found['status']['ok']:,} of {counted(found['images'], 'image')} of {found['source']} have a face, aligned "
        f"in {found['destination']}."
    )
    about = found["versions"]
    footer = (
        f"fanfold {about['fanfold']}, Python {about['python']}, OpenCV {about['opencv']}, dlib {about['dlib']}. "
        f"Parameters {found['parameters']}, landmark model {found['model']}."
    )
    return Report("Aligned faces", lead, list(_blocks(result, found, crops)), footer)


def _blocks(result: Result, found: dict[str, Any], crops: Sequence[Crop]) -> Iterator[Block]:
    yield _cards(found)
    statuses = [[LABELS[name], name, f"{count:,}"] for name, count in found["status"].items() if count]
    yield Table("What became of the images", ["", "status", "images"], statuses)
    if found["left_out"]:
        yield Table("Left out", ["what", "files"], [[what, f"{n:,}"] for what, n in found["left_out"].items()])
    failures = [[row.key, row.status, row.reason] for row in result.rows if row.reason]
    if failures:
        yield Table("Failures", ["image", "status", "reason"], failures, browse=len(failures) > 10)
    if crops:
        which = "All crops" if len(crops) == found["crops"] else f"{len(crops)} of {found['crops']:,} crops"
        pictures = [Picture(crop.thumbnail, crop.row.key, _caption(crop.row), crop.row.output) for crop in crops]
        yield Grid("Crops", pictures, f"{which}, in the order of their names; each leads to its file.")
    if found["aligned_now"]:
        yield _times(found)
    yield Facts("What it stands on", _facts(result.params, found))
    yield Text("Read with care", [LICENCE])
    flags = as_flags(replace(result.params, source=""))
    command = ["python", "-m", "apps.face_align", found["source"], "--output", found["destination"], *flags]
    yield Text("The same again", [shlex.join(command)], code=True)


def _cards(found: dict[str, Any]) -> Cards:
    counts, images = found["status"], found["images"]
    failed = sum(count for name, count in counts.items() if name not in _FOUND)
    cpu, now = sum(found["cpu_seconds"].values()), found["aligned_now"]
    share = f"{counts['ok'] / images:.1%} of the images; {counted(found['crops'], 'crop')}"
    cut = found["cut_by_the_border"]
    cards = [
        Card("Images", f"{images:,}", f"{found['kept_from_earlier']:,} from earlier runs"),
        Card("Aligned", f"{counts['ok']:,}", share),
        Card("No face found", f"{counts['no_face']:,}", f"{counts['multiple']:,} skipped for several"),
        Card("Failed", f"{failed:,}", "named below" if failed else "none"),
        Card("Cut by the border", f"{cut:,}", "flagged in the manifest" if cut else "no crop"),
    ]
    if now:
        wall = f"{found['wall_seconds']:.1f} s on {counted(found['workers'], 'worker')}"
        cards.append(Card("CPU time an image", f"{1e3 * cpu / now:.1f} ms", wall))
    return Cards(cards)


def _caption(row: Row) -> str:
    face = f", face {row.face} of {row.faces}" if row.faces > 1 else ""
    turned = f", turned by {row.turn}°" if row.turn else ""
    return f"{row.key}{face}{turned}{', cut' if row.cut else ''}"


def _times(found: dict[str, Any]) -> Table:
    cpu, now = found["cpu_seconds"], found["aligned_now"]
    total = sum(cpu.values()) or 1.0
    rows = [[name, f"{cpu[name]:.2f}", f"{1e3 * cpu[name] / now:.2f}", f"{cpu[name] / total:.0%}"] for name in STAGES]
    note = "Start is loading the models, once a worker. Storage is the rest: requests and checksums."
    return Table("CPU time", ["stage", "seconds", "ms an image", "share"], rows, note)


def _facts(params: Params, found: dict[str, Any]) -> list[tuple[str, str]]:
    detector = "HOG frontal" if params.detector == "hog" else "CNN"
    return [
        ("Source", found["source"]),
        ("Output", found["destination"]),
        ("Algorithm", f"dlib's {detector} face detector and regression trees; affine map of three landmarks; OpenCV 4"),
        ("Manifest", "manifest.csv and manifest.parquet: status, box, landmarks and affine matrix of every image"),
    ]
