"""Chaos that is left out changes nothing at the level asked for; and it is left out where it can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics import ranking
from apps.metabolomics.science.fdr import fdr

SHARE = st.floats(0, 1)
IONS = st.lists(st.tuples(SHARE, SHARE, st.booleans()), min_size=1, max_size=60)
GROUPS = 2
"""Targets, and their decoys."""


def decided(bound, score, decoy, decoys_per_target, level):
    """Compute scores from the highest bounds down as the driver does; returns which were, and in how many rounds."""
    group = decoy.astype(int)
    known = ranking.Known.nothing(ranking.histograms(bound, group, GROUPS))
    done = np.zeros(len(bound), bool)
    for rounds in range(len(bound) + 2):
        lowest = ranking.next_lowest(known, [1], decoys_per_target, level)
        if np.array_equal(lowest, known.lowest):
            return done, rounds
        fresh = (ranking.score_bin(bound) >= lowest[group]) & ~done
        done |= fresh
        known = known.with_scores(ranking.histograms(score[fresh], group[fresh], GROUPS), lowest)
    raise AssertionError("it never ends")


@given(IONS, st.integers(1, 20), st.sampled_from([0.05, 0.1, 0.5, 1.0]))
@settings(max_examples=300, deadline=None)
def test_accepted_ions_and_their_rates_are_those_of_all_scores(ions, decoys_per_target, level):
    bound = np.array([max(each[0], 1e-9) for each in ions])
    score = bound * np.array([each[1] for each in ions])
    decoy = np.array([each[2] for each in ions])

    done, _ = decided(bound, score, decoy, decoys_per_target, level)

    known = np.where(done, score, 0.0)
    all_rates = fdr(score[~decoy], score[decoy], decoys_per_target)
    rates = fdr(known[~decoy], known[decoy], decoys_per_target)
    counts = (all_rates <= level) & (score[~decoy] > 0)
    assert np.array_equal(counts, (rates <= level) & (known[~decoy] > 0))
    assert np.array_equal(all_rates[counts], rates[counts])


def test_of_many_false_ions_a_tenth_is_enough_for_a_tenth():
    rng = np.random.default_rng(5)
    bound = np.concatenate([rng.uniform(0.8, 1, 300), rng.beta(1, 4, 20_000), rng.beta(1, 4, 400_000)])
    decoy = np.arange(len(bound)) >= 20_300
    score = bound * rng.uniform(0.9, 1, len(bound))

    done, rounds = decided(bound, score, decoy, 20, 0.1)

    assert done.mean() < 0.2
    assert rounds <= 4


def test_rates_up_to_one_need_every_score():
    bound = np.array([0.9, 0.5, 0.1])

    done, _ = decided(bound, bound, np.array([False, True, True]), 1, 1.0)

    assert done.all()


@pytest.mark.parametrize("score", [0.0, 1e-12, 0.5, 1 - 1e-16, 1.0])
def test_every_score_has_a_bin(score):
    assert 0 <= ranking.score_bin(np.array([score]))[0] < ranking.SCORE_BINS


def test_a_decoy_in_the_bin_of_an_unknown_target_may_be_below_it():
    bound = np.array([0.99996, 0.99998])
    group = np.array([1, 0])
    known, unknown = ranking.histograms(bound[:1], group[:1], GROUPS), ranking.histograms(bound[1:], group[1:], GROUPS)

    settled = ranking.is_settled(unknown[0], unknown[1], known[0], known[1], 20, 0.04)

    assert fdr(bound[1:], bound[:1], 20)[0] <= 0.04
    assert not settled
