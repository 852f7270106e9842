"""Parameters of the system: what is simulated, in what surroundings, and by what."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from apps._frame.params import check_fields, choice, number, optional, setting, several, switch, text, whole
from core import ConfigError

ENGINES = ("openmm", "protomol", "harmonic")
DYNAMICS = ("boltzmann", "langevin")
FORCE_FIELDS = ("ff14SB", "ff99SB-ILDN", "amber03")
SOLVENTS = ("obc2", "gbn2", "vacuum", "tip3p", "explicit")
NONBONDED = ("auto", "none", "cutoff", "pme")
PERIODIC = ("tip3p", "explicit")
"""Solvents that fill a periodic box."""
PLATFORMS = ("fastest", "Reference", "CPU")
BAROSTAT_INTERVAL = 25
"""Steps between two attempts to change the volume: OpenMM's own value; it counts from the beginning of a segment."""
CUTOFF, PADDING = 1.0, 1.2
"""nm, where none is given."""
ENGINES_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["pdb", "psf", "parameters"], ("openmm", "protomol")),
    **dict.fromkeys(["sequence", "force_field", "prmtop", "inpcrd", "padding", "ionic_strength", "box", "nonbonded",
                     "cutoff", "switch_distance", "platform", "threads", "no_bitwise"], ("openmm",)),
    "protomol": ("protomol",), "dof": ("harmonic",), "dynamics": ("harmonic",),
}  # fmt: skip
"""Settings that not every engine has, and which have them: elsewhere they would have no effect."""
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


