"""The validate command: facts, quirks with remedies, and an exit status that says what annotating would do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.metabolomics.__main__ import main
from tests.apps.metabolomics.imzml_pairs import Pair, Peaks, replaced

MICROMETRES = "".join(
    f'<cvParam accession="IMS:100004{i}" value="50" unitAccession="UO:0000017"/>' for i in (6, 7)
)  # fmt: skip


def validated(capsys: pytest.CaptureFixture[str], path: str, *flags: str) -> tuple[int, dict[str, Any]]:
    status = main(["validate", path, "--json", *flags])
    return status, json.loads(capsys.readouterr().out)


def quirk(figures: dict[str, Any], code: str) -> dict[str, Any]:
    return next(each for each in figures["quirks"] if each["code"] == code)


def profile(**options: Any) -> Pair:
    mz = np.arange(300.0, 310.0, 0.01)
    shape = sum(np.exp(-0.5 * ((mz - centre) / 0.03) ** 2) for centre in (302.0, 305.0, 307.5))
    return Pair([Peaks(x, 1, mz, np.where(shape > 1e-3, shape, 0)) for x in (1, 2, 3)], settings=MICROMETRES, **options)


def test_a_plain_dataset_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, figures = validated(capsys, Pair(settings=MICROMETRES).write(tmp_path))

    assert (status, figures["verdict"], figures["quirks"]) == (0, "fine", [])
    facts = figures["facts"]
    assert (facts["spectra"], facts["width"], facts["height"], facts["peaks"]) == (4, 2, 2, 12)
    assert (facts["polarity"], facts["mode"], facts["storage"]) == ("+", "centroid", "processed")
    assert (facts["mz_range"], facts["pixel_size_micrometres"]) == ([100.0, 300.25], [50.0, 50.0])


def test_people_get_two_tables_and_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["validate", Pair([Peaks(1, 1), Peaks(1, 1)]).write(tmp_path)])

    shown = capsys.readouterr().out
    assert status == 0
    assert "Picture         1 x 1 pixels, 100.0% of them measured" in shown
    assert "1 spectra stand on a pixel that another has, the first at (1, 1)  their peaks are added" in shown
    assert shown.endswith("The dataset can be annotated.\n")


def test_a_refused_dataset_ends_with_1_and_its_flag_lets_it_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        (Pair(uuid="ab" * 16), "uuid", ["--ignore-uuid"]),
        (Pair(spectrum=""), "no-polarity", ["--polarity", "-"]),
        (profile(content=""), "profile", ["--centroid"]),
        (profile(content='<cvParam accession="MS:1000128" name="profile spectrum"/>'), "profile", ["--centroid"]),
    ]
    for pair, code, flags in cases:
        path = pair.write(tmp_path)

        status, figures = validated(capsys, path)
        passed, after = validated(capsys, path, *flags)

        assert (status, figures["verdict"], quirk(figures, code)["fatal"]) == (1, "refused", True)
        assert flags[0] in quirk(figures, code)["remedy"]
        assert (passed, after["verdict"] in ("fine", "quirks")) == (0, True)


def test_a_truncated_dataset_is_refused_and_its_flag_lets_it_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Pair().write(tmp_path)
    (tmp_path / "made.ibd").write_bytes((tmp_path / "made.ibd").read_bytes()[:-20])

    assert validated(capsys, path)[0] == 1
    status, figures = validated(capsys, path, "--allow-truncated")

    assert (status, quirk(figures, "truncated")["count"], figures["facts"]["spectra"]) == (0, 1, 3)


def test_a_dataset_that_cannot_be_read_is_a_quirk_with_its_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = replaced(Pair().write(tmp_path), ("</spectrumList>", ""))

    status, figures = validated(capsys, path)

    assert status == 1
    assert "not well-formed XML at byte" in quirk(figures, "unreadable")["sentence"]
    assert quirk(figures, "unreadable")["remedy"] == "export the file again"


@pytest.mark.parametrize("arguments", [["validate"], ["validate", "nowhere.imzML"]])
def test_a_missing_file_is_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "imzML" in capsys.readouterr().err


def test_the_mode_is_told_from_the_data_and_not_from_the_word_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(5)
    spectra = [Peaks(x, 1, np.sort(generator.uniform(200, 900, 80)), generator.uniform(1, 9, 80)) for x in (1, 2)]
    word = '<cvParam accession="MS:1000128" name="profile spectrum"/>'
    centroids = Pair(spectra, content=word, settings=MICROMETRES)

    status, figures = validated(capsys, centroids.write(tmp_path))
    assert (status, figures["facts"]["mode"]) == (0, "centroid")
    assert "the file says profile, but points" in quirk(figures, "mode")["sentence"]

    status, figures = validated(capsys, profile().write(tmp_path))
    assert (status, figures["facts"]["mode"]) == (0, "profile")
    assert "--centroid picks peaks" in quirk(figures, "profile")["remedy"]


def rare() -> Pair:
    """Return a pair of which one spectrum of many has values that are none."""
    spectra = [Peaks(i % 50, i // 50, (100.0, 200.0, 300.0), (1.0, 2.0, 3.0)) for i in range(1000)]
    spectra[777] = Peaks(27, 15, (300.0, 200.0, np.nan), (1.0, -2.0, 3.0))
    return Pair(spectra, settings=MICROMETRES)


def test_a_sample_may_miss_what_looking_at_the_whole_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rare().write(tmp_path)

    _, sampled = validated(capsys, path, "--spectra", "5")
    status, whole = validated(capsys, path, "--whole", "--workers", "1")

    assert (sampled["quirks"], sampled["facts"]["spectra_looked_at"]) == ([], 5)
    assert whole["facts"]["spectra_looked_at"] == 1000
    assert {each["code"]: each["count"] for each in whole["quirks"]} == {
        "not-finite": 1, "not-positive": 1, "unsorted": 1,
    }  # fmt: skip
    assert status == 0


@pytest.mark.parametrize("agrees", [True, False])
def test_the_checksum_is_compared_where_the_whole_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], agrees: bool
) -> None:
    pair = Pair(settings=MICROMETRES)
    digits = hashlib.sha1(pair.binary()[0]).hexdigest() if agrees else "ab" * 20
    pair.content += f'<cvParam accession="IMS:1000091" name="ibd SHA-1" value="{digits.upper()}"/>'

    status, figures = validated(capsys, pair.write(tmp_path), "--whole", "--workers", "1")

    assert status == 0
    assert ("checksum" in {each["code"] for each in figures["quirks"]}) != agrees


def test_an_intensity_beyond_32_bits_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Pair([Peaks(1, 1, intensity=(1.0, 2.0, 1e300))], intensity="f8", settings=MICROMETRES).write(tmp_path)

    status, figures = validated(capsys, path)

    assert (status, quirk(figures, "intensity")["fatal"]) == (1, True)


@pytest.mark.parametrize("name", ["synth_small/synth_small.imzML", "untreated_tiny/Untreated_3_434_tiny.imzML"])
def test_public_centroids_can_be_annotated(shared_data: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, figures = validated(capsys, str(shared_data / name), "--polarity", "+")

    assert (status, figures["facts"]["mode"]) == (0, "centroid")
