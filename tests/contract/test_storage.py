"""What every storage must do; a new driver adds its address to the fixture `address`."""

import hashlib
import io
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError, NotFound, ObjectChanged, PreconditionFailed, StorageError
from core.storage.address import join_address
from core.storage.base import RESERVED_PREFIX, Storage, open_storage
from core.types import MiB

numbers = itertools.count()
any_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

# Upper-case names end a path and lower-case ones do not, so no key is a folder of another; '-' and '.' sort before '/'.
folder_names = st.sampled_from(["a", "a-", "a.b", "a0", "ä", "year=2019"])
file_names = st.sampled_from(["A", "A-", "A.B", "A0", "Z", "Ω", " ", "\U0001f4c8"])
keys = st.builds(lambda folders, name: "/".join([*folders, name]), st.lists(folder_names, max_size=3), file_names)


@pytest.fixture
def storage(address):
    with_client = open_storage(address)
    yield with_client
    with_client.close()


def listable(address, key):
    """Return a key that the storage's package lists: adlfs leaves out names that are a blank."""
    return key.replace(" ", "_") if address.startswith("az://") else key


def keys_of(listed):
    return [info.key for info in listed]


def test_driver_satisfies_the_protocol_and_its_address_reopens_the_same_objects(storage):
    storage.put("a/b", b"content")

    assert isinstance(storage, Storage)
    assert open_storage(storage.address).get("a/b") == b"content"
    assert open_storage(storage.address).address == storage.address


def test_address_with_a_folder_holds_the_keys_below_it(storage):
    inner = open_storage(join_address(storage.address, "inner"))
    inner.put("a/b", b"1")
    storage.put("outer", b"2")

    assert keys_of(inner.list()) == ["a/b"]
    assert keys_of(storage.list()) == ["inner/a/b", "outer"]
    inner.delete(["a/b"])
    assert keys_of(storage.list()) == ["outer"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: iter([data[:3], memoryview(data)[3:]])])
def test_put_takes_every_kind_of_bytes_and_streams(storage, kind):
    info = storage.put("key", kind(b"0123456789"))

    assert storage.get("key") == b"0123456789"
    assert (info.key, info.size) == ("key", 10)
    assert storage.head("key") == info
    assert list(storage.list()) == [info]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, None, b"0123456789"), (3, 5, b"34"), (8, 99, b"89"), (10, None, b""), (50, 60, b""), (5, 5, b""), (5, 2, b"")],
)
def test_ranges_are_cut_at_the_objects_end(storage, start, end, expected):
    storage.put("key", b"0123456789")

    assert storage.get("key", start, end) == expected
    with storage.get_stream("key", start, end) as stream:
        assert stream.read() == expected


def test_a_huge_range_costs_no_memory(storage):
    storage.put("key", b"x")

    assert storage.get("key", 0, 1 << 62) == b"x"


def test_negative_positions_are_refused(storage):
    storage.put("key", b"0123456789")

    with pytest.raises(ValueError, match="negative"):
        storage.get("key", -3)
    with pytest.raises(ValueError, match="negative"):
        storage.get_stream("key", 0, -1)


def test_stream_is_a_binary_file_that_text_readers_accept(storage):
    storage.put("key", "α\nβ\n".encode())

    with io.TextIOWrapper(storage.get_stream("key"), encoding="utf-8") as text:
        assert list(text) == ["α\n", "β\n"]


def test_tag_changes_with_content_and_pins_reads(storage):
    first = storage.put("key", b"one")
    assert storage.get("key", etag=first.etag) == b"one"
    second = storage.put("key", b"three")

    assert second.etag != first.etag
    assert storage.get("key", 1, 2, etag=second.etag) == b"h"
    with pytest.raises(ObjectChanged, match="key"):
        storage.get("key", 1, 2, etag=first.etag)


def test_missing_objects_and_folders_are_not_found(storage):
    storage.put("folder/key", b"")

    for key in ("nothing", "folder", "folder/nothing", "no/such/folder"):
        for read in (storage.get, storage.get_stream, storage.head):
            with pytest.raises(NotFound, match=key) as caught:
                read(key)
            assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    "key", ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../../b", "a/./b", "a\0b", f"a/{RESERVED_PREFIX}b"]
)
def test_keys_that_are_no_plain_path_below_the_address_are_never_written_nor_lead_out_of_it(storage, key):
    inner = open_storage(join_address(storage.address, "inner"))
    storage.put("a", b"not to be read through an address below it")

    with pytest.raises(InputError, match="cannot be an object's key"):
        inner.put(key, b"")
    for read in (inner.get, inner.head, inner.get_stream):
        with pytest.raises((InputError, StorageError), match=r"cannot be an object's key|no object|cannot use"):
            read(key)
    assert keys_of(storage.list()) == ["a"]


def test_put_if_absent_keeps_the_first_object(storage):
    storage.put("a/key", b"first", if_absent=True)

    with pytest.raises(PreconditionFailed, match="a/key"):
        storage.put("a/key", b"second", if_absent=True)
    assert storage.get("a/key") == b"first"
    assert keys_of(storage.list()) == ["a/key"]


