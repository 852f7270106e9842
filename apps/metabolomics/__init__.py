"""Annotation of imaging mass spectrometry: which molecules an imzML dataset shows, where, and how surely.

The semantics are those of METASPACE's engine with the MSM score: isotope patterns, three measures of a match, and a
false discovery rate by decoy adducts.
"""
