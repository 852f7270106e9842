"""What ``run`` does, in its order: ingest, plan, cell, merge, publish."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from apps._frame import Session
from apps._frame.plan import Plan
from apps._frame.report import FOLDER
from apps._frame.run import Run, new_run_path
from apps._frame.stages import Outputs, Stage, Stages
from apps._frame.stored import Stored, sha256
from apps._frame.tables import counted, json_text
from apps.satellite import catalog, demo, report
from apps.satellite.cells import CELLS, CODEC, FEATURES, WATER, CellParams, compute_cell, write_files
from apps.satellite.checksums import CHECKSUMS, MANIFEST_CHECKSUM, damaged_cells, lost_layers, with_checksums
from apps.satellite.dataset import BESIDE, READERS, Candidate, find
from apps.satellite.estimate import plan_of
from apps.satellite.function import UserFunction, load
from apps.satellite.ingest import ingest
from apps.satellite.layers import SORTED, assembled, parts_of, sort_part
from apps.satellite.maps import pictures
from apps.satellite.merging import SHAPES, Borders, Layer, merge, merge_all
from apps.satellite.params import Params
from apps.satellite.planning import MB, Layout, Zone, check_day, lay_out, read_zones
from apps.satellite.records import (
    ACCEPTED,
    DAMAGED,
    PASSED_OVER,
    REJECTED,
    SUPERSEDED,
    CellDone,
    Row,
    Scene,
    cell_done_from,
    row_of,
    scene_from,
)
from apps.satellite.sources import SOURCES, check_sources, sources_json
from core import ConfigError, FanfoldError, InputError, RetryPolicy
from core.storage import join_address, process_storage, split_address

RUNS = "satellite-runs"
RESULTS = (
    catalog.ITEMS, catalog.INDEX, "scenes.csv", SOURCES, "zonal.csv", FOLDER, catalog.CATALOG, "report.html", CHECKSUMS,
    MANIFEST_CHECKSUM, "result.json",
)  # fmt: skip
STAGES = ("ingest", "plan", "cell", "merge", "publish")
RETRIES = RetryPolicy(retries=3, retry_on=(ConnectionError,), backoff=2.0)
"""For workers that die, and for a storage that is away for longer than its client tries."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a command is to do, found out before its run is opened."""

    candidates: list[Candidate]
    beside: list[Candidate]
    zones: list[Zone]
    function: UserFunction | None
    inputs: dict[str, str]


def _look(session: Session, params: Params) -> Job:
    if params.change:
        check_day(params.change)
    _check_apart(session, params)
    found = find(params.input, session.output)
    candidates = [each for each in found if each.kind != BESIDE]
    beside = [each for each in found if each.kind == BESIDE]
    inputs = {file.url: file.tag for each in candidates for file in each.files}
    function = load(params.function)
    if function is not None:
        inputs["--function"] = sha256(json_text(asdict(function)).encode())
    zones = read_zones(params.zones)
    if params.zones:
        root, key = split_address(params.zones)
        inputs[params.zones] = process_storage(root).head(key).etag
    return Job(candidates, beside, zones, function, inputs)


def _check_apart(session: Session, params: Params) -> None:
    """Refuse a run in the place where its scenes are, since what it writes would be input when it is taken up."""
    for given in params.input if session.output else ():
        root, key = split_address(given)
        places = join_address(process_storage(root).address, key), process_storage(session.output).address
        if len({each.partition("?")[0].rstrip("/") for each in places}) == 1:
            raise ConfigError(f"--output {session.output} is where --input is; choose a folder in it, or another place")


def run(session: Session, params: Params) -> int:
    """Command: process scenes, or say what is there if all of it is done."""
    if not params.input:
        params = session.params = _example(session, params)
    job = _look(session, params)
    with session.open_run(RESULTS, inputs=job.inputs, keeps=[CELLS], versions=_versions()) as opened:
        if opened.finished:
            check_sources(opened.storage)
        else:
            _compute(session, opened, params, job)
        figures = opened.figures()
    session.show(figures, report.terminal)
    session.say(f"\nReport: {session.output}/report.html (beside it: catalog.json, index, cells)")
    session.show_bill()
    lost = sum(figures["scenes"][kind] for kind in (REJECTED, DAMAGED))
    if lost:
        session.tell(
            f"{counted(lost, 'scene')} could not be used, or not everywhere; scenes.csv and the report say why"
        )
    return 1 if lost else 0


def _compute(session: Session, opened: Run, params: Params, job: Job) -> None:
    stages = session.stages(opened, STAGES)
    ingested = stages.run(Stage("ingest", job.candidates, ingest, params, options={"retries": RETRIES}), go_on=True)
    scenes, rows = _settled(opened, job, ingested)
    if not (scenes or any(row.status != PASSED_OVER for row in rows)):
        raise InputError(
            f"none of {counted(len(job.candidates), 'JSON document')} at {', '.join(params.input)} is a STAC item, and "
            "GeoTIFFs beside JSON are taken for assets of items; name GeoTIFFs by --input themselves"
        )
    layout = lay_out(scenes, params, job.zones)
    rows += layout.rows
    opened.check(f"2/5 plan: {counted(len(layout.cells), 'cell')}")
    done = _cells(session, opened, stages, params, job, layout)
    shapes = _shapes(opened, stages, job, layout, done)
    opened.check("5/5 publish")
    _publish(opened, params, job, layout, rows, done, shapes)


