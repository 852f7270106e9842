"""What a storage on S3 does when answers are late, damaged or lost."""

import hashlib
import io
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from core import open_storage
from core.errors import InputError, ObjectChanged, PreconditionFailed, StorageUnavailable
from core.storage import s3, s3_client, s3_upload
from core.types import MiB

CONTENT = random.Random(1).randbytes(3 * MiB)


@pytest.fixture
def patient(monkeypatch):
    """Faults that last are told soon."""
    monkeypatch.setattr(s3_client, "PATIENCE", 0.5)


@pytest.mark.parametrize("fault", ["500", "503", "reset", "truncated", "slow", "flipped"])
def test_a_read_is_repeated_until_its_body_is_whole(through, proxy, fault):
    through.put("key", CONTENT)
    proxy.spoil_first(fault, "GET", times=2)

    assert through.get("key") == CONTENT
    assert proxy.count("GET") == (1 if fault == "slow" else 3)
    assert through.requests == len(proxy.seen)


@pytest.mark.parametrize("fault", ["truncated", "lost reset"])
def test_a_stream_goes_on_where_its_connection_broke(through, proxy, fault):
    through.put("key", CONTENT)
    proxy.spoil_first(fault, "GET")

    with through.get_stream("key") as stream:
        assert stream.read(10) + stream.read() == CONTENT
    assert proxy.count("GET") == 2


def test_a_stream_of_an_object_that_is_replaced_meanwhile_does_not_mix_the_two(through, proxy):
    through.put("key", CONTENT)
    proxy.spoil_first("truncated", "GET")
    stream = through.get_stream("key")
    stream.read(10)
    through.put("key", CONTENT[::-1])

    with pytest.raises(ObjectChanged, match="key"):
        stream.read()


@pytest.mark.parametrize("checksum", ["crc32", "md5"])
def test_a_damaged_stream_is_told_at_its_end(through, proxy, checksum):
    if checksum == "crc32":
        through.put("key", CONTENT)
    else:
        through.client.put_object(**through.names("key"), Body=CONTENT)
    with through.get_stream("key") as stream:
        assert stream.read() == CONTENT
    proxy.spoil_first("flipped", "GET")

    with through.get_stream("key") as stream, pytest.raises(StorageUnavailable, match="damaged"):
        stream.read()


def test_a_body_without_stored_checksum_is_compared_with_its_tag(through, proxy):
    through.client.put_object(**through.names("key"), Body=CONTENT)
    proxy.spoil_first("flipped", "GET")

    assert through.get("key") == CONTENT
    assert proxy.count("GET") == 2


def test_an_object_that_always_arrives_damaged_is_an_error(through, proxy, patient):
    through.put("key", b"0123456789")
    proxy.spoil_first("flipped", "GET", times=10_000)

    with pytest.raises(StorageUnavailable, match=r"key.*does not answer properly.*checksum"):
        through.get("key")


@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost 500", "lost reset", "slow"])
def test_put_if_absent_whose_answer_was_lost_knows_that_it_won(through, proxy, fault):
    proxy.spoil_first(fault, "PUT")

    through.put("key", b"mine", if_absent=True)

    assert through.get("key") == b"mine"
    with pytest.raises(PreconditionFailed):
        through.put("key", b"mine", if_absent=True)


@pytest.mark.parametrize("fault", ["lost 500", "lost reset"])
def test_put_if_absent_whose_answer_was_lost_knows_that_it_came_second(through, proxy, fault):
    through.put("key", b"first")
    proxy.spoil_first(fault, "PUT")

    with pytest.raises(PreconditionFailed):
        through.put("key", b"first", if_absent=True)


def test_sixteen_writers_through_a_bad_line_have_one_winner(through, proxy):
    proxy.spoil(0.3)

    def attempt(number):
        try:
            through.put("race", b"same content", if_absent=True)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(attempt, range(16))) == 1


@pytest.mark.parametrize("fault", ["", "503", "lost reset"])
def test_streams_go_up_in_parts_and_are_whole(through, proxy, monkeypatch, fault):
    monkeypatch.setattr(s3_upload, "SMALLEST_PART", 5 * MiB)
    content = os.urandom(11 * MiB)
    proxy.spoil_first(fault, "POST", "uploadId=")

    info = through.put("key", (content[at : at + MiB] for at in range(0, len(content), MiB)))

    assert info == through.head("key")
    assert through.get("key") == content
    assert proxy.count("PUT", "partNumber=") == 3


