"""Names and ids of the molecules of annotated formulas: found in the parts of databases, kept in one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from apps._frame.stages import Stage, Stages
from apps._frame.stored import Codec, Stored, sha256
from apps.metabolomics.databases import SHIPPED, Molecule, find_molecules
from apps.metabolomics.formulas import Place, Source
from apps.metabolomics.parquet_pieces import encode_table, read_parquet

Named = tuple[str, Molecule]
"""A molecule, and before it the name of its database."""
COLUMNS = ("database", "formula", "name", "id")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What all tasks of ``molecules`` have in common: the formulas, as lines."""

    formulas: Stored


def read_molecules(task: Place, params: Wanted) -> list[Named]:
    """Map function of ``molecules``: those of some formulas in a part of a database, without its name."""
    address, start, stop = task
    wanted = params.formulas.read().decode().split("\n")
    found = find_molecules(address or str(SHIPPED), wanted, start, stop)
    return [("", molecule) for molecules in found.values() for molecule in molecules]


def find_all(stages: Stages, sources: Sequence[Source], formulas: Sequence[str]) -> Iterator[Named]:
    """Yield the molecules of some formulas, database after database, formula after formula, in the order of their rows.

    Parameters
    ----------
    stages : Stages
    sources : sequence of Source
    formulas : sequence of str
        Canonical ones.
    """
    data = "\n".join(formulas).encode()
    wanted = Wanted(Stored("", "formulas", len(data), sha256(data), data))
    tasks = [place for each in sources for place in each.parts] if formulas else []
    values = stages.run(Stage("molecules", tasks, read_molecules, wanted, codec=CODEC)).values()
    for source in sources:
        found: dict[str, dict[Molecule, None]] = {}
        for part in islice(values, len(source.parts)):
            for _, molecule in part:
                found.setdefault(molecule.formula, {})[molecule] = None
        yield from ((source.name, molecule) for molecules in found.values() for molecule in molecules)


def encode_molecules(molecules: Iterable[Named]) -> bytes:
    """Write molecules as a table; their names need not be UTF-8."""
    columns: dict[str, list[bytes]] = {name: [] for name in COLUMNS}
    for database, molecule in molecules:
        texts = (database, molecule.formula, molecule.name, molecule.id)
        for column, text in zip(columns.values(), texts, strict=True):
            column.append(text.encode("utf-8", "surrogateescape"))
    return encode_table(pa.table({name: pa.array(values, pa.binary()) for name, values in columns.items()}))


def decode_molecules(data: bytes) -> Iterator[Named]:
    """Yield the molecules that ``encode_molecules`` was given."""
    table = read_parquet(data)
    columns = (
        (value.decode("utf-8", "surrogateescape") for value in table.column(name).to_pylist()) for name in COLUMNS
    )
    return ((database, Molecule(*texts)) for database, *texts in zip(*columns, strict=True))


CODEC = Codec(encode_molecules, decode_molecules)
