"""Any key that a service has, and any name that a file system has, can be read; what is not listed is told."""

import logging
import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import Chunks, FunctionExecutor, InputError, open_storage
from core.data.partition import find_objects
from core.errors import FanfoldError
from core.storage.address import join_address, split_address

KEYS = [
    "p/a.csv",
    "p//x.csv",
    "p/./y",
    "p/../z",
    "p/q?r=1&s#t",
    "p/100%20 sure",
    "p/%2e%2e/",
    "p/full/",
    "p/full/below",
    "p/ä\u0308\U0001f4c8",
    "p/a*[1]?",
    "p/tab\tbell\x07",
    "p/back\\slash",
    "p/plus+and~tilde",
    "p/.fanfold-tmp-x",
    "/leading",
    "..",
]


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a server that takes every key, unlike those that keep objects as files."""
    boto3 = pytest.importorskip("boto3", reason="needs boto3: pip install '.[s3]'")
    server = pytest.importorskip("moto.server", reason="needs moto: pip install '.[test]'")
    running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    endpoint = "http://{}:{}".format(*running.get_host_and_port())
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="keys")
    for key in KEYS:
        client.put_object(Bucket="keys", Key=key, Body=b"content\nof " + key.encode())
    for marker in ("p/", "p/empty/"):
        client.put_object(Bucket="keys", Key=marker, Body=b"")
    yield f"s3://keys?endpoint={endpoint}"
    running.stop()


def look(obj):
    return obj.key, obj.read()


def test_every_key_below_a_prefix_is_found_and_read(bucket):
    below = sorted(key for key in KEYS if key.startswith("p/"))

    with FunctionExecutor("serial") as executor:
        read = executor.map(look, join_address(bucket, "p/")).results(60)
        chunks = executor.map(look, join_address(bucket, "p/"), chunks=Chunks(bytes=8)).results(60)

    assert read == [(key, b"content\nof " + key.encode()) for key in below]
    assert b"".join(part for _, part in chunks) == b"".join(part for _, part in read)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_an_address_of_its_own(bucket, key):
    address = join_address(bucket, key)
    ((storage, info),) = ((storage, info) for storage, info in find_objects(address) if info.key == key)

    assert split_address(address) == (bucket, key)
    for _ in range(2):  # by boto3, then without
        assert storage.get(key) == storage.get_stream(key).read() == b"content\nof " + key.encode()
        assert storage.get(key, 3, 7, etag=info.etag) == b"tent"
        assert storage.head(key) == info


def test_patterns_match_strange_keys_too(bucket):
    assert [info.key for _, info in find_objects(join_address(bucket, "p//*.csv"))] == ["p//x.csv"]
    assert [info.key for _, info in find_objects(join_address(bucket, "p/full/*"))] == ["p/full/below"]


@pytest.mark.parametrize("key", ["p//x.csv", "p/../z", "/leading", "p/full/", "..", ""])
def test_only_what_fanfold_writes_has_plain_keys(bucket, key):
    with pytest.raises(InputError, match="cannot be an object's key"):
        open_storage(bucket).put(key, b"")


@pytest.mark.parametrize("key", ["", "\udcff"])
def test_what_no_service_can_have_as_a_key_is_refused(bucket, key):
    storage = open_storage(bucket)

    for use in (storage.get, storage.head, storage.get_stream, lambda key: storage.delete([key])):
        with pytest.raises(InputError, match="cannot be an object's key"):
            use(key)


def test_a_listing_tells_which_markers_of_folders_it_left_out(bucket, caplog):
    with caplog.at_level(logging.WARNING, "fanfold"):
        list(find_objects(join_address(bucket, "p/")))

    (line,) = (record.getMessage() for record in caplog.records)
    assert line.endswith("p/?endpoint=" + bucket.partition("endpoint=")[2] + "': left out 2 empty objects whose key " 
                         "ends in '/', which mark folders")  # fmt: skip


def test_a_listing_of_files_tells_what_it_left_out(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / ".fanfold-tmp-x").write_bytes(b"half")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))

    assert [info.key for _, info in find_objects(tmp_path)] == ["file"]

    told = "\n".join(record.getMessage() for record in caplog.records)
    for what in ("1 links to nothing", "1 links to a folder that they", "2 pipes", "1 files half written"):
        assert f"left out {what}" in told


def test_nothing_is_told_where_nothing_was_left_out(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"1")

    list(find_objects(tmp_path))

    assert caplog.records == []


NAMES = [
    b"\xff\xfe.csv",
    b"new\nline",
    b"a*b?[c]",
    b" ",
    b"~",
    b"-",
    b"\\",
    b"?x=1#y%20",
    b"\xc3\xa4",
    b"a:b",
    b"\x01\x1b[31m",
]


@pytest.mark.parametrize("compute", ["serial", "process"])
@pytest.mark.parametrize("durable", [False, True])
def test_files_of_every_name_are_read(tmp_path, compute, durable):
    folder = os.fsencode(tmp_path) + b"/data"
    os.mkdir(folder)
    for name in NAMES:
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"of " + name)
    options = {"storage": f"file://{tmp_path}/jobs"} if durable else {}

    with FunctionExecutor(compute, durable=durable, **options) as executor:
        read = executor.map(
            lambda obj: (os.path.basename(os.fsencode(obj.key)), obj.read()), str(tmp_path / "data")
        ).results(60)
        single = [executor.map(lambda obj: obj.read(), os.fsdecode(folder + b"/" + name)).results(60) for name in NAMES]

    assert sorted(read) == sorted((name, b"of " + name) for name in NAMES)
    assert single == [[b"of " + name] for name in NAMES]


def test_errors_about_strange_names_are_printable(tmp_path):
    for name in (b"\xff\x1b[31m", b"new\nline", b"\x07"):
        address = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
        with pytest.raises(InputError) as caught:
            list(find_objects(address))
        assert str(caught.value).isprintable()
        assert str(caught.value).encode()


texts = st.text(st.characters(codec=None, categories=["Cc", "Cs", "L", "Nd", "P", "S", "Zs", "Cf"]), max_size=30)
schemes = st.sampled_from(
    [
        "",
        "file://",
        "file:///",
        "memory://",
        "s3://",
        "s3://b/",
        "cos://",
        "http://",
        "https://h:",
        "zip://",
        "fsspec+file://",
    ]
)


@settings(deadline=None, max_examples=300)
@given(
    schemes,
    texts,
    st.sampled_from(["", "?endpoint=", "?region=", "?profile=", "@", "/../", "[", "\0", ":99999"]),
    texts,
)
def test_every_address_is_split_and_opened_or_refused_in_printable_words(scheme, before, middle, after):
    address = scheme + before + middle + after
    refused = []
    for use in (split_address, lambda address: open_storage(split_address(address)[0]), open_storage):
        try:
            use(address)
        except FanfoldError as error:
            refused.append(str(error))
    assert all(words.isprintable() for words in refused)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(["file:///tmp/", "memory://n/", "fsspec+memory://n/"]), texts.filter(bool))
def test_every_key_is_used_or_refused_in_printable_words(address, key):
    storage = open_storage(address + "fanfold-no-such-folder")
    refused = []
    for use in (storage.get, storage.head, storage.get_stream, lambda key: list(storage.list(key))):
        try:
            use(key)
        except FanfoldError as error:
            refused.append(str(error))
    assert all(words.isprintable() for words in refused)
