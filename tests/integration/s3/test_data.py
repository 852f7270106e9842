"""Functions over objects of a bucket: as a user writes them, and what is said when that cannot work."""

from __future__ import annotations

import csv
import http.client
import itertools
import os
import pickle
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import FunctionExecutor, open_storage
from core.data.chunks import Chunks
from core.data.objects import open_handle
from core.data.partition import find_objects, partition
from core.errors import AccessDenied, ConfigError, InputError, NotFound, ObjectChanged, StorageUnavailable
from core.storage import s3_client

YEARS = {
    "year=2018/a.csv": "name,n\nold,1\n",
    "year=2019/a.csv": "name,n\n" + "".join(f"a{i},{i}\n" for i in range(500)),
    "year=2019/b.csv": "name,n\r\n" + "".join(f"b{i},{i}\r\n" for i in range(300)) + "last,7",
    "year=2019/deeper/c.csv": "name,n\nno,1\n",
    "year=2019/notes.txt": "no table",
}
MANY = 10_000


@pytest.fixture(scope="module")
def executor(s3_server):
    with FunctionExecutor(workers=2) as started:
        yield started


@pytest.fixture
def years(place):
    storage = open_storage(place)
    for key, text in YEARS.items():
        storage.put(key, text.encode())
    return place


def total(obj):
    return sum(int(row["n"]) for row in csv.DictReader(obj.text()))


def test_a_function_of_one_table_runs_over_chunks_of_every_match(executor, years):
    futures = executor.map(total, f"{years}/year=2019/*.csv", chunks=Chunks(bytes=700, header_lines=1))

    assert len(futures) > 10
    assert sum(futures.results(60)) == sum(range(500)) + sum(range(300)) + 7


def test_results_are_reduced_object_by_object(executor, years):
    reduced = executor.map_reduce(
        total, f"{years}/year=2019/*.csv", sum, reduce_by="object", chunks=Chunks(bytes=700, header_lines=1)
    ).result(60)

    assert list(reduced.values()) == [sum(range(500)), sum(range(300)) + 7]


def test_functions_get_the_object_a_storage_and_a_client(s3_server, years):
    def look(obj, storage, boto3_client):
        found = boto3_client.head_object(Bucket=obj.bucket, Key=obj.key)
        storage.put(f"seen/{obj.key.rpartition('/')[2]}", obj.read())
        return found["ContentLength"]

    with FunctionExecutor(storage=years, workers=2) as executor:
        sizes = executor.map(look, f"{years}/year=2019/*.csv").results(60)

    expected = [len(YEARS[key]) for key in ("year=2019/a.csv", "year=2019/b.csv")]
    assert sizes == expected
    assert [info.size for info in open_storage(years).list("seen/")] == expected


def test_a_client_is_that_of_the_environment_where_nothing_is_in_s3(executor, years):
    bucket, _, prefix = years.removeprefix("s3://").partition("/")

    def size(key, boto3_client):
        return boto3_client.head_object(Bucket=bucket, Key=f"{prefix}/{key}".lstrip("/"))["ContentLength"]

    assert executor.map(size, ["year=2019/a.csv"]).results(60) == [len(YEARS["year=2019/a.csv"])]
    assert executor.stats()["requests"].sum() > 0


def test_every_worker_has_a_client_of_its_own(executor, years):
    def read(obj):
        return os.getpid(), obj.read()

    found = executor.map(read, [f"{years}/year=2019/a.csv"] * 40).results(60)

    assert {content for _, content in found} == {YEARS["year=2019/a.csv"].encode()}
    assert os.getpid() not in {process for process, _ in found}


def test_the_address_may_say_where_the_service_is(executor, proxy, years):
    address = f"{years}/year=2019/a.csv?endpoint={proxy.endpoint}"

    assert executor.map(total, address, chunks=Chunks(bytes=1000, header_lines=1)).results(60)
    assert proxy.count("GET", "a.csv") >= 5


texts = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"a", b"bc", b"", b"\n\n", b"long" * 30, "é".encode()]), max_size=40
).map(b"".join)
numbers = itertools.count()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=texts, chunk=st.integers(1, 60), newline=st.sampled_from([b"\n", b"\r\n", b"bc", None]))
def test_chunks_of_any_object_have_every_byte_and_line_once(s3_server, content, chunk, newline):
    place = f"s3://fanfold/chunks-{next(numbers)}"
    open_storage(place).put("key", content)

    parts = list(partition(find_objects(f"{place}/key"), Chunks(bytes=chunk, newline=newline)))
    read = [open_handle(part).read() for part in parts]

    assert b"".join(read) == content
    if newline is not None:
        assert all(piece.endswith(newline) for piece in read[:-1] if piece and not content.endswith(piece))


def test_ten_thousand_small_objects_are_listed_as_they_are_needed(executor, s3_server, place):
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    _make_many(s3_server, f"/buckets/{bucket}/{prefix}/many/", MANY)
    found = find_objects(f"{place}/many/*.txt")
    storage, first = next(found)
    asked_for_one = storage.requests

    assert first.key.endswith("/many/00000.txt")
    assert asked_for_one <= 2
    assert sum(1 for _ in found) == MANY - 1
    assert storage.requests - asked_for_one <= MANY // 1000 + 1
    assert executor.map(lambda obj: obj.size, f"{place}/many/*.txt").results(120) == [5] * MANY


def test_an_object_that_changes_during_the_job_is_an_error(executor, years):
    (storage, info), *_ = find_objects(f"{years}/year=2019/a.csv")
    planned = list(partition([(storage, info)], Chunks(bytes=1000)))
    open_storage(years).put("year=2019/a.csv", b"x" * info.size)

    for part in planned:
        with pytest.raises(ObjectChanged, match=r"a\.csv.*run the job again"):
            open_handle(part).read()


