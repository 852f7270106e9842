"""Campaigns that have a name: the published one, and examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # 99 jobs, in each of which an invocation runs 100 Monte Carlo steps of 10,000 steps of dynamics.
    "talk": {
        "md": {"steps": 10_000, "steps_per_invocation": 1_000_000},
        "exchange": {"rounds": 99},
        "output": {"energies": 10_000},
    },
}
"""The shape of the published experiment; the molecule is given beside it."""

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    # Folds visibly and melts over the ladder in minutes of CPU; it is not equilibrated by then.
    "helix": {
        "system": {"sequence": "AAAAAAAAAAAA", "force_field": "amber03"},
        "md": {"steps": 2500},
        "ladder": {"lowest": 280.0, "highest": 520.0, "count": 6},
        "exchange": {"rounds": 40},
        "output": {"frames": 500},
    },
    # For a night; no fold is promised.
    "chignolin": {
        "system": {"sequence": "GYDPETGTWG"},
        "md": {"steps": 5000},
        "ladder": {"lowest": 280.0, "highest": 520.0, "count": 12},
        "exchange": {"rounds": 2000},
        "output": {"frames": 5000},
    },
}
