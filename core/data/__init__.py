"""What users give as data: items, generators, objects and their chunks."""
