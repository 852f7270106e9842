"""The library of a run: isotope patterns of all ions of some databases, in the order of m/z.

Like the index of a dataset it is a run of its own in the cache, under a name made of the databases' content, the
adducts, losses and modifications, and the instrument: every dataset that is annotated alike shares it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from apps._frame import Session
from apps._frame.manifest import exists
from apps._frame.run import Run
from apps._frame.stages import Stage, TaskOutput
from apps._frame.stored import Stored, find_inputs, sha256
from apps.metabolomics import runs
from apps.metabolomics.cache import CACHE, entry, sealed, unsealed
from apps.metabolomics.databases import SHIPPED, cuts, names_of
from apps.metabolomics.databases.tables import SHIPPED_NAME
from apps.metabolomics.formulas import TASKS, Chunk, Formulas, Place, Source, find_formulas
from apps.metabolomics.indexing import refuse_unreachable
from apps.metabolomics.modifiers import Chemistry, chemistry
from apps.metabolomics.params import MoleculeParams
from apps.metabolomics.science.centroids import Instrument, patterns_of_counts
from apps.metabolomics.science.decoys import decoys
from apps.metabolomics.science.elements import isotope_table
from apps.metabolomics.science.formulas import parse_formula
from apps.metabolomics.science.ions import ion_counts
from apps.metabolomics.segments import Segment, put_segment, segment
from core import ConfigError, InputError
from core.storage import Storage, join_address, process_storage

ALGORITHM = 4
"""To be raised when the same databases give other patterns."""
STAGES = ("rows", "formulas", "centroids", "ions")
KINDS = ("ions", "decoys", "impossible", "endless", "single")
"""What is counted of ions: those that have a pattern, decoys among them, those that would lack an atom, those of too
many isotopologues to be listed, and those that have a pattern of one peak."""
PATTERNS = "patterns/"
DATABASES = "databases/"
LIBRARY = "library.json"
KEPT: Any = {"results": (LIBRARY,), "keeps": (PATTERNS, DATABASES)}

SEGMENT_IONS = (1 << 13, 1 << 18)
"""Ions of one segment of patterns, likewise: 20 MB at most before they are packed."""
SLICE_IONS = 8_192
BATCH_IONS = 1 << 14
"""Of which patterns are computed together: each call lists the isotopologues of all elements anew."""


@dataclass(frozen=True, slots=True)
class Library:
    """Isotope patterns of all ions.

    Attributes
    ----------
    address : str
    facts : dict
        Counts, JSON-ready: formulas, those of `KINDS`, and of each database its name, rows, formulas and what was left
        out.
    segments : tuple of Segment
        Ions in the order of the m/z of their first peak.
    counts : int64[BINS]
        Ions by bin of that m/z.
    """

    address: str
    facts: dict[str, Any]
    segments: tuple[Segment, ...]
    counts: runs.Counts


@dataclass(frozen=True, slots=True)
class Merging:
    """What all tasks of ``ions`` have in common."""

    runs: tuple[Stored, ...]
    n_peaks: int
    width: int
    address: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Patterning:
    """What all tasks of ``centroids`` have in common; `width` is that of the longest formula."""

    molecules: MoleculeParams
    width: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Ions of one charge.

    Attributes
    ----------
    rows : int64 array, shape (n,)
        Which formula each is made of.
    modifiers : uint16 array, shape (n,)
    elements : tuple of str
        e of them.
    atoms : int32 array, shape (n, e)
    charge : int
    impossible : int
        Formulas that have not the atoms that the ion would lose.
    """

    rows: NDArray[np.int64]
    modifiers: NDArray[np.uint16]
    elements: tuple[str, ...]
    atoms: NDArray[np.int32]
    charge: int
    impossible: int


def record_type(n_peaks: int, width: int) -> np.dtype[Any]:
    """Return the type of an ion in a run."""
    peaks = [("mz", "<f8", (n_peaks,)), ("theory", "<f8", (n_peaks,))]
    return np.dtype([*peaks, ("count", "i1"), ("modifier", "<u2"), ("formula", f"S{width}")])


