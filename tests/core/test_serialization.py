import enum
import gc
import linecache
import pickle
import subprocess
import sys
import threading
import types
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import serialization
from core.errors import ConfigError, IntegrityError, SerializationError
from core.serialization import OUT_OF_BAND, Unpackable
from core.serialization.by_value import show_source
from core.serialization.definitions import Definitions

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.lists(plain | st.lists(plain, max_size=3) | st.dictionaries(st.text(), plain, max_size=2), max_size=8)


def round_trip(given_values):
    return list(serialization.unpack(serialization.pack(given_values)))


@given(values)
def test_values_survive_packing(given_values):
    back = round_trip(given_values)

    assert back == given_values
    assert [type(value) for value in back] == [type(value) for value in given_values]


@given(values)
def test_values_survive_storage(given_values):
    packed = serialization.from_bytes(serialization.to_bytes(serialization.pack(given_values)))

    assert list(serialization.unpack(packed)) == given_values


@given(values)
def test_packed_values_can_be_taken_apart_and_joined(given_values):
    parts = list(serialization.split(serialization.pack(given_values)))

    assert [next(serialization.unpack(part)) for part in parts] == given_values
    if parts:
        stored = [serialization.from_bytes(serialization.to_bytes(part)) for part in parts]
        assert list(serialization.unpack(serialization.join(stored))) == given_values


