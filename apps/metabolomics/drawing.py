"""The pictures of annotations: drawn by the tasks of an annotation, or where a report is made again."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from apps._frame.stages import Stage, Stages
from apps._frame.stored import Codec
from apps.metabolomics.annotated import PIXELS, Annotated, Shown
from apps.metabolomics.parquet_pieces import read_parquet
from apps.metabolomics.pictures import Field, coloured_png, grey_png, levels, side_by_side
from apps.metabolomics.result import IonImages
from core.storage import process_storage

SIDE, LEAST_SIDE = 200, 160
"""Pixels a side of an isotope image in the report, at most and at least."""
IONS = 8
"""Of one task: a tenth of a second for images of 20,000 pixels."""
SCHEMA = pa.schema([("row", pa.binary()), ("tops", pa.list_(pa.float64())), ("files", pa.list_(pa.binary()))])


class Drawn(Protocol):
    """The pictures of one annotation."""

    @property
    def row(self) -> bytes:
        """Its isotope images side by side, coloured."""

    @property
    def tops(self) -> Sequence[float]:
        """The highest value of each."""

    @property
    def files(self) -> Sequence[bytes]:
        """Each as a file that keeps the numbers."""


Draw = Callable[[Annotated, Sequence[str], bool, Callable[[], object]], Callable[[str], Drawn]]
"""Given an annotation, some of its ions, and whether there are files of their images: gives what is drawn of an ion,
having called what is to be done meanwhile."""


@dataclass(frozen=True)
class _Here:
    """Drawn when it is asked for."""

    shown: Shown
    ion: str

    @cached_property
    def row(self) -> bytes:
        images = [levels(image, self.shown.field, SIDE) for image in self.shown.isotopes(self.ion)]
        return coloured_png(side_by_side(images, LEAST_SIDE))

    @cached_property
    def tops(self) -> Sequence[float]:
        return [float(image.values.max(initial=0.0)) for image in self.shown.isotopes(self.ion)]

    @cached_property
    def files(self) -> Sequence[bytes]:
        return [grey_png(image, self.shown.field) for image in self.shown.isotopes(self.ion)]


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Drawn by a task."""

    row: bytes
    tops: Sequence[float]
    files: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Ions:
    """Ions of one task: where the images of each are, and the tags of those objects."""

    places: tuple[tuple[str, str, int], ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """What all tasks of ``draw`` have in common; `address` is that of the run."""

    width: int
    height: int
    norm: str
    files: bool
    address: str = field(compare=False)


def draw(task: Ions, params: Drawing) -> pa.Table:
    """Map function of ``draw``: the pictures of some annotations."""
    storage = process_storage(params.address)
    pixels = read_parquet(storage.get(PIXELS))
    images = IonImages(storage, {ion: (key, group) for ion, key, group in task.places})
    measured = Field(params.width, params.height, pixels.column("pixel").to_numpy())
    shown = Shown(measured, pixels.column("tic").to_numpy(), images, params.norm)
    found = [_Here(shown, ion) for ion, *_ in task.places]
    columns = [[each.row for each in found], [each.tops for each in found]]
    return pa.table([*columns, [each.files if params.files else [] for each in found]], schema=SCHEMA)


def _encoded(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_page_checksum=True)
    return sink.getvalue()


DRAWN = Codec(_encoded, read_parquet)


def here(run: Annotated, ions: Sequence[str], files: bool, meanwhile: Callable[[], object]) -> Callable[[str], Drawn]:
    """Draw in this process, when a picture is asked for; see `Draw`."""
    meanwhile()
    return lru_cache(maxsize=1)(lambda ion: _Here(run.shown, ion))


def by_tasks(stages: Stages, address: str, tags: Mapping[str, str]) -> Draw:
    """Return what draws by tasks; `tags` are those of the objects of a run that hold images."""

    def drawn(
        run: Annotated, ions: Sequence[str], files: bool, meanwhile: Callable[[], object]
    ) -> Callable[[str], Drawn]:
        places = [(ion, *run.images.place(ion)) for ion in ions]
        parts = [tuple(places[first : first + IONS]) for first in range(0, len(places), IONS)]
        tasks = [Ions(part, tuple(tags[key] for _, key, _ in part)) for part in parts]
        common = Drawing(run.field.width, run.field.height, str(run.figures.get("norm")), files, address)
        outputs = stages.run(Stage("draw", tasks, draw, common, codec=DRAWN), meanwhile=meanwhile)
        at = {ion: number for number, ion in enumerate(ions)}
        part = lru_cache(maxsize=1)(outputs.value)  # they are asked for one after the other

        def find(ion: str) -> Drawn:
            task, row = divmod(at[ion], IONS)
            return _Fetched(*(part(task).column(name)[row].as_py() for name in SCHEMA.names))

        return find

    return drawn
