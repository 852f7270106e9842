"""Which scenes there are at some addresses: items, products and files, listed and not yet opened."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from apps._frame.stored import Stored, find_inputs
from apps.satellite.formats.landsat import METADATA
from apps.satellite.formats.stac import resolve, spellings
from core import FanfoldError, InputError
from core.storage import process_storage, split_address

STAC, SAFE, ZIP, LANDSAT, PLAIN = "stac", "safe", "zip", "landsat", "plain"
"""How a scene is described."""
BESIDE = "beside"
"""Of a GeoTIFF among items and metadata: an asset that one of them names, or nobody's."""
TIFFS = (".tif", ".tiff")
READERS = 8
MOST_CATALOGUES = 10_000
"""Catalogues that one may lead to; more is a circle, or a service that should be asked for items."""

_SAFE = re.compile(r"^(.*?[^/]+\.SAFE)/(.+)$")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be a scene.

    Attributes
    ----------
    kind : str
    name : str
        Of the item's file, the product's folder, or the file.
    files : tuple of Stored
        The item or file itself; of a product everything that is in its folder, its metadata first.
    feature : str
        The item itself, where it is one of a collection of features.
    named : bool
        Whether something says that it is an item: the user, or a catalogue.
    """

    kind: str
    name: str
    files: tuple[Stored, ...]
    feature: str = ""
    named: bool = False

    @property
    def source(self) -> str:
        """Its address."""
        url = self.files[0].url
        return url[: url.index(self.name) + len(self.name)] if self.kind == SAFE else url


def find(addresses: Sequence[str], leave_out: str = "") -> list[Candidate]:
    """Return what may be a scene at some addresses.

    Raises
    ------
    InputError
        There is nothing of the kind.
    """
    found = [candidate for address in addresses for candidate in _at(address, leave_out)]
    once = {(each.kind, each.files[0].url, each.feature): each for each in found}
    if not once:
        raise InputError(
            f"no scene found at {', '.join(addresses)}: no STAC item, SAFE product, Landsat "
            "metadata or GeoTIFF; check the address"
        )
    return list(once.values())


def _at(address: str, leave_out: str) -> Iterator[Candidate]:
    files = find_inputs(address, leave_out)
    if len(files) == 1 and files[0].key.endswith((".json", ".geojson")) and not METADATA.search(files[0].key):
        yield from _document(files[0])
        return
    yield from _grouped(files)


def _document(file: Stored) -> Iterator[Candidate]:
    """Yield the items that a document is, has, or leads to."""
    content = _parsed(file)
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "FeatureCollection" and isinstance(content.get("features"), list):
        for feature in content["features"]:
            name = str(feature.get("id", "")) if isinstance(feature, dict) else ""
            yield Candidate(STAC, name, (file,), json.dumps(feature))
    elif kind in ("Catalog", "Collection"):
        yield from _linked(file, content)
    else:
        yield Candidate(STAC, posixpath.basename(file.key), (file,), named=True)


def _parsed(file: Stored) -> Any:
    try:
        return json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.url} is no JSON: {error}") from None


def _linked(file: Stored, catalogue: Any) -> Iterator[Candidate]:
    """Yield the items of a catalogue, those of its children too."""
    seen = {file.url}
    waiting = [(file.url, catalogue)]
    while waiting:
        base, content = waiting.pop()
        items, children = (
            [url for url in _links(content, base, kind) if url not in seen] for kind in ("item", "child")
        )
        seen.update(items, children)
        if len(seen) > MOST_CATALOGUES * 1000:
            raise InputError(f"{file.url} leads to more than {MOST_CATALOGUES * 1000:,} documents; name a part of it")
        with ThreadPoolExecutor(READERS) as readers:
            yield from (
                Candidate(STAC, posixpath.basename(each.key), (each,), named=True)
                for each in readers.map(_headed, items)
            )
            waiting += [(each.url, _parsed(each)) for each in readers.map(_headed, children)]


def _links(content: Any, base: str, kind: str) -> list[str]:
    links = content.get("links", []) if isinstance(content, dict) else []
    hrefs = (each.get("href") for each in links if isinstance(each, dict) and each.get("rel") == kind)
    return [resolve(href, base) for href in hrefs if isinstance(href, str)]


def _headed(address: str) -> Stored:
    """Return a document that something leads to; a missing one is found missing when it is opened."""
    try:
        return object_at(address)
    except ConnectionError:
        raise
    except (FanfoldError, OSError):
        root, key = split_address(address)
        return Stored(process_storage(root).address, key, 0, "missing")


def object_at(address: str) -> Stored:
    """Return the object at an address of metadata, which may be written with percent signs.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    for place in spellings(address):
        root, key = split_address(place)
        storage = process_storage(root)
        try:
            info = storage.head(key)
        except FileNotFoundError:
            continue
        return Stored(storage.address, info.key, info.size, info.etag)
    raise FileNotFoundError(address)


def _grouped(files: Iterable[Stored]) -> Iterator[Candidate]:
    """Yield what the objects below a prefix are, those of a product together."""
    products: dict[str, list[Stored]] = {}
    items: list[Stored] = []
    rest: list[Stored] = []
    for file in files:
        name = file.key.lower()
        if match := _SAFE.match(file.key):
            products.setdefault(match[1], []).append(file)
        elif name.endswith(".zip"):
            yield Candidate(ZIP, posixpath.basename(file.key), (file,))
        elif name.endswith((".json", ".geojson")) and not METADATA.search(file.key):
            items.append(file)
        else:
            rest.append(file)
    for folder, members in products.items():
        yield Candidate(
            SAFE, posixpath.basename(folder), tuple(sorted(members, key=lambda each: ".xml" not in each.key))
        )
    landsat = dict(_landsat(rest))
    yield from landsat.values()
    items = [each for each in items if not any(each.key.startswith(stem) for stem in landsat)]
    yield from (Candidate(STAC, posixpath.basename(each.key), (each,)) for each in items)
    kind = BESIDE if items or landsat else PLAIN
    own = (each for each in rest if not any(each.key.startswith(f"{stem}_") for stem in landsat))
    plain = (each for each in own if each.key.lower().endswith(TIFFS))
    yield from (Candidate(kind, posixpath.basename(each.key), (each,)) for each in plain)


def _landsat(files: Sequence[Stored]) -> Iterator[tuple[str, Candidate]]:
    """Yield Landsat's products by what their files' keys begin with; of several metadata files the first is taken."""
    stems: dict[str, list[tuple[str, Stored]]] = {}
    for file in files:
        if match := METADATA.search(file.key):
            stems.setdefault(match[1], []).append((match[2], file))
    for stem, found in stems.items():
        mtl = min(found, key=lambda each: each[0])[1]
        beside = tuple(each for each in files if each.key.startswith(stem) and each is not mtl)
        yield stem, Candidate(LANDSAT, posixpath.basename(mtl.key), (mtl, *beside))
