"""Random generators: a process's own are named, so that each worker draws from its own; of others a warning tells."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any

_OWN = (("random", "_inst"), ("numpy.random.mtrand", "_rand"))
"""The generators behind the functions of `random` and of `numpy.random`, and behind distributions of scipy."""

_KINDS = (("random", "Random"), ("numpy.random", "RandomState"), ("numpy.random", "Generator"))

_logger = logging.getLogger("fanfold")


def reducers(is_call: bool) -> dict[type, Callable[[Any], Any]]:
    """Return how random generators are pickled, in a function that goes to workers or in any other value."""
    reduce = _reduce_in_call if is_call else _reduce
    return {getattr(sys.modules[module], name): reduce for module, name in _KINDS if module in sys.modules}


def _reduce(generator: Any) -> Any:
    for module, name in _OWN:
        if module in sys.modules and getattr(sys.modules[module], name, None) is generator:
            return _own, (module, name)
    return generator.__reduce_ex__(5)


def _own(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _reduce_in_call(generator: Any) -> Any:
    reduced = _reduce(generator)
    if reduced[0] is not _own:
        _warn()
    return reduced


@functools.cache
def _warn() -> None:
    _logger.warning(
        "a function takes a random generator along: each worker draws the same numbers from its copy, and each call "
        "again; make one within each task from a seed of its own, such as numpy.random.default_rng([seed, item])"
    )
