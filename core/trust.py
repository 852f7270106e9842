"""Whether a file is one that nobody but this user, or root, can have written: its folders and links included."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from core.errors import ConfigError

_OTHERS_WRITE = 0o022
_MOST_LINKS = 40
"""Links that a path may lead through (Linux: path_resolution(7))."""


def distrust(path: str | os.PathLike[str]) -> str | None:
    """Return why others could have written what is at a path, None if they could not, or if nothing is there.

    Each folder and link on the way belongs to this user or root, and others can write to none of the folders, but to
    one like ``/tmp``, whose sticky bit keeps them from replacing what is another's.
    """
    left = _parts(os.path.join(os.getcwd(), path))
    where, links = "/", 0
    reason = _fault(where)
    while reason is None and left:
        part = left.pop(0)
        if part == "..":  # of a folder whose links are followed already
            where = os.path.dirname(where)
            continue
        where = os.path.join(where, part)
        try:
            status = os.lstat(where)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return f"{where} cannot be looked at ({error.strerror})"
        if not stat.S_ISLNK(status.st_mode):
            reason = _fault(where, status)
            continue
        links += 1
        if links > _MOST_LINKS or not _is_ours(status):
            return f"the link {where} belongs to somebody else, or leads nowhere"
        target = os.path.join(os.path.dirname(where), os.readlink(where))
        left = _parts(target) + left
        where = "/"
    return reason


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _fault(where: str, status: os.stat_result | None = None) -> str | None:
    status = os.lstat(where) if status is None else status
    if not _is_ours(status):
        return f"{where} belongs to another user"
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & _OTHERS_WRITE and not sticky and not _is_private_group(status):
        return f"others can write to {where}"
    return None


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (os.getuid(), 0)


def _is_private_group(status: os.stat_result) -> bool:
    """Whether the group that can write is this user's own, as systems with user private groups set it up."""
    import grp
    import pwd

    if status.st_mode & 0o002:
        return False
    try:
        group, user = grp.getgrgid(status.st_gid), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and group.gr_gid == user.pw_gid and set(group.gr_mem) <= {user.pw_name}


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone.

    Raises
    ------
    OSError
        It cannot be made.
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def read_private(path: Path, limit: int) -> bytes:
    """Return what is in a file that nobody else can read or write.

    Raises
    ------
    ConfigError
        Others could have written it, or can read it.
    OSError
        It cannot be read.
    """
    reason = distrust(path.parent)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if reason is None and not (stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()):
            reason = f"{path} is no file of this user"
        if reason is None and status.st_mode & 0o077:
            reason = f"others have rights to {path}"
        if reason is not None:
            raise ConfigError(f"{path} is not trusted: {reason}; mend that with chown and chmod, or delete the file")
        return file.read(limit + 1)
