"""What an alignment leaves beside its crops: manifest, contact sheet, report, and figures for programs."""

from __future__ import annotations

import json
import math
import platform
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import cv2
import numpy as np

from apps._cli import charge_rows
from apps._report import Card, Picture, Section, Table, Text, page
from apps.face_align.batches import COMMITS, storage_at
from apps.face_align.job import MANIFEST, Plan, Result
from apps.face_align.result import OK, Row, to_csv, to_parquet, visible
from apps.face_align.science.geometry import Image
from apps.face_align.science.headers import BadImage
from apps.face_align.science.images import decode
from core import FanfoldError, FunctionExecutor, __version__
from core.fields import as_flags

SHEET_CROPS = 143
"""Crops on the contact sheet at most, spread evenly over the keys."""
SHEET_WIDTH = 1400
"""Pixels."""
_CELLS = (100, 180)
"""Pixels a side of a crop on the sheet, least and most."""
_GAP = 6
LISTED = 100
"""Failures named in the report at most; the manifest names all."""
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
WORKER_BYTES = 1 << 30
"""Memory of a worker with its models and an image of 12 million pixels, about 50 bytes each."""
STAGES = ("start", "decode", "detect", "landmarks", "warp", "encode", "storage")
LICENCE = (
    "The packaged landmark models were trained on the iBUG 300-W faces, whose licence excludes commercial use; so "
    "does theirs. With --landmark-model another can be used."
)


def result_object(result: Result) -> dict[str, Any]:
    """Return the figures of a run, for programs."""
    counts = result.counts
    new = result.plan.pending
    return {
        "source": result.plan.source,
        "destination": result.plan.job.destination,
        "images": sum(counts.values()),
        "crops": sum(row.status == OK for row in result.rows),
        "status": counts,
        "cut_by_the_border": sum(row.cut for row in result.rows),
        "aligned_now": new,
        "kept_from_earlier": sum(counts.values()) - new,
        "left_out": dict(result.plan.found.left_out),
        "wall_seconds": round(result.wall_seconds, 3),
        "cpu_seconds": {name: round(result.seconds.get(name, 0.0), 3) for name in STAGES},
        "batches": len(result.plan.batches),
        "workers": result.workers,
        "parameters": result.plan.job.fingerprint,
        "model": result.plan.job.model,
        "versions": {
            "fanfold": __version__,
            "python": platform.python_version(),
            "opencv": cv2.__version__,
            "dlib": version("dlib-bin"),
        },
    }


def plan_object(planned: Plan, executor: FunctionExecutor) -> dict[str, Any]:
    """Return what a run would do."""
    images, batches, workers = len(planned.found.items), len(planned.batches), executor.workers
    each = planned.cpu_seconds / max(1, batches)
    # An image is read and its crop written; a batch commits its rows.
    charged = executor.estimate(batches, each, WORKER_BYTES, puts=planned.pending + batches, gets=planned.pending)
    return {
        "source": planned.source,
        "destination": planned.job.destination,
        "images": images,
        "bytes": sum(item.size for item in planned.found.items),
        "left_out": dict(planned.found.left_out),
        "to_align": planned.pending,
        "kept_from_earlier": images - planned.pending,
        "batches": batches,
        "workers": workers,
        "cpu_seconds": round(planned.cpu_seconds, 1),
        "wall_seconds": round(planned.cpu_seconds / max(1, min(workers, batches)), 1),
        "charged": asdict(charged),
    }


def left_out_text(counted: Mapping[str, int]) -> str:
    """Return what of a source is no image, and how much of it."""
    return ", ".join(f"{number:,} {what}" for what, number in counted.items()) or "nothing"


def plan_text(figures: dict[str, Any]) -> str:
    """Return the text that --dry-run prints."""
    return _aligned(
        [
            (
                "Images",
                f"{figures['images']:,} ({figures['bytes'] / 1e6:,.1f} MB)",
            ),
            ("Left out", left_out_text(figures["left_out"])),
            ("To align", f"{figures['to_align']:,}; {figures['kept_from_earlier']:,} kept from earlier runs"),
            ("Batches", f"{figures['batches']:,} on {figures['workers']} workers"),
            ("CPU time", f"about {figures['cpu_seconds']:,.1f} s, guessed from the files' sizes"),
            ("Wall time", f"about {figures['wall_seconds']:,.1f} s"),
            *charge_rows(figures["charged"]),
            ("Output", figures["destination"]),
        ]
    )


def terminal(figures: dict[str, Any]) -> str:
    """Return the text that is printed when a run is done."""
    lines = [("Images", f"{figures['images']:,}")]
    lines += [(f"  {LABELS[name]}", f"{count:,}") for name, count in figures["status"].items() if count]
    if figures["left_out"]:
        lines.append(("Left out", left_out_text(figures["left_out"])))
    if figures["kept_from_earlier"]:
        lines.append(("  of these, from earlier", f"{figures['kept_from_earlier']:,}"))
    cpu = sum(figures["cpu_seconds"].values())
    took = f"{figures['wall_seconds']:.2f} s, {cpu:.2f} CPU s in {figures['batches']} batches"
    took += f" on {figures['workers']} workers"
    return _aligned([*lines, ("Crops", f"{figures['crops']:,} in {figures['destination']}"), ("Took", took)])


def _aligned(lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines)


def publish(result: Result) -> dict[str, Any]:
    """Write the results beside the crops, the manifest last; remove the commits it replaces; return the figures."""
    target = storage_at(result.plan.job.destination)
    figures = result_object(result)
    sheet = contact_sheet(target, result.rows, result.plan.job.params.size)
    parquet = to_parquet(result.rows)
    if parquet is not None:
        target.put("manifest.parquet", parquet)
    if sheet:
        target.put("contact-sheet.png", sheet)
    else:
        target.delete(["contact-sheet.png"])
    target.put("report.html", visible(html(result, figures, sheet)).encode())
    target.put("result.json", (json.dumps(figures, indent=2) + "\n").encode())
    target.put(MANIFEST, to_csv(result.rows))
    target.delete([info.key for info in target.list(COMMITS)])
    return figures


