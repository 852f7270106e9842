from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.science.fdr import fdr
from tests.apps.metabolomics.reference import fdr_reference

score = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
scores = st.lists(score, max_size=30)


@settings(deadline=None)
@given(scores, scores, st.sampled_from([1, 3, 20]))
def test_the_rate_is_the_least_of_all_below(targets: list[float], decoys: list[float], per_target: int) -> None:
    found = fdr(np.array(targets), np.array(decoys), per_target)

    assert found.tolist() == fdr_reference(targets, decoys, per_target)


def test_the_rule_of_succession_bounds_the_best_rate() -> None:
    assert fdr(np.array([0.9]), np.array([]), 20).tolist() == [1.0 / 20 / 2]


def test_a_rate_is_at_most_one_unless_the_engine_is_copied() -> None:
    targets, decoys = np.array([0.1]), np.linspace(0.2, 0.9, 50)

    assert fdr(targets, decoys, 20).tolist() == [1.0]
    assert fdr(targets, decoys, 20, clip=False).tolist() == [51 / 20 / 2]


def test_a_lower_score_never_has_a_lower_rate() -> None:
    random = np.random.default_rng(0)
    targets, decoys = random.random(500), random.random(9000) * 0.8

    rates = fdr(targets, decoys, 20)

    assert (np.diff(rates[np.argsort(targets)]) <= 0).all()


def test_no_targets_have_no_rates() -> None:
    assert fdr(np.array([]), np.array([0.5]), 20).tolist() == []


@pytest.mark.parametrize(("targets", "decoys"), [([0.5, np.nan], [0.1]), ([0.5], [np.nan])])
def test_a_score_that_is_no_number_is_refused(targets: list[float], decoys: list[float]) -> None:
    with pytest.raises(ValueError, match="not a number"):
        fdr(np.array(targets), np.array(decoys), 20)
