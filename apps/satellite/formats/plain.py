"""GeoTIFFs that come with nothing but themselves: flags say the rest."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from apps._frame.stored import Stored
from apps.satellite.formats.draft import Claim, Draft, written
from apps.satellite.records import Rejected

_DATE = re.compile(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)(?:[T_]?(\d\d):?(\d\d):?(\d\d))?(?!\d)")


def read_plain(source: Stored, names: Sequence[str], wanted: Sequence[str], date: str, header: Any) -> Draft:
    """Return what a file, its name and some flags say of a scene.

    Parameters
    ----------
    names : sequence of str
        Of its bands in order; by default their descriptions.
    wanted : sequence of str
    date : str
        Of acquisition; by default the first date in the file's name, at midnight UTC.
    header : rasterio dataset
    """
    described = list(names) or [(each or "").lower() for each in header.descriptions]
    if names and len(names) != header.count:
        raise Rejected(f"it has {header.count} bands, and --band-names names {len(names)}")
    missing = [each for each in wanted if each not in described]
    if missing:
        raise Rejected(f"none of its {header.count} bands is called {missing[0]}; name them by --band-names")
    claims = {}
    for band in wanted:
        at = described.index(band)
        scale, offset = header.scales[at], header.offsets[at]
        told = (scale, offset) != (1.0, 0.0)
        claims[band] = Claim(
            stored=source, index=at + 1, scale=scale if told else None, offset=offset if told else None
        )
    name = posixpath.basename(source.key)
    when = _date(date or name, "--date" if date else name)
    stem = name.rpartition(".")[0] or name
    return Draft(stem, source.url, written(when), "", written(when), source.url, (), claims, None, "")


def _date(text: str, where: str) -> datetime:
    found = _DATE.search(text)
    if found is None:
        raise Rejected(f"there is no date in {where!r}; give --date")
    try:
        return datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError as error:
        raise Rejected(f"{found[0]!r} in {where!r} is no date: {error}; give --date") from None
