from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps._frame.publishing import Content
from apps._frame.report import FOLDER
from apps.metabolomics import figures, publishing, report
from apps.metabolomics.annotated import Annotated, read_run
from apps.metabolomics.annotations import COLUMNS, Annotations
from apps.metabolomics.panels import rate
from apps.metabolomics.publishing import RESULTS, files
from apps.metabolomics.result import encode_images
from core import InputError

MakeRun = Callable[..., Annotated]
HOSTILE = '=HYPERLINK("x")<script>alert(1)</script>\x1b[2J, \udce9'


def content(files: dict[str, Content], name: str) -> bytes:
    found = files[name]
    return found if isinstance(found, bytes) else b"".join(found)


def table(files: dict[str, Content]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content(files, "annotations.csv").decode())))


def renamed(name: str) -> Callable[[Annotated], Annotated]:
    def rename(run: Annotated) -> Annotated:
        for molecules in run.molecules.values():
            molecules[:] = [(name, type(one)(one.formula, name, name)) for _, one in molecules]  # type: ignore[index]
        return run

    return rename


def test_annotations_have_the_columns_of_an_export_best_first(make_run: MakeRun) -> None:
    run = make_run(count=6)

    rows = table(files(run))

    assert tuple(rows[0]) == COLUMNS
    assert [row["ion"] for row in rows] == ["C6H12O6+H", "C7H12O6+Na", "C8H12O6+K"]
    assert rows[1]["adduct"] == "M+Na"
    assert float(rows[0]["msm"]) == pytest.approx(0.99 * 0.98)
    assert rows[0]["moleculeNames"] == "molecule 0, molecule 6"
    assert rows[0]["moleculeIds"] == "M0, M6"
    assert (rows[0]["isomers"], rows[0]["isobars"]) == ("2", "0")


def test_isomers_and_isobars_name_each_other(make_run: MakeRun) -> None:
    def near(rows: list[dict[str, Any]]) -> None:
        for peak in range(4):
            rows[1][f"mz_{peak}"] = rows[0][f"mz_{peak}"]
        rows[2]["mz_0"] = rows[0]["mz_1"] * (1 + 2e-6)

    rows = table(files(make_run(count=6, change=near)))

    assert rows[0]["isomerIons"] == "C7H12O6+Na"
    assert rows[0]["isobarIons"] == "C8H12O6+K"
    assert rows[2]["isobarIons"] == "C6H12O6+H, C7H12O6+Na"


def test_parquet_holds_what_csv_does(make_run: MakeRun) -> None:
    written = files(make_run(count=6))

    found = pq.read_table(pa.BufferReader(content(written, "annotations.parquet"))).to_pylist()

    rows = table(written)
    assert [each["ion"] for each in found] == [row["ion"] for row in rows]
    assert [each["msm"] for each in found] == [float(row["msm"]) for row in rows]


def test_intensities_are_those_of_the_first_images(make_run: MakeRun) -> None:
    run = make_run(count=4)

    found = pq.read_table(pa.BufferReader(content(files(run), "intensities.parquet"))).to_pandas()

    for ion in run.images:
        image, own = run.images[ion][0], found[found["ion"] == ion]
        assert own["pixel"].tolist() == image.pixels.tolist()
        assert own["intensity"].tolist() == image.values.tolist()
        assert (own["y"] * run.field.width + own["x"]).tolist() == image.pixels.tolist()


def test_intensities_are_divided_by_the_current_where_that_was_asked_for(make_run: MakeRun) -> None:
    run = make_run(count=2, norm="tic")

    found = pq.read_table(pa.BufferReader(content(files(run), "intensities.parquet"))).to_pandas()

    raw = run.images["C6H12O6+H"][0]
    expected = raw.values / run.dense_tic[raw.pixels]
    assert found["intensity"].tolist() == expected.tolist()


def test_a_molecule_of_two_databases_counts_once(make_run: MakeRun) -> None:
    run = make_run(count=2)
    for molecules in run.molecules.values():
        molecules.extend([("another", one) for _, one in molecules])  # type: ignore[attr-defined]

    row = table(files(run))[0]

    assert (row["isomers"], row["moleculeNames"]) == ("2", "molecule 0, molecule 2")
    assert row["databases"] == "made, another"


def test_a_panel_says_when_its_images_are_shares_of_the_current(make_run: MakeRun) -> None:
    said = {
        norm: content(files(make_run(norm, count=2, norm=norm)), "report.html").decode() for norm in ("none", "tic")
    }

    assert "max. share of the total ion current" in said["tic"]
    assert "max. share of the total ion current" not in said["none"]


def test_the_page_links_each_row_to_its_images_scores_and_molecules(make_run: MakeRun) -> None:
    said = content(files(make_run(count=6)), "report.html").decode()

    assert '<a href="#ion-1">C6H12O6+H</a>' in said
    panel = said[said.index('id="ion-1"') :]
    assert panel.index("Isotope images") < panel.index("Measured (up)") < panel.index("0.980 chaos")
    assert "molecule 6 (M6, made)" in panel


