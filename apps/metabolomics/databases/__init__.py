"""Molecular databases: tables as people have them, the one that comes with this application, lipids by rule."""

from apps.metabolomics.databases.cutting import cuts
from apps.metabolomics.databases.tables import (
    SHIPPED,
    Database,
    Molecule,
    Part,
    Rejected,
    UniqueTexts,
    find_molecules,
    names_of,
    no_formulas,
    read_database,
    read_databases,
    read_part,
    shipped,
    unique_formulas,
)

__all__ = [
    "SHIPPED",
    "Database",
    "Molecule",
    "Part",
    "Rejected",
    "UniqueTexts",
    "cuts",
    "find_molecules",
    "names_of",
    "no_formulas",
    "read_database",
    "read_databases",
    "read_part",
    "shipped",
    "unique_formulas",
]
