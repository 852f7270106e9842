"""Good files: every spectrum read as an independent reader reads it, from any storage, in tasks of any size."""

from __future__ import annotations

import http.server
import json
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.metabolomics.imzml import Dataset, open_dataset, read_spectra, tasks
from apps.metabolomics.imzml.opening import Remedies, inspect
from core import InputError, open_storage
from tests.apps.metabolomics.imzml_pairs import Pair, Peaks, as_peaks, slow_reader
from tests.conftest import S3Server

REAL = (
    "Combat_40pixel.imzML",
    "outfile1.imzml",
    "peak_detection5.imzml",
    "simple_imzml.imzML",
    "Example_Processed.imzML",
)
OTHERS = (
    "synth_small/synth_small.imzML",
    "untreated_tiny/Untreated_3_434_tiny.imzML",
    "imzml_example_ds/Example_Continuous.imzML",
)


def read_peaks(dataset: Dataset, most: int = 1 << 30) -> list[tuple[int, int, float, float]]:
    found = []
    for start, stop in tasks(dataset, most):
        spectra = read_spectra(dataset.between(start, stop), start, stop)
        y, x = np.divmod(spectra.pixel, dataset.width)
        columns = (x + dataset.x, y + dataset.y, spectra.mz.astype(float), spectra.intensity.astype(float))
        found += zip(*(column.tolist() for column in columns), strict=True)
    return sorted(found)


@pytest.mark.parametrize("name", REAL)
def test_a_public_file_has_the_facts_that_independent_readers_found(shared_data: Path, name: str) -> None:
    expected = next(e for e in json.loads((shared_data / "real/EXPECTED.json").read_text()) if e["file"] == name)

    dataset = inspect(str(shared_data / "real" / name), Remedies())

    spectra = read_spectra(dataset, 0, dataset.n_spectra)
    assert dataset.n_spectra == expected["spectra"]
    assert (dataset.width, dataset.height) == (expected["width"], expected["height"])
    assert (dataset.x, dataset.y) == (expected["x"][0], expected["y"][0])
    assert (dataset.polarity or None, dataset.continuous) == (expected["polarity"], expected["continuous"])
    assert (dataset.mode == "profile") == expected["profile"]
    assert dataset.n_peaks == expected["points"]
    assert len(spectra.mz) == expected["points_positive"]
    assert spectra.mz.dtype == expected["mz_dtype"]
    assert spectra.intensity.sum(dtype=float) == pytest.approx(expected["intensity_sum"], rel=1e-7)
    tic = np.bincount(spectra.pixel, spectra.intensity, dataset.width * dataset.height)
    assert divmod(int(tic.argmax()), dataset.width) == tuple(expected["tic_argmax_yx"])


@pytest.mark.parametrize("name", [f"real/{name}" for name in REAL] + list(OTHERS))
def test_a_public_file_is_read_as_a_plain_reader_reads_it(shared_data: Path, name: str) -> None:
    path = str(shared_data / name)

    dataset = inspect(path, Remedies())

    assert read_peaks(dataset) == as_peaks(slow_reader(path))


@pytest.mark.parametrize("name", ["real/outfile1.imzml", "imzml_example_ds/Example_Continuous.imzML"])
def test_a_profile_is_refused_and_centroids_are_not(shared_data: Path, name: str) -> None:
    with pytest.raises(InputError, match="the spectra are profiles; --centroid picks their peaks"):
        open_dataset(str(shared_data / name))

    assert open_dataset(str(shared_data / OTHERS[0])).mode == "centroid"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("mz", ["f4", "f8"])
@pytest.mark.parametrize("intensity", ["f4", "f8", "i4", "i8"])
def test_every_way_of_storing_is_read(tmp_path: Path, packed: bool, continuous: bool, mz: str, intensity: str) -> None:
    path = Pair(packed=packed, continuous=continuous, mz=mz, intensity=intensity).write(tmp_path)

    dataset = open_dataset(path)

    assert read_peaks(dataset) == as_peaks(slow_reader(path))
    assert dataset.continuous == continuous
    assert dataset.mz_type == mz
    [(start, stop)] = tasks(dataset, 1 << 30)
    assert read_spectra(dataset.between(start, stop), start, stop).mz.dtype == mz


def test_tasks_of_any_size_give_the_same_peaks(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    sizes = generator.integers(0, 40, 60)
    spectra = [
        Peaks(i % 7, i // 7, np.sort(generator.uniform(100, 900, n)), np.arange(1, n + 1)) for i, n in enumerate(sizes)
    ]
    dataset = open_dataset(Pair(spectra).write(tmp_path))

    parts = [read_peaks(dataset, most) for most in (1, 500, 5_000, 1 << 30)]

    assert parts[0] == parts[1] == parts[2] == parts[3]
    assert len(parts[0]) == sizes.sum()
    assert [start for start, _ in tasks(dataset, 500)][1:] == [stop for _, stop in tasks(dataset, 500)][:-1]
    assert all((stop - start == 1) or sizes[start:stop].sum() * 12 <= 500 for start, stop in tasks(dataset, 500))


def test_a_run_of_spectra_is_read_by_one_request(tmp_path: Path) -> None:
    dataset = open_dataset(Pair().write(tmp_path))
    from core.storage import process_storage

    storage: Any = process_storage(dataset.ibd.storage)
    before = storage.bytes_in

    read_spectra(dataset, 1, 3)

    assert storage.bytes_in - before == 2 * 3 * (8 + 4)


def test_a_dataset_travels_to_workers_with_the_part_of_the_index_they_need(tmp_path: Path) -> None:
    dataset = open_dataset(Pair().write(tmp_path))

    part = pickle.loads(pickle.dumps(dataset.between(2, 3)))

    assert part.n_spectra == 1
    assert read_spectra(part, 2, 3).pixel.tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="not in this part"):
        read_spectra(part, 1, 2)


def test_a_bucket_is_read_as_a_folder_is(tmp_path: Path, s3_server: S3Server) -> None:
    path = Pair().write(tmp_path)
    bucket = f"s3://fanfold?endpoint={s3_server.endpoint}"
    with_key = f"s3://fanfold/imzml/made.imzML?endpoint={s3_server.endpoint}"
    storage = open_storage(bucket)
    for name in ("made.imzML", "made.ibd"):
        storage.put(f"imzml/{name}", (tmp_path / name).read_bytes())

    dataset = open_dataset(with_key)

    assert read_peaks(dataset) == as_peaks(slow_reader(path))


@pytest.fixture
def web_folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder on the web, whole files only, as Python's plain server does."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_web_server_is_read_as_a_folder_is(web_folder: tuple[Path, str]) -> None:
    folder, address = web_folder
    path = Pair().write(folder)

    dataset = open_dataset(f"{address}/made.imzML")

    assert read_peaks(dataset) == as_peaks(slow_reader(path))
    with pytest.raises(InputError, match=r"there is no such file"):
        open_dataset(f"{address}/other.imzML")


def test_a_dataset_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    dataset = open_dataset(Pair().write(tmp_path))
    (tmp_path / "made.ibd").write_bytes(Pair(gap=8).binary()[0])

    with pytest.raises(InputError, match="changed while"):
        read_spectra(dataset, 0, 1)
