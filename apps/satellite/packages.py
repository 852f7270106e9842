"""The optional packages that read and write imagery: asked for before anything imports them."""

from __future__ import annotations

from apps._frame.packages import require_packages

PACKAGES = ("rasterio", "shapely", "pyproj", "pyarrow", "tifffile", "imagecodecs")


def check_installed() -> None:
    """Refuse to start without the packages that imagery needs.

    Raises
    ------
    ConfigError
        One is missing; the message says how to install it.
    """
    require_packages(PACKAGES, to="satellite imagery", extra="satellite")
