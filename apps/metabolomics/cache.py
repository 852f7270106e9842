"""Where indexed datasets and isotope patterns are kept for other runs.

They are large, and belong to no one run: a second database on a dataset, and a second dataset with a database, begin
with what is there. So they are runs of their own, beside the outputs, under names made of their content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from apps._frame.content import content_of

CACHE = "metabolomics-cache"


def cache_address(cache: str, output: str | None) -> str:
    """Return the address of the cache: the one given, else beside the output, or in the working folder without one."""
    if cache:
        return cache.rstrip("/")
    place, mark, query = (output or CACHE).partition("?")
    scheme, separator, path = place.rpartition("://")
    if not separator:
        path = os.path.abspath(path)
        inside = output is not None and path == os.getcwd()
        return os.path.join(path if inside else os.path.dirname(path), CACHE)
    above = path.rstrip("/").rpartition("/")[0] or path.rstrip("/")  # of a bucket itself: within it
    return f"{scheme}://{above}/{CACHE}{mark}{query}"


def entry(cache: str, name: str, params: Any, inputs: Mapping[str, str]) -> str:
    """Return the address of a run in the cache that is made of parameters and inputs, with their tags."""
    content = json.dumps([content_of(params), sorted(inputs.items())])
    short = hashlib.sha256(content.encode()).hexdigest()[:12]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "dataset"
    place, mark, query = cache.partition("?")
    return f"{place}/{plain}-{short}{mark}{query}"
