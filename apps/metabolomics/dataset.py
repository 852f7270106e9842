"""A dataset on its way to workers: the spectra of one task with all that is needed to read them, as an object."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from apps.metabolomics.imzml import Dataset, SpectrumIndex
from apps.metabolomics.imzml.elements import Elements
from apps.metabolomics.imzml.pair import Blob

ARRAYS = ("number", "pixel", "length", "mz_offset", "intensity_offset", "elements", "encoded")


def encode_part(dataset: Dataset) -> bytes:
    """Write a dataset, or a part of one, as numpy's archive of arrays; its quirks stay behind."""
    index = dataset.index
    arrays = {name: getattr(index, name) for name in ARRAYS if getattr(index, name) is not None}
    plain = replace(dataset, index=None, quirks=())  # type: ignore[arg-type]
    head = json.dumps({name: value for name, value in asdict(plain).items() if name not in ("index", "quirks")})
    sink = io.BytesIO()
    np.savez_compressed(sink, head=np.frombuffer(head.encode(), np.uint8), **arrays)
    return sink.getvalue()


def decode_part(data: bytes) -> Dataset:
    """Read what ``encode_part`` has written."""
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        arrays: dict[str, Any] = {name: found[name] for name in ARRAYS if name in found.files}
        head: dict[str, Any] = json.loads(found["head"].tobytes())
    size = head["pixel_size"]
    head |= {
        "xml": Blob(**head["xml"]),
        "ibd": Blob(**head["ibd"]),
        "elements": tuple(Elements(**each) for each in head["elements"]),
        "pixel_size": None if size is None else tuple(size),
    }
    return Dataset(index=SpectrumIndex(**arrays), quirks=(), **head)
