"""Synthetic datasets: the same for a seed, true to what they say, of any size, and fair to targets and decoys."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from apps.metabolomics.__main__ import main
from apps.metabolomics.databases import read_database
from apps.metabolomics.imzml import open_dataset
from apps.metabolomics.science.specimen import DISTRIBUTIONS, measure_row
from apps.metabolomics.synth import ISOBAR_PPM, LIMIT, addresses, design, generate, pixels_of
from apps.metabolomics.synth_params import Specification
from apps.metabolomics.truth import Planted, assess, read_truth, truth_csv
from core import InputError
from tests.conftest import S3Server

SMALL = Specification(pixels=300, molecules=60, planted=20, unknown=30, peaks=20.0)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(str(tmp_path / name / "made.imzML"), Specification(**{**_settings(SMALL), "seed": seed}))

    first, second, other = (hashes(tmp_path / name) for name in "abc")

    assert first == second
    assert set(first) == {"made.imzML", "made.ibd", "made-molecules.tsv", "made-truth.csv"}
    assert all(first[name] != other[name] for name in first)


def _settings(specification: Specification) -> dict[str, Any]:
    return {name: getattr(specification, name) for name in specification.__dataclass_fields__}


def test_the_files_are_a_dataset_its_database_and_its_truth(tmp_path: Path) -> None:
    path = str(tmp_path / "made.imzML")
    generate(path, SMALL)

    dataset = open_dataset(path)
    database = read_database(addresses(path)["database"])
    truth = read_truth(Path(addresses(path)["truth"]).read_bytes(), "truth")

    assert (dataset.n_spectra, dataset.width, dataset.height, dataset.polarity) == (300, 19, 16, "+")
    assert (dataset.quirks, dataset.mode) == ((), "centroid")
    assert database.rejected == ()
    formulas = set(database.formulas.to_pylist())
    planted = [each for each in truth if each.formula]
    assert (len(formulas), len(planted), len(truth)) == (60, 20, 50)
    assert {each.formula for each in planted} <= formulas
    assert {each.adduct for each in planted} <= {"+H", "+Na", "+K"}


def test_a_negative_specimen_has_negative_ions(tmp_path: Path) -> None:
    made = design(Specification(**{**_settings(SMALL), "polarity": "-"}))

    assert {each.adduct for each in made.compounds if each.formula} == {"-H", "+Cl"}


def test_pixels_need_not_fill_the_last_row() -> None:
    made = design(SMALL)

    pixels = list(pixels_of(made, range(made.specimen.height)))

    assert len(pixels) == 300 < made.specimen.width * made.specimen.height
    assert (pixels[-1].x, pixels[-1].y) == (300 - 15 * 19, 16)


def test_a_row_is_the_same_whatever_was_measured_before() -> None:
    specimen = design(SMALL).specimen
    measured = [measure_row(specimen, row) for row in range(5)]

    again = measure_row(specimen, 4)

    assert all((a == b).all() for a, b in zip(again, measured[4], strict=True))


def compound(made: Any, abundance: float = 8 * LIMIT) -> Any:
    """Return a specimen with one abundant compound, everywhere, and nothing else."""
    from dataclasses import replace

    specimen = made.specimen
    strong = int(np.argmax(np.sort(specimen.pattern, axis=1)[:, -2]))
    return replace(
        specimen,
        mz=specimen.mz[strong : strong + 1],
        pattern=specimen.pattern[strong : strong + 1],
        abundance=np.array([abundance]),
        distribution=np.array([0]),
        noise=0.0,
    )


def test_isotopes_mass_error_and_limit_are_those_asked_for() -> None:
    specimen = compound(design(SMALL), 1000 * LIMIT)

    rows = [measure_row(specimen, row) for row in range(specimen.height)]

    mz, intensity = (np.concatenate([row[i] for row in rows]) for i in (0, 1))
    order = np.argsort(-specimen.pattern[0])[:2]
    totals, errors = [], []
    for isotope in order:
        near = np.abs(mz / specimen.mz[0, isotope] - 1) < 5e-6
        assert near.sum() == specimen.width * specimen.height
        totals.append(intensity[near].sum())
        errors.append((mz[near] / specimen.mz[0, isotope] - 1) * 1e6)
    assert totals[1] / totals[0] == pytest.approx(
        specimen.pattern[0, order[1]] / specimen.pattern[0, order[0]], rel=0.05
    )
    # The part that a pixel's peaks share adds a quarter to the variance.
    assert np.std(np.concatenate(errors)) == pytest.approx(0.6 * np.sqrt(1.25), rel=0.15)
    assert intensity.min() >= LIMIT


def test_a_compound_is_where_its_distribution_has_it() -> None:
    from dataclasses import replace

    specimen = compound(design(SMALL))
    seen = []
    for number, shape in enumerate(DISTRIBUTIONS[1:], 1):
        one = replace(specimen, distribution=np.array([number]), abundance=np.array([1e6 * LIMIT]))
        u = (np.arange(one.width) + 0.5) / one.width
        expected = np.array([shape(u, (row + 0.5) / one.height) for row in range(one.height)])
        image = np.zeros_like(expected)
        for row in range(one.height):
            _, intensity, counts = measure_row(one, row)
            pixel = np.repeat(np.arange(one.width), counts)
            image[row] = np.bincount(pixel, intensity, one.width)
        seen.append(np.corrcoef(image.ravel() / image.max() + expected.ravel(), expected.ravel())[0, 1])

    assert min(seen) > 0.97
    assert 0 <= min(shape(np.linspace(0, 1, 99), v).min() for shape in DISTRIBUTIONS for v in np.linspace(0, 1, 99))


def test_no_ion_of_the_database_is_isobaric_with_a_planted_one() -> None:
    from apps.metabolomics.science.adducts import NOTHING, parse_adduct
    from apps.metabolomics.science.centroids import Instrument, patterns
    from apps.metabolomics.science.formulas import parse_formula
    from apps.metabolomics.science.ions import ion_composition

    made = design(Specification(molecules=300, planted=100, unknown=10))
    adducts = [parse_adduct(name, "+") for name in ("+H", "+Na", "+K")]
    names = [(formula, adduct) for formula in made.formulas for adduct in adducts]
    ions = [ion_composition(parse_formula(formula), NOTHING, NOTHING, adduct) for formula, adduct in names]

    mz = patterns([ion for ion in ions if ion is not None], 1, Instrument("orbitrap", 140_000)).mz[:, 0]

    planted = {(each.formula, each.adduct) for each in made.compounds if each.formula}
    inside = np.array([(formula, adduct.name) in planted for formula, adduct in names])
    assert inside.sum() == 100
    distance = np.abs(mz[inside][:, None] / mz[None, :] - 1)
    distance[np.arange(inside.sum()), np.flatnonzero(inside)] = 1.0
    assert distance.min() > 0.999 * ISOBAR_PPM * 1e-6


def test_a_dataset_of_any_size_is_made_row_by_row() -> None:
    made = design(Specification(pixels=10**9, molecules=20, planted=5, unknown=5, peaks=1.0))

    first = list(islice(pixels_of(made, iter(range(made.specimen.height))), 3))

    assert made.specimen.width * made.specimen.height >= 10**9
    assert [(each.x, each.y) for each in first] == [(1, 1), (2, 1), (3, 1)]


def test_the_command_writes_four_files_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--pixels", "1e2", "--molecules", "40", "--planted", "10", "--unknown", "5"]

    assert main(["synth", "made", *flags]) == 0
    shown = capsys.readouterr().out
    before = hashes(tmp_path)
    assert main(["synth", "made.imzML", *flags]) == 2
    refusal = capsys.readouterr().err
    assert main(["synth", "made.imzML", "--replace", "--json", *flags]) == 0
    figures = json.loads(capsys.readouterr().out)

    assert set(before) == {"made.imzML", "made.ibd", "made-molecules.tsv", "made-truth.csv"}
    assert "10 of 40 molecules" in shown
    assert "apps.metabolomics annotate" in shown
    assert "made.imzML exists; choose another name, or add --replace" in refusal
    assert (figures["pixels"], figures["planted"], figures["unknown"]) == (100, 10, 5)
    assert hashes(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "OUT"),
        (["x", "--planted", "700"], "plant fewer"),
        (["x", "--molecules", "5000", "--planted", "3000"], "can be told apart by their ions"),
        (["x", "--pixels", "1.5"], "--pixels"),
        (["x", "--pixels", "nan"], "--pixels"),
        (["x", "--peaks", "-1"], "--peaks"),
        (["s3://bucket/folder/"], "OUT"),
    ],
)
def test_wrong_use_is_refused(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", *flags]) == 2
    assert words in capsys.readouterr().err


def test_a_bucket_gets_the_same_bytes_as_a_folder(tmp_path: Path, s3_server: S3Server) -> None:
    from core import open_storage

    generate(str(tmp_path / "made.imzML"), SMALL)

    generate(f"s3://fanfold/synth/made.imzML?endpoint={s3_server.endpoint}", SMALL)

    storage = open_storage(f"s3://fanfold?endpoint={s3_server.endpoint}")
    stored = {info.key.rpartition("/")[2]: storage.get(info.key) for info in storage.list("synth/")}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in stored.items()} == hashes(tmp_path)


def test_the_truth_is_read_as_it_was_written() -> None:
    compounds = [Planted("C6H12O6", "+H", 181.0707, 250.5, 3), Planted("", "", 300.25, 100.0, 15)]

    assert read_truth(truth_csv(compounds), "truth") == compounds
    with pytest.raises(InputError, match="no table of what is in a specimen"):
        read_truth(b"formula,adduct\nC,+H\n", "other.csv")


def test_annotations_are_counted_against_the_truth_at_each_level() -> None:
    planted = {("A", "+H"), ("B", "+Na"), ("C", "+H"), ("D", "+K")}
    annotated = [("A", "+H", 0.01), ("X", "+H", 0.05), ("B", "+Na", 0.1), ("B", "+H", 0.1), ("C", "+H", 0.4)]

    at_5, at_10, at_50 = assess(planted, annotated, (0.05, 0.1, 0.5))
    (nothing,) = assess(set(), [], (0.1,))

    assert (at_5.annotated, at_5.right, at_5.sensitivity, at_5.false_discovery_rate) == (2, 1, 0.25, 0.5)
    assert (at_10.annotated, at_10.sensitivity, at_10.false_discovery_rate) == (4, 0.5, 0.5)
    assert (at_50.right, at_50.sensitivity) == (3, 0.75)
    assert (nothing.sensitivity, nothing.false_discovery_rate) == (None, None)


@pytest.mark.slow
def test_the_estimated_false_discovery_rate_is_the_actual_one_near_the_limit_of_detection(tmp_path: Path) -> None:
    planted, annotated = set(), []
    for seed in (1, 2, 3, 4):
        path = str(tmp_path / f"{seed}.imzML")
        made = generate(path, Specification(molecules=1500, planted=300, unknown=2000, seed=seed))
        output = str(tmp_path / f"run-{seed}")
        database = addresses(path)["database"]
        assert main(["annotate", path, "--db", database, "--fdr", "0.5", "--output", output, "--quiet"]) == 0
        ions = pq.read_table(f"{output}/all_ions.parquet", columns=["formula", "adduct", "fdr", "decoy"]).to_pylist()
        # The specimens are judged together: one has some 20 false annotations at 10%.
        planted |= {(f"{seed} {each.formula}", each.adduct) for each in made.compounds if each.formula}
        annotated += [
            (f"{seed} {ion['formula']}", ion["adduct"], ion["fdr"])
            for ion in ions
            if not ion["decoy"] and ion["fdr"] is not None
        ]

    at_10, at_20 = assess(planted, annotated, (0.1, 0.2))

    assert at_10.false_discovery_rate == pytest.approx(0.1, abs=0.05)
    assert at_20.false_discovery_rate == pytest.approx(0.2, abs=0.05)
    assert 0.4 < (at_10.sensitivity or 0) < (at_20.sensitivity or 0) < 0.95


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to tell what a process took")
def test_a_dataset_larger_than_the_memory_it_takes_is_made_and_opened(tmp_path: Path) -> None:
    script = (
        "from apps.metabolomics.synth import generate\n"
        "from apps.metabolomics.synth_params import Specification\n"
        "from apps.metabolomics.imzml import open_dataset\n"
        f"path = {str(tmp_path / 'large.imzML')!r}\n"
        "generate(path, Specification(pixels=300_000, molecules=40, planted=20, unknown=50, peaks=300.0))\n"
        "dataset = open_dataset(path)\n"
        "status = open('/proc/self/status').read()\n"
        "print(dataset.n_spectra, int(status.partition('VmHWM:')[2].split()[0]) * 1024)\n"
    )

    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    spectra, most = map(int, said.split())
    assert spectra == 300_000
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 1.2e9
    assert most < 600e6