def test_put_if_absent_of_a_long_stream_keeps_the_first_object(storage):
    content = [bytes([number]) * MiB for number in range(9)]
    info = storage.put("key", iter(content), if_absent=True)

    with pytest.raises(PreconditionFailed, match="key"):
        storage.put("key", reversed(content), if_absent=True)
    assert storage.head("key") == info
    assert storage.get("key") == b"".join(content)


def test_racing_put_if_absent_has_one_winner_whose_content_stays(storage):
    def attempt(number):
        content = hashlib.sha256(b"%d" % number).digest() * 1000
        try:
            storage.put("race/key", content, if_absent=True)
        except PreconditionFailed:
            return None
        return content

    with ThreadPoolExecutor(16) as threads:
        won = [content for content in threads.map(attempt, range(64)) if content is not None]

    assert len(won) == 1
    assert storage.get("race/key") == won[0]
    assert keys_of(storage.list()) == ["race/key"]


def test_a_stream_that_fails_half_way_leaves_nothing_and_keeps_what_was_there(storage):
    def broken():
        yield b"half"
        raise RuntimeError("no more")

    storage.put("old", b"whole")
    for key in ("old", "new/key"):
        with pytest.raises(RuntimeError, match="no more"):
            storage.put(key, broken())

    assert storage.get("old") == b"whole"
    assert keys_of(storage.list()) == ["old"]


def test_an_error_of_the_callers_stream_is_not_taken_for_one_of_the_storage(storage):
    def broken():
        yield b"half"
        raise NotFound("the other storage lost it")

    with pytest.raises(NotFound, match="the other storage lost it"):
        storage.put("key", broken())


def test_deleting_is_idempotent_and_never_deletes_a_folder(storage):
    for key in ("a/b/c", "a/b/d", "a/e"):
        storage.put(key, b"")

    storage.delete(["a/b/c", "a/b", "nothing", "a/e/under-a-file"])
    storage.delete(key for key in ["a/b/c"])

    assert keys_of(storage.list()) == ["a/b/d", "a/e"]


def test_objects_deleted_while_listing_are_left_out_without_error(storage):
    for number in range(5):
        storage.put(f"folder/{number}", b"")
    listing = storage.list()
    next(listing)

    storage.delete(["folder/2", "folder/3"])

    # A page of a remote listing is one answer, made before the deletion.
    page = storage.address.startswith(("az://", "fsspec", "s3://"))
    assert keys_of(listing) == [f"folder/{number}" for number in ((1, 2, 3, 4) if page else (1, 4))]


def test_listing_what_is_not_there_is_empty(storage):
    assert keys_of(storage.list()) == []
    assert keys_of(storage.list("../")) == []
    assert keys_of(storage.list("a/b", start_after="x")) == []


def test_counters_count_requests_and_bytes(storage):
    storage.put("key", b"12345")
    storage.get("key", 1, 3)
    with storage.get_stream("key") as stream:
        stream.read()
    list(storage.list())
    storage.delete(["key"])

    assert (storage.requests, storage.bytes_out, storage.bytes_in) == (5, 5, 7)


@any_fixture
@given(
    names=st.sets(keys, max_size=20),
    prefix=st.one_of(st.just(""), keys.map(lambda key: key[:3])),
    after=keys | st.just(""),
)
def test_listing_equals_the_sorted_keys_of_a_model(address, names, prefix, after):
    storage = open_storage(join_address(address, str(next(numbers))))
    names = {listable(address, name) for name in names}
    for name in names:
        storage.put(name, name.encode())

    listed = list(storage.list(prefix, after))
    level = list(storage.list(prefix, after, recursive=False))

    expected = sorted(name for name in names if name.startswith(prefix) and name > after)
    assert keys_of(listed) == expected
    assert [info.size for info in listed] == [len(name.encode()) for name in expected]
    assert keys_of(level) == [name for name in expected if "/" not in name[len(prefix) :]]


@any_fixture
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), keys, st.binary(max_size=20)),
            st.tuples(st.just("put if absent"), keys, st.binary(max_size=20)),
            st.tuples(st.just("delete"), st.lists(keys, max_size=3), st.none()),
            st.tuples(st.just("get"), keys, st.tuples(st.integers(0, 25), st.none() | st.integers(0, 25))),
            st.tuples(st.just("list"), keys, keys | st.just("")),
        ),
        max_size=30,
    )
)
def test_any_sequence_of_operations_equals_a_dictionary(address, operations):
    storage, model = open_storage(join_address(address, str(next(numbers)))), {}
    for name, key, value in operations:
        key = [listable(address, one) for one in key] if name == "delete" else listable(address, key)
        if name == "put":
            storage.put(key, value)
            model[key] = value
        elif name == "put if absent":
            if key in model:
                with pytest.raises(PreconditionFailed):
                    storage.put(key, value, if_absent=True)
            else:
                storage.put(key, value, if_absent=True)
                model[key] = value
        elif name == "delete":
            storage.delete(key)
            for one in key:
                model.pop(one, None)
        elif name == "get" and key in model:
            assert storage.get(key, *value) == model[key][slice(*value)]
            assert storage.head(key).size == len(model[key])
        elif name == "get":
            with pytest.raises(NotFound):
                storage.get(key)
        else:
            prefix = key[: len(key) // 2]
            listed = {info.key: info.size for info in storage.list(prefix, value)}
            assert listed == {k: len(v) for k, v in model.items() if k.startswith(prefix) and k > value}
    assert keys_of(storage.list()) == sorted(model)
