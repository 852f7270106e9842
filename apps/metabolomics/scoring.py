"""From a dataset's index and a library to scores and rates: all ions scored, chaos where it decides, ranked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apps._frame.interrupts import preload
from apps._frame.stages import Stage, Stages
from apps._frame.stored import Codec, Stored
from apps.metabolomics import join, ranking, rendering
from apps.metabolomics.blocks import blocks_of
from apps.metabolomics.indexing import DatasetIndex
from apps.metabolomics.library import Library
from apps.metabolomics.modifiers import Chemistry
from apps.metabolomics.params import Params
from apps.metabolomics.parts import stored
from apps.metabolomics.science.recalibration import fit_recalibration

CHAOS_PIXELS = 500_000_000
"""Pixels of the images of one task: half a minute."""
CONFIDENT = 0.1
"""False discovery rate up to which an ion tells of the m/z scale."""
MOST_CONFIDENT = 20_000
"""Ions that tell of it, at most."""
ROUNDS = 2
"""Times that the m/z scale is learnt: windows cut off the errors by which it is learnt first."""

DRAWING = preload("matplotlib.figure", "matplotlib.backends.backend_agg")
"""Loads what charts need, while the workers score: a second of a whole annotation otherwise."""
RATES = Codec(rendering.encode_rates, rendering.decode_rates)
Shift = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Work:
    """A run that is under way: its stages, the storage that they write to, and what they stand on."""

    stages: Stages
    address: str
    params: Params
    dataset: DatasetIndex
    patterns: Library
    made: Chemistry

    @property
    def families(self) -> list[int]:
        """Of each target group, the group of its decoys."""
        return [each.family for each in self.made.modifiers if not each.decoy]

    @property
    def decoys_per_target(self) -> int:
        """Decoys that a formula has for each target adduct."""
        return min(self.params.decoys, self.made.candidates)


@dataclass(frozen=True, slots=True)
class Annotated:
    """What has come of a dataset and a library.

    Attributes
    ----------
    matching : Matching
        By which it came.
    scored : list of Scored
        Blocks that have ions.
    rates : tuple of Stored
        Of each target group.
    counts : dict
        Ions scored, pixels of their images, blocks.
    """

    matching: join.Matching
    scored: list[rendering.Scored]
    rates: tuple[Stored, ...]
    counts: dict[str, int]

    def rendering(self, work: Work, level: float, most: int = 0) -> rendering.Rendering:
        """Return what tasks need that make something of it, up to a false discovery rate."""
        return rendering.Rendering(self.matching, work.made.modifiers, self.rates, level, work.address, most)


def matching_of(work: Work, n_sampled: int, mask: Stored | None) -> join.Matching:
    """Return what all tasks that bring dataset and patterns together have in common."""
    params, facts = work.params, work.dataset.facts
    return join.Matching(
        dataset=work.dataset.segments,
        patterns=work.patterns.segments,
        n_peaks=params.n_peaks,
        min_px=params.min_px,
        levels=params.levels,
        ppm=params.ppm,
        engine_compat=params.engine_compat,
        width=facts["width"],
        height=facts["height"],
        n_sampled=n_sampled,
        groups=tuple(each.group for each in work.made.modifiers),
        mask=mask,
    )


def score_all(work: Work, matching: join.Matching) -> Annotated:
    """Score all ions, compute chaos until the level is certain, and rank."""
    params, made = work.params, work.made
    charge = min(abs(each.charge) for each in made.modifiers)
    blocks = blocks_of(work.dataset.counts, work.patterns.counts, params.ppm, params.n_peaks, charge)
    outputs = work.stages.run(Stage("score", blocks, join.score, matching), meanwhile=DRAWING)
    ions, pixels, counts = [], [], {"scored": 0, "touches": 0}
    bounds = np.zeros((matching.n_groups, ranking.SCORE_BINS), np.int64)
    for each in outputs.values():
        counts = {name: total + each[name] for name, total in counts.items()}
        if each["rows"]:
            ions.append(stored(work.address, each["ions"]))
            pixels.append(each["pixels"])
            bounds += ranking.unpacked(each["bounds"], matching.n_groups)
    chaos = decide(work, matching, ions, np.array(pixels, np.int64).reshape(-1, join.PIXEL_BINS), bounds)
    everything = tuple(one for each in chaos for one in each)
    ranked = rendering.Ranked(everything, work.decoys_per_target, params.engine_compat, params.fdr)
    tasks = [rendering.Ranking(group, family) for group, family in enumerate(work.families)]
    rates = work.stages.run(Stage("fdr", tasks, rendering.rank, ranked, codec=RATES))
    scored = [rendering.Scored(one, tuple(each)) for one, each in zip(ions, chaos, strict=True)]
    return Annotated(matching, scored, tuple(rates), {**counts, "blocks": len(blocks)})


def decide(
    work: Work, matching: join.Matching, ions: Sequence[Stored], pixels: NDArray[np.int64], bounds: ranking.Histograms
) -> list[list[Stored]]:
    """Compute chaos from the highest bounds down, until the level is certain; returns the outputs of each block.

    Parameters
    ----------
    ions : sequence of Stored
        Of each block that has any.
    pixels : int64[blocks, PIXEL_BINS]
        Pixels of their first images, by bound.
    bounds : Histograms
        Of all ions.
    """
    known = ranking.Known.nothing(bounds)
    chaos: list[list[Stored]] = [[] for _ in ions]
    while True:
        lowest = ranking.next_lowest(known, work.families, work.decoys_per_target, work.params.fdr)
        if known.lowest.min() == ranking.SCORE_BINS and pixels.sum() <= ranking.SMALL_PIXELS:
            lowest = np.zeros_like(lowest)
        if np.array_equal(lowest, known.lowest):
            return chaos
        wanted = pixels[:, int(lowest.min() / ranking.SCORE_BINS * join.PIXEL_BINS) :].sum(axis=1)
        places, tasks = [], []
        for at in map(int, np.flatnonzero(wanted)):
            parts = math.ceil(wanted[at] / CHAOS_PIXELS)
            tasks += [join.Candidates(ions[at], part, parts) for part in range(parts)]
            places += [at] * parts
        deciding = join.Deciding(matching, tuple(map(int, lowest)), tuple(map(int, known.lowest)))
        outputs = work.stages.run(Stage("chaos", tasks, join.chaos, deciding))
        scores = np.zeros_like(bounds)
        for at, each in zip(places, outputs.values(), strict=True):
            chaos[at].append(stored(work.address, each["chaos"]))
            scores += ranking.unpacked(each["scores"], matching.n_groups)
        known = known.with_scores(scores, lowest)


def recalibrated(work: Work, found: Annotated) -> Annotated:
    """Learn the error of the m/z scale from ions that are certain, and score again where they are then expected.

    What is learnt is told by the shift of the result's `matching`; it is as it was where too few ions are certain, or
    it would not help.
    """
    for _ in range(ROUNDS):
        level = min(CONFIDENT, work.params.fdr)
        most = max(5, MOST_CONFIDENT // max(1, len(found.scored)))
        common = found.rendering(work, level, most)
        outputs = work.stages.run(Stage("calibrate", found.scored, rendering.find_confident, common))
        pairs = [np.array([each["mz_0"], each["massError"]]) for each in outputs.values()]
        mz, error = np.concatenate([np.zeros((2, 0)), *pairs], axis=1)
        fitted = fit_recalibration(mz, error)
        if fitted is None:
            return found
        before = found.matching.errors(fitted.mz)
        shift = tuple(zip(fitted.mz.tolist(), (before + fitted.ppm).tolist(), strict=True))
        found = score_all(work, replace(found.matching, shift=shift))
    return found
