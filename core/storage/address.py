"""Addresses of data: which storage they mean, and which objects in it."""

from __future__ import annotations

import os
import re

from core.errors import ConfigError, InputError

_MAGIC = re.compile(r"[*?\[]")
_WITH_OPTIONS = ("cos", "s3")
_OPTIONS = re.compile(r"\?(?=(?:anonymous|endpoint|path_style|profile|region)=)")
_SECRET = re.compile(r"[?&]\w*(?:secret|password|token|access_?key|api_?key)\w*=", re.IGNORECASE)
_ARCHIVE = re.compile(r"(/.*?[^/]\.zip)(?:/|$)", re.IGNORECASE | re.DOTALL)
_SET = re.compile(r"\[(!?)(\]?[^\]]*)\]")


def split_address(address: str | os.PathLike[str]) -> tuple[str, str]:
    """Split an address of data into the storage's address and a key, a folder or a pattern below it.

    For files the storage is the innermost folder without wildcard, except that folders such as ``year=2019``, whose
    names are data, stay in the key. For everything else it is the bucket, name or host.

    Parameters
    ----------
    address : str or path
        ``file:///data/*.csv``, ``data/x.csv``, ``~/x``, ``memory://name/prefix/``, ``s3://bucket/prefix/*.csv``,
        ``zip:///data/a.zip/*.csv`` ...
        A trailing ``/`` means a folder. Options of the storage, such as ``?endpoint=http://host``, stand at the end.

    Returns
    -------
    root : str
        What ``open_storage`` accepts.
    pattern : str
        Key, folder (empty, or with a trailing ``/``) or glob pattern.

    Raises
    ------
    InputError
        The address is empty.
    ConfigError
        A URL names no bucket or archive, or carries a secret, or a file's URL is not absolute.
    """
    text = os.fspath(address)
    scheme, separator, rest = text.partition("://")
    if not text:
        raise InputError("an empty text is not an address of data; give a path or URL")
    if not separator:
        return _split_path(os.path.expanduser(text), text)
    if scheme == "file":
        if not rest.startswith("/"):
            raise ConfigError(f"{text!r} is no file address; write file:///absolute/path or a plain path")
        return _split_path(rest, text)
    if scheme == "zip":
        archive, pattern = split_archive(rest)
        return f"zip://{archive}", pattern
    options = ""
    if scheme in _WITH_OPTIONS:
        if _SECRET.search(rest):
            raise ConfigError(
                f"a {scheme}:// address carries a secret; leave it out and use the environment or a profile"
            )
        rest, *found = _OPTIONS.split(rest, maxsplit=1)
        options = f"?{found[0]}" if found else ""
    bucket, _, pattern = rest.partition("/")
    if not bucket:
        raise ConfigError(f"{text!r} names no bucket; write {scheme}://BUCKET/KEY")
    return f"{scheme}://{bucket}{options}", pattern


def split_archive(place: str) -> tuple[str, str]:
    """Split what follows ``zip://`` into an archive's absolute path and a key, a folder or a pattern in it."""
    found = _ARCHIVE.match(place)
    if found is None:
        raise ConfigError(f"{f'zip://{place}'!r} names no archive; write zip:///absolute/path/NAME.zip/KEY")
    return found[1], place[found.end() :]


def join_address(root: str, key: str) -> str:
    """Return the address of one object: the inverse of `split_address`."""
    where, options, rest = root, "", ""
    if root.partition("://")[0] in _WITH_OPTIONS:
        where, options, rest = root.partition("?")
    return f"{where.rstrip('/')}/{key}{options}{rest}"


def bucket_of(address: str) -> str:
    """Return the bucket, name or host of a storage's address; for files, the folder."""
    scheme, _, rest = address.partition("://")
    return rest if scheme == "file" else re.split("[/?]", rest, maxsplit=1)[0]


def beside(address: str, bucket: str) -> str:
    """Return the address of another bucket of the same service; for files, of a folder, absolute or below `address`."""
    scheme, _, rest = address.partition("://")
    if scheme == "file":
        return f"file://{os.path.join(rest, bucket)}"
    _, question, options = rest.partition("?")
    return f"{scheme}://{bucket}{question}{options}"


def is_pattern(key: str) -> bool:
    """Whether `key` has wildcards: ``*``, ``?`` or ``[``."""
    return bool(_MAGIC.search(key))


def literal_prefix(pattern: str) -> str:
    """Return the part of a pattern that every match begins with."""
    found = _MAGIC.search(pattern)
    return pattern[: found.start()] if found else pattern


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a glob pattern to one that matches whole keys.

    ``*`` and ``?`` stay within a path segment and, as in a shell, do not match a leading dot; ``[abc]``, ``[a-z]``
    and ``[!a]`` match one character; a segment ``**`` matches any number of folders, at the end everything below.

    Raises
    ------
    InputError
        A range between brackets is reversed, as in ``[z-a]``.
    """
    expression = ""
    segments = pattern.split("/")
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            expression += ".+" if last else "(?:[^/]+/)*"
        else:
            visible = r"(?=[^/.])" if segment and not segment.startswith(".") else ""
            expression += visible + _compile_segment(segment) + ("" if last else "/")
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise InputError(f"{pattern!r} is no pattern: {error}; correct what stands between '[' and ']'") from error


def _split_path(path: str, text: str) -> tuple[str, str]:
    folder = path.endswith("/") or os.path.basename(path) in (".", "..")
    names = [name for name in os.path.abspath(path).split("/") if name]
    if folder:
        names.append("")
    split = next((index for index, name in enumerate(names) if is_pattern(name)), max(0, len(names) - 1))
    while split > 0 and re.fullmatch(r"[^=]+=[^=]*", names[split - 1]):
        split -= 1
    return "file:///" + "/".join(names[:split]), "/".join(names[split:])


def _compile_segment(segment: str) -> str:
    expression, position = "", 0
    while position < len(segment):
        character = segment[position]
        choice = _SET.match(segment, position)
        if choice:
            inside = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", choice[2])
            expression += f"(?!/)[{'^' if choice[1] else ''}{inside}]"
            position = choice.end()
            continue
        expression += {"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character))
        position += 1
    return expression
