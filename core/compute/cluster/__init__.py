"""Platforms that start jobs and hear nothing back."""