def compute_patterns(chunk: Chunk, params: Patterning, output: TaskOutput) -> dict[str, Any]:
    """Map function of ``centroids``: the patterns of all ions of some formulas, as a run."""
    molecules = params.molecules
    formulas = chunk.object.read().decode().split("\n")
    made = _chemistry(molecules)
    names = np.array(formulas, f"S{params.width}")
    instrument = instrument_of(molecules)
    found, impossible, endless, single = [], 0, 0, 0
    for batch in compose(formulas, chunk.first, made, molecules):
        impossible += batch.impossible
        pattern = patterns_of_counts(batch.elements, batch.atoms, batch.charge, instrument, molecules.n_peaks)
        kept = pattern.count > 0
        single += int(np.count_nonzero(pattern.count == 1))
        endless += int(np.count_nonzero(~kept))
        records = np.empty(int(np.count_nonzero(kept)), record_type(molecules.n_peaks, params.width))
        records["mz"], records["theory"] = pattern.mz[kept], pattern.intensity[kept]
        records["count"], records["modifier"] = pattern.count[kept], batch.modifiers[kept]
        records["formula"] = names[batch.rows[kept]]
        found.append(records)
    ions = np.concatenate(found) if found else np.empty(0, record_type(molecules.n_peaks, params.width))
    ions = ions[np.argsort(ions["mz"][:, 0], kind="stable")]
    decoy = np.array([each.decoy for each in made.modifiers])[ions["modifier"]]
    totals = {
        "impossible": impossible, "endless": endless, "single": single,
        "decoys": int(np.count_nonzero(decoy)), "ions": len(ions),
    }  # fmt: skip
    return {**runs.put_run(output, ions, np.ascontiguousarray(ions["mz"][:, 0])), "totals": totals}


def compose(formulas: Sequence[str], first: int, made: Chemistry, molecules: MoleculeParams) -> Iterator[Batch]:
    """Yield the ions of some formulas by modifiers, in their order, as many together as `BATCH_IONS`.

    Parameters
    ----------
    formulas : sequence of str
    first : int
        Formulas of the database before these.
    made : Chemistry
    molecules : MoleculeParams
    """
    elements, atoms = atom_matrix(formulas, made)
    held: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = []
    places: list[int] = []
    asked = ions = 0

    def batch() -> Batch:
        rows, counts = (np.concatenate(each) for each in zip(*held, strict=True))
        modifiers = np.repeat(np.array(places, np.uint16), [len(each) for each, _ in held])
        return Batch(rows, modifiers, elements, counts, made.modifiers[places[0]].charge, asked - len(rows))

    for rows, modifier in ions_of(formulas, first, made, molecules):
        if held and (ions >= BATCH_IONS or made.modifiers[modifier].charge != made.modifiers[places[0]].charge):
            yield batch()
            held, places, asked, ions = [], [], 0, 0
        counts, possible = ion_counts(atoms[rows], elements, *made.changes[modifier])
        held.append((rows[possible], counts[possible]))
        places.append(modifier)
        asked, ions = asked + len(rows), ions + len(held[-1][0])
    if held:
        yield batch()


