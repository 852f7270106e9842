"""Runtimes: what an image is made of, container engines, building."""
