"""What crops are called: after their images, each with a name of its own, and never after a file that is not ours."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from apps._frame.manifest import INTERNAL, MANIFEST
from apps._frame.report import FOLDER
from apps._frame.tables import counted
from apps.face_align.dataset import Item
from apps.face_align.params import Params
from apps.face_align.science.images import written_as
from core import InputError

RESULTS = ("manifest.csv", "manifest.parquet", "contact-sheet.png", FOLDER, "report.html", "result.json")
"""What a run writes beside the crops; the last one says that it is finished."""

_NUMBERED = re.compile(r"\.face[0-9]+(\.[^./]+)$")


def output_keys(name: str, params: Params, faces: int) -> list[str]:
    """Return the keys of an image's crops below the destination."""
    stem, extension = os.path.splitext(name)
    extension = written_as(extension) if params.format == "keep" else f".{params.format}"
    if params.select != "all":
        return [stem + extension] * min(faces, 1)
    digits = len(str(faces))  # so that face 2 comes before face 10 wherever names are sorted as text
    return [f"{stem}.face{number:0{digits}d}{extension}" for number in range(1, faces + 1)]


def settle_names(items: Sequence[Item], destination: str, params: Params) -> tuple[Item, ...]:
    """Return the images, each with a name for its crops that no other one has.

    Raises
    ------
    InputError
        Several would write the same crop, a result of the run, or an input, and --rename is not given. All are named.
    """
    base = destination.partition("?")[0].rstrip("/")
    inputs = {f"{item.root.partition('?')[0].rstrip('/')}/{item.key}": item.name for item in items}
    taken = dict.fromkeys((*RESULTS, MANIFEST), "a result of the run")
    settled, clashes = [], []
    for item in items:
        key = output_keys(item.name, params, 1)[0]
        if key.startswith((INTERNAL, FOLDER)) and not item.fault:
            item = replace(item, fault=f"its crop would be among the run's own files, at {key}", status="write_error")
        other = taken.get(key) or inputs.get(f"{base}/{key}")
        if other and not item.fault:
            clashes.append(f"{item.name} and {other}: {key}")
            names = (_renamed(item, number) for number in itertools.count(1))
            while key in taken or f"{base}/{key}" in inputs:
                item = replace(item, output=next(names))
                key = output_keys(item.output, params, 1)[0]
        if not item.fault:
            taken[key] = item.name
        settled.append(item)
    if clashes and not params.rename:
        listed = "\n  ".join(clashes)
        raise InputError(
            f"{counted(len(clashes), 'image')} would write over another crop, an input or a result; nothing was "
            f"written; add --rename, or choose another --format or --output:\n  {listed}"
        )
    return tuple(settled)


def _renamed(item: Item, number: int) -> str:
    """Return another name: ``a.jpg`` is ``a_jpg.jpg``, then ``a_jpg_2.jpg``, whatever its crops' own extension."""
    stem, extension = os.path.splitext(item.name)
    return f"{stem}_{extension[1:].lower()}{f'_{number}' if number > 1 else ''}{extension}"


def first_keys(items: Iterable[Item], params: Params) -> list[str]:
    """Return the key of the first crop that each image may have."""
    return [output_keys(item.output or item.name, params, 1)[0] for item in items if not item.fault]


def in_the_way(first: Sequence[str], there: Iterable[str], own: set[str]) -> Iterator[str]:
    """Yield what lies where further faces of an image may be written, and is no crop of this application.

    Parameters
    ----------
    first : sequence of str
        What ``first_keys`` returned.
    there : iterable of str
        Keys at the destination.
    own : set of str
        Those of first crops that earlier runs wrote or may have written.
    """
    wanted = {_NUMBERED.sub(r"\1", key): key for key in first if _NUMBERED.search(key)}
    for key in there if wanted else ():
        if _NUMBERED.search(key):
            owner = wanted.get(_NUMBERED.sub(r"\1", key))
            if owner is not None and owner not in own and key != owner:
                yield key
