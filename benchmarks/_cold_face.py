"""Prints how long a fresh interpreter takes to have the face aligner ready, and the memory it then holds."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

started = time.perf_counter()

from apps.face_align.models import aligner  # noqa: E402
from apps.face_align.params import Params  # noqa: E402

aligner(Params(), sys.argv[1])
took = time.perf_counter() - started
status = Path("/proc/self/status").read_text()
peak = re.search(r"VmHWM:\s+(\d+)", status)
print(json.dumps({"wall": took, "peak": int(peak[1]) * 1024 if peak else 0}))
