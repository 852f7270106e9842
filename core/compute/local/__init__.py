"""Warm worker processes on this machine."""
