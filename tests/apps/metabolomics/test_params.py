"""Parameters of an annotation, and what is refused."""

from __future__ import annotations

import pytest

from apps.metabolomics.params import Params
from core import ConfigError


@pytest.mark.parametrize(
    ("given", "meant"), [("140000@200", "140000@200"), ("140k", "140000@200"), ("1e5@400", "100000@400")]
)
def test_resolving_power_is_a_power_and_the_mz_at_which_it_is(given, meant):
    assert Params(resolving_power=given).resolving_power == meant


@pytest.mark.parametrize("given", ["", "0@200", "140000@0", "140000 at 200", "-1", "inf@200", "140000@200@300"])
def test_no_other_resolving_power_is_understood(given):
    with pytest.raises(ConfigError, match="resolving-power"):
        Params(resolving_power=given)


@pytest.mark.parametrize(("given", "meant"), [("Positive", "+"), ("-", "-"), ("negative", "-"), ("", "")])
def test_polarity_is_a_sign_or_its_word(given, meant):
    assert Params(polarity=given).polarity == meant


def test_rgb_wants_three_ions():
    with pytest.raises(ConfigError, match="three ions"):
        Params(rgb=("A+H", "B+H"))


def test_a_path_means_the_same_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert Params(source="x.imzML", db=("a.tsv", "s3://b/c.tsv")).reading.source == str(tmp_path / "x.imzML")
    assert Params(db=("a.tsv", "s3://b/c.tsv")).db == (str(tmp_path / "a.tsv"), "s3://b/c.tsv")
