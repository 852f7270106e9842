"""What a worker keeps of the functions it was sent."""

import functools
import operator

import pytest

from core.compute.functions import Functions
from core.task.call import Call, dump_call


def pickled(function, **extras):
    return dump_call(Call(function, "item", **extras), (), True).data


@pytest.fixture
def functions():
    return Functions()


def test_a_function_is_loaded_anew_for_every_generation(functions):
    functions.put("f", pickled(functools.partial(operator.iadd, [])))

    assert [len(functions.get("f", generation).function([0])) for generation in "aabb"] == [1, 2, 1, 2]


def test_what_a_module_has_is_loaded_once(functions):
    functions.put("f", pickled(operator.neg))

    assert functions.get("f", "a") is functions.get("f", "b")
    assert functions.get("f", "a").function is operator.neg


def test_extra_arguments_are_new_for_every_generation(functions):
    functions.put("f", pickled(operator.neg, keyword_extras=(("kept", []),)))

    assert functions.get("f", "a") is not functions.get("f", "b")


def test_what_was_dropped_is_not_known(functions):
    functions.put("f", pickled(operator.neg))
    functions.drop("f")
    functions.drop("f")

    assert "f" not in functions
    assert len(functions) == 0
    with pytest.raises(KeyError):
        functions.get("f", "a")
