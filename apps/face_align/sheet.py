"""The contact sheet: crops in a grid, each with the name of its image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from apps._frame.tables import printable
from apps.face_align.result import Row
from apps.face_align.science.geometry import Image
from apps.face_align.science.headers import BadImage
from apps.face_align.science.images import decode
from core import FanfoldError
from core.storage import Storage

SHEET_WIDTH = 1400
"""Pixels."""
CELLS = (100, 180)
"""Pixels a side of a crop on the sheet, least and most."""
GAP, LINE, LETTERS = 6, 13, 11
"""Pixels between crops; of a line of text, and of its letters."""
THUMBNAIL = (120, 80)
"""Pixels a side of a crop in the report, and its JPEG quality."""
READERS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A crop read back, uint8 (size, size, 3) RGB, and the row of its image."""

    row: Row
    pixels: Image

    @property
    def thumbnail(self) -> bytes:
        """A small JPEG of it."""
        side, quality = THUMBNAIL
        bgr = cv2.cvtColor(_fitted(self.pixels, min(side, len(self.pixels))), cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def read_crops(storage: Storage, rows: Sequence[Row]) -> list[Crop]:
    """Return the crops of rows, from the storage they were written to; one that cannot be read is left out."""

    def read(row: Row) -> Crop | None:
        try:
            return Crop(row, decode(storage.get(row.output)))
        except (FanfoldError, OSError, BadImage):
            return None

    with ThreadPoolExecutor(READERS) as pool:
        return [crop for crop in pool.map(read, rows) if crop is not None]


def contact_sheet(crops: Sequence[Crop]) -> bytes:
    """Return a PNG of at least one crop in a grid, each above the name of its image."""
    size = max(len(crop.pixels) for crop in crops)
    columns = min(len(crops), SHEET_WIDTH // (CELLS[0] + GAP))
    while columns > 1 and math.ceil(len(crops) / (columns - 1)) <= columns - 1:
        columns -= 1  # about as many lines as columns
    cell = max(min(CELLS[0], size), min(CELLS[1], size, SHEET_WIDTH // columns - GAP))
    width = max(cell, CELLS[0])
    lines = math.ceil(len(crops) / columns)
    sheet = Pillow.new("RGB", (columns * (width + GAP) + GAP, lines * (cell + LINE + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    for place, crop in enumerate(crops):
        line, column = divmod(place, columns)
        left, top = GAP + column * (width + GAP), GAP + line * (cell + LINE + GAP)
        sheet.paste(Pillow.fromarray(_fitted(crop.pixels, cell)), (left, top))
        draw.text((left, top + cell), _shortened(crop.row, font, width), "#1b2733", font)
    return cv2.imencode(".png", cv2.cvtColor(np.asarray(sheet), cv2.COLOR_RGB2BGR))[1].tobytes()


def _fitted(pixels: Image, side: int) -> Image:
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _font() -> Any:
    """Return a font with letters of most alphabets, which matplotlib ships."""
    spec = find_spec("matplotlib")
    path = Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if spec and spec.origin else None
    return ImageFont.truetype(str(path), LETTERS) if path and path.is_file() else ImageFont.load_default(LETTERS)


def _shortened(row: Row, font: Any, width: int) -> str:
    """Return the end of an image's name, as much as fits."""
    name = printable(row.key) + (f" #{row.face}" if row.faces > 1 else "")
    if font.getlength(name) <= width:
        return name
    return next((f"…{name[at:]}" for at in range(1, len(name)) if font.getlength(f"…{name[at:]}") <= width), "…")