@pytest.mark.parametrize("size", [1, OUT_OF_BAND // 8 - 1, OUT_OF_BAND // 8, 100_000])
def test_arrays_of_any_size_survive_every_journey_and_stay_writable(size):
    given_values = [np.arange(size, dtype=float), 1, np.asfortranarray(np.ones((3, size)))[:, ::2]]
    stored = serialization.from_bytes(serialization.to_bytes(serialization.pack(given_values)))
    parts = [serialization.from_bytes(serialization.to_bytes(p)) for p in serialization.split(stored)]

    for back in (serialization.unpack(stored), serialization.unpack(serialization.join(parts))):
        first, one, last = back
        assert np.array_equal(first, given_values[0])
        assert np.array_equal(last, given_values[2])
        assert one == 1
        first[0] = -1


def test_large_buffers_stay_outside_the_pickle_uncopied():
    array = np.zeros(1 << 20)

    packed = serialization.pack([array])

    assert len(packed.data) < 1000
    assert packed.nbytes >= array.nbytes
    assert np.shares_memory(np.frombuffer(packed.buffers[0]), array)


def test_a_value_that_cannot_be_pickled_spoils_no_other():
    array = np.zeros(100_000)

    back = round_trip([[1], (array, threading.Lock()), array, [3]])

    assert back[0] == [1]
    assert type(back[1]) is Unpackable
    assert "lock" in back[1].reason
    assert np.array_equal(back[2], array)
    assert back[3] == [3]


def test_a_value_that_cannot_be_read_spoils_no_other():
    class Broken:
        def __reduce__(self):
            return int, ("no number",)

    back = round_trip([[1], Broken(), [3]])

    assert (back[0], back[2]) == ([1], [3])
    assert "no number" in back[1].reason


def test_the_same_object_twice_becomes_two_objects():
    shared = []

    first, second = round_trip([shared, shared])

    assert first is not second


def test_packing_stops_at_the_limit_and_says_how_far_it_came():
    packed = serialization.pack([np.zeros(1000)] * 10, limit=20_000)

    assert packed.count == 3
    assert len(list(serialization.unpack(packed))) == 3


def test_a_failed_value_does_not_count_towards_the_limit():
    heavy = (np.zeros(1 << 20), threading.Lock())

    assert serialization.pack([heavy, [1], [2]], limit=1 << 20).count == 3


def test_code_travels_with_every_field_it_has():
    def outer(a, /, b, *args, c=3, **kwargs):
        kept = {"x": 1.5, b"y": frozenset({a})}
        return lambda: [(a, b, kept, args, c, kwargs) for _ in range(3)]

    code = outer.__code__
    back = serialization.loads(serialization.dumps(outer)).__code__

    fields = [name for name in dir(code) if name.startswith("co_") and not callable(getattr(code, name))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert back.co_consts == code.co_consts
        assert [getattr(back, name) for name in fields] == [getattr(code, name) for name in fields]
    assert list(back.co_positions()) == list(code.co_positions())


def test_lines_of_source_join_what_is_known_of_their_file_and_stay(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("a = 1\nb = 2\n")

    show_source(str(path), 2, "b = 3\n")
    show_source(str(path), 5, "e = 5\nf = 6\n")
    linecache.checkcache()

    assert linecache.getlines(str(path)) == ["a = 1\n", "b = 3\n", "\n", "\n", "e = 5\n", "f = 6\n"]


def test_a_signature_covers_every_byte():
    signed = bytearray(serialization.sign(b"k" * 32, "it", b"content"))

    assert bytes(serialization.verify(b"k" * 32, "it", signed)) == b"content"
    with pytest.raises(IntegrityError, match="it was not written by this job"):
        serialization.verify(b"x" * 32, "it", signed)
    with pytest.raises(IntegrityError, match="elsewhere"):
        serialization.verify(b"k" * 32, "elsewhere", signed)
    for position in range(len(signed)):
        forged = signed.copy()
        forged[position] ^= 1
        with pytest.raises(IntegrityError):
            serialization.verify(b"k" * 32, "it", forged)
    for cut in (b"", bytes(signed[:10]), bytes(signed[:-1])):
        with pytest.raises(IntegrityError):
            serialization.verify(b"k" * 32, "it", cut)


def test_an_exception_is_pickled_only_if_it_comes_back_as_it_was():
    class Forgetful(Exception):
        def __init__(self, text="lost"):
            super().__init__(text)
            self.args = ()

        def __str__(self):
            return f"{self.args} {id(self)}"

    assert isinstance(pickle.loads(serialization.dump_exception(KeyError("k"))), KeyError)
    assert serialization.dump_exception(Forgetful()) is None


def test_a_batch_marker_is_smaller_than_any_commit():
    marker = serialization.sign(b"k" * 32, "it", serialization.dumps(serialization.MARKER))

    assert len(marker) == serialization.MARKER_SIZE


def test_a_module_that_is_to_travel_must_be_there():
    with pytest.raises(ConfigError, match="'not_here', which should travel"):
        Definitions(["not_here"])


def test_a_reference_to_what_no_process_holds_any_more_is_refused():
    definitions = Definitions()
    data = serialization.dumps(type("Gone", (), {}), definitions)
    definitions.objects.clear()
    gc.collect()

    with pytest.raises(SerializationError, match="does not hold any more"):
        serialization.loads(data)


def test_an_enumeration_whose_members_cannot_be_made_again_says_what_helps():
    class Coordinate(bytes, enum.Enum):
        def __new__(cls, value):
            made = bytes.__new__(cls, [value])
            made._value_ = value
            return made

        X = 0

    with pytest.raises(TypeError, match="define it in a module"):
        serialization.dumps(Coordinate.X)


def test_a_class_that_was_half_made_is_not_taken_for_whole():
    script = """
import pickle, sys
from core import serialization
whole, broken = pickle.load(sys.stdin.buffer)
try:
    serialization.loads(broken)
except ModuleNotFoundError as error:
    kept = error
print(serialization.loads(whole).told())
"""

    class Told:
        def told(self):
            return "whole"

    whole = serialization.dumps(Told())
    absent = types.ModuleType("not_there")
    absent.thing = type("thing", (), {"__module__": "not_there"})
    sys.modules["not_there"] = absent
    Told.zz = absent.thing
    broken = serialization.dumps(Told())
    del sys.modules["not_there"]

    done = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps((whole, broken)), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "whole"
