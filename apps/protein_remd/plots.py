"""The pictures of a campaign, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from apps.protein_remd.history import History
from apps.protein_remd.science.statistics import transition_matrix

SIZE = (6.4, 4.0)
"""Inches, at 110 dots each: two beside each other on a page, one on a phone."""
BLUE, RED = "#1f5fa8", "#b5372c"
MOST_POINTS = 2000
"""Rounds that a line shows; more are thinned out, since no screen has more columns."""


def _axes(x: str, y: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, dpi=110)
    FigureCanvasAgg(figure)
    # A layout that is worked out draws everything twice.
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.17, top=0.92)
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _pairs(found: Mapping[str, Any]) -> list[str]:
    return [f"{pair['lower']:.4g}\n{pair['upper']:.4g}" for pair in found["pairs"]]


def acceptance(found: Mapping[str, Any]) -> bytes:
    """Draw the acceptance of each pair beside what was predicted."""
    figure, axes = _axes("pair of temperatures (K)", "accepted", "Swaps accepted")
    places = np.arange(len(found["pairs"]))
    measured = np.array([pair["acceptance"] for pair in found["pairs"]], dtype=float)
    tried = np.array([max(1, pair["attempted"]) for pair in found["pairs"]], dtype=float)
    errors = np.sqrt(np.clip(measured * (1.0 - measured), 0.0, None) / tried)
    axes.bar(places, measured, 0.6, yerr=errors, color=BLUE, alpha=0.6, label="measured")
    axes.plot(places, [pair["predicted"] for pair in found["pairs"]], "o", color=RED, label="predicted")
    axes.set_xticks(places, _pairs(found), fontsize=7)
    axes.set_ylim(0.0, 1.15)
    axes.legend(frameon=False, ncols=2, loc="upper right")
    return _png(figure)


def energies(history: History) -> bytes:
    """Draw the histograms of the potential energy at each temperature."""
    name = "potential energy" if history.pressure is None else "potential energy + pV"
    figure, axes = _axes(f"{name} (kJ/mol)", "density", "Energies overlap")
    # As many bins as show a shape by the samples there are, over all temperatures.
    bins = int(np.clip(3 * np.sqrt(history.rounds), 12, 120))
    edges = np.histogram_bin_edges(history.exchanged, bins)
    for k, t in enumerate(history.temperatures):
        shade = _shade(k, len(history.temperatures))
        axes.hist(history.exchanged[:, k], list(edges), density=True, histtype="step", color=shade, label=f"{t:.4g} K")
    if len(history.temperatures) <= 12:
        axes.legend(frameon=False, fontsize=7)
    return _png(figure)


def paths(history: History) -> bytes:
    """Draw the temperature of each replica over the rounds."""
    figure, axes = _axes("round", "T (K)", "Replicas move through the ladder")
    every = -(-history.rounds // MOST_POINTS)
    ladder = np.array(history.temperatures)
    numbers = np.arange(1, history.rounds + 1)[::every]
    for replica in range(len(ladder)):
        places = history.state_of[::every, replica]
        axes.plot(numbers, ladder[places], color=_shade(replica, len(ladder)), linewidth=0.8, alpha=0.8)
    return _png(figure)


def transitions(history: History) -> bytes:
    """Draw the matrix of transitions between temperatures."""
    figure, axes = _axes("to temperature", "from temperature", "Transitions in a round")
    matrix = transition_matrix(history.state_of, len(history.temperatures))
    shown = axes.imshow(matrix, vmin=0.0, vmax=1.0, cmap="Blues")
    figure.colorbar(shown)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure)


def trips(found: Mapping[str, Any]) -> bytes:
    """Draw the round trips of each replica."""
    figure, axes = _axes("replica", "round trips", "From bottom to top and back")
    axes.bar(range(len(found["round_trips"])), found["round_trips"], color=BLUE, alpha=0.6)
    axes.set_ylim(0, max(1, *found["round_trips"]) * 1.05)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure)


def kinetic(found: Mapping[str, Any]) -> bytes:
    """Draw the kinetic temperature of each state, over the one asked for."""
    figure, axes = _axes("T (K)", "kinetic T / T", "Kinetic temperature")
    ladder = np.array([state["temperature"] for state in found["states"]])
    measured = np.array([state["kinetic_temperature"] for state in found["states"]])
    errors = np.array([state["kinetic_temperature_error"] for state in found["states"]])
    errors = np.where(np.isfinite(errors), errors, 0.0)
    axes.axhline(1.0, color=RED, linewidth=0.8)
    axes.errorbar(ladder, measured / ladder, errors / ladder, fmt="o", color=BLUE)
    return _png(figure)


def helix(found: Mapping[str, Any]) -> bytes:
    """Draw the part of the residues that are in a helix, by temperature."""
    figure, axes = _axes("T (K)", "in an alpha helix", "Helix by temperature")
    axes.plot([state["temperature"] for state in found["states"]], found["helix"], "o-", color=BLUE)
    axes.set_ylim(0.0, 1.0)
    return _png(figure)


def slopes(found: Mapping[str, Any]) -> bytes:
    """Draw the slope of the ensembles of each pair over what is expected."""
    figure, axes = _axes("pair of temperatures (K)", "measured / expected", "Are these the ensembles asked for?")
    places = np.arange(len(found["pairs"]))
    ratios = np.array([pair["ensemble_slope"] for pair in found["pairs"]], dtype=float)
    errors = np.array([pair["ensemble_slope_error"] for pair in found["pairs"]], dtype=float)
    known = np.isfinite(ratios) & np.isfinite(errors)
    axes.axhline(1.0, color=RED, linewidth=0.8)
    axes.errorbar(places[known], ratios[known], errors[known], fmt="o", color=BLUE)
    axes.set_xticks(places, _pairs(found), fontsize=7)
    return _png(figure)


def _shade(at: int, count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["turbo"](0.08 + 0.84 * at / max(1, count - 1))
