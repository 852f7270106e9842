from __future__ import annotations

import importlib

from hypothesis import given
from hypothesis import strategies as st

import core

PUBLIC = {
    "Chunks",
    "ConfigError",
    "EventLog",
    "FanfoldError",
    "FunctionExecutor",
    "Future",
    "FutureList",
    "InputError",
    "Partition",
    "ProgressBar",
    "Queue",
    "RetryPolicy",
    "TaskError",
    "open_storage",
    "shared_file",
    "worker_resource",
}
LIMIT = 16
STORAGE = {
    "Holder",
    "LeaseLock",
    "NotFound",
    "ObjectInfo",
    "PreconditionFailed",
    "Storage",
    "StorageError",
    "check_put_if_absent",
    "join_address",
    "open_storage",
    "process_storage",
    "split_address",
}
"""For those who keep a state of their own in a storage."""


def test_the_public_names_are_these_and_few() -> None:
    assert set(core.__all__) == PUBLIC
    assert len(core.__all__) <= LIMIT


def test_what_is_public_of_storage_is_this_and_documented() -> None:
    storage = importlib.import_module("core.storage")

    assert set(storage.__all__) == STORAGE
    assert [name for name in STORAGE if not (getattr(storage, name).__doc__ or "").strip()] == []


def test_every_public_name_is_there() -> None:
    assert [name for name in core.__all__ if not hasattr(core, name)] == []


def test_dir_shows_the_public_names() -> None:
    assert set(dir(core)) >= PUBLIC


def test_every_public_name_is_documented() -> None:
    assert [name for name in core.__all__ if not (getattr(core, name).__doc__ or "").strip()] == []


def test_every_error_is_told_apart_by_its_base() -> None:
    errors = importlib.import_module("core.errors")

    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]

    assert len(found) >= 16
    assert [kind.__name__ for kind in found if not issubclass(kind, core.FanfoldError)] == []
    assert [kind.__name__ for kind in found if f"{kind.__name__}" not in (errors.__doc__ or "")] == []


@given(st.text())
def test_what_an_error_says_can_be_printed_whatever_it_quotes(text: str) -> None:
    for kind in (core.ConfigError, core.InputError, core.TaskError):
        said = str(kind(f"cannot use {text}"))

        assert said.replace("\n", "").replace("\t", "").isprintable()
        assert not text.isprintable() or said.endswith(text)
