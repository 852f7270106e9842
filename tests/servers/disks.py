"""Disks of this test run that are small, and can be made larger or read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 120 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system needs root and a kernel that allows it: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def remount(disk: Path, option: str) -> None:
    """Change a disk: ``size=4m``, ``ro``."""
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)
