import functools
import pickle
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.partition import Listing
from core.errors import ConfigError, InputError
from core.task.call import apply, check_items, make_call, name_of
from core.task.signature import takes_objects
from core.types import Partition, RetryPolicy


def call(function, item, **options):
    return apply(make_call(function, kind="item", **options), item, 7, "job/7", 2)


class Scaler:
    def __init__(self, by=10):
        self.by = by

    def __call__(self, x):
        return x * self.by

    def method(self, x, y=1):
        return x, y

    @classmethod
    def of_class(cls, x):
        return cls.__name__, x

    @functools.singledispatchmethod
    def overloaded(self, x):
        return self.by, x

    async def asynchronous(self, x):
        return x

    @staticmethod
    def of_nobody(x):
        return x


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("function", "item", "expected"),
    [
        (lambda x: x, 3, 3),
        (lambda x: x, None, None),
        (lambda x: x, [1, 2], [1, 2]),
        (lambda x, y: (x, y), (1, 2), (1, 2)),
        (lambda x: x, (1, 2), (1, 2)),
        (lambda x, y=5: (x, y), (1,), (1, 5)),
        (lambda x, y=5: (x, y), (1, 2), (1, 2)),
        (lambda x, y=5: (x, y), 1, (1, 5)),
        (lambda x: x, (), ()),
        (lambda *args: args, (1, 2, 3), (1, 2, 3)),
        (lambda *args: args, 4, (4,)),
        (lambda x, *args: (x, args), (1, 2, 3), (1, (2, 3))),
        (lambda x, y: (x, y), {"y": 2, "x": 1}, (1, 2)),
        (lambda x, *, k=0: (x, k), {"x": 1, "k": 2}, (1, 2)),
        (lambda x: x, {"y": 1}, {"y": 1}),
        (lambda x: x, {}, {}),
        (lambda x=None, y=None: (x, y), {"y": 1}, (None, 1)),
        (lambda **kwargs: kwargs, {"a": 1}, {"a": 1}),
        (lambda x, **kwargs: (x, kwargs), {"x": 1, "z": 2}, (1, {"z": 2})),
        (lambda x, **kwargs: (x, kwargs), {"z": 2}, ({"z": 2}, {})),
        (lambda x=0, **kwargs: (x, kwargs), {1: "one"}, ({1: "one"}, {})),
        (lambda p: p, Point(1, 2), Point(1, 2)),
        (lambda x, y=0: (x, y), Point(1, 2), (Point(1, 2), 0)),
        (Scaler(), 2, 20),
        (Scaler().method, (1, 2), (1, 2)),
        (Scaler.of_class, 1, ("Scaler", 1)),
        (Scaler().overloaded, 1, (10, 1)),
        (Scaler.of_nobody, 1, 1),
        (functools.partial(lambda a, b: (a, b), 1), 2, (1, 2)),
        (functools.partial(lambda a, b: (a, b), b=9), 2, (2, 9)),
        (int, "12", 12),
        (abs, -1, 1),
        (len, [1, 2], 2),
        (str.upper, "a", "A"),
        (max, [3, 1], 3),
        (dict, [("a", 1)], {"a": 1}),
    ],
)
def test_an_item_becomes_the_arguments_that_pywren_would_make_of_it(function, item, expected):
    assert call(function, item) == expected


def test_a_function_wrapped_by_a_decorator_is_called_by_its_own_signature():
    def inner(x, y):
        return x + y

    @functools.wraps(inner)
    def outer(*args, **kwargs):
        return inner(*args, **kwargs)

    assert call(outer, (1, 2)) == 3
    assert call(outer, {"x": 1, "y": 2}) == 3


@pytest.mark.parametrize(
    ("function", "item", "extras", "expected"),
    [
        (lambda x, y: (x, y), 1, (2,), (1, 2)),
        (lambda x, y: (x, y), 1, [2], (1, 2)),
        (lambda x, y: (x, y), 1, {"y": 2}, (1, 2)),
        (lambda x, y, z: (x, y, z), (1, 2), (3,), (1, 2, 3)),
        (lambda x, y, z: (x, y, z), {"x": 1, "y": 2}, (3,), (1, 2, 3)),
        (lambda x, y, z: (x, y, z), {"x": 1, "y": 2}, {"z": 3}, (1, 2, 3)),
        (lambda x, **kwargs: (x, kwargs), 1, {"k": 2}, (1, {"k": 2})),
        (lambda x, y: (x, y), 1, ((2, 3),), (1, (2, 3))),
        (lambda x, y=0: (x, y), {"x": 1, "y": 2}, {"y": 3}, ({"x": 1, "y": 2}, 3)),
    ],
)
def test_extra_arguments_follow_the_items_own(function, item, extras, expected):
    assert call(function, item, extra_args=extras) == expected


def test_parameters_the_worker_knows_are_filled_where_the_item_does_not_supply_them():
    assert call(lambda x, task_id, task_key, attempt: (x, task_id, task_key, attempt), "i") == ("i", 7, "job/7", 2)
    assert call(lambda x, *, task_id: (x, task_id), "i") == ("i", 7)
    assert call(lambda x, attempt: (x, attempt), "i", extra_args={"attempt": 9}) == ("i", 9)
    assert call(lambda task_id, x: (task_id, x), "i") == (7, "i")
    assert call(lambda task_id, x, attempt, y: (task_id, x, attempt, y), ("i", "j")) == (7, "i", 2, "j")
    assert call(lambda task_id, x, attempt, y: (task_id, x, attempt, y), {"x": 1, "y": 3}) == (7, 1, 2, 3)


