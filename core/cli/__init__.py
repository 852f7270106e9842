"""The ``fanfold`` command."""