def test_an_object_that_vanishes_during_the_job_is_an_error(executor, years):
    def read_late(obj):
        obj._storage = None
        open_storage(years).delete([obj.key.partition("/")[2]])
        return obj.read()

    with pytest.raises(NotFound, match=r"a\.csv"):
        executor.map(read_late, f"{years}/year=2019/a.csv").results(60)


def test_an_empty_prefix_is_an_error_and_not_an_empty_success(executor, place):
    for address in (place, f"{place}/", f"{place}/*.csv", f"{place}/a.csv"):
        with pytest.raises(InputError, match="no object found"):
            executor.map(total, address)


def test_a_missing_bucket_is_told_from_a_missing_object(executor, s3_server):
    for address in ("s3://fanfold-nowhere/a.csv", "s3://fanfold-nowhere/", "s3://fanfold-nowhere/*.csv"):
        with pytest.raises(NotFound, match=r"no bucket for s3://fanfold-nowhere.*check its name"):
            executor.map(total, address)
    with pytest.raises(NotFound, match="no bucket"):
        open_storage("s3://fanfold-nowhere").put("key", b"1")


@pytest.mark.parametrize("profile", ["reader", "stranger"])
def test_access_that_is_denied_is_told(s3_server, place, profile):
    storage = open_storage(f"{place}?profile={profile}")
    for use in (
        lambda: storage.get("key"),
        lambda: storage.head("key"),
        lambda: storage.put("key", b"1"),
        lambda: storage.put("key", b"1", if_absent=True),
        lambda: list(storage.list()),
    ):
        with pytest.raises(AccessDenied, match=r"denied.*check the credentials") as caught:
            use()
        assert "secret" not in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), PermissionError)


def test_credentials_that_are_not_there_are_asked_for(s3_server, place, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    s3_client.connection.cache_clear()
    try:
        with pytest.raises(AccessDenied, match="AWS_ACCESS_KEY_ID"):
            open_storage(place).get("key")
    finally:
        s3_client.connection.cache_clear()


def test_a_profile_that_is_not_there_is_a_wrong_setting(s3_server, place):
    with pytest.raises(ConfigError, match="missing-profile"):
        open_storage(f"{place}?profile=missing-profile").get("key")


def test_an_endpoint_that_does_not_answer_is_named(place, monkeypatch):
    monkeypatch.setattr(s3_client, "FIRST_PATIENCE", 0.2)
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:9 .*check the endpoint"):
        open_storage("s3://fanfold?endpoint=http://127.0.0.1:9").get("key")


def _make_many(server, folder, count):
    """Make objects by the server's back door, which takes a tenth of the time."""
    port = next(word for word in server.command if word.startswith("-filer.port=")).partition("=")[2]

    def make(numbers):
        filer = http.client.HTTPConnection("127.0.0.1", int(port))
        for number in numbers:
            filer.request("PUT", f"{folder}{number:05d}.txt", b"small")
            filer.getresponse().read()
        filer.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make, [range(first, count, 4) for first in range(4)]))


ENCODED = zlib.compress(b"".join(b"%d,%d\n" % (row, row * row) for row in range(4000)))


def upload_encoded(name, coding):
    """Put an object as other software does, which says in a header how it has packed it."""
    storage = open_storage("s3://fanfold/encoded")
    names = {"Bucket": "fanfold", "Key": f"encoded/{name}"}
    storage.lent_client().put_object(**names, Body=ENCODED, ContentEncoding=coding)
    return f"s3://fanfold/encoded/{name}"


@pytest.mark.parametrize("coding", ["deflate", "br", "gzip, br"])
@pytest.mark.parametrize("repeated", [False, True])  # the second request is no longer boto3's
def test_lines_of_an_object_packed_by_its_header_alone_are_refused(s3_server, coding, repeated):
    address = upload_encoded("a.csv", coding)
    chunks = list(partition(find_objects(address), Chunks(bytes=5000)))
    assert len(chunks) > 1
    for chunk in [*partition(find_objects(address)), *chunks] * (1 + repeated):
        for read in ("lines", "text"):
            with pytest.raises(InputError, match=rf"a.csv' is stored with the Content-Encoding '{coding}'"):
                next(iter(getattr(open_handle(chunk), read)()))


def test_an_object_packed_by_its_header_alone_is_read_raw(s3_server):
    (whole,) = partition(find_objects(upload_encoded("raw.csv", "deflate")))

    assert open_handle(whole).read() == ENCODED


@pytest.mark.parametrize("coding", ["utf-8", "aws-chunked", "base64", "identity"])
def test_what_is_no_packing_says_nothing_of_an_object(s3_server, coding):
    open_storage("s3://fanfold").lent_client().put_object(
        Bucket="fanfold", Key="encoded/plain.csv", Body=b"a\nb\n", ContentEncoding=coding
    )
    (whole,) = partition(find_objects("s3://fanfold/encoded/plain.csv"))

    assert list(open_handle(whole).lines()) == [b"a\n", b"b\n"]


def test_an_object_that_is_stored_plain_again_has_lines(s3_server):
    storage = open_storage("s3://fanfold/encoded")
    (before,) = partition(find_objects(upload_encoded("again.csv", "br")))
    reader = open_storage("s3://fanfold")
    with pytest.raises(InputError, match="Content-Encoding"):
        open_handle(before, reader).lines()
    storage.put("again.csv", b"a\n")
    (after,) = partition(find_objects("s3://fanfold/encoded/again.csv"))

    assert list(open_handle(after, reader).lines()) == [b"a\n"]
