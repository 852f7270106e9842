"""The optional packages of the application: asked for before anything imports them."""

from __future__ import annotations

from apps._frame.packages import require_packages


def check_installed() -> None:
    """Refuse to start without the packages that annotation needs.

    Raises
    ------
    ConfigError
        One is missing.
    """
    require_packages(("numba", "PIL", "pyarrow"), to="annotating", extra="metabolomics")
