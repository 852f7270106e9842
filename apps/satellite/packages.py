"""The optional packages that read and write imagery: asked for before anything imports them."""

from __future__ import annotations

from importlib.util import find_spec

from core import ConfigError

PACKAGES = ("rasterio", "shapely", "pyproj", "pyarrow", "tifffile", "imagecodecs")


def check_installed() -> None:
    """Refuse to start without the packages that imagery needs.

    Raises
    ------
    ConfigError
        One is missing; the message says how to install it.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"satellite imagery needs {', '.join(missing)}; run pip install 'fanfold[satellite]'")