def test_a_parameter_with_a_default_or_a_value_is_not_filled_whatever_its_name():
    assert call(lambda x, attempt=5: (x, attempt), 1) == (1, 5)
    assert call(lambda x, task_id=None: (x, task_id), (1,)) == (1, None)
    assert call(lambda x, task_id: (x, task_id), (5, 100)) == (5, 100)
    assert call(lambda x, task_id: (x, task_id), {"x": 5, "task_id": 100}) == (5, 100)
    assert call(lambda x, *, task_id: (x, task_id), {"x": 5, "task_id": 100}) == (5, 100)
    assert call(lambda x, task_id: (x, task_id), 5, extra_args=(100,)) == (5, 100)
    assert call(lambda x, storage, /: (x, storage), (5, 100)) == (5, 100)


def test_asking_for_storage_without_one_says_what_to_do():
    with pytest.raises(InputError, match="storage="):
        call(lambda x, storage: x, 1)


def test_one_call_passes_its_arguments_as_they_are():
    one = make_call(lambda *args, **kwargs: (args, kwargs), kind="call")

    assert apply(one, (((1, 2), {"a": 1}), {"b": {}}), 0, "", 0) == (((1, 2), {"a": 1}), {"b": {}})


def test_one_call_fills_no_parameter():
    def f(x, task_id=None, attempt=5, storage=None):
        return x, task_id, attempt, storage

    assert apply(make_call(f, kind="call"), ((1,), {}), 7, "job/7", 2) == (1, None, 5, None)
    with pytest.raises(TypeError, match="task_id"):
        apply(make_call(lambda x, task_id: x, kind="call"), ((1,), {}), 7, "job/7", 2)


@pytest.mark.parametrize(
    ("function", "extras", "words"),
    [
        (3, (), "int"),
        (None, (), "NoneType"),
        (lambda: 1, (), "no parameter"),
        (lambda task_id: 1, (), "no parameter for an item.*fills storage, boto3_client, task_id, task_key, attempt"),
        (lambda x: 1, (1,), "1 extra"),
        (lambda x: 1, 5, "extra_args"),
        (lambda x: 1, "text", "extra_args"),
        (lambda x: (yield x), (), "a coroutine or generator, cannot leave its process; wrap it"),
        (Scaler().asynchronous, (), "Scaler.asynchronous .*asyncio.run"),
    ],
)
def test_what_cannot_be_called_is_refused_in_the_driver(function, extras, words):
    with pytest.raises(ConfigError, match=words):
        make_call(function, kind="item", extra_args=extras)


def test_an_extra_argument_that_the_function_does_not_take_is_refused_in_the_driver():
    with pytest.raises(ConfigError, match="colour"):
        make_call(lambda x: x, kind="item", extra_args={"colour": 1})


def test_a_call_holds_copies_so_that_the_callers_objects_may_change():
    extras, env = {"y": 1}, {"A": "b"}
    made = make_call(lambda x, y: x, kind="item", extra_args=extras, env=env, retry=RetryPolicy(1))
    extras["y"], env["A"] = 2, "c"

    assert made.keyword_extras == (("y", 1),)
    assert made.env == (("A", "b"),)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (call, "call"),
        (Scaler.method, "Scaler.method"),
        (Scaler(), "Scaler"),
        (functools.partial(call, 1), "call"),
        (len, "len"),
    ],
)
def test_a_function_has_a_name_for_people(function, name):
    assert name_of(function) == name


def test_a_function_asks_for_objects_by_a_parameter_obj_that_nothing_else_gives():
    class Reader:
        def __call__(self, prefix, obj):
            return prefix

    for asks in (lambda obj: 1, lambda x, obj: 1, lambda *, obj: 1, Reader(), functools.partial(Reader(), 1)):
        assert takes_objects(asks)
    for does_not in (lambda *obj: 1, lambda obj=None: 1, lambda obj, /: 1, lambda x: 1, len, id, pickle.dumps, "text"):
        assert not takes_objects(does_not)
    assert not takes_objects(lambda x, obj: 1, {"obj": 1})
    assert not takes_objects(functools.partial(pickle.dumps, protocol=5))


@pytest.mark.parametrize(
    ("function", "extras"),
    [
        (lambda obj, threshold: (obj.read(), threshold), (5,)),
        (lambda threshold, obj: (obj.read(), threshold), (5,)),
        (lambda threshold, *, obj: (obj.read(), threshold), (5,)),
        (lambda threshold, obj: (obj.read(), threshold), {"threshold": 5}),
        (lambda threshold=5, *, obj: (obj.read(), threshold), ()),
        (lambda task_id, obj: (obj.read(), task_id - 2), ()),
        (lambda other, threshold: (other.read(), threshold), (5,)),
    ],
)
def test_an_object_goes_to_the_parameter_obj_wherever_it_stands(function, extras):
    item = Partition("memory://calls", "key", 0, 3, 3, "", data=b"abc")

    assert call(function, item, extra_args=extras) == (b"abc", 5)


@pytest.mark.parametrize("items", [[1, 2], range(3), Listing([], {})])
@pytest.mark.parametrize(
    "function", [lambda obj, client: 1, lambda obj, *, client: 1, lambda obj, storage, client, attempt: 1]
)
def test_a_function_of_more_parameters_than_its_items_can_give_is_refused_in_the_driver(function, items):
    with pytest.raises(ConfigError, match="nothing gives client; fanfold itself fills storage, .*, and obj"):
        check_items(make_call(function, kind="item"), items)
    check_items(make_call(function, kind="item", extra_args={"client": 1}), items)
    if not isinstance(items, Listing):
        check_items(make_call(function, kind="item"), [*items, {"obj": 1, "client": 2}])


@given(st.tuples() | st.lists(st.integers(), max_size=4).map(tuple))
def test_a_function_of_any_number_of_arguments_gets_every_element_of_a_tuple(item):
    expected = item or ((),)

    assert call(lambda *args: args, item) == expected
