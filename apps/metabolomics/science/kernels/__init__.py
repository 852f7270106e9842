"""Loops compiled by numba. Imported inside the functions that call them, so that flags and help load no compiler."""
