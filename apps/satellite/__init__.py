"""Batches of satellite imagery: raw scenes in, composites, shapes and a catalogue out, all of them to be queried.

``python -m apps.satellite run --input s3://bucket/items --output s3://bucket/runs/1``
"""
