from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apps.metabolomics.ranking import Known, histograms, next_lowest, score_bin
from apps.metabolomics.science.fdr import fdr

FloatArray = NDArray[np.float64]

score = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.1, 0.10001, 0.5, 0.9, 1.0]))
ions = st.lists(st.tuples(score, score, st.integers(0, 1)), min_size=1, max_size=40)


@dataclass(frozen=True)
class Ions:
    """Bounds, chaos and groups of all ions; groups 0 and 1 are targets, 2 the decoys of both."""

    bound: FloatArray
    chaos: FloatArray
    group: NDArray[np.int64]

    @classmethod
    def of(cls, targets: list[tuple[float, float, int]], decoys: list[tuple[float, float, int]]) -> Ions:
        bound, chaos, group = np.array([*targets, *((*held[:2], 2) for held in decoys)]).T
        return cls(bound, chaos, group.astype(np.int64))

    def accepted(self, known: NDArray[np.bool_], per_target: int, level: float) -> dict[int, float]:
        msm = np.where(known, self.bound * self.chaos, 0.0)
        passed: dict[int, float] = {}
        for group in (0, 1):
            mine = np.flatnonzero(self.group == group)
            rates = fdr(msm[mine], msm[self.group == 2], per_target)
            passed.update((int(i), rate) for i, rate in zip(mine, rates.tolist(), strict=True) if rate <= level)
        return passed


def run(held: Ions, per_target: int, level: float) -> tuple[NDArray[np.bool_], int]:
    """Compute chaos as the driver asks for it; returns of which ions, and in how many rounds."""
    some = held.bound > 0
    bins = score_bin(held.bound)
    state = Known.nothing(histograms(held.bound[some], held.group[some], 3))
    rounds = 0
    while True:
        lowest = next_lowest(state, [2, 2], per_target, level)
        if (lowest == state.lowest).all():
            return some & (bins >= state.lowest[held.group]), rounds
        assert (lowest <= state.lowest).all()
        asked = some & (bins >= lowest[held.group]) & (bins < state.lowest[held.group])
        msm = (held.bound * held.chaos)[asked]
        state = state.with_scores(histograms(msm, held.group[asked], 3), lowest)
        rounds += 1


@settings(max_examples=300, deadline=None)
@given(ions, ions, st.sampled_from([1, 2, 5, 20]), st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.9, 1.0]))
def test_chaos_that_is_skipped_changes_no_acceptance_and_no_accepted_rate(
    targets: list[tuple[float, float, int]], decoys: list[tuple[float, float, int]], per_target: int, level: float
) -> None:
    held = Ions.of(targets, decoys)

    known, _ = run(held, per_target, level)

    everything = np.ones(held.bound.size, dtype=bool)
    assert held.accepted(known, per_target, level) == held.accepted(everything, per_target, level)


def test_most_decoys_are_skipped_where_targets_stand_out() -> None:
    random = np.random.default_rng(1)
    bound = np.concatenate([random.uniform(0.6, 0.95, 300), random.beta(1, 8, 1700), random.beta(1, 8, 40_000)])
    group = np.repeat([0, 2], [2000, 40_000])
    held = Ions(bound, random.uniform(0.9, 1.0, bound.size), group)

    known, rounds = run(held, 20, 0.1)

    assert known[group == 2].sum() < 5_000
    assert rounds <= 4
    assert len(held.accepted(known, 20, 0.1)) == pytest.approx(300, abs=60)


def test_rankings_that_no_target_can_pass_need_no_chaos() -> None:
    held = Ions(np.array([0.1, 0.2]), np.ones(2), np.array([0, 2]))

    known, rounds = run(held, 1, 0.05)

    assert (known.any(), rounds) == (False, 0)
