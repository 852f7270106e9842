"""Numerical threads: a worker's libraries use its share of the processors, loaded before it was made or afterwards.

A library reads its environment variable when it is loaded. One that the driver has loaded keeps the number of threads
it found then, in every process that is forked from the driver; so its number is lowered while the fork server is
forked, and put back. A number that the user chose by an environment variable is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_FALLS_BACK = {
    "OPENBLAS_NUM_THREADS": "OMP_NUM_THREADS",
    "MKL_NUM_THREADS": "OMP_NUM_THREADS",
    "BLIS_NUM_THREADS": "OMP_NUM_THREADS",
    "NUMEXPR_NUM_THREADS": "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS": "",
    "VECLIB_MAXIMUM_THREADS": "",
    "POLARS_MAX_THREADS": "",
    "RAYON_NUM_THREADS": "",
    "OPENCV_FOR_THREADS_NUM": "",
    "OMP_NUM_THREADS": "",
}
"""What libraries read when they are loaded, and what else they heed where that is not set (by their manuals). Arrow
heeds OMP_NUM_THREADS."""


class _Library(NamedTuple):
    """A kind of shared library: how its file is called, its functions, and the variable that it reads."""

    file: re.Pattern[str]
    setters: tuple[str, ...]
    getters: tuple[str, ...]
    variable: str


def _openblas(verb: str) -> tuple[str, ...]:
    """Return the names that a function has in the builds of OpenBLAS: of its own, of SciPy, with 64-bit indices."""
    return tuple(
        f"{prefix}openblas_{verb}_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")
    )


_LIBRARIES = (
    _Library(re.compile(r"lib(scipy_)?openblas"), _openblas("set"), _openblas("get"), "OPENBLAS_NUM_THREADS"),
    _Library(re.compile(r"libmkl_rt\."), ("MKL_Set_Num_Threads",), ("MKL_Get_Max_Threads",), "MKL_NUM_THREADS"),
    _Library(
        re.compile(r"libblis[.-]"),
        ("bli_thread_set_num_threads",),
        ("bli_thread_get_num_threads",),
        "BLIS_NUM_THREADS",
    ),
    _Library(
        re.compile(r"lib(gomp|iomp5|omp)[.-]"), ("omp_set_num_threads",), ("omp_get_max_threads",), "OMP_NUM_THREADS"
    ),
)


def usable_cores() -> int:
    """Return the number of processors this process may use: those it is bound to, and no more than its quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, _quota() or bound))


def _quota() -> int | None:
    """Return the processors that this control group is granted, rounded up (kernel documentation of ``cpu.max``)."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            granted, period = map(int, file.read().split())  # "max" is no number: no quota
        return -(-granted // period)
    return None


def _is_free(variable: str) -> bool:
    return variable not in os.environ and _FALLS_BACK[variable] not in os.environ


def set_variables(threads: int) -> frozenset[str]:
    """Limit what this process loads from now on; returns the variables that were not the user's."""
    free = frozenset(filter(_is_free, _FALLS_BACK))
    os.environ.update(dict.fromkeys(free, str(threads)))
    return free


@contextlib.contextmanager
def limited_libraries(threads: int) -> Iterator[None]:
    """Limit the libraries that this process has loaded, for as long as it takes to fork."""
    lowered: list[tuple[Callable[[int], Any], int]] = []
    try:
        for path in _loaded():
            for kind in _LIBRARIES:
                if kind.file.match(os.path.basename(path)) and _is_free(kind.variable):
                    setter, number = _opened(path, kind)
                    if setter is not None and number > threads:
                        setter(threads)
                        lowered.append((setter, number))
        numexpr = _module("numexpr")
        if hasattr(numexpr, "set_num_threads") and _is_free("NUMEXPR_NUM_THREADS"):
            lowered.append((numexpr.set_num_threads, numexpr.set_num_threads(1)))  # with one it has no threads
        yield
    finally:
        for setter, number in lowered:
            setter(number)


def _loaded() -> set[str]:
    """Return the paths of the shared libraries of this process."""
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        return {line[line.index("/") :].rstrip("\n") for line in file if ".so" in line and "/" in line}
    return set()


def _opened(path: str, kind: _Library) -> tuple[Callable[[int], Any] | None, int]:
    """Return the function that sets a library's number of threads, and the number."""
    import ctypes

    with contextlib.suppress(OSError):  # it was replaced on disk since it was loaded
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
        for setter, getter in zip(kind.setters, kind.getters, strict=True):
            if hasattr(library, setter) and hasattr(library, getter):
                return getattr(library, setter), getattr(library, getter)()
    return None, 0


def limit_modules(threads: int, free: frozenset[str]) -> None:
    """Limit the modules that have thread pools of their own, in a worker that was forked with them.

    Parameters
    ----------
    free : frozenset of str
        Variables that are not the user's.
    """
    arrow, numexpr = _module("pyarrow"), _module("numexpr")
    with contextlib.suppress(AttributeError):  # a module that is half imported, or only called so
        if arrow is not None and "OMP_NUM_THREADS" in free and arrow.cpu_count() > threads:
            arrow.set_cpu_count(threads)
    with contextlib.suppress(AttributeError):
        if numexpr is not None and "NUMEXPR_NUM_THREADS" in free:
            numexpr.set_num_threads(threads)
    with contextlib.suppress(AttributeError):
        if "NUMBA_NUM_THREADS" in free:
            _limit_numba(threads)


def _limit_numba(threads: int) -> None:
    config, parallel = _module("numba.core.config"), _module("numba.np.ufunc.parallel")
    if parallel is None or threads >= parallel.NUM_THREADS:
        return
    config.NUMBA_NUM_THREADS = threads  # compared with the variable whenever something is compiled
    if not parallel._is_initialized:
        parallel.NUM_THREADS = threads  # so many will start; to ask numba itself would start them
    elif parallel.get_num_threads() > threads:
        parallel.set_num_threads(threads)


def _module(name: str) -> Any:
    return sys.modules.get(name)
