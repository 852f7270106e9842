"""The parameters of the validate command: the same for flags, TOML and API."""

from __future__ import annotations

from dataclasses import dataclass

from apps._frame.params import check_fields, setting, whole
from apps.montecarlo.params import DEFAULT_SEED, MAX_SEED
from core import ConfigError

ABOUT = """\
Check the science with the backend of your choice: forecasts against closed formulas, options
against QuantLib, American exercise against the published table, tests of a backtest against
textbooks. One table says what was compared with what; the exit status is 1 if anything is off.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateParams:
    """Everything that determines the result of a validation."""

    paths: int = setting(
        65_536, whole(1024, 2**24), "an even number from 1024 to 16777216", "simulated paths of each check", "N"
    )
    seed: int = setting(
        DEFAULT_SEED, whole(0, MAX_SEED), "a whole number from 0 to 2**64 - 1", "seed of all random numbers", "SEED"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.paths % 4:
            raise ConfigError(f"--paths {self.paths}: some checks use half of them in pairs; give a multiple of 4")
