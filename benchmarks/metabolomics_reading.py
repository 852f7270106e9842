"""The index of an imzML file beside pyimzml's: ``python -m benchmarks.metabolomics_reading``.

Prints a Markdown table, all measured in one run, CPU time of one core: where each spectrum lies, from the XML alone.
By template, as for what exporters write; by known tags, as for spectra of which no two are alike; by parsing each tag,
as for the first; by pyimzml. The memory is what a process took on top of its imports.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from apps.metabolomics.imzml import write_imzml
from apps.metabolomics.imzml.writing import Pixel
from benchmarks._measure import machine, table

SPECTRA = 200_000
PEAKS = 8
WAYS = {
    "template": "found = len(offsets.scan(partial(open(path, 'rb').read, PIECE), path).shape)",
    "known tags": (
        "offsets.learn = lambda *_: None\nfound = len(offsets.scan(partial(open(path, 'rb').read, PIECE), path).shape)"
    ),
    "parsing": (
        "offsets.learn = offsets.KnownTags.match = lambda *_: None\n"
        "found = len(offsets.scan(partial(open(path, 'rb').read, PIECE), path).shape)"
    ),
    "pyimzml": "found = len(ImzMLParser(path, ibd_file=None).coordinates)",
}
"""What each way does in a process of its own."""
SCRIPT = """\
import time
from functools import partial
from pyimzml.ImzMLParser import ImzMLParser
from apps.metabolomics.imzml import offsets
from apps.metabolomics.imzml.pair import PIECE

def most():
    status = open("/proc/self/status").read()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

path = {path!r}
before, started = most(), time.process_time()
{way}
print(found, time.process_time() - started, most() - before)
"""


def pixels(count: int) -> Iterator[Pixel]:
    random = np.random.default_rng(0)
    side = int(count**0.5) + 1
    for i in range(count):
        mz = np.sort(random.uniform(100, 1000, PEAKS))
        yield Pixel(i % side + 1, i // side + 1, mz, random.lognormal(5, 1, PEAKS))


def measured(way: str, path: Path) -> tuple[int, float, float]:
    """Return spectra, CPU seconds and megabytes of one way."""
    script = SCRIPT.format(path=str(path), way=WAYS[way])
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    return int(said[0]), float(said[1]), float(said[2])


def index_table(spectra: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "many.imzML")
        write_imzml(str(path), pixels(spectra))
        size = path.stat().st_size
        found = {way: measured(way, path) for way in WAYS}
    rates = {way: count / seconds for way, (count, seconds, _) in found.items()}
    rows = [
        [way, f"{rates[way]:,.0f}", f"{rates[way] / rates['pyimzml']:.1f}", f"{found[way][2]:,.0f}"] for way in WAYS
    ]
    heads = ["way", "spectra/s", "times pyimzml", "MB"]
    return f"Index of {spectra:,} spectra, {size / 1e6:,.0f} MB of XML\n\n{table(heads, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spectra", type=int, default=SPECTRA)
    chosen = parser.parse_args()
    print(f"{machine()}\n\n{index_table(chosen.spectra)}")


if __name__ == "__main__":
    main()