def test_a_panel_leads_to_the_ions_that_are_found_in_the_same_places(make_run: MakeRun) -> None:
    run = make_run(count=8)
    twin = run.storage.get("ion_images/000.parquet")
    images = [(ion, run.images["C6H12O6+H"] if ion == "C8H12O6+K" else run.images[ion]) for ion in run.images]
    run.storage.put("ion_images/000.parquet", encode_images(images))

    said = content(files(read_run(run.storage.address)), "report.html").decode()

    assert twin != run.storage.get("ion_images/000.parquet")
    panel = said[said.index('id="ion-1"') : said.index('id="ion-2"')]
    assert re.search(
        r'<a href="#ion-3">C8H12O6\+K</a></td><td>molecule 2, molecule 10</td><td class=n>1.00</td>', panel
    )


def test_names_of_molecules_are_untrusted_everywhere(make_run: MakeRun) -> None:
    run = renamed(HOSTILE)(make_run(count=4))

    written = files(run)

    page, sheet = content(written, "report.html").decode(), content(written, "annotations.csv").decode()
    assert "<script>alert" not in page
    assert "\x1b" not in page + sheet
    assert ",=HYPERLINK" not in sheet
    assert '"=HYPERLINK' not in sheet
    assert r"\xe9" in page
    assert pq.read_table(pa.BufferReader(content(written, "annotations.parquet"))).num_rows == 2


def test_a_name_that_only_looks_like_a_number_stays_text(make_run: MakeRun) -> None:
    rows = table(files(renamed("NA")(make_run(count=2))))

    assert rows[0]["moleculeNames"] == "NA"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 40), (40, 1)])
def test_datasets_of_a_pixel_a_row_or_a_column_have_a_report(make_run: MakeRun, width: int, height: int) -> None:
    written = files(make_run(count=1, width=width, height=height))

    assert len(table(written)) == 1
    assert b"Ion images" in content(written, "report.html")


def test_annotations_of_a_synthetic_dataset_stand_beside_its_truth(make_run: MakeRun) -> None:
    truth = [
        {"level": 0.1, "annotated": 4, "right": 3, "sensitivity": 0.75, "false_discovery_rate": 0.25},
        {"level": 0.2, "annotated": 0, "right": 0, "sensitivity": None, "false_discovery_rate": None},
    ]

    said = content(files(make_run(count=2, truth=truth)), "report.html").decode()

    table = said[said.index("Against the truth") :]
    assert re.findall("<td class=n>([^<]*)</td>", table)[:5] == ["10%", "4", "3", "75.0%", "25.0%"]
    assert "Against the truth" not in content(files(make_run(count=2)), "report.html").decode()


