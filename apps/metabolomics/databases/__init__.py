"""Molecular databases: tables as people have them, the one that comes with this application, lipids by rule."""

from apps.metabolomics.databases.tables import (
    SHIPPED,
    Database,
    Molecule,
    Rejected,
    find_molecules,
    read_database,
    read_databases,
    shipped,
    unique_formulas,
)

__all__ = [
    "SHIPPED",
    "Database",
    "Molecule",
    "Rejected",
    "find_molecules",
    "read_database",
    "read_databases",
    "shipped",
    "unique_formulas",
]
