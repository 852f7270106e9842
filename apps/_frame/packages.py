"""Optional packages: asked for before anything imports them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from core import ConfigError


def require_packages(names: Iterable[str], *, to: str, extra: str) -> None:
    """Refuse to start without packages that an extra installs.

    Parameters
    ----------
    names : iterable of str
        Top-level modules.
    to : str
        What needs them, as in ``aligning faces``.
    extra : str
        The extra of this product that installs them.

    Raises
    ------
    ConfigError
        One is missing; the message says how to install it.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{to} needs {', '.join(missing)}; run pip install 'fanfold[{extra}]'")