def sequence(value: Any) -> str:
    """Parse a sequence of amino acids in one-letter code."""
    letters = text(value).upper()
    if not letters or set(letters) - set(RESIDUES):
        raise ValueError
    return letters


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What is simulated, and by what."""

    engine: str = setting("openmm", choice(*ENGINES), f"one of {', '.join(ENGINES)}", "what runs the dynamics", "NAME")
    sequence: str = setting(
        "A", sequence, f"one-letter codes of amino acids, of {RESIDUES}",
        "a peptide with capped ends; A alone is alanine dipeptide", "LETTERS",
    )  # fmt: skip
    pdb: str = setting("", text, "a PDB file", "structure, in place of a sequence; missing hydrogens are added", "FILE")
    force_field: str = setting(
        "ff14SB", choice(*FORCE_FIELDS), f"one of {', '.join(FORCE_FIELDS)}", "of a sequence or PDB file", "NAME"
    )
    psf: str = setting("", text, "a CHARMM or X-PLOR PSF file", "CHARMM topology; --pdb has its coordinates", "FILE")
    parameters: tuple[str, ...] = setting(
        (), several(text), "CHARMM parameter files, separated by commas", "parameter (and topology) files of a PSF",
        "FILE,FILE,...",
    )  # fmt: skip
    prmtop: str = setting("", text, "an Amber prmtop file", "Amber topology and parameters", "FILE")
    inpcrd: str = setting("", text, "an Amber inpcrd or rst7 file", "coordinates of a prmtop file", "FILE")
    solvent: str = setting(
        "obc2", choice(*SOLVENTS), f"one of {', '.join(SOLVENTS)}",
        "implicit water (obc2, gbn2), none (vacuum), a box of water that is added (tip3p) or that the files have "
        "(explicit)", "NAME",
    )  # fmt: skip
    padding: float | None = setting(
        None, optional(number(0, 100, open_ends=True)), "a number of nm above 0 and below 100",
        "least distance between a molecule and its copies, as in OpenMM, with --solvent tip3p [1.2]", "NM",
    )  # fmt: skip
    ionic_strength: float | None = setting(
        None, optional(number(0, 5)), "a number of mol/l from 0 to 5",
        "Na+ and Cl- beside those that neutralise, with --solvent tip3p [0]", "MOLAR",
    )  # fmt: skip
    box: tuple[float, ...] = setting(
        (), several(number(0, 1e4, open_ends=True)), "3 edges in nm, or 3 edges and 3 angles in degrees",
        "periodic box with --solvent explicit, in place of the files' own", "NM,NM,NM",
    )  # fmt: skip
    nonbonded: str = setting(
        "auto", choice(*NONBONDED), f"one of {', '.join(NONBONDED)}",
        "how far atoms see each other: auto is pme in a box, none (no cutoff) elsewhere", "NAME",
    )  # fmt: skip
    cutoff: float | None = setting(
        None, optional(number(0, 100, open_ends=True)), "a number of nm above 0 and below 100",
        "of cutoff and of pme's direct part [1.0]", "NM",
    )  # fmt: skip
    switch_distance: float | None = setting(
        None, optional(number(0, 100, open_ends=True)), "a number of nm above 0 and below the cutoff",
        "where Lennard-Jones energies begin to be switched off; by default they end at the cutoff", "NM",
    )  # fmt: skip
    platform: str = setting(
        "fastest", choice(*PLATFORMS), f"one of {', '.join(PLATFORMS)}",
        "platform of OpenMM: the fastest is found by 50 steps, and kept for the whole campaign", "NAME",
    )  # fmt: skip
    threads: int = setting(
        1, whole(1, 1024), "a whole number from 1 to 1024", "of OpenMM in each worker; above 1 with --no-bitwise", "N"
    )
    no_bitwise: bool = setting(
        False, switch, doc="give up that results can be repeated to the bit, for several threads a replica"
    )
    protomol: str = setting("", text, "a program", "ProtoMol, where it is not on PATH", "PATH", identity=False)
    dof: int = setting(
        30, whole(1, 1_000_000), "a whole number of at least 1", "oscillators of the harmonic engine", "N"
    )
    dynamics: str = setting(
        "boltzmann", choice(*DYNAMICS), f"one of {', '.join(DYNAMICS)}",
        "of the harmonic engine: independent draws, or the Langevin equation solved exactly", "NAME",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_fields(self)
        if self.psf and not (self.pdb and self.parameters):
            raise ConfigError("--psf needs its coordinates, --pdb FILE, and its force field, --parameters FILE,FILE")
        if self.parameters and not self.psf:
            raise ConfigError("--parameters are those of a PSF file; add --psf FILE, or drop them")
        if bool(self.prmtop) != bool(self.inpcrd):
            raise ConfigError("--prmtop and --inpcrd belong together; give both")
        if self.prmtop and (self.psf or self.pdb):
            raise ConfigError("--prmtop and --inpcrd are a whole molecule; drop --pdb and --psf")
        self._check_molecule()
        if self.threads > 1 and self.platform == "Reference":
            raise ConfigError(f"--threads {self.threads}: the Reference platform has one; use --platform CPU")
        self._check_solvent()
        if self.threads > 1 and not self.no_bitwise:
            raise ConfigError(
                f"--threads {self.threads}: more than one thread adds in another order each time, and no result could "
                "be repeated to the bit; add --no-bitwise if you accept that, or give every replica a core"
            )

    @property
    def method(self) -> str:
        """How far atoms see each other: "none", "cutoff" or "pme"."""
        periodic = self.solvent in PERIODIC
        return self.nonbonded if self.nonbonded != "auto" else "pme" if periodic else "none"

    def _check_molecule(self) -> None:
        """Refuse two molecules, and a force field where files have their own."""
        files = next((name for name in ("psf", "prmtop", "pdb") if getattr(self, name)), None)
        defaults = {each.name: each.default for each in fields(self)}
        if files and self.sequence != defaults["sequence"]:
            raise ConfigError(f"--sequence {self.sequence} and --{files} are two molecules; give one of them")
        if files not in (None, "pdb") and self.force_field != defaults["force_field"]:
            raise ConfigError(
                f"--force-field {self.force_field} is of a sequence or PDB file, and --{files} has its own; drop it"
            )

    def _check_solvent(self) -> None:
        """Refuse what would have no effect, or not be what its words say."""
        named = {
            "--padding": (self.padding is not None, self.solvent == "tip3p", "--solvent tip3p"),
            "--ionic-strength": (self.ionic_strength is not None, self.solvent == "tip3p", "--solvent tip3p"),
            "--box": (bool(self.box), self.solvent == "explicit", "--solvent explicit"),
            "--cutoff": (self.cutoff is not None, self.method != "none", "--nonbonded cutoff or pme"),
            "--switch-distance": (self.switch_distance is not None, self.method != "none", "--nonbonded cutoff or pme"),
        }
        for flag, (given, fits, need) in named.items():
            if given and not fits:
                raise ConfigError(f"{flag} is for {need} alone; drop it, or add that")
        if self.box and len(self.box) not in (3, 6):
            raise ConfigError(f"--box has {len(self.box)} numbers; expected 3 edges in nm, or these and 3 angles")
        if self.solvent in PERIODIC and self.method == "none":
            raise ConfigError(f"--solvent {self.solvent} fills a periodic box; use --nonbonded pme or cutoff")
        if self.solvent not in PERIODIC and self.method == "pme":
            raise ConfigError(f"--nonbonded pme needs a periodic box, and --solvent {self.solvent} has none")
        if self.solvent == "tip3p" and (self.psf or self.prmtop):
            raise ConfigError(
                "--solvent tip3p adds water to a sequence or PDB file; a PSF or prmtop file has its own: prepare it "
                "with water, and give --solvent explicit"
            )
        if self.solvent == "explicit" and not (self.pdb or self.prmtop):
            raise ConfigError("--solvent explicit is water that files have; give files, or --solvent tip3p")
        if self.switch_distance is not None and self.switch_distance >= (self.cutoff or CUTOFF):
            raise ConfigError(
                f"--switch-distance {self.switch_distance:g} is not below the cutoff, {self.cutoff or CUTOFF:g} nm"
            )
