"""How the kernels are compiled: to IEEE arithmetic, without the interpreter's lock, kept on disk where possible."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    import numba
except ImportError as error:
    raise ImportError("annotation needs numba: pip install 'fanfold[metabolomics]'") from error


SHIPPED = Path(__file__).with_name("compiled")
"""Where an image has kernels that were compiled when it was built."""


def bring_shipped(shipped: Path, cache: str) -> None:
    """Copy compiled kernels to where numba looks for them: it takes none from a folder that it cannot write.

    Where that fails they are compiled anew. Processes that start together do not see each other's copies half-way.
    """
    for folder in shipped.iterdir() if cache and shipped.is_dir() else ():
        with suppress(OSError):
            wanted = Path(cache, folder.name)
            if not wanted.exists():
                wanted.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=wanted.parent, ignore_cleanup_errors=True) as made:
                    shutil.copytree(folder, Path(made, folder.name)).rename(wanted)


bring_shipped(SHIPPED, os.environ.get("NUMBA_CACHE_DIR", ""))


def compiled(function: Callable[..., Any]) -> Any:
    """Compile on the first call, for all later processes.

    numba looks only at a kernel's own file to see whether a kept one is out of date, so a kernel calls others of its
    file alone.
    """
    try:
        return numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:
        # No folder for the cache can be written; compiling anew costs seconds a process and nothing else.
        return numba.njit(function, nogil=True, error_model="numpy")
