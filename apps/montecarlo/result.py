"""The record of a finished forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apps.montecarlo.preparation import Prepared
from apps.montecarlo.science.summary import Summary


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A finished forecast, and what it took.

    `exact_quantiles` holds the horizon's quantiles by probability when a second pass has refined them.
    """

    prepared: Prepared
    summary: Summary
    wall_seconds: float
    cpu_seconds: float
    tasks: int
    workers: int
    engine: str
    exact_quantiles: Mapping[float, float] | None = None

    @property
    def path_steps(self) -> int:
        """Steps of paths truly simulated, in both passes if there were two."""
        return self.summary.path_steps * (1 if self.exact_quantiles is None else 2)

    def quantile(self, day: int, q: float) -> float:
        """Return the price at probability `q` on a recorded day, exactly where a second pass has found it."""
        if self.exact_quantiles is not None and day == self.prepared.params.days:
            return self.exact_quantiles[q]
        return self.summary.quantile(day, q)