@pytest.mark.parametrize("fault", ["", "503", "lost reset"])
def test_long_streams_are_written_if_absent_in_one_request(through, proxy, fault):
    content = os.urandom(11 * MiB)
    proxy.spoil_first(fault, "PUT")

    info = through.put("key", (content[at : at + MiB] for at in range(0, len(content), MiB)), if_absent=True)

    assert info == through.head("key")
    assert through.get("key") == content
    assert proxy.count("PUT") == (2 if fault else 1)
    with pytest.raises(PreconditionFailed):
        through.put("key", [content], if_absent=True)
    assert through.head("key") == info


def test_more_than_one_request_takes_cannot_be_written_if_absent(through, monkeypatch):
    monkeypatch.setattr(s3, "LONGEST_BODY", 10 * MiB)

    with pytest.raises(InputError, match=r"key.*longer than the 10485760 bytes"):
        through.put("key", [bytes(MiB)] * 11, if_absent=True)

    assert list(through.list()) == []


def test_parts_of_an_upload_that_fails_are_thrown_away(through, proxy, monkeypatch):
    monkeypatch.setattr(s3_upload, "SMALLEST_PART", 5 * MiB)

    def broken():
        yield from [bytes(MiB)] * 11
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        through.put("key", broken())

    assert proxy.count("DELETE", "uploadId=") == 1
    uploads = through.client.list_multipart_uploads(Bucket="fanfold", Prefix=through.prefix)
    assert not uploads.get("Uploads")
    assert list(through.list()) == []


def test_long_reads_are_shared_by_threads_and_pinned_to_one_content(through, proxy, monkeypatch):
    monkeypatch.setattr(s3, "LARGE", MiB)
    monkeypatch.setattr(s3, "PART", MiB // 2)
    info = through.put("key", CONTENT)
    proxy.spoil_first("truncated", "GET", times=2)

    assert through.get("key") == CONTENT
    assert through.get("key", 1, 1 << 60, etag=info.etag) == CONTENT[1:]
    assert through.get("key", 5, len(CONTENT) - 5) == CONTENT[5:-5]
    with pytest.raises(ObjectChanged):
        through.get("key", etag=hashlib.md5(b"other").hexdigest())


def test_a_long_range_is_never_asked_for_at_once(through, monkeypatch):
    monkeypatch.setattr(s3, "PART", MiB // 2)
    monkeypatch.setattr(s3, "LARGE", MiB)
    through.put("key", CONTENT)
    asked = []
    monkeypatch.setattr(through, "open", lambda *given: asked.append(given[1:3]) or s3.Bucket.open(through, *given))

    assert through.get("key", 7, 2 * MiB) == CONTENT[7 : 2 * MiB]
    assert sorted(asked)[0] == (7, 7 + MiB // 2)
    assert all(end - start <= MiB // 2 for start, end in asked)


def test_deleting_counts_a_request_a_thousand(through, proxy):
    for number in range(3):
        through.put(f"k{number}", b"")
    proxy.seen.clear()

    through.delete(f"k{number}" for number in range(1500))

    assert [method for method, _ in proxy.seen] == ["POST", "POST"]
    assert list(through.list()) == []


def test_objects_that_may_not_be_deleted_are_named(s3_server):
    open_storage("s3://readable/kept").put("key", b"")
    storage = open_storage("s3://readable/kept?profile=reader")

    with pytest.raises(Exception, match=r"denied|AccessDenied"):
        storage.delete(["key"])

    assert storage.head("key").size == 0


def test_a_service_that_is_away_for_a_while_is_waited_for(through, proxy):
    through.put("key", b"1")
    proxy.spoil_first("reset", "GET", times=6)

    assert through.get("key") == b"1"


def test_a_text_reader_survives_a_bad_line(through, proxy):
    lines = [f"line {number}\n" for number in range(20_000)]
    through.put("key", "".join(lines).encode())
    proxy.spoil(0.5, seed=3)

    with io.TextIOWrapper(through.get_stream("key")) as text:
        assert list(text) == lines
