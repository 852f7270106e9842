"""CHARMM's lists of files: the ``toppar.str`` that set-up servers write, in place of the files one by one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from apps._frame.stored import find_inputs
from core import InputError

ENDINGS = (".rtf", ".top", ".prm", ".par", ".inp", ".str")
"""Of files of topologies and parameters; readers judge by them."""

_OPENED = re.compile(r"open\s+.*\bname\s+(\S+)", re.IGNORECASE)
_STREAMED = re.compile(r"stream\s+(\S+)", re.IGNORECASE)
_PASSED = re.compile(r"(read\s+(rtf|para)\w*\s+card\s+.*\bunit\b|close\b|bomlev\b|set\b|ioformat\b|return\b|\*)", re.I)


def expanded(addresses: Sequence[str]) -> list[str]:
    """Return files with the lists among them replaced by what they list, relative to the list.

    Raises
    ------
    InputError
        A file of a list is not there.
    """
    found: list[str] = []
    for address in addresses:
        listed = _listed(_text(address)) if address.lower().endswith(".str") else None
        if listed is None:
            found.append(address)
            continue
        for name in listed:
            one = _beside(address, name)
            try:
                find_inputs(one)
            except InputError as error:
                raise InputError(f"{address} lists {name}: {error}") from None
            found.append(one)
    return list(dict.fromkeys(found))


def _text(address: str) -> str:
    objects = find_inputs(address)
    return objects[0].read().decode("utf-8", "replace") if len(objects) == 1 else ""


def _listed(text: str) -> list[str] | None:
    """Return the files that a list names, None if the text is no list but parameters themselves."""
    names: list[str] = []
    for line in text.splitlines():
        words = line.partition("!")[0].strip()
        named = _OPENED.match(words) or _STREAMED.match(words)
        if named:
            names.append(named[1])
        elif words.lower().endswith(ENDINGS) and len(words.split()) == 1:
            names.append(words)
        elif words and not _PASSED.match(words):
            return None
    return names or None


def _beside(address: str, name: str) -> str:
    """Return where a file is that is named relative to another, which may be in a bucket."""
    scheme, mark, path = address.rpartition("://")
    return f"{scheme}{mark}{posixpath.normpath(posixpath.join(posixpath.dirname(path), name))}"
