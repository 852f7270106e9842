"""Which of a function's parameters items, extra arguments and the worker give."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, ClassMethodDescriptorType, MethodDescriptorType, MethodWrapperType
from types import WrapperDescriptorType as SlotType
from typing import Any

from core.errors import ConfigError

OBJECT = "obj"
RESERVED = ("storage", "boto3_client", "task_id", "task_key", "attempt", OBJECT)
"""Parameters that a map function gets from the worker where nothing else gives them and they have no default."""

_UNLIMITED = 1 << 30
_BUILTIN = (BuiltinFunctionType, ClassMethodDescriptorType, MethodDescriptorType, MethodWrapperType, SlotType)
_OVERLOADED = getattr(functools.singledispatchmethod(len).__get__(None, object), "__code__", None)
_ANYWHERE = inspect.Parameter.POSITIONAL_OR_KEYWORD
_BY_NAME = (_ANYWHERE, inspect.Parameter.KEYWORD_ONLY)
_BY_PLACE = (_ANYWHERE, inspect.Parameter.POSITIONAL_ONLY)


@dataclass(frozen=True, slots=True)
class Signature:
    """What an item may supply; as it stands here, one argument.

    Parameters
    ----------
    fewest, most : int
        How many positional arguments an item may supply; `most` is a large number for ``*args``.
    keywords : frozenset, or None for ``**kwargs``
        Names that a dict item may supply.
    required : frozenset
        Names that it must supply.
    positional : tuple of str
        Parameters that take positional arguments, in order.
    own : tuple of str
        Those of them that are left for items and positional extra arguments.
    filled : tuple of str
        Parameters that the worker fills if nothing else does.
    leading : tuple of (int, str)
        Parameters that stand before one of `own` but get their values by name, and their places.
    object_by_name : bool
        An object goes to the parameter ``obj``, though that does not come first.
    """

    fewest: int = 0
    most: int = 1
    keywords: frozenset[str] | None = frozenset()
    required: frozenset[str] = frozenset()
    positional: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    leading: tuple[tuple[int, str], ...] = ()
    object_by_name: bool = False

    def missing(self, extras: int, is_object: bool) -> list[str]:
        """Return the parameters that one item, beside so many extra arguments, leaves without a value."""
        by_name = is_object and self.object_by_name
        own = [name for name in self.own if not (by_name and name == OBJECT)]
        given = {*own[: extras + (not by_name)], *((OBJECT,) if by_name else ())}
        return [name for name in (*own, *sorted(self.required - {*own})) if name in self.required - given]


def takes_objects(function: Callable[..., Any], given: Any = ()) -> bool:
    """Whether a function asks for objects: by a parameter ``obj`` without default that no mapping `given` supplies."""
    named = {*given} if isinstance(given, Mapping) else set()
    return OBJECT in _reserved(function, _parameters(function) or [], named)


def read_signature(function: Callable[..., Any], name: str, extras: int, named: Iterable[str]) -> Signature:
    """Read what a function takes beside `extras` positional arguments and those that are `named`.

    Raises
    ------
    ConfigError
        No parameter is left for an item, or there is none of a name.
    """
    parameters = _parameters(function)
    if parameters is None:
        return Signature()
    taken = {*named}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters if p.kind in _BY_NAME}
    if not open_ended and (strange := sorted(taken - names)):
        raise ConfigError(f"extra_args names {', '.join(strange)}, which {name} does not take")
    filled = tuple(each for each in _reserved(function, parameters, taken) if each != OBJECT)
    positional = [p.name for p in parameters if p.kind in _BY_PLACE]
    free = [each for each in positional if each not in taken]
    own = [each for each in free if each not in filled]
    required = {p.name for p in parameters if p.default is p.empty and p.kind in (*_BY_NAME, *_BY_PLACE)}
    room = _UNLIMITED if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(free) - extras
    by_name = open_ended or len(names - taken - {*filled}) > extras
    if room < 0 or not by_name and (room < 1 or not own and room < _UNLIMITED):
        raise ConfigError(
            f"{name} takes no parameter for an item"
            + (f" beside {extras} extra arguments" if extras else "")
            + f"; {_explained()}"
        )
    return Signature(
        max(0, len(required.intersection(own)) - extras),
        room,
        None if open_ended else frozenset(names - taken),
        frozenset(required - taken - {*filled}),
        tuple(positional),
        tuple(own),
        filled,
        tuple((at, each) for at, each in enumerate(positional) if each not in own and {*positional[at:]} & {*own}),
        OBJECT in names - taken and own[:1] != [OBJECT] and takes_objects(function, dict.fromkeys(taken)),
    )


def refuse_missing(name: str, missing: list[str]) -> ConfigError:
    """Return the error for a function whose parameters one item does not satisfy."""
    return ConfigError(
        f"{name} cannot be called with one item: nothing gives {', '.join(missing)}; {_explained()}, so give the "
        "others by extra_args, or items that are tuples or dicts"
    )


def _explained() -> str:
    return f"fanfold itself fills {', '.join(RESERVED[:-1])}, and {OBJECT} with objects"


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return a function's parameters, None if it does not tell them, as some builtins."""
    # Before 3.14 Python takes those of an overloaded method from its first definition, with `self`.
    is_overloaded = _OVERLOADED is not None and getattr(function, "__code__", None) is _OVERLOADED
    try:
        return list(inspect.signature(function, follow_wrapped=not is_overloaded).parameters.values())
    except (TypeError, ValueError):
        return None


def _reserved(function: Any, parameters: list[inspect.Parameter], given: set[str]) -> list[str]:
    """Return the parameters that the worker fills; those of a builtin have their names by chance."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, _BUILTIN):
        return []
    return [
        p.name
        for p in parameters
        if p.name in RESERVED and p.name not in given and p.kind in _BY_NAME and p.default is p.empty
    ]
