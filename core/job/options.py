"""How the tasks of one job are run: what its call says, and the executor's settings where it says nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from core.compute.base import Capabilities
from core.errors import ConfigError
from core.settings import ExecutorConfig, parse_setting
from core.types import RetryPolicy

DURABLE_MEMORY_GROWTH = 2.0
"""Factor on the memory of a task that ran out of it, where platforms can grant more: see `RetryPolicy`."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the tasks of one job are run; see `FunctionExecutor`."""

    timeout: float | None = None
    memory: int | None = None
    retry: RetryPolicy = RetryPolicy()
    batch_size: int | None = None
    speculate: bool = False
    durable: bool = False


def options_of(
    config: ExecutorConfig,
    can: Capabilities,
    has_queues: bool = False,
    batch_size: int | None = None,
    durable: bool | None = None,
    **given: Any,
) -> Options:
    """Return the options of a call.

    Parameters
    ----------
    given
        `timeout`, `memory` and `retries` of the call; None means the executor's.

    Raises
    ------
    ConfigError
        One of them does not fit.
    """
    settled = {
        name: getattr(config, name) if value is None else parse_setting(name, value, "argument")
        for name, value in given.items()
    }
    if batch_size is not None and (isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1):
        raise ConfigError(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
    durable = can.results_in_storage or (config.durable if durable is None else durable)
    retry = settled.get("retries", config.retries)
    if durable and retry.memory_growth is None:
        retry = replace(retry, memory_growth=DURABLE_MEMORY_GROWTH)
    speculate = config.speculation
    if speculate is None:
        speculate = can.speculates and not has_queues  # a copy would put its values again
    timeout, memory = settled.get("timeout", config.timeout), settled.get("memory", config.memory)
    return Options(timeout, memory, retry, batch_size, speculate, durable)