def _settled(opened: Run, job: Job, ingested: Outputs) -> tuple[list[Scene], list[Row]]:
    """Return the scenes that passed the gate, and rows of those that did not and of files that no item names."""
    scenes, rows = [], []
    named: set[tuple[str, str]] = set()
    for at, candidate in enumerate(job.candidates):
        if at in ingested.failures:
            reason = f"whatever is in it ended the worker: {str(ingested.failures[at]).splitlines()[0]}"
            rows.append(Row(candidate.name, candidate.source, REJECTED, reason))
            continue
        found = ingested.value(at)
        if "row" in found:
            rows.append(Row(**found["row"]))
        elif "scene" in found:
            scenes.append(_placed(opened, scene_from(found["scene"])))
        if job.beside:
            named.update(map(split_address, found.get("assets", ())))
    why = "a GeoTIFF among items or metadata, and none of them names it; name it by --input itself"
    nobodys = (each for each in job.beside if split_address(each.source) not in named)
    return scenes, rows + [Row(each.name, each.source, PASSED_OVER, why) for each in nobodys]


def _placed(opened: Run, scene: Scene) -> Scene:
    """Say where what was converted is: in this run."""

    def placed(asset: Any) -> Any:
        if asset is None or asset.source.address:
            return asset
        return replace(asset, source=replace(asset.source, address=opened.address))

    return replace(scene, bands={name: placed(each) for name, each in scene.bands.items()}, mask=placed(scene.mask))


def _cells(session: Session, opened: Run, stages: Stages, params: Params, job: Job, layout: Layout) -> list[CellDone]:
    """Compute the cells that are missing; returns the records of all."""
    reached = session.executor.reaches(opened.storage)
    chosen = CellParams(
        params.bands, params.stat, params.resample, params.scl_invalid, params.water, job.function,
        params.memory_mb * MB, opened.address if reached else None,
    )  # fmt: skip
    stage = Stage("cell", layout.cells, compute_cell, chosen, codec=CODEC, options={"retries": RETRIES})
    damaged_cells(session.executor, opened, stage, reached)
    done = []
    for value in stages.run(stage).values():
        if value["files"]:
            write_files(opened.address, value["done"]["name"], value["files"])
        done.append(cell_done_from(value["done"]))
    _check_alike(params.function, done)
    return done


def _check_alike(function: str, done: Sequence[CellDone]) -> None:
    """Refuse a function that gives other images in one cell than in another, which no query could put together."""
    made = [each for each in done if each.bands]
    for each in made:
        if (each.bands, each.dtype) != (made[0].bands, made[0].dtype):
            told = [f"{', '.join(one.bands)} ({one.dtype}) in cell {one.name}" for one in (made[0], each)]
            raise InputError(
                f"--function {function} returned {told[0]}, and {told[1]}; return images of the same names, in the "
                "same order and of the same kind, in all cells"
            )


def _stored(opened: Run, done: CellDone, file: str) -> Stored:
    told = done.files[file]
    return Stored(opened.address, f"{CELLS}{done.name}/{file}", told["size"], f"sha256:{told['sha256']}")


def _shapes(
    opened: Run, stages: Stages, job: Job, layout: Layout, done: Sequence[CellDone]
) -> list[dict[str, Any]] | None:
    """Put the shapes of all cells in order; returns the records of the parts of their layer, None if there is none."""
    file = f"{_layer(job)}.parquet"
    layers = [
        Layer(_stored(opened, each, file), cell.zone, cell.x, cell.y, cell.raster.bounds, each.shapes)
        for cell, each in zip(layout.cells, done, strict=True)
        if file in each.files
    ]
    if not layers:
        return None

    def joined(tasks: Sequence[Borders]) -> Outputs:
        stage = Stage("merge", tasks, merge, options={"retries": RETRIES})
        lost_layers(opened, stage, SHAPES)
        return stages.run(stage)

    whole = merge_all(layers, opened.address, joined)
    sorting = Stage("publish", parts_of(whole), sort_part, options={"retries": RETRIES})
    lost_layers(opened, sorting, SORTED)
    parts = list(stages.run(sorting).values())
    expected, found = sum(each.told["inner"] for each in whole), sum(each["shapes"] for each in parts)
    if expected != found:
        raise FanfoldError(
            f"{found:,} shapes were sorted of {expected:,} that cells have; nothing was published, and what is in "
            f"{opened.address} cannot be trusted: run with --overwrite"
        )
    return parts


