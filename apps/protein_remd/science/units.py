"""Units and constants: kJ/mol, nm, ps, K, as OpenMM has them."""

from __future__ import annotations

BOLTZMANN = 8.31446261815324e-3
"""kJ/(mol K). Source: SI Brochure, 9th edition (2019): k_B and N_A are exact."""

BAR_NM3 = 0.0602214076
"""kJ/mol that a bar times a cubic nanometre is: 1e-25 kJ times the Avogadro constant of the SI Brochure, exact."""


def beta(temperature: float) -> float:
    """Return 1/(k_B T) in mol/kJ."""
    return 1.0 / (BOLTZMANN * temperature)
