"""Renews the pins of all runtimes: ``python3.11 runtimes/renew_pins.py``, with the Python of the base image.

``NAME.in`` beside each ``NAME.txt`` lists what a runtime needs itself; the ranges are those of pyproject.toml. All
runtimes are resolved together, so that a package has one version in all of them, then each without what the base has.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
BASE = HERE / "base" / "requirements.in"
EXTRAS = ("faces", "fast", "lambda", "metabolomics", "redis", "remd", "s3", "satellite")


def resolve(roots: Sequence[str], ranges: Sequence[str]) -> dict[str, str]:
    """Return the newest version of each package that some roots need together."""
    with tempfile.TemporaryDirectory() as folder:
        limits, report = Path(folder, "limits.txt"), Path(folder, "report.json")
        limits.write_text("\n".join(ranges))
        flags = ("--quiet", "--dry-run", "--ignore-installed", f"--report={report}", f"--constraint={limits}")
        subprocess.run([sys.executable, "-m", "pip", "install", *flags, *roots], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"] for package in found}


def admitted() -> list[str]:
    """Return the ranges that the product admits."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return sorted({*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])})


def main() -> int:
    """Write every ``NAME.txt``; returns the exit status."""
    python = re.search(r"python:(\d+)\.(\d+)", (HERE / "base" / "Dockerfile").read_text())
    assert python is not None
    if sys.version_info[:2] != tuple(map(int, python.groups())):
        print(f"the images have Python {'.'.join(python.groups())}: run this with it", file=sys.stderr)
        return 2
    lists = {path: path.read_text().split() for path in sorted(HERE.glob("*/*.in"))}
    newest = resolve(sorted({name for names in lists.values() for name in names}), admitted())
    pins = [f"{name}=={version}" for name, version in newest.items()]
    below = resolve(lists[BASE], pins)
    for path, names in lists.items():
        needed = resolve(names, pins)
        own = {name: version for name, version in needed.items() if path.parent == BASE.parent or name not in below}
        path.with_suffix(".txt").write_text("".join(f"{name}=={own[name]}\n" for name in sorted(own)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
