"""Parameters of a campaign: tables of the TOML file, flags and Python API alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apps._frame.params import (
    MISSING,
    check_fields,
    choice,
    number,
    optional,
    section,
    setting,
    several,
    switch,
    text,
    whole,
)
from apps.protein_remd import until
from apps.protein_remd.science.exchange import SCHEMES
from apps.protein_remd.science.ladder import LONGEST, by_acceptance, geometric
from apps.protein_remd.science.prediction import effective_degrees
from apps.protein_remd.system import BAROSTAT_INTERVAL, ENGINES_OF, PERIODIC, System
from core import ConfigError

HOTTEST = 5000.0
"""K; above it no force field of proteins means anything."""


def temperature(value: Any) -> float:
    """Parse a temperature in K."""
    found: float = number(0, HOTTEST)(value)
    if found == 0.0:
        raise ValueError
    return found


def at_least(least: int) -> Callable[[Any], int]:
    """Parse a whole number that has a bound below alone."""
    return whole(least, 10**12)


@dataclass(frozen=True, slots=True, kw_only=True)
class MD:
    """Molecular dynamics of a segment."""

    steps: int = setting(500, at_least(1), "a whole number of at least 1", "steps of a segment", "STEPS")
    steps_per_invocation: int | None = setting(
        None, optional(at_least(1)), "a multiple of the steps of a segment",
        "steps between two exchanges, in chained segments of one invocation; by default one segment", "STEPS",
    )  # fmt: skip
    timestep: float = setting(
        2.0, number(0, 10, open_ends=True), "femtoseconds, above 0 and below 10", "time step", "FS"
    )
    friction: float = setting(1.0, number(0, 1e6, open_ends=True), "a number above 0", "collision rate in 1/ps", "RATE")
    pressure: float | None = setting(
        None, optional(number(0, 1e5, open_ends=True)), "a number of bar above 0 and below 100000",
        "constant pressure by a Monte Carlo barostat; by default the volume is constant", "BAR",
    )  # fmt: skip
    seed: int = setting(
        1, whole(0, 2**64 - 1), "a whole number from 0 to 2**64 - 1", "whence all random numbers come", "SEED"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.steps_per_invocation is not None and self.steps_per_invocation % self.steps:
            raise ConfigError(
                f"--steps-per-invocation {self.steps_per_invocation}: expected a multiple of --steps {self.steps}, "
                "since an invocation runs whole segments"
            )

    @property
    def segments(self) -> int:
        """Segments that an invocation chains."""
        return 1 if self.steps_per_invocation is None else self.steps_per_invocation // self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The temperatures."""

    temperatures: tuple[float, ...] = setting(
        (), several(temperature), f"ascending temperatures in K up to {HOTTEST:g}, separated by commas",
        "the ladder itself, kept to the digit, in place of lowest, highest and count", "K,K,...",
    )  # fmt: skip
    lowest: float = setting(300.0, temperature, f"a temperature in K, above 0, up to {HOTTEST:g}", "lowest", "K")
    highest: float = setting(500.0, temperature, f"a temperature in K, above 0, up to {HOTTEST:g}", "highest", "K")
    count: int = setting(
        6, whole(1, LONGEST), f"a whole number from 1 to {LONGEST}", "temperatures, with a constant ratio", "N"
    )
    acceptance: float | None = setting(
        None, optional(number(0.01, 0.95)), "a number from 0.01 to 0.95",
        "of neighbours: as many temperatures as this takes, in place of count", "PART",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)
        for below, above in zip(self.temperatures, self.temperatures[1:], strict=False):
            if above <= below:
                raise ConfigError(
                    f"--temperatures {','.join(map(repr, self.temperatures))}: {above!r} follows {below!r}; a ladder "
                    "rises from each temperature to the next"
                )
        if len(self.temperatures) > LONGEST:
            raise ConfigError(f"--temperatures has {len(self.temperatures)} values; at most {LONGEST} are possible")
        if not self.temperatures and self.highest < self.lowest:
            raise ConfigError(f"--highest {self.highest!r} is below --lowest {self.lowest!r}; exchange the two")
        if not self.temperatures and self.highest == self.lowest and self.count > 1 and self.acceptance is None:
            raise ConfigError(
                f"--count {self.count} temperatures from {self.lowest!r} to {self.highest!r} K would be one and the "
                "same; raise --highest, or give --count 1"
            )

    @property
    def least(self) -> int:
        """Temperatures that there will be at least."""
        if self.temperatures:
            return len(self.temperatures)
        if self.acceptance is None:
            return self.count
        return 1 if self.lowest == self.highest else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The attempts to swap."""

    rounds: int = setting(
        40, whole(1, 99_999_999), "a whole number of at least 1", "rounds in all, also of a run that goes on", "N",
        identity=False,
    )  # fmt: skip
    scheme: str = setting(
        "even-odd", choice(*SCHEMES), f"one of {', '.join(SCHEMES)}",
        "neighbours, even and odd pairs in turn; or all pairs, again and again", "NAME",
    )  # fmt: skip
    sweeps: int = setting(4, whole(1, 1000), "a whole number from 1 to 1000", "times over all pairs with gibbs", "N")
    until: str = setting(
        "", until.canonical, f"conditions such as error<0.2 and round_trips>=10, of {', '.join(until.MEASURES)}",
        "stop before the last round, as soon as all hold when the run is evaluated", "CONDITIONS", identity=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is kept of each segment."""

    frames: int = setting(
        0, at_least(0), "a whole number of steps, 0 for none", "steps between two frames of a trajectory", "STEPS"
    )
    energies: int = setting(
        0, at_least(0), "a whole number of steps, 0 for the end of each segment alone",
        "steps between two rows of energies", "STEPS",
    )  # fmt: skip
    states: int = setting(
        1, at_least(1), "a whole number of at least 1", "keep the states of every so many rounds, and the last", "N",
        identity=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Everything that decides a campaign."""

    system: System = section(System)
    md: MD = section(MD)
    ladder: Ladder = section(Ladder)
    exchange: Exchange = section(Exchange)
    output: Output = section(Output)
    force: bool = setting(
        False, switch, "true or false", "go on although version or platform are not those of the run's beginning",
        identity=False,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_engine()
        if self.exchange.until and self.ladder.least == 1:
            raise ConfigError(
                f"--until {self.exchange.until} needs at least two temperatures, between which replicas go"
            )
        self._check_pressure()
        for name in ("frames", "energies"):
            every = getattr(self.output, name)
            if every and self.md.steps % every:
                raise ConfigError(
                    f"--{name} {every}: expected a divisor of --steps {self.md.steps}, so that segments join evenly"
                )

    def _check_engine(self) -> None:
        engine = self.system.engine
        for name, engines in ENGINES_OF.items():
            if engine not in engines and getattr(self.system, name) != getattr(System(), name):
                raise ConfigError(
                    f"--{name.replace('_', '-')} is of engine {' or '.join(engines)}; {engine} has it not: drop it"
                )
        if engine != "openmm" and self.system.solvent not in ("vacuum", System().solvent):
            raise ConfigError(f"--solvent {self.system.solvent} is of engine openmm; {engine} knows no water: drop it")

    def _check_pressure(self) -> None:
        system = self.system
        if self.md.pressure is None:
            return
        if system.engine == "protomol":
            raise ConfigError("--pressure: engine protomol runs in vacuum, which has none; drop it")
        if system.engine == "harmonic" and system.dynamics == "langevin":
            raise ConfigError("--pressure: oscillators have one with --dynamics boltzmann alone")
        if system.engine == "openmm" and system.solvent not in PERIODIC:
            raise ConfigError(
                f"--pressure: a molecule with --solvent {system.solvent} has no box whose volume could change; drop "
                "it, or use --solvent tip3p"
            )

        if system.engine == "openmm" and self.md.steps < BAROSTAT_INTERVAL:
            raise ConfigError(
                f"--steps {self.md.steps}: the barostat tries once in {BAROSTAT_INTERVAL} steps of a segment, so the "
                "volume would never change; raise it"
            )

    def temperatures(self, degrees: float) -> tuple[float, ...]:
        """Return the ladder in K; `degrees` of freedom predict the acceptance where that is aimed at."""
        from apps.protein_remd.science.units import BOLTZMANN

        degrees = effective_degrees(degrees, self.system.solvent in PERIODIC)
        ladder = self.ladder
        if ladder.temperatures:
            return ladder.temperatures
        if ladder.acceptance is None:
            return geometric(ladder.lowest, ladder.highest, ladder.count)
        try:
            return by_acceptance(
                ladder.lowest, ladder.highest, ladder.acceptance,
                lambda t: 0.5 * degrees * BOLTZMANN * t, lambda t: 0.5 * degrees * (BOLTZMANN * t) ** 2,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"--acceptance {ladder.acceptance}: {error}; lower it, or --highest") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParams:
    """Of commands that read a run."""

    run: str = setting(
        MISSING, text, "the folder or prefix of a run", "folder or prefix of the run", "RUN", positional=True
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyParams(RunParams):
    """Of ``verify``."""

    segments: int = setting(
        8, whole(1, 1_000_000), "a whole number of at least 1", "segments that are computed again, taken at random", "N"
    )
    seed: int = setting(1, whole(0, 2**63), "a whole number of at least 0", "which segments are taken", "SEED")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateParams:
    """Of ``validate``."""

    rounds: int = setting(1000, whole(50, 100_000), "a whole number from 50 to 100000", "rounds of each check", "N")
    seed: int = setting(1, whole(0, 2**63), "a whole number of at least 0", "whence all random numbers come", "SEED")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzeParams(RunParams):
    """Of ``analyze``."""

    discard: int | None = setting(
        None, optional(at_least(0)), "a whole number of at least 0",
        "rounds at the beginning to leave out; by default as many as leave the most independent ones", "N",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DemuxParams(RunParams):
    """Of ``demux``."""

    format: str = setting("dcd", choice("dcd", "xtc"), "one of dcd, xtc", "format of the trajectories", "NAME")
