from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.science.fdr import fdr, is_settled, next_bound
from tests.apps.metabolomics.reference import fdr_reference

score = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
scores = st.lists(score, max_size=30)
pairs = st.lists(st.tuples(score, score), min_size=1, max_size=40)
levels = st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.9])


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


def accepted(targets: np.ndarray, decoys: np.ndarray, per_target: int, level: float) -> dict[int, float]:
    rates = fdr(np.nan_to_num(targets), np.nan_to_num(decoys), per_target)
    return {i: rate for i, rate in enumerate(rates.tolist()) if rate <= level}


@settings(max_examples=400)
@given(pairs, pairs, st.sampled_from([1, 2, 5, 20]), levels)
def test_chaos_that_is_skipped_changes_no_acceptance_and_no_accepted_rate(
    targets: list[tuple[float, float]], decoys: list[tuple[float, float]], per_target: int, level: float
) -> None:
    target_bounds, target_chaos = np.array(targets).T
    decoy_bounds, decoy_chaos = np.array(decoys).T
    known_targets, known_decoys = np.full(len(targets), np.nan), np.full(len(decoys), np.nan)
    asked = np.inf
    while True:
        bound = next_bound(target_bounds, known_targets, decoy_bounds, known_decoys, per_target, level)
        if np.isinf(bound):
            break
        assert bound < asked
        asked = bound
        known_targets = np.where(target_bounds >= bound, target_bounds * target_chaos, known_targets)
        known_decoys = np.where(decoy_bounds >= bound, decoy_bounds * decoy_chaos, known_decoys)

    everything = accepted(target_bounds * target_chaos, decoy_bounds * decoy_chaos, per_target, level)
    assert accepted(known_targets, known_decoys, per_target, level) == everything


@given(pairs, st.sampled_from([1, 20]), levels)
def test_nothing_is_settled_before_anything_is_known_unless_no_target_can_pass(
    targets: list[tuple[float, float]], per_target: int, level: float
) -> None:
    bounds = np.array(targets)[:, 0]
    unknown = np.full(len(bounds), np.nan)

    settled = is_settled(bounds, unknown, np.array([]), np.array([]), per_target, level)

    best = 1.0 / per_target / (np.count_nonzero(bounds) + 1)
    assert settled == (not bounds.any() or best > level)


def test_most_decoys_are_skipped_where_targets_stand_out() -> None:
    random = np.random.default_rng(1)
    real, false = random.uniform(0.6, 0.95, 300), random.beta(1, 8, 1700)
    target_bounds, decoy_bounds = np.concatenate([real, false]), random.beta(1, 8, 40_000)
    chaos = random.uniform(0.9, 1.0, 42_000)
    known_targets, known_decoys = np.full(2000, np.nan), np.full(40_000, np.nan)
    rounds = 0
    while not np.isinf(bound := next_bound(target_bounds, known_targets, decoy_bounds, known_decoys, 20, 0.1)):
        known_targets = np.where(target_bounds >= bound, target_bounds * chaos[:2000], known_targets)
        known_decoys = np.where(decoy_bounds >= bound, decoy_bounds * chaos[2000:], known_decoys)
        rounds += 1

    assert np.isfinite(known_decoys).sum() < 5_000
    assert rounds <= 4
    assert len(accepted(known_targets, known_decoys, 20, 0.1)) == pytest.approx(300, abs=60)
