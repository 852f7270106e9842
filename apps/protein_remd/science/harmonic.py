"""Independent harmonic oscillators in a heat bath, exactly: no time step error, every average known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.linalg import expm

from apps.protein_remd.science.units import BAR_NM3, BOLTZMANN

FloatArray = npt.NDArray[np.float64]

FREQUENCY = 6.0
"""rad/ps of every oscillator: a soft mode of a protein, about 32 per centimetre; the mass is 1 g/mol."""


def potential(x: FloatArray) -> float:
    """Return the potential energy in kJ/mol of positions in nm, shape (oscillators,)."""
    return float(0.5 * FREQUENCY**2 * np.dot(x, x))


def kinetic(v: FloatArray) -> float:
    """Return the kinetic energy in kJ/mol of velocities in nm/ps, shape (oscillators,)."""
    return float(0.5 * np.dot(v, v))


def boltzmann(count: int, temperature: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw positions and velocities of `count` oscillators from their canonical distribution."""
    noise = rng.standard_normal((2, count)) * np.sqrt(BOLTZMANN * temperature)
    return noise[0] / FREQUENCY, noise[1]


def piston(particles: int, temperature: float, pressure: float, rng: np.random.Generator) -> float:
    """Draw the volume in nm^3 of an ideal gas at a temperature in K and a pressure in bar.

    Its weight is ``V^N exp(-p V / k_B T)``, so ``p V`` is gamma distributed, as the energy of ``2 (N + 1)`` oscillators
    is. Source: Frenkel and Smit, "Understanding Molecular Simulation" (2002), equation 5.4.7.
    """
    return float(rng.standard_gamma(particles + 1)) * BOLTZMANN * temperature / (pressure * BAR_NM3)


def langevin(
    x: FloatArray, v: FloatArray, temperature: float, friction: float, time: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Follow the Langevin equation for a time by its exact solution, which is linear in state and noise.

    Parameters
    ----------
    x, v : array, shape (oscillators,)
        nm and nm/ps.
    temperature : float
        K.
    friction : float
        1/ps.
    time : float
        ps, of any length.

    Notes
    -----
    The state after the time is Gaussian about ``expm(A t) (x, v)`` with covariance ``S - expm(A t) S expm(A t)^T``,
    where S is the stationary one. Source: Risken, "The Fokker-Planck Equation" (1989), chapter 3.2.
    """
    propagator, spread = _step(temperature, friction, time)
    after = propagator @ np.stack([x, v]) + spread @ rng.standard_normal((2, len(x)))
    return after[0], after[1]


@lru_cache(maxsize=1024)
def _step(temperature: float, friction: float, time: float) -> tuple[FloatArray, FloatArray]:
    """Return propagator and square root of the covariance of the noise."""
    drift = np.array([[0.0, 1.0], [-(FREQUENCY**2), -friction]])
    propagator = np.asarray(expm(drift * time))
    stationary = BOLTZMANN * temperature * np.diag([1.0 / FREQUENCY**2, 1.0])
    covariance = stationary - propagator @ stationary @ propagator.T
    values, vectors = np.linalg.eigh(covariance)
    return propagator, vectors * np.sqrt(np.clip(values, 0.0, None))
