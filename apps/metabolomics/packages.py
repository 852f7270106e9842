"""The optional packages of the application: asked for before anything imports them."""

from __future__ import annotations

from importlib.util import find_spec

from core import ConfigError

INSTALL = "pip install 'fanfold[metabolomics]'"


def check_installed() -> None:
    """Refuse to start without the packages that annotation needs.

    Raises
    ------
    ConfigError
        One is missing.
    """
    missing = [name for name in ("numba", "PIL", "pyarrow") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"annotating needs {', '.join(missing)}; run {INSTALL}")
