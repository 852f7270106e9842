from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.metabolomics.__main__ import main
from apps.metabolomics.annotated import Annotated
from apps.metabolomics.compare import compared
from apps.metabolomics.publishing import files
from apps.metabolomics.sides import of_table, read_side
from core import InputError

MakeRun = Callable[..., Annotated]


def written(folder: Path, run: Annotated, change: Callable[[str], str] = lambda text: text) -> str:
    """The table of annotations of a run as a file."""
    table = files(run)["annotations.csv"]
    assert isinstance(table, bytes)
    path = folder / "reference.csv"
    path.write_text(change(table.decode()))
    return str(path)


def figures(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in found["differences"] if each["figure"] == name)


def test_a_run_and_its_own_table_agree_in_everything(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(count=20)

    found = compared(read_side(run.storage.address), read_side(written(tmp_path, run)))

    assert {each["agreement"] for each in found["levels"]} == {1.0}
    assert found["ions"] == {"run": 20, "reference": 10, "both": 10}
    assert {each["figure"] for each in found["differences"]} >= {"mz", "msm", "rhoSpatial", "rhoSpectral", "rhoChaos"}
    assert all(each["equal"] == each["ions"] == 10 for each in found["differences"])
    assert found["only_run"] == found["only_reference"] == []


def test_differences_are_said_by_figure(make_run: MakeRun) -> None:
    def other(rows: list[dict[str, Any]]) -> None:
        rows[0]["msm"] -= 0.25
        rows[1]["mz_0"] *= 1 + 2e-6
        rows[2]["totalIntensity"] /= 2

    one, two = make_run("one", count=6), make_run("two", count=6, change=other)

    found = compared(read_side(one.storage.address), read_side(two.storage.address))

    assert figures(found, "msm")["largest"] == pytest.approx(0.25)
    assert figures(found, "msm")["equal"] == figures(found, "msm")["ions"] - 1
    assert figures(found, "mz")["largest"] == pytest.approx(2.0, rel=1e-4)
    assert figures(found, "totalIntensity")["largest"] == pytest.approx(0.5)


def test_agreement_is_counted_at_each_level_that_both_reach(make_run: MakeRun) -> None:
    def fewer(rows: list[dict[str, Any]]) -> None:
        rows[0]["fdr"], rows[1]["fdr"] = 0.08, None

    one, two = make_run("one", count=8), make_run("two", count=8, level=0.2, change=fewer)

    found = compared(read_side(one.storage.address), read_side(two.storage.address))

    assert [each["fdr"] for each in found["levels"]] == [0.05, 0.1]
    at = found["levels"][0]
    assert (at["run"], at["reference"], at["both"]) == (4, 1, 1)
    assert at["agreement"] == pytest.approx(1 / 4)
    assert found["only_run"] == ["C7H12O6+Na"]


METASPACE = """\
# Generated at 3/2/2026 10:11:12 AM.
# URL: https://metaspace2020.org/annotations
group,datasetName,datasetId,formula,adduct,chemMod,neutralLoss,ion,mz,msm,fdr,rhoSpatial,rhoSpectral,rhoChaos,\
moleculeNames,moleculeIds,minIntensity,maxIntensity,totalIntensity,isomers,isobars
lab,brain,2016,H12C6O6,M+H,,,C6H12O6+H+,150,0.9,0.05,1,0.99,0.98,"a, b","1, 2",1,1000,100000,2,0
lab,brain,2016,C7H12O6,M+Na,,,C7H12O6+Na+,157,0.8,0.1,1,0.99,,"c",3,1,1000,100000,1,0
lab,brain,2016,C6H5R,M+Na,,,C6H5R+Na+,157,0.8,0.1,1,0.99,,"c",3,1,1000,100000,1,0
"""


def test_a_table_as_metaspace_exports_it_is_read() -> None:
    side = of_table("m.csv", METASPACE.encode("utf-8-sig"))

    assert list(side.ions) == [("C6H12O6", "", "", "+H"), ("C7H12O6", "", "", "+Na")]
    assert side.ions["C6H12O6", "", "", "+H"]["msm"] == 0.9
    assert (side.level, side.unread) == (0.1, 1)


@pytest.mark.parametrize(
    ("written", "meant"), [("M+H", "+H"), ("'+H", "+H"), ("[M+H]+", "+H"), ("M[M]+", "[M]+"), ("M-H", "-H"), ("x", "x")]
)
def test_adducts_are_compared_by_what_they_mean(written: str, meant: str) -> None:
    side = of_table("m.csv", f"formula,adduct,fdr\nH2O,{written},0.1\n".encode())

    assert list(side.ions) == [("H2O", "", "", meant)]


def test_rates_are_not_compared_with_a_table_that_has_levels(make_run: MakeRun) -> None:
    run = make_run(count=4)

    found = compared(read_side(run.storage.address), of_table("m.csv", METASPACE.encode()))

    assert "fdr" not in {each["figure"] for each in found["differences"]}
    assert figures(found, "rhoChaos")["ions"] == 1


def test_an_ion_that_stands_twice_with_other_figures_is_refused() -> None:
    twice = METASPACE + 'lab,liver,2017,C6H12O6,M+H,,,C6H12O6+H+,150,0.4,0.1,1,0.99,0.98,"a","1",1,1,1,2,0\n'

    with pytest.raises(InputError, match=r"C6H12O6\+H more than once.*one dataset"):
        of_table("m.csv", twice.encode())


@pytest.mark.parametrize("table", ["", "a,b\n1,2\n", "formula,adduct\nH2O,M+H\n"])
def test_a_table_without_the_columns_is_refused(table: str) -> None:
    with pytest.raises(InputError, match="has no column"):
        of_table("m.csv", table.encode())


def test_the_command_prints_tables_and_writes_both_side_by_side(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(count=6)
    reference = written(tmp_path, run, lambda text: text.replace("C7H12O6", "C99H12O6"))
    place, target = run.storage.address, tmp_path / "both.csv"

    assert main(["compare", place, reference, "--to", str(target)]) == 0
    said = capsys.readouterr().out
    assert main(["compare", place, reference, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert "Annotated in the run alone: C7H12O6+Na" in said
    assert "Annotated in the reference alone: C99H12O6+Na" in said
    assert found["levels"][-1]["agreement"] == 0.5
    rows = {row["formula"]: row for row in csv.DictReader(io.StringIO(target.read_text()))}
    assert rows["C99H12O6"]["msm_run"] == ""
    assert float(rows["C6H12O6"]["msm_run"]) == float(rows["C6H12O6"]["msm_reference"])


def test_what_is_neither_run_nor_table_is_named(tmp_path: Path, make_run: MakeRun) -> None:
    place = make_run(count=2).storage.address.removeprefix("file://")

    assert main(["compare", place, str(tmp_path / "none")]) == 2


def test_reference_tables_of_the_engine_are_read(shared_data: Path) -> None:
    side = read_side(str(shared_data / "reference_synth_small_v3.csv"))

    assert len(side.ions) > 100
    assert all(0.0 <= each["msm"] <= 1.0 for each in side.ions.values())
