"""The pictures of a report: charts as PNG, the spectrum of an ion beside its pattern as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.result import open_all_ions
from core.storage import Storage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI, FONT = (5.6, 3.9), 130, 10
"""Inches, and dots an inch: twice what a phone is wide; points."""
PLACE = (0.15, 0.13, 0.81, 0.78)
"""Left, bottom, width and height of the axes, as shares: to be asked where labels end costs more than to draw them."""
PLACE_BESIDE, PLACE_BAR = (0.15, 0.13, 0.66, 0.78), (0.83, 0.13, 0.025, 0.78)
"""The same of axes beside a colour bar, and of the bar, which has labels of its own on its right."""
BLUE, RED, GREY, INK = "#1f5f99", "#b3382c", "#9aa5b1", "#1b2733"
BINS = 50
SCORE_EDGES: NDArray[np.float64] = np.linspace(0.0, 1.0, BINS + 1)
MOST_POINTS = 20_000
"""Ions that a scatter plot shows; more are thinned out evenly."""
MEDIAN_WINDOW = 41
"""Ions of a running median."""
NEEDS = 10
"""Ions below which a running median says nothing."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How targets and decoys score.

    Attributes
    ----------
    targets, decoys : int64[BINS]
        Ions by MSM, in bins from 0 to 1.
    ions : tuple of int
        Targets and decoys that have images.
    unscored : int
        Those whose MSM was not needed, since none of them can be accepted.
    """

    targets: NDArray[np.int64]
    decoys: NDArray[np.int64]
    ions: tuple[int, int]
    unscored: int


def read_scores(storage: Storage) -> Scores:
    """Count the ions of a run by their scores, a row group in memory at a time."""
    counts = np.zeros((2, BINS), np.int64)
    ions, unscored = [0, 0], 0
    file = open_all_ions(storage)
    for batch in file.iter_batches(columns=["decoy", "msm"]):
        decoy = batch.column(0).to_numpy(zero_copy_only=False).astype(bool)
        msm = np.asarray(batch.column(1).to_numpy(zero_copy_only=False), np.float64)
        unscored += int(np.isnan(msm).sum())
        for which in (0, 1):
            own = msm[decoy == bool(which)]
            ions[which] += own.size
            counts[which] += np.histogram(own[~np.isnan(own)], SCORE_EDGES)[0]
    return Scores(counts[0], counts[1], (ions[0], ions[1]), unscored)


def scores_png(scores: Scores) -> bytes:
    """Draw the distributions of MSM of targets and decoys, each as a share of its ions."""
    axes, figure = _axes("MSM", "share of the ions of that kind", "Scores of targets and decoys")
    drawn = False
    for counts, total, colour, name in (
        (scores.decoys, scores.ions[1], GREY, "decoys"),
        (scores.targets, scores.ions[0], BLUE, "targets"),
    ):
        if counts.any():
            axes.stairs(counts / total, SCORE_EDGES, color=colour, fill=name == "decoys", label=name, linewidth=1.6)
            drawn = True
    if drawn:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.set_ylim(top=1)
        axes.legend(frameon=False, loc="upper center")  # scores gather at both ends
    else:
        _say_nothing(axes)
    axes.set_xlim(0, 1)
    return _png(figure)


def fdr_png(fdr: Array, level: float) -> bytes:
    """Draw how many annotations there are up to each false discovery rate.

    Parameters
    ----------
    fdr : float64[n]
        Of the annotations.
    level : float
        Up to which there are annotations.
    """
    axes, figure = _axes("false discovery rate", "annotations", "Annotations by false discovery rate")
    if fdr.size:
        values, counts = np.unique(fdr, return_counts=True)
        axes.step([0.0, *values, level], [0, *np.cumsum(counts), fdr.size], where="post", color=BLUE, linewidth=1.8)
        axes.locator_params(axis="y", integer=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    else:
        _say_nothing(axes)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, level)
    return _png(figure)


def mass_error_png(mz: Array, error: Array, msm: Array, recalibration: Sequence[Sequence[float]] = ()) -> bytes:
    """Draw the mass error of the annotations against m/z, with their running median.

    Parameters
    ----------
    mz, error, msm : float64[n]
        m/z, ppm (NaN where it is not known), score.
    recalibration : sequence of (m/z, ppm)
        What was taken off before, drawn dashed.
    """
    axes, figure = _axes("m/z", "mass error, ppm", "Mass error")
    known = np.flatnonzero(~np.isnan(error))
    if known.size:
        thin = known[:: -(-known.size // MOST_POINTS)]
        axes.set_position(PLACE_BESIDE)
        points = axes.scatter(mz[thin], error[thin], s=12, c=msm[thin], cmap="viridis", vmin=0, vmax=1, linewidth=0)
        bar = figure.colorbar(points, cax=figure.add_axes(PLACE_BAR))
        bar.set_label("MSM", fontsize=FONT)
        bar.ax.tick_params(labelsize=FONT - 1)
        axes.axhline(0.0, color=INK, linewidth=0.7)
    else:
        _say_nothing(axes)
    if known.size >= NEEDS:
        order = known[np.argsort(mz[known], kind="stable")]
        half = min(MEDIAN_WINDOW, known.size) // 2
        median = [np.median(error[order[max(0, at - half) : at + half + 1]]) for at in range(order.size)]
        axes.plot(mz[order], median, color=RED, linewidth=1.6, label="running median")
    if len(recalibration):
        axes.plot(*zip(*recalibration, strict=True), color=RED, linestyle="--", linewidth=1.2, label="taken off before")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper right")
    return _png(figure)


def spectrum_svg(mz: Array, theory: Array, measured: Array) -> bytes:
    """Draw an ion's isotope peaks: measured upwards, theory downwards, the highest of each at 100.

    Parameters
    ----------
    mz, theory, measured : float64[k]
        NaN where the ion has no more peaks.
    """
    held = ~np.isnan(mz)
    mz, theory, measured = mz[held], theory[held], np.nan_to_num(measured[held])
    top = float(measured.max(initial=0.0)) or 1.0
    slot = 310 / mz.size
    bars: list[str] = []
    # Side by side, since some peaks lie closer than their labels are wide.
    for number, (place, expected, found) in enumerate(zip(mz, theory, measured, strict=True)):
        x = 25 + slot * (number + 0.5)
        up, down = 58 * found / top, 58 * expected / float(theory.max() or 1.0)
        bars.append(f'<path d="M{x:.1f} 75V{75 - up:.1f}" stroke="{BLUE}"/><path d="M{x:.1f} 75V{75 + down:.1f}" '
                    f'stroke="{RED}"/><text x="{x:.1f}" y="150" text-anchor="middle">{place:.4f}</text>')  # fmt: skip
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 340 156" font-family="sans-serif" font-size="9" '
        f'fill="{INK}"><rect width="340" height="156" fill="#fff"/><g stroke-width="5">{"".join(bars)}</g>'
        f'<path d="M20 75H335" stroke="{INK}" stroke-width=".8"/><text x="4" y="14" fill="{BLUE}">measured</text>'
        f'<text x="4" y="138" fill="{RED}">theory</text></svg>'
    ).encode()


def _axes(x: str, y: str, title: str) -> tuple[Axes, Figure]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
    axes = figure.add_axes(PLACE)
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.set_title(title, loc="left", fontsize=FONT + 1, color=INK, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=FONT - 1)
    return axes, figure


def _say_nothing(axes: Axes) -> None:
    """Say in place of numbers that would mean nothing that there are none."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, "none to show", transform=axes.transAxes, ha="center", color=GREY, fontsize=FONT)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
