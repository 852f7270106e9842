"""Metropolis swaps of configurations between temperatures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apps.protein_remd.science.draws import uniform
from apps.protein_remd.science.units import BAR_NM3, beta

SCHEMES = ("even-odd", "gibbs")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to swap what is at two temperatures.

    Attributes
    ----------
    lower, upper : int
        Indices of the temperatures.
    replica_lower, replica_upper : int
        The replicas that were there when it was attempted.
    log_p : float
        Logarithm of the ratio of the weights after and before.
    draw : float
        Uniform on (0, 1); always drawn, whether it is needed or not.
    accepted : bool
    """

    lower: int
    upper: int
    replica_lower: int
    replica_upper: int
    log_p: float
    draw: float
    accepted: bool


def enthalpy(potential: float, pressure: float | None, volume: float | None) -> float:
    """Return what a temperature weighs: ``U + p V`` in kJ/mol at constant pressure, else U.

    Parameters
    ----------
    potential : float
        kJ/mol.
    pressure : float, optional
        bar; None at constant volume.
    volume : float, optional
        nm^3; needed with a pressure.

    Raises
    ------
    ValueError
        There is a pressure, and no volume that is finite.

    Notes
    -----
    Source: Okabe, Kawata, Okamoto and Mikami, Chem. Phys. Lett. 335 (2001), equation 12.
    """
    if pressure is None:
        return potential
    if volume is None or not math.isfinite(volume):
        raise ValueError(f"volume {volume} nm^3 cannot be exchanged at {pressure:g} bar: it must be finite")
    return potential + pressure * volume * BAR_NM3


def log_acceptance(t_lower: float, t_upper: float, u_lower: float, u_upper: float) -> float:
    """Return ``(beta_i - beta_j) (U_i - U_j)``, the logarithm of the Metropolis ratio of a swap.

    Parameters
    ----------
    t_lower, t_upper : float
        Temperatures in K.
    u_lower, u_upper : float
        Potential energies in kJ/mol of what is there, at the end of the segment; at constant pressure `enthalpy`.

    Raises
    ------
    ValueError
        An energy is not finite: such a segment has failed, and is never swapped.

    Notes
    -----
    Source: Sugita and Okamoto, "Replica-exchange molecular dynamics method for protein folding", Chem. Phys. Lett. 314
    (1999), equations 12 to 15.
    """
    if not (math.isfinite(u_lower) and math.isfinite(u_upper)):
        raise ValueError(f"energies {u_lower} and {u_upper} kJ/mol cannot be exchanged: both must be finite")
    return (beta(t_lower) - beta(t_upper)) * (u_lower - u_upper)


def accepts(log_p: float, draw: float) -> bool:
    """Whether a swap is accepted; compared as logarithms, so that nothing overflows."""
    return log_p >= 0.0 or math.log(draw) < log_p


def pairs(scheme: str, round_number: int, states: int, sweeps: int) -> Iterator[tuple[int, int, int]]:
    """Yield sweep, lower and upper temperature of the attempts of a round.

    Parameters
    ----------
    scheme : str
        "even-odd": even pairs (0 1) (2 3) ... in odd rounds, odd pairs (1 2) (3 4) ... in even ones.
        "gibbs": all pairs, one after the other, `sweeps` times.
    round_number : int
        From 1.
    states : int
        Temperatures.

    Notes
    -----
    Sources: Okabe et al., Chem. Phys. Lett. 335 (2001), for alternating neighbours; Chodera and Shirts, J. Chem. Phys.
    135, 194110 (2011), for many swaps in a row.
    """
    if scheme == "even-odd":
        yield from ((0, lower, lower + 1) for lower in range((round_number - 1) % 2, states - 1, 2))
    else:
        for sweep in range(sweeps):
            yield from ((sweep, lower, upper) for lower, upper in itertools.combinations(range(states), 2))


def exchange(
    replica_at: Sequence[int],
    temperatures: Sequence[float],
    energies: Sequence[float],
    *,
    seed: int,
    round_number: int,
    scheme: str = "even-odd",
    sweeps: int = 1,
) -> tuple[list[int], list[Attempt]]:
    """Attempt the swaps of one round.

    Parameters
    ----------
    replica_at : sequence of int, shape (states,)
        Which replica was at each temperature during the round.
    temperatures : sequence of float, shape (states,)
        K, ascending.
    energies : sequence of float, shape (replicas,)
        Potential energy, or `enthalpy`, in kJ/mol of each replica at the end of its segment, by replica.
    seed, round_number : int
        What the draws are keyed by, besides the pair.
    scheme, sweeps
        See ``pairs``.

    Returns
    -------
    replica_at : list of int
        Which replica is at each temperature afterwards.
    attempts : list of Attempt
        In the order in which they were made.
    """
    now, attempts = list(replica_at), []
    for sweep, lower, upper in pairs(scheme, round_number, len(now), sweeps):
        below, above = now[lower], now[upper]
        log_p = log_acceptance(temperatures[lower], temperatures[upper], energies[below], energies[above])
        draw = uniform(seed, round_number, lower, upper, sweep)
        accepted = accepts(log_p, draw)
        attempts.append(Attempt(lower, upper, below, above, log_p, draw, accepted))
        if accepted:
            now[lower], now[upper] = above, below
    return now, attempts


def velocity_scale(t_before: float, t_now: float) -> float:
    """Return the factor ``sqrt(T_new / T_old)`` for the velocities of a replica whose temperature has changed."""
    return math.sqrt(t_now / t_before)
