"""Without a dataset one of known truth is made, annotated, and compared with its truth."""

from __future__ import annotations

from pathlib import Path

from tests.apps.metabolomics.planted import PLANTED


def test_rates_are_what_they_are_estimated_to_be(annotate):
    figures = annotate("--output", "run")

    truth = {each["level"]: each for each in figures["truth"]}
    assert sorted(truth) == [0.05, 0.1, 0.2, 0.5]
    assert truth[0.1]["annotated"] == figures["levels"]["0.1"] > 100
    assert abs(truth[0.1]["false_discovery_rate"] - 0.1) < 0.05
    assert truth[0.1]["sensitivity"] > 0.7


def test_the_same_again_does_nothing(annotate):
    first = annotate("--output", "run")
    made = Path("run-demo/demo.ibd").stat().st_mtime_ns

    assert annotate("--output", "run") == first
    assert Path("run-demo/demo.ibd").stat().st_mtime_ns == made


def test_a_dry_run_of_it_leaves_nothing(annotate):
    found = annotate("--dry-run")

    assert found["ions"] > 10_000
    assert not list(Path().iterdir())


def test_a_dataset_of_ones_own_has_no_truth(annotate, planted):
    assert annotate(planted[0], "--db", planted[1], "--output", "run")["truth"] == []


def test_a_table_beside_it_that_is_called_so_but_is_none_is_no_truth(annotate, planted):
    Path("spots-truth.csv").write_text("formula,seen\n" + "".join(f"{each},yes\n" for each in PLANTED))

    assert annotate(planted[0], "--db", planted[1], "--output", "run")["truth"] == []


def test_where_nothing_is_annotated_nothing_of_the_specimen_was_found(annotate):
    annotate("synth", "made", "--pixels", 64, "--peaks", 20, "--molecules", 30, "--planted", 3, "--unknown", 10)
    Path("other.tsv").write_text("formula\nC60H50Br9\n")

    found = annotate("annotate", "made.imzML", "--db", "other.tsv", "--polarity", "+", "--fdr", 0.1, "--output", "run")

    assert [(each["level"], each["annotated"], each["right"]) for each in found["truth"]] == [(0.05, 0, 0), (0.1, 0, 0)]