def test_no_annotation_is_a_report_that_says_what_to_try(make_run: MakeRun) -> None:
    def none(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["fdr"] = None

    written = files(make_run(count=4, change=none))

    page = content(written, "report.html").decode()
    assert "0 annotations" in page
    assert "Nothing was annotated at this level" in page
    assert table(written) == []
    assert pq.read_table(pa.BufferReader(content(written, "intensities.parquet"))).num_rows == 0


def test_ions_without_chaos_and_mass_error_are_shown_without(make_run: MakeRun) -> None:
    def unknown(rows: list[dict[str, Any]]) -> None:
        rows[0]["chaos"] = rows[0]["massError"] = None

    written = files(make_run(count=2, change=unknown))

    assert table(written)[0]["rhoChaos"] == table(written)[0]["massError"] == ""
    assert "– chaos x" in content(written, "report.html").decode()


def test_an_ion_with_fewer_isotope_peaks_has_as_many_images(make_run: MakeRun) -> None:
    def short(rows: list[dict[str, Any]]) -> None:
        for name in ("mz_2", "mz_3", "theory_2", "theory_3"):
            rows[0][name] = None

    written = files(make_run(count=2, change=short))

    assert [name for name in written if "C6H12O6+H" in name] == [f"images/0001_C6H12O6+H_{peak}.png" for peak in (0, 1)]


def test_a_long_table_is_cut_and_says_so(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROWS", 5)
    monkeypatch.setattr(report, "SHOWN", 3)

    page = content(files(make_run(count=40)), "report.html").decode()

    assert "the best 5 of 20; annotations.csv has them all" in page
    assert "The first 3 lead to their images, and those of the first 500 are files" in page
    assert page.count('class="panel"') == 3
    assert len(re.findall("<tr><td>(?:<a [^>]*>)?C", page)) == 5


def test_pictures_of_many_annotations_are_files_beside_the_page(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "EMBEDDED", 1000)

    written = files(make_run(count=20))

    beside = [name for name in written if name.startswith(FOLDER)]
    page = content(written, "report.html").decode()
    assert len(beside) > 20
    assert all(f'src="{name}"' in page for name in beside)
    assert "data:image" not in page


def test_every_file_is_among_the_results_that_a_run_is_opened_with(make_run: MakeRun) -> None:
    folders = tuple(name for name in RESULTS if name.endswith("/"))

    written = files(make_run(count=4, rgb=["C6H12O6+H", "C7H12O6+Na", "C6H12O6+H"]))

    assert all(name in RESULTS or name.startswith(folders) for name in written)
    assert "rgb.png" in written


def test_ions_that_were_not_accepted_cannot_be_shown_in_colours_and_the_page_says_so(make_run: MakeRun) -> None:
    written = files(make_run(count=4, rgb=["C6H12O6+H", "C1+H", "C2+H"]))

    assert "rgb.png" not in written
    assert "C1+H, C2+H" in content(written, "report.html").decode()


def test_no_images_are_written_where_none_were_asked_for(make_run: MakeRun) -> None:
    written = files(make_run(count=4, images="none"))

    assert not [name for name in written if name.startswith("images/")]


def test_diagnostics_count_annotations_scores_and_mass_errors(make_run: MakeRun) -> None:
    run = make_run(count=30)

    found = json.loads(content(files(run), "diagnostics.json"))

    assert found["annotations"] == {"0.05": 15, "0.1": 15}
    assert found["ions_with_images"] == {"targets": 30, "decoys": 30, "not_scored": 0}
    assert sum(found["msm"]["targets"]) == sum(found["msm"]["decoys"]) == 30
    errors = run.column("massError")[np.array(run.ions.column("adduct").to_pylist()) == "+H"]
    assert found["mass_error_ppm"]["+H"]["median"] == pytest.approx(float(np.median(errors)))


def test_a_lower_level_reads_fewer_annotations_and_a_higher_one_is_refused(make_run: MakeRun) -> None:
    run = make_run(count=30)
    address = run.storage.address

    assert len(read_run(address, 0.01).ions) == int((run.column("fdr") <= 0.01).sum()) < len(run.ions)
    with pytest.raises(InputError, match="annotate with --fdr 0.2"):
        read_run(address, 0.2)


def test_a_folder_that_holds_no_annotation_is_named(tmp_path: Any) -> None:
    with pytest.raises(InputError, match="holds no finished annotation"):
        read_run(str(tmp_path))
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match="is of no annotation"):
        read_run(str(tmp_path))


def test_equal_runs_give_equal_files(make_run: MakeRun) -> None:
    one, two = (files(make_run("same", count=6)) for _ in range(2))

    assert {name: content(one, name) for name in one} == {name: content(two, name) for name in two}


def test_annotations_know_their_dataset(make_run: MakeRun) -> None:
    assert Annotations(make_run(dataset="a brain")).dataset == "a brain"


def drawn(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], bytes]) -> Any:
    kept: list[Any] = []
    encode = figures._png
    monkeypatch.setattr(figures, "_png", lambda figure: kept.append(figure) or encode(figure))
    draw()
    return kept[0]


NONE, ONE, MANY = np.empty(0), np.array([400.0]), np.linspace(100, 900, 500)


@pytest.mark.parametrize("mz", [NONE, ONE, np.array([100.0, 300.0, 310.5]), MANY], ids=len)
def test_nothing_that_is_written_on_a_chart_is_cut_off(monkeypatch: pytest.MonkeyPatch, mz: Any) -> None:
    edge = np.zeros(figures.BINS, np.int64)
    edge[-1] = mz.size
    scores = figures.Scores(edge, 0 * edge, (mz.size, 0), 0)
    for draw in (
        lambda: figures.mass_error_png(mz, mz / 100 - 5, mz / 1000),
        lambda: figures.fdr_png(mz / 9000, 0.1),
        lambda: figures.scores_png(scores),
    ):
        figure = drawn(monkeypatch, draw)

        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert 0 <= box.x0 <= box.x1 <= width
        assert 0 <= box.y0 <= box.y1 <= height


def test_the_colours_of_mass_errors_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, lambda: figures.mass_error_png(MANY, MANY / 900, MANY / 900))

    assert [axes.get_ylabel() for axes in figure.axes] == ["mass error, ppm", "MSM"]


def test_charts_of_nothing_say_so_and_have_no_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, lambda: figures.fdr_png(NONE, 0.1))

    [axes] = figure.axes
    assert [each.get_text() for each in axes.texts] == ["none to show"]
    assert not len(axes.get_xticks()) + len(axes.get_yticks())


def test_annotations_are_counted_up_to_the_level_asked_for_in_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, lambda: figures.fdr_png(np.array([0.02]), 0.1))

    [line] = figure.axes[0].lines
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.0, 0.02, 0.1], [0, 1, 1])
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_yticks())


@pytest.mark.parametrize(("fdr", "written"), [(0.00013, "0.013%"), (0.025, "2.5%"), (0.5, "50%"), (1.0, "100%")])
def test_a_rate_is_never_written_as_none(fdr: float, written: str) -> None:
    assert rate(fdr) == written
