"""Random numbers that depend on what they are for alone, never on who asks, when, or in which order."""

from __future__ import annotations

import hashlib

SEEDS = 2**31 - 1
"""Seeds are 1 to this: OpenMM takes 0 for "choose one", and its seeds are 32-bit integers."""
_MANTISSA = 53


def uniform(seed: int, round_number: int, lower: int, upper: int, sweep: int = 0) -> float:
    """Return the draw that decides on one attempt to swap.

    Parameters
    ----------
    seed : int
        Of the campaign, 0 to 2**64 - 1.
    round_number, lower, upper, sweep : int
        Which attempt it is.

    Returns
    -------
    float
        In the open interval from 0 to 1, so that its logarithm is finite.

    Notes
    -----
    Source: Philox4x64-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11 (2011).
    """
    import numpy as np  # here, since the flags need this module and load nothing heavy

    generator = np.random.Philox(key=[seed, 0], counter=[0, (lower << 32) | upper, round_number, sweep])
    raw = int(np.asarray(generator.random_raw()))
    return ((raw >> (64 - _MANTISSA)) + 0.5) * 2.0**-_MANTISSA


def segment_seed(seed: int, replica: int, round_number: int, segment: int = 0, salt: int = 0) -> int:
    """Return the seed of a segment, 1 to 2**31 - 1.

    Parameters
    ----------
    seed : int
        Of the campaign.
    replica, round_number, segment : int
        Which segment it is; round 0 is the making of the first velocities.
    salt : int
        How often another seed was needed because what came out was not finite.
    """
    name = f"segment {seed} {replica} {round_number} {segment} {salt}".encode()
    return 1 + int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % SEEDS
