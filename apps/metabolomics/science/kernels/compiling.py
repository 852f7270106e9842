"""How the kernels are compiled: to IEEE arithmetic, without the interpreter's lock, kept on disk where possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import numba
except ImportError as error:
    raise ImportError("annotation needs numba: pip install 'fanfold[metabolomics]'") from error


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
