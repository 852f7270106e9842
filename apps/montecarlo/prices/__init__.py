"""Prices as people have them: from the bytes of a file to a checked, dated history."""
