"""Whether what a finished run was made of is still what it was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from apps._frame.stored import Stored
from apps._frame.tables import json_text
from apps.satellite.dataset import READERS
from apps.satellite.records import Scene
from core import ConfigError, FanfoldError
from core.storage import Storage, process_storage

SOURCES = "sources.json"
"""Tags of the objects that a run has read, by storage and key."""


def sources_json(scenes: Iterable[Scene], run: str) -> bytes:
    """Return the tags of the objects that scenes are read from; what the run has converted itself is none."""
    assets = [asset for scene in scenes for asset in (*scene.bands.values(), scene.mask) if asset is not None]
    tags: dict[str, dict[str, str]] = {}
    for source in (asset.source for asset in assets):
        if source.address != run:
            tags.setdefault(source.address, {})[source.key] = source.tag
    return json_text(tags, indent=2).encode()


def check_sources(storage: Storage) -> None:
    """Refuse a finished run whose items are the same and their files are not; one that is gone has not changed.

    Raises
    ------
    ConfigError
        An object has another tag than it had.
    """
    tags = json.loads(storage.get(SOURCES))
    told = [(Stored(address, key, 0, tag)) for address, found in tags.items() for key, tag in found.items()]
    with ThreadPoolExecutor(READERS) as readers:
        changed = [source for source, is_same in zip(told, readers.map(_is_same, told), strict=True) if not is_same]
    if changed:
        raise ConfigError(
            f"{changed[0].url} has changed since run {storage.address} was made; choose another --output, or add "
            "--overwrite to start anew"
        )


def _is_same(source: Stored) -> bool:
    try:
        return process_storage(source.address).head(source.key).etag == source.tag
    except ConnectionError:
        raise
    except (FanfoldError, OSError):
        return True
