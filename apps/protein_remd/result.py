"""What is made of a campaign's history: rows and figures; all of it can be made again from the rounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from apps._frame.tables import TextTable, facts_text
from apps.protein_remd import convergence, resumes, until
from apps.protein_remd.campaign import Setup
from apps.protein_remd.convergence import is_bottleneck
from apps.protein_remd.history import TARGET, History, pair_figures, propose
from apps.protein_remd.params import Params
from apps.protein_remd.records import RoundRecord
from apps.protein_remd.resumes import Comparison
from apps.protein_remd.science import statistics
from apps.protein_remd.science.prediction import effective_degrees, harmonic_acceptance
from apps.protein_remd.science.units import BOLTZMANN

COLUMNS = (
    "round", "lower", "upper", "replica_lower", "replica_upper", "T_lower", "T_upper", "U_lower", "U_upper", "log_p",
    "draw", "accepted",
)  # fmt: skip
VOLUMES = ("V_lower", "V_upper")
"""Columns in nm^3 that follow at constant pressure, where ``log_p`` takes them."""


def exchange_rows(record: RoundRecord) -> Iterator[tuple[Any, ...]]:
    """Yield a row of ``exchange.csv`` for each attempt of a round."""
    for each in record.attempts:
        yield (
            record.round_number, each.lower, each.upper, each.replica_lower, each.replica_upper,
            record.temperatures[each.lower], record.temperatures[each.upper],
            record.segments[each.replica_lower].potential, record.segments[each.replica_upper].potential,
            each.log_p, each.draw, each.accepted, *_volumes(record, each.replica_lower, each.replica_upper),
        )  # fmt: skip


def _volumes(record: RoundRecord, *replicas: int) -> tuple[float | None, ...]:
    return () if record.pressure is None else tuple(record.segments[each].volume for each in replicas)


def columns(record: RoundRecord) -> tuple[str, ...]:
    """Return the names of what ``exchange_rows`` yields."""
    return COLUMNS if record.pressure is None else (*COLUMNS, *VOLUMES)


def figures(history: History, setup: Setup, rounds: int) -> dict[str, Any]:
    """Return what a campaign has come to, for programs."""
    states = len(history.temperatures)
    matrix = statistics.transition_matrix(history.state_of, states)
    trips = statistics.round_trips(history.state_of, states)
    columns = range(states)
    potential = [statistics.mean_and_error(history.potential[:, k]) for k in columns]
    kinetic = [statistics.mean_and_error(history.kinetic[:, k]) for k in columns]
    volume = [statistics.mean_and_error(history.volume[:, k]) for k in columns if history.pressure is not None]
    to_kelvin = 2.0 / (setup.degrees * BOLTZMANN)
    pairs = pair_figures(history)
    rare = [
        is_bottleneck(int(history.accepted[k, k + 1]), pair.attempted, pair.predicted, history.rounds)
        for k, pair in enumerate(pairs)
    ]
    return {
        "engine": setup.engine,
        "version": setup.version,
        "rounds": history.rounds,
        "rounds_asked": rounds,
        "complete": history.rounds >= rounds,
        "degrees_of_freedom": setup.degrees,
        "states": [
            {
                "temperature": history.temperatures[k],
                "potential": potential[k][0],
                "potential_error": potential[k][1],
                "kinetic_temperature": kinetic[k][0] * to_kelvin,
                "kinetic_temperature_error": kinetic[k][1] * to_kelvin,
                **({"volume": volume[k][0], "volume_error": volume[k][1]} if volume else {}),
            }
            for k in columns
        ],
        "pairs": [
            {
                "lower": history.temperatures[k],
                "upper": history.temperatures[k + 1],
                "attempted": pair.attempted,
                "acceptance": pair.acceptance,
                "predicted": pair.predicted,
                "harmonic": harmonic_acceptance(_oscillators(setup), *history.temperatures[k : k + 2]),
                "overlap": pair.overlap,
                "ensemble_slope": pair.slope,
                "ensemble_slope_error": pair.slope_error,
                "bottleneck": rare[k],
            }
            for k, pair in enumerate(pairs)
        ],
        "round_trips": trips.tolist(),
        "second_eigenvalue": statistics.second_eigenvalue(matrix),
        "salted_segments": [list(each) for each in history.salted],
        "canaries": list(history.canaries),
        "proposed": _closer_ladder(history) if any(rare) else None,
        "history_sha256": history.digest(),
        "facts": setup.facts,
    }


def believed(history: History, comparisons: list[Comparison], params: Params) -> dict[str, Any]:
    """Return how far the figures of all rounds can be believed, and what was asked for.

    Of resumes only what is flagged, so that a run which was interrupted has the results of one that was not.
    """
    found = convergence.final(history)
    conditions = until.parse(params.exchange.until)
    holds = bool(conditions) and found is not None and all(each.holds(found) for each in conditions)
    return {
        "complete": history.rounds >= params.exchange.rounds or holds,
        "convergence": found,
        "until": params.exchange.until,
        "until_holds": holds,
        "resumes_flagged": resumes.warnings(comparisons, history.temperatures),
    }


def answers(found: Mapping[str, Any], params: Params) -> bool:
    """Whether the figures of a finished run are of what is asked for now."""
    asked = params.exchange
    return found.get("rounds_asked") == asked.rounds and found.get("until", "") == asked.until


def verdict(found: Mapping[str, Any]) -> list[str]:
    """Return in sentences whether a campaign has converged, and why it was stopped."""
    measured = found.get("convergence")
    said = [] if measured is None else [measured["verdict"]]
    if found.get("until"):
        values = [
            f"{each.measure} is {measured[each.measure]:.3g}"
            for each in until.parse(found["until"])
            if measured is not None and measured.get(each.measure) is not None
        ]
        how = "holds after" if found["until_holds"] else "was not reached in"
        said.append(f"{found['until']} {how} {found['rounds']:,} rounds: {', '.join(values) or 'too few to tell'}.")
    return said


def _closer_ladder(history: History) -> list[float] | None:
    """Return the ladder that the energies so far would have, None where they are too few to tell."""
    try:
        return [round(t, 2) for t in propose(history)]
    except ValueError:
        return None


def warnings(found: Mapping[str, Any]) -> list[str]:
    """Return in sentences what a reader of the figures must know."""
    said = [*found["facts"].get("cautions", []), *found.get("isomers_said", [])]
    for pair in found["pairs"]:
        if pair["bottleneck"]:
            between = f"{pair['lower']:g} and {pair['upper']:g} K"
            said.append(
                f"Swaps between {between} are accepted in {pair['acceptance']:.1%} of {pair['attempted']:,} attempts: "
                "the ladder is cut in two there."
            )
    if found.get("proposed"):
        ladder = ",".join(f"{t:.2f}" for t in found["proposed"])
        said.append(f"By the energies so far, {TARGET:.0%} would be accepted everywhere with --temperatures {ladder}")
    trips = sum(found["round_trips"])
    if len(found["states"]) > 1 and trips == 0 and not found.get("convergence"):
        said.append("No replica has gone from the lowest temperature to the highest and back: run more rounds.")
    said += found.get("resumes_flagged", [])
    if found["salted_segments"]:
        said.append(f"{len(found['salted_segments'])} segments needed another seed; exchange records name them.")
    if len(found["canaries"]) > 1:
        said.append(
            "Processors of several kinds took part: statistically valid, and not bit for bit repeatable on one."
        )
    return said


def text(found: Mapping[str, Any]) -> str:
    """Lay the figures out for a terminal."""
    rows = [
        (
            f"{state['temperature']:.6g}",
            f"{state['potential']:,.4g} ± {_shown(state['potential_error'])}",
            f"{state['kinetic_temperature']:.4g} ± {_shown(state['kinetic_temperature_error'])}",
            *_pair_cells(found["pairs"], k),
            *([f"{state['volume']:.4g} ± {_shown(state['volume_error'])}"] if "volume" in state else []),
        )
        for k, state in enumerate(found["states"])
    ]
    header = ("T (K)", "U (kJ/mol)", "kinetic T (K)", "swaps up", "predicted", "V (nm^3)")[: len(rows[0])]
    facts = [
        ("Rounds", f"{found['rounds']:,} of {found['rounds_asked']:,}"),
        ("Round trips", f"{sum(found['round_trips']):,}, by {sum(map(bool, found['round_trips']))} replicas"),
        ("Second eigenvalue", f"{found['second_eigenvalue']:.3f}"),
    ]
    if found.get("helix"):
        ladder = (state["temperature"] for state in found["states"])
        shares = (f"{share:.2f} at {t:.0f} K" for t, share in zip(ladder, found["helix"], strict=True))
        facts.append(("In an alpha helix", ", ".join(shares)))
    return "\n\n".join([TextTable("", header, rows).text(), facts_text(facts), *verdict(found), *warnings(found)])


def _pair_cells(pairs: list[dict[str, Any]], k: int) -> tuple[str, str]:
    if k >= len(pairs):
        return "", ""
    acceptance = pairs[k]["acceptance"]
    shown = "-" if acceptance is None or math.isnan(acceptance) else f"{acceptance:.1%}"
    return shown, f"{pairs[k]['predicted']:.1%}"


def _shown(error: float | None) -> str:
    return "?" if error is None or not math.isfinite(error) else f"{error:.2g}"


SHOWN = ("system", "force field", "solvent", "cutoff", "box", "pressure", "atoms", "residues", "histidines",
         "constraints", "net charge", "platform", "threads")  # fmt: skip
"""What is said of a system before it runs, by its facts."""


def system_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a system is, for a terminal."""
    return [(name.capitalize(), str(facts[name])) for name in SHOWN if name in facts]


def system_text(setup: Setup) -> str:
    """Lay out what a system is."""
    return facts_text(system_facts(setup.facts) or [("System", f"{setup.degrees:,} harmonic oscillators")])


def _oscillators(setup: Setup) -> float:
    return effective_degrees(setup.degrees, "box" in setup.facts)


def ladder_text(setup: Setup) -> str:
    """Lay the ladder out, with the acceptance of as many harmonic oscillators as there are degrees of freedom."""
    ladder = setup.temperatures
    rows = [
        (f"{t:.6g}", f"{harmonic_acceptance(_oscillators(setup), t, ladder[k + 1]):.0%}" if k + 1 < len(ladder) else "")
        for k, t in enumerate(ladder)
    ]
    title = f"Ladder; acceptance as of {_oscillators(setup):,.0f} harmonic degrees of freedom"
    if "box" in setup.facts:
        title += ", since water holds twice the heat of its own"
    return TextTable(title, ("T (K)", "swaps up"), rows).text()