def ions_of(
    formulas: Sequence[str], first: int, made: Chemistry, molecules: MoleculeParams
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yield, for each modifier, which of some formulas make an ion with it; modifiers in order."""
    everything = np.arange(len(formulas))
    for place, modifier in enumerate(made.modifiers):
        if not modifier.decoy:
            yield everything, place
    seed = cast(Literal["formula", "metaspace"], molecules.decoy_seed)
    # The engine draws for one formula after the other, so those before are drawn too.
    drawn = decoys(
        [""] * first + list(formulas) if seed == "metaspace" else formulas, made.targets, molecules.decoys, seed
    )
    drawn = drawn[-len(formulas) :]
    for candidate in range(made.candidates):
        rows = np.flatnonzero((drawn == candidate).any(axis=1))
        if len(rows):
            for place in made.decoy_place.values():
                yield rows, place + candidate


def atom_matrix(formulas: Sequence[str], made: Chemistry) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Lay formulas out as counts of atoms, with a column for whatever a modifier brings too."""
    compositions = [parse_formula(formula) for formula in formulas]
    brought = {name for mod, loss, adduct in made.changes for each in (mod, loss, adduct.change) for name in each}
    occur = brought.union(*compositions)
    columns = tuple(name for name in isotope_table() if name in occur)
    places = {name: at for at, name in enumerate(columns)}
    atoms = np.zeros((len(formulas), len(columns)), np.int32)
    for row, composition in enumerate(compositions):
        for name, count in composition.items():
            atoms[row, places[name]] = count
    return columns, atoms


def merge(part: runs.Part, params: Merging) -> dict[str, Any]:
    """Map function of ``ions``: merge a range of all runs into a segment of patterns."""
    ions = runs.read_part(part, params.runs, record_type(params.n_peaks, params.width))
    ions = ions[np.argsort(ions["mz"][:, 0], kind="stable")]
    columns = {
        **{f"mz_{at}": np.ascontiguousarray(ions["mz"][:, at]) for at in range(params.n_peaks)},
        **{f"theory_{at}": np.ascontiguousarray(ions["theory"][:, at]) for at in range(params.n_peaks)},
        "modifier": ions["modifier"],
        "formula": pa.array([name.decode() for name in ions["formula"].tolist()], pa.string()),
    }
    return put_segment(params.address, PATTERNS, pa.table(columns), "mz_0", SLICE_IONS)


def instrument_of(params: MoleculeParams) -> Instrument:
    """Return the instrument that parameters name."""
    power, _, at_mz = params.resolving_power.partition("@")
    kind = cast(Literal["orbitrap", "fticr", "tof"], params.instrument)
    instrument = Instrument(kind, float(power), float(at_mz))
    return instrument.as_metaspace() if params.engine_compat else instrument


def database_inputs(params: MoleculeParams) -> dict[str, Stored]:
    """Return the databases of a run with their tags, by address.

    Raises
    ------
    InputError
        One is not there.
    """
    if params.db:
        return {address: find_inputs(address)[0] for address in params.db}
    # By its content, since it lies elsewhere on every machine.
    data = SHIPPED.read_bytes()
    return {SHIPPED_NAME: Stored("", SHIPPED.name, len(data), sha256(data), data)}


def refuse_changed(params: MoleculeParams, before: dict[str, Stored]) -> None:
    """Refuse databases that are no longer those that ``database_inputs`` found: names and formulas would be of two.

    Raises
    ------
    InputError
        One has changed since.
    """
    for address, now in database_inputs(params).items():
        if now.tag != before[address].tag:
            raise InputError(
                f"{address} was changed while this run was reading it; give the run another --output, or add "
                "--overwrite to start anew"
            )


class Patterns:
    """A library that is being made, or that there is: a context manager that holds its run.

    Parameters
    ----------
    session : Session
    opened : Run
        Not entered yet; see ``library_run``.
    params : MoleculeParams
        With a polarity.
    inputs : mapping
        What ``database_inputs`` returned.
    names : sequence of str
        All stages that the bar shows.
    """

    def __init__(
        self, session: Session, opened: Run, params: MoleculeParams, inputs: dict[str, Stored], names: Iterable[str]
    ) -> None:
        self._params, self._inputs, self._session, self._run = params, inputs, session, opened
        self._made = _chemistry(params)
        refuse_unreachable(session, opened.storage, "the cache")
        self._stages = session.stages(self._run, list(names))
        self._found: Formulas | None = None

    def __enter__(self) -> Patterns:
        self._run.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self._run.__exit__(*about)

    def read(self) -> None:
        """Read the databases, unless they are known already; whatever is wrong with them is told here."""
        if not self._run.finished:
            self._formulas()

    def _formulas(self) -> Formulas:
        if self._found is None:
            a_formula = self._made.n_targets + len(self._made.decoy_place) * min(
                self._params.decoys, self._made.candidates
            )
            sources = sources_of(self._session, self._run.storage, self._params, self._inputs)
            self._found = find_formulas(self._stages, self._run.address, sources, self._params.decoy_seed, a_formula)
        return self._found

    def build(self) -> Library:
        """Return the library, made if there is none yet."""
        if not self._run.finished:
            self._build()
        found = unsealed(self._run.storage, LIBRARY)
        segments = tuple(segment(self._run.address, each) for each in found["segments"])
        return Library(self._run.address, found["facts"], segments, runs.unpack(found["counts"]))

    def _build(self) -> None:
        params, address = self._params, self._run.address
        found = self._formulas()
        computed = self._stages.run(Stage("centroids", found.chunks, compute_patterns, Patterning(params, found.width)))
        written = runs.gathered(address, computed.values())
        totals = {name: written.totals[name] for name in KINDS}
        if totals["ions"] == totals["decoys"]:
            raise InputError(
                f"none of the {found.count:,} formulas makes an ion with these adducts, losses and "
                "modifications; check --adducts, --neutral-losses and --chem-mods"
            )
        ranges = runs.cut(written.counts, min(max(totals["ions"] / TASKS, SEGMENT_IONS[0]), SEGMENT_IONS[1]))
        merging = Merging(written.objects, params.n_peaks, found.width, address)
        merged = self._stages.run(Stage("ions", runs.parts_of(computed.values(), ranges), merge, merging))
        facts = {**totals, "formulas": found.count, "databases": found.databases}
        library = {"facts": facts, "segments": list(merged.values()), "counts": runs.pack(written.counts)}
        self._run.publish({LIBRARY: sealed(library)})


def sources_of(session: Session, beside: Storage, params: MoleculeParams, inputs: Mapping[str, Stored]) -> list[Source]:
    """Return the databases of a run as tasks read them.

    Parameters
    ----------
    session : Session
    beside : Storage
        Of the library: where a copy is put of what workers do not see.
    params : MoleculeParams
    inputs : mapping
        What ``database_inputs`` returned.
    """
    if not params.db:
        shipped = inputs[SHIPPED_NAME]
        return [Source(SHIPPED_NAME, SHIPPED_NAME, shipped.size, [("", 0, None)])]
    sources = []
    for (given, found), name in zip(inputs.items(), names_of(params.db), strict=True):
        place = found.url if session.executor.reaches(process_storage(found.address)) else _copied(found, beside)
        parts: list[Place] = [(place, *each) for each in cuts(place, found.size)]
        sources.append(Source(given, name, found.size, parts))
    return sources


def _copied(database: Stored, beside: Storage) -> str:
    """Return the address of a copy of a database, made unless it is there."""
    name = database.key.rpartition("/")[2]
    key = f"{DATABASES}{sha256(database.tag.encode())[7:15]}/{name}"
    if not exists(beside, key):
        with process_storage(database.address).get_stream(database.key) as source:
            beside.put(key, iter(lambda: source.read(8 << 20), b""))
    return join_address(beside.address, key)


def library_run(session: Session, address: str, params: MoleculeParams, inputs: dict[str, Stored]) -> Run:
    """Return the run of a library in the cache, to be entered."""
    return Run(address, session.app, params, command="ions", inputs=tags_of(inputs), say=session.tell, **KEPT)


def content(params: MoleculeParams) -> list[object]:
    """Return what a library is made from, beside the databases."""
    return [ALGORITHM, params]


def tags_of(inputs: dict[str, Stored]) -> dict[str, str]:
    """Return the tags of databases, by their addresses."""
    return {name: stored.tag for name, stored in inputs.items()}


def ions(session: Session, params: MoleculeParams) -> None:
    """Command: compute the isotope patterns of databases for the runs to come."""
    if not params.polarity:
        raise ConfigError("--polarity says which ions there are; add --polarity + or --polarity -")
    inputs = database_inputs(params)
    if session.common.output is None:
        session.output = entry(CACHE, "ions", content(params), tags_of(inputs))
    making = Patterns(session, session.open_run(inputs=tags_of(inputs), **KEPT), params, inputs, STAGES)
    with making:
        facts = making.build().facts
    session.show(facts, lambda found: f"{found['ions']:,} ions of {found['formulas']:,} formulas")
    session.say(f"\nPatterns: {session.output}")
    session.show_bill()


@lru_cache(maxsize=4)
def _chemistry(params: MoleculeParams) -> Chemistry:
    return chemistry(params)
