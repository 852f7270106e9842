"""Platforms where a call brings the answer."""
