"""Where indexed datasets and isotope patterns are kept for other runs.

They are large, and belong to no one run: a second database on a dataset, and a second dataset with a database, begin
with what is there. So they are runs of their own, beside the outputs, under names made of their content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

from apps._frame.content import content_of
from apps._frame.stored import sha256
from core import ConfigError, InputError
from core.storage import NotFound, Storage, StorageError

CACHE = "metabolomics-cache"
T = TypeVar("T")


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


def sealed(found: Any) -> bytes:
    """Return a JSON-ready value as an object that tells whether it is still what was written."""
    content = json.dumps(found)
    return json.dumps({"tag": sha256(content.encode()), "content": content}).encode()


def unsealed(storage: Storage, key: str) -> Any:
    """Return what ``sealed`` was given.

    Raises
    ------
    InputError
        The object is gone, or damaged: other figures than those that were written would be wrong without a word.
    """
    try:
        kept = json.loads(storage.get(key))
        if sha256(kept["content"].encode()) != kept["tag"]:
            raise ValueError
        return json.loads(kept["content"])
    except (NotFound, ValueError, KeyError, TypeError, AttributeError):
        raise damaged(storage.address, key) from None


def damaged(address: str, key: str) -> InputError:
    """Return the error of an object in the cache that is not what was written."""
    return InputError(f"{key} in {address} is damaged; remove {address}, which will be made anew")


@contextmanager
def entered(kept: AbstractContextManager[T], address: str) -> Iterator[T]:
    """Hold a run of the cache.

    Raises
    ------
    ConfigError
        It cannot be taken up; what helps is told for the cache, for ``--output`` is another place.
    """
    with ExitStack() as held:
        try:
            found = held.enter_context(kept)
        except (ConfigError, StorageError) as error:
            what = str(error).partition("; ")[0]
            if isinstance(error, StorageError) or isinstance(error.__cause__, StorageError):
                kind = type(error) if isinstance(error, StorageError) else ConfigError
                raise kind(
                    f"{what}; it is to keep indexed datasets and isotope patterns for other runs: choose a place that "
                    "can be written, with --cache"
                ) from error
            raise ConfigError(
                f"{what}; remove {address}, which will be made anew, or choose another --cache"
            ) from error
        yield found