def contact_sheet(target: Any, rows: Sequence[Row], size: int) -> bytes:
    """Return a PNG of crops in a grid, read back from where they were written; empty if there is none."""
    crops = [row.output for row in rows if row.status == OK]
    if len(crops) > SHEET_CROPS:
        crops = [crops[len(crops) * place // SHEET_CROPS] for place in range(SHEET_CROPS)]
    with ThreadPoolExecutor(8) as pool:
        images = [image for image in pool.map(lambda key: _read_crop(target, key), crops) if image is not None]
    if not images:
        return b""
    columns = min(len(images), SHEET_WIDTH // (_CELLS[0] + _GAP))
    while (
        columns > 1
        and math.ceil(len(images) / (columns - 1)) * (columns - 1) <= SHEET_CROPS
        and (SHEET_WIDTH // (columns - 1) - _GAP <= min(_CELLS[1], size))
    ):
        columns -= 1
    cell = max(16, min(_CELLS[1], size, SHEET_WIDTH // columns - _GAP))
    lines = math.ceil(len(images) / columns)
    sheet = np.full((lines * (cell + _GAP) + _GAP, columns * (cell + _GAP) + _GAP, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = (_GAP + (cell + _GAP) * part for part in divmod(place, columns))
        sheet[top : top + cell, left : left + cell] = cv2.resize(image, (cell, cell), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes()


def _read_crop(target: Any, key: str) -> Image | None:
    try:
        return decode(target.get(key))
    except (FanfoldError, OSError, BadImage):
        return None


def html(result: Result, figures: dict[str, Any], sheet: bytes) -> str:
    """Return the self-contained report."""
    counts, images = figures["status"], figures["images"]
    failed = sum(counts[name] for name in counts if name not in ("ok", "no_face", "multiple"))
    cpu = sum(figures["cpu_seconds"].values())
    now = figures["aligned_now"]
    per_image = f"{1e3 * cpu / now:.1f} ms" if now else "none needed"
    cards = [
        Card("Images", f"{images:,}", f"{figures['kept_from_earlier']:,} from earlier runs"),
        Card("Aligned", f"{counts['ok']:,}", f"{counts['ok'] / images:.1%} of the images; {figures['crops']:,} crops"),
        Card("No face found", f"{counts['no_face']:,}", f"{counts['multiple']:,} skipped for several"),
        Card("Failed", f"{failed:,}", "named below" if failed else "none"),
        Card("CPU time an image", per_image, f"{figures['wall_seconds']:.1f} s on {figures['workers']} workers"),
    ]
    pictures = []
    if sheet:
        shown = min(figures["crops"], SHEET_CROPS)
        which = "All crops" if shown == figures["crops"] else f"{shown} of {figures['crops']:,} crops, spread evenly"
        pictures.append(Picture(sheet, "Contact sheet of aligned faces", f"{which}, in the order of their keys."))
    footer = (
        f"fanfold {__version__}, Python {figures['versions']['python']}, OpenCV {figures['versions']['opencv']}, "
        f"dlib {figures['versions']['dlib']}. Parameters {figures['parameters']}, landmark model {figures['model']}."
    )
    lead = (
        f"{counts['ok']:,} of {images:,} images of {figures['source']} have a face, aligned in "
        f"{figures['destination']}."
    )
    return page("Aligned faces", lead, cards, pictures, _sections(result, figures), footer)


def _sections(result: Result, figures: dict[str, Any]) -> list[Section]:
    sections: list[Section] = []
    counted = [[LABELS[name], name, f"{count:,}"] for name, count in figures["status"].items() if count]
    sections.append(Table("What became of the images", ["", "status", "images"], counted))
    cpu, now = figures["cpu_seconds"], figures["aligned_now"]
    if now:
        total = sum(cpu.values()) or 1.0
        rows = [
            [name, f"{cpu[name]:.2f}", f"{1e3 * cpu[name] / now:.2f}", f"{cpu[name] / total:.0%}"] for name in STAGES
        ]
        sections.append(
            Table("CPU time", ["stage", "seconds", "ms an image", "share"], rows,
                  "Start is loading the models, once a worker. Storage is the rest: requests and checksums.")
        )  # fmt: skip
    failures = [row for row in result.rows if row.reason]
    if failures:
        listed = [[row.key, row.status, row.reason] for row in failures[:LISTED]]
        more = f"The first {LISTED} of {len(failures):,}; the manifest has all." if len(failures) > LISTED else ""
        sections.append(Table("Failures", ["image", "status", "reason"], listed, more))
    facts = [
        ["Source", f"{figures['source']} (left out: {left_out_text(figures['left_out'])})"],
        ["Output", figures["destination"]],
        ["Algorithm", "dlib's HOG frontal face detector and regression trees; affine map of three landmarks; OpenCV 4"
         if result.plan.job.params.detector == "hog" else
         "dlib's CNN face detector and regression trees; affine map of three landmarks; OpenCV 4"],
        ["Manifest", "manifest.csv and manifest.parquet: status, box, landmarks and affine matrix of every image"],
    ]  # fmt: skip
    sections.append(Table("What it stands on", [], facts, facts=True))
    sections.append(Text("Read with care", [LICENCE]))
    command = ["python", "-m", "apps.face_align", figures["source"], "--output", figures["destination"]]
    sections.append(Text("The same again", [shlex.join([*command, *as_flags(result.plan.job.params)])], code=True))
    return sections
