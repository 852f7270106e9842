"""What each process has of its own is named, not copied: its environment, the generators of its random numbers.

A copy would carry the driver's credentials along, and have all workers draw the same numbers.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

_OWN = (("os", "environ"), ("os", "environb"), ("random", "_inst"), ("numpy.random.mtrand", "_rand"))
"""The last two are behind the functions of `random` and of `numpy.random`, and behind distributions of scipy."""

_GENERATORS = (("random", "Random"), ("numpy.random", "RandomState"), ("numpy.random", "Generator"))

_logger = logging.getLogger("fanfold")


def reducers(is_call: bool) -> dict[type, Callable[[Any], Any]]:
    """Return how such things are pickled, in a function that goes to workers or in any other value."""
    reduce = _reduce_in_call if is_call else _reduce
    found = {getattr(sys.modules[module], name): reduce for module, name in _GENERATORS if module in sys.modules}
    return {**found, type(os.environ): _reduce}


def _reduce(thing: Any) -> Any:
    for module, name in _OWN:
        if module in sys.modules and getattr(sys.modules[module], name, None) is thing:
            return _own, (module, name)
    return thing.__reduce_ex__(5)


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
