"""Whether files of a run are still what they were when they were written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from apps._frame.manifest import STAGES
from apps._frame.run import Run
from apps._frame.stages import PART, Stage
from apps._frame.stored import REFERENCE, VALUE, look_up
from apps._frame.tables import json_text
from apps.satellite.cells import CELLS, CODEC, DONE
from apps.satellite.records import CellDone, done_bytes
from core import FunctionExecutor
from core.storage import NotFound, Storage, process_storage

CHECKSUMS = "checksums.sha256"
"""Of all files but itself, result.json and the manifest, as ``sha256sum -c`` reads them."""
MANIFEST, MANIFEST_CHECKSUM = "manifest.json", "manifest.sha256"
"""The manifest's hash stands alone: it says when a run was begun, and all else is the same of two that do the same."""
SEAL = "checksums_sha256"
OWN = "sha256"
"""Figures of result.json that hold the hash of `CHECKSUMS`, and of all its other figures."""


class Streamed:
    """Content that is made while it is written, and whose hash is known from then on.

    Parameters
    ----------
    content : bytes, or iterable of bytes
        Gone through once.

    Attributes
    ----------
    sha256 : str
    """

    def __init__(self, content: bytes | Iterable[bytes]) -> None:
        self._content, self.sha256 = [content] if isinstance(content, bytes) else content, ""

    def __iter__(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for piece in self._content:
            digest.update(piece)
            yield piece
        self.sha256 = digest.hexdigest()


def with_checksums(
    storage: Storage, files: Mapping[str, bytes | Iterable[bytes]], done: Sequence[CellDone], figures: Mapping[str, Any]
) -> dict[str, Streamed]:
    """Return files to be published in a run, then their hashes and the manifest's, and figures sealed with the list."""
    streamed = {name: Streamed(content) for name, content in files.items()}
    listed = Streamed(_listed(streamed, done))
    more = {CHECKSUMS: listed, MANIFEST_CHECKSUM: Streamed(manifest_checksum(storage))}
    return {**streamed, **more, "result.json": Streamed(_sealed(figures, listed))}


def _listed(files: Mapping[str, Streamed], done: Sequence[CellDone]) -> Iterator[bytes]:
    """Yield the hashes of files that have been written, and of those of the cells."""
    found = {name: data.sha256 for name, data in files.items()}
    for each in done:
        found.update({f"{CELLS}{each.name}/{name}": told["sha256"] for name, told in each.files.items()})
        found[f"{CELLS}{each.name}/{DONE}"] = hashlib.sha256(done_bytes(each)).hexdigest()
    yield "".join(f"{found[name]}  {name}\n" for name in sorted(found)).encode()


def manifest_checksum(storage: Storage) -> bytes:
    """Return the hash of a run's manifest, as ``sha256sum -c`` reads it."""
    return f"{hashlib.sha256(storage.get(MANIFEST)).hexdigest()}  {MANIFEST}\n".encode()


def _sealed(figures: Mapping[str, Any], listed: Streamed) -> Iterator[bytes]:
    """Yield figures as a file that says what it is itself, and what the list of hashes is, which has been written."""
    told = {**figures, SEAL: listed.sha256}
    yield json_text({**told, OWN: hashlib.sha256(json_text(told).encode()).hexdigest()}, indent=2).encode()


def check_files(storage: Storage) -> tuple[list[str], int]:
    """Return which files of a finished run are not what they were, in words, and how many were looked at."""
    faults = []
    if _read(storage, MANIFEST) is None or _read(storage, MANIFEST_CHECKSUM) != manifest_checksum(storage):
        faults.append(f"{MANIFEST} or {MANIFEST_CHECKSUM} is no longer what it was")
    result = storage.get("result.json")
    try:
        figures = json.loads(result)
        own, listed = figures.pop(OWN), figures[SEAL]
        intact = json_text({**figures, OWN: own}, indent=2).encode() == result
        intact &= hashlib.sha256(json_text(figures).encode()).hexdigest() == own
    except (ValueError, KeyError, AttributeError, TypeError):
        return [*faults, "result.json is no longer what it was"], 3
    if not intact:
        faults.append("result.json is no longer what it was")
    table = _read(storage, CHECKSUMS)
    if table is None or hashlib.sha256(table).hexdigest() != listed:
        return [*faults, f"{CHECKSUMS} is {'missing' if table is None else 'no longer what it was'}"], 4
    expected = [line.partition("  ") for line in table.decode().splitlines()]
    for digest, _, name in expected:
        data = _read(storage, name)
        if data is None:
            faults.append(f"{name} is missing")
        elif hashlib.sha256(data).hexdigest() != digest:
            faults.append(f"{name} is no longer what it was")
    return faults, len(expected) + 4


def _read(storage: Storage, name: str) -> bytes | None:
    try:
        return storage.get(name)
    except NotFound:
        return None


def damaged_cells(executor: FunctionExecutor, opened: Run, stage: Stage, reached: bool) -> None:
    """Look at the files of cells that an earlier process has finished, and forget those that are damaged."""
    finished, _ = _finished(opened, stage)
    if not finished:
        return
    records = [CODEC.decode(look_up(opened.storage, base).read()) for base in finished]
    written = [(at, each["done"]) for at, each in enumerate(records) if not each["files"]]
    if reached:
        whole = executor.map(
            is_whole, [done for _, done in written], extra_args=(opened.address,), label="check"
        ).results()
    else:
        whole = [is_whole(done, opened.address) for _, done in written]
    broken = [finished[at] for (at, _), good in zip(written, whole, strict=True) if not good]
    opened.storage.delete([f"{base}{end}" for base in broken for end in (VALUE, REFERENCE)])


def lost_layers(opened: Run, stage: Stage, name: str) -> None:
    """Forget tasks that an earlier process has finished, and whose object beside the record is no longer there."""
    finished, there = _finished(opened, stage)
    lost = [base for base in finished if f"{base}{PART}{name}" not in there]
    opened.storage.delete([f"{base}{end}" for base in lost for end in (VALUE, REFERENCE)])


def _finished(opened: Run, stage: Stage) -> tuple[list[str], set[str]]:
    """Return which tasks are finished, by what their keys begin with, and all keys of their stage."""
    there = {info.key for info in opened.storage.list(f"{STAGES}{stage.name}/")}
    return [base for base in stage.bases() if {f"{base}{VALUE}", f"{base}{REFERENCE}"} & there], there


def is_whole(done: Mapping[str, Any], address: str) -> bool:
    """Map function: whether the files of a cell are what they were."""
    storage = process_storage(address)
    for name, told in done["files"].items():
        data = _read(storage, f"{CELLS}{done['name']}/{name}")
        if data is None or hashlib.sha256(data).hexdigest() != told["sha256"]:
            return False
    return True
