"""What a run leaves behind is read back as it was written."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.metabolomics.result import (
    ALL_IONS,
    ION_IMAGES,
    IonImage,
    IonImages,
    encode_images,
    ions_schema,
    read_accepted,
)
from core import open_storage


def image(*pixels: int) -> IonImage:
    return IonImage(np.array(pixels, np.int32), np.array(pixels) + 0.5)


@pytest.fixture
def storage(tmp_path):
    return open_storage(str(tmp_path))


def test_images_of_several_objects_come_back_by_ion_and_isotope(storage):
    storage.put(f"{ION_IMAGES}00000.parquet", encode_images([("A+H", [image(0, 3), image()])]))
    storage.put(f"{ION_IMAGES}00001.parquet", encode_images([("B+H", [image(5)]), ("C+H", [image(1, 2)])]))

    images = IonImages(storage)

    assert list(images) == ["A+H", "B+H", "C+H"]
    assert [each.pixels.tolist() for each in images["A+H"]] == [[0, 3], []]
    assert images["C+H"][0].values.tolist() == [1.5, 2.5]


def test_a_sparse_image_is_laid_out_by_rows():
    dense = image(0, 5).dense(3, 2)

    assert dense.tolist() == [[0.5, 0, 0], [0, 0, 5.5]]


def test_an_ion_without_images_is_a_key_error(storage):
    storage.put(f"{ION_IMAGES}00000.parquet", encode_images([("A+H", [image(0)])]))

    with pytest.raises(KeyError):
        IonImages(storage)["B+H"]


def test_accepted_ions_are_those_up_to_the_level_best_first(storage):
    schema = ions_schema(2)
    rows = [("C", 0.2, 0.05), ("B", 0.7, 0.1), ("A", 0.7, 0.1), ("D", 0.1, 0.2), ("E", 0.9, None)]
    found = [
        {name: None for name in schema.names} | {"ion": ion, "msm": msm, "fdr": fdr, "decoy": fdr is None}
        for ion, msm, fdr in rows
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(found, schema), sink)
    storage.put(ALL_IONS, sink.getvalue())

    accepted = read_accepted(storage, 0.1)

    assert accepted.column("ion").to_pylist() == ["A", "B", "C"]


def test_objects_of_images_are_fetched_once_as_long_as_they_fit(storage, monkeypatch):
    for number in range(3):
        ions = [(f"C{number}H{at}", [image(at + 1)]) for at in range(2)]
        storage.put(f"{ION_IMAGES}{number}.parquet", encode_images(ions))
    images = IonImages(storage)
    order = [f"C{number}H{at}" for at in range(2) for number in range(3)]

    before = storage.requests
    found = [images[ion][0].pixels.tolist() for ion in order]
    once = storage.requests - before
    monkeypatch.setattr("apps.metabolomics.result.KEPT_IMAGES", 1)
    tight = IonImages(storage)
    before = storage.requests
    again = [tight[ion][0].pixels.tolist() for ion in order]

    assert found == again == [[1], [1], [1], [2], [2], [2]]
    assert once < storage.requests - before