def _layer(job: Job) -> str:
    return WATER if job.function is None else FEATURES


def _publish(
    opened: Run, params: Params, job: Job, layout: Layout, rows: list[Row], done: list[CellDone],
    shapes: list[dict[str, Any]] | None,
) -> None:  # fmt: skip
    lost = {name: f"in cell {each.name}: {why}" for each in done for name, why in each.lost.items()}
    rows += [
        row_of(scene, DAMAGED, lost[scene.name]) if scene.name in lost else row_of(scene) for scene in layout.scenes
    ]
    rows.sort(key=lambda row: (row.status == ACCEPTED, row.status, row.name, row.source))
    files: dict[str, Any] = {**catalog.catalogue(layout.cells, done)}
    files[f"{catalog.INDEX}cells.parquet"] = catalog.cells_layer(layout.cells, done)
    if shapes is not None:
        files[f"{catalog.INDEX}{_layer(job)}.parquet"] = assembled(opened.address, shapes)
    zonal = catalog.zonal_table(job.zones, layout.cells, done)
    if job.zones:
        files[f"{catalog.INDEX}zonal.parquet"] = catalog.zonal_layer(zonal, job.zones)
        files["zonal.csv"] = catalog.zonal_csv(zonal)
    files["scenes.csv"] = catalog.scenes_csv(rows)
    files[SOURCES] = sources_json(layout.scenes, opened.address)
    figures = {**_figures(layout, rows, done), "layer": _layer(job), **_sum_of(shapes)}
    drawn, undrawn = pictures(opened.storage, layout.cells, done)
    files.update(report.report_of(figures, params, rows, layout.cells, done, drawn, undrawn, zonal))
    opened.publish(with_checksums(opened.storage, files, done, figures))


def _sum_of(shapes: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    if shapes is None:
        return {"shapes": None, "area_km2": 0.0}
    return {
        "shapes": sum(each["shapes"] for each in shapes),
        "area_km2": math.fsum(each["area"] for each in shapes) / 1e6,
    }


def _figures(layout: Layout, rows: Sequence[Row], done: Sequence[CellDone]) -> dict[str, Any]:
    status = Counter(row.status for row in rows)
    pixels = sum(cell.raster.width * cell.raster.height for cell in layout.cells)
    valid = sum(each.valid for each in done)
    days = sorted({date[:10] for each in done for date in each.dates})
    together = json_text([asdict(each) for each in done])
    warned = [f"{row.name}: {row.warnings}" for row in rows if row.warnings and row.status == ACCEPTED]
    return {
        "scenes": {kind: status[kind] for kind in (ACCEPTED, REJECTED, SUPERSEDED, DAMAGED)},
        "refused": [
            {"name": row.name, "status": row.status, "reason": row.reason} for row in rows if row.status != ACCEPTED
        ],
        "cells": len(done),
        "empty_cells": sum(not each.valid for each in done),
        "valid_pixels": valid,
        "valid_share": valid / pixels if pixels else 0.0,
        "zones": [{"epsg": epsg, "cell": grid.cell, "pixel": grid.x_size} for epsg, grid in layout.grids.items()],
        "first_day": days[0] if days else "",
        "last_day": days[-1] if days else "",
        "later": layout.later,
        "warnings": warned,
        "cells_sha256": hashlib.sha256(together.encode()).hexdigest(),
    }


def plan(session: Session, params: Params) -> Plan:
    """Command: say what a run would take; headers are read, and nothing is decoded or written."""
    with TemporaryDirectory() as folder:
        if not params.input:
            params = _on_example(params, Path(folder))
        job = _look(session, params)
        with ThreadPoolExecutor(READERS) as readers:
            found = list(readers.map(lambda each: ingest(each, params, None), job.candidates))
        scenes = [scene_from(each["scene"]) for each in found if "scene" in each]
        layout = lay_out(scenes, params, job.zones)
    return plan_of(params, layout, found)


def _example(session: Session, params: Params) -> Params:
    parent = Path(new_run_path(RUNS))
    if session.common.output is None:
        session.output = str(parent / "run")
    return _on_example(params, parent)


def _on_example(params: Params, folder: Path) -> Params:
    """Write the example, and return parameters that mean it."""
    zones = params.zones or str((folder / demo.ZONES).absolute())
    return replace(
        params,
        input=(demo.write_example(folder),),
        zones=zones,
        cell=params.cell or demo.CELL,
        change=params.change or demo.LATER,
    )


def _versions() -> dict[str, str]:
    """Return the releases that decide what comes out; nothing is imported, as no worker has been forked yet."""
    return {name: version(name) for name in ("rasterio", "shapely", "pyproj", "imagecodecs")}


def check_run(address: str) -> None:
    """Refuse an address that holds no finished run, as ``FanfoldError``."""
    from apps._frame.manifest import exists, read_manifest

    read_manifest(address)
    if not exists(process_storage(address), "result.json"):
        raise FanfoldError(f"the run in {address} is not finished; resume it first")
