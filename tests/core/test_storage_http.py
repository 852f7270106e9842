"""Objects on web servers, with a server of this process."""

import email.utils
import gzip
import http.server
import io
import os
import threading

import pandas as pd
import pytest

from core.data.chunks import Chunks
from core.data.objects import open_handle
from core.data.partition import find_objects, partition
from core.errors import AccessDenied, ConfigError, InputError, NotFound, ObjectChanged, StorageError, StorageUnavailable
from core.storage import http as driver
from core.storage.base import open_storage

TABLE = b"name,value\n" + b"".join(b"row%d,%d\n" % (number, number) for number in range(200))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.files``; what it does wrong stands in the server's attributes."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        server = self.server
        server.seen.append((self.command, self.headers.get("Range")))
        if server.scripted:
            return self.say(*server.scripted)
        if server.statuses:
            return self.empty(server.statuses.pop(0))
        if self.command == "HEAD" and server.refuses_head:
            return self.empty(501)
        body = server.files.get(self.path)
        if body is None:
            return self.empty(404)
        if isinstance(body, str):
            return self.say(301, {"Location": body, "Content-Length": "0"}, b"")
        span = self.headers.get("Range") if server.has_ranges else None
        size = len(body)
        if span:
            first, _, last = span.removeprefix("bytes=").partition("-")
            if int(first) >= size:
                return self.empty(416)
            body = body[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{size}")
        if server.tag:
            self.send_header(*server.tag)
        if server.tells_length or with_body and not server.breaks_off:
            self.send_header("Content-Length", str(len(body)))
        if not server.tells_length:
            self.send_header("Connection", "close")
        self.end_headers()
        if with_body:
            if server.breaks_off:
                server.breaks_off = False
                body = body[: len(body) // 2]
                self.close_connection = True
            self.wfile.write(body)
        return None

    def say(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for piece in body() if callable(body) else [body]:
                self.wfile.write(piece)
                self.server.sent += len(piece)
        except OSError:
            pass
        self.close_connection = True

    def empty(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(driver, "BACKOFF", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.seen, server.statuses = {"/data/table.csv": TABLE}, [], []
        server.scripted, server.sent, server.daemon_threads = None, 0, True
        server.has_ranges = server.tells_length = True
        server.refuses_head = server.breaks_off = False
        server.tag = ("ETag", '"1"')
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def chunks(server, **options):
    return [open_handle(part) for part in partition(find_objects(f"{server.url}/data/table.csv"), Chunks(**options))]


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("refuses_head", [True, False])
@pytest.mark.parametrize("tells_length", [True, False])
@pytest.mark.parametrize("tag", [("ETag", '"1"'), ("Last-Modified", email.utils.formatdate(0)), None])
def test_chunks_of_a_web_object_are_complete_whatever_the_server_can(
    server, has_ranges, refuses_head, tells_length, tag
):
    server.has_ranges, server.refuses_head, server.tells_length, server.tag = (
        has_ranges,
        refuses_head,
        tells_length,
        tag,
    )

    frames = [pd.read_csv(io.BytesIO(handle.read())) for handle in chunks(server, bytes=500, header_lines=1)]

    assert len(frames) > 2
    assert pd.concat(frames)["value"].tolist() == list(range(200))


def test_a_server_with_ranges_sends_only_what_is_asked_for(server):
    storage = open_storage(server.url)

    assert storage.get("data/table.csv", 0, 4) == b"name"
    assert storage.get("data/table.csv", len(TABLE) - 2) == b"9\n"
    assert storage.get("data/table.csv", len(TABLE)) == b""
    assert storage.get("data/table.csv", 3, 3) == b""
    assert storage.get_stream("data/table.csv", 5, 10).read() == b"value"
    assert server.seen[:2] == [("GET", "bytes=0-3"), ("GET", f"bytes={len(TABLE) - 2}-")]
    assert storage.bytes_in < 20


def test_a_server_without_ranges_sends_an_object_once(server):
    server.has_ranges = False

    read = b"".join(handle.read() for handle in chunks(server, count=5))

    assert read == TABLE
    assert [method for method, _ in server.seen].count("GET") == 1


def test_a_changed_web_object_is_an_error(server):
    (handle,) = chunks(server)
    server.tag = ("ETag", '"2"')

    with pytest.raises(ObjectChanged, match=r"data/table\.csv"):
        handle.read()


@pytest.mark.parametrize("has_ranges", [True, False])
def test_an_answer_cut_off_is_asked_for_again(server, has_ranges):
    server.has_ranges = has_ranges
    (handle,) = chunks(server)
    server.breaks_off = True

    assert handle.read() == TABLE


def test_passing_faults_are_tried_again_and_lasting_ones_are_typed(server):
    storage = open_storage(server.url)
    server.statuses = [503, 429, 500]
    assert storage.head("data/table.csv").size == len(TABLE)

    for status, error in ((503, StorageUnavailable), (403, AccessDenied), (401, AccessDenied), (410, NotFound)):
        server.statuses = [status] * driver.ATTEMPTS
        with pytest.raises(error, match=r"data/table\.csv"):
            storage.get("data/table.csv")
        server.statuses = []


def sockets():
    places = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum(os.path.lexists(place) and os.readlink(place).startswith("socket:") for place in places)


def test_an_error_that_somebody_keeps_holds_no_connection(server):
    storage, kept = open_storage(server.url), []
    before = sockets()

    for status in [403, 404, 410] * 4:
        server.statuses = [503, status]
        with pytest.raises(StorageError) as caught:
            storage.get("data/table.csv")
        kept.append(caught.value)

    assert sockets() - before < len(kept)


def test_a_server_that_is_not_there_is_unavailable(server):
    server.server_close()

    with pytest.raises(StorageUnavailable, match=r"cannot read http://127.*check the address"):
        open_storage(server.url).head("data/table.csv")


@pytest.mark.parametrize("path", ["data/missing.csv", "data/", "data/*.csv", ""])
def test_what_a_server_cannot_give_is_an_input_error_with_the_remedy(server, path):
    with pytest.raises(InputError, match="give each object's exact URL"):
        list(find_objects(f"{server.url}/{path}"))


def test_queries_and_spaces_are_part_of_the_key(server):
    server.files["/a%20b?version=[1]"] = b"found"

    ((storage, info),) = find_objects(f"{server.url}/a b?version=[1]")

    assert storage.get(info.key) == b"found"


def test_web_servers_are_read_only(server):
    storage = open_storage(server.url)

    with pytest.raises(AccessDenied, match="read only"):
        storage.put("key", b"")
    with pytest.raises(AccessDenied, match="read only"):
        storage.delete(["key"])


@pytest.mark.parametrize("address", ["https://", "https://user:secret@host/x"])
def test_addresses_without_host_or_with_password_are_refused_without_repeating_it(address):
    with pytest.raises(ConfigError, match="without user name or password") as caught:
        open_storage(address)
    assert "secret" not in str(caught.value)


def endless():
    while True:
        yield bytes(1 << 16)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (206, {"Content-Range": "bytes 0-3/10", "Content-Length": "4"}, b"abcd"),
        (206, {"Content-Range": "bytes 2-9/10", "Content-Length": "8"}, b"abcdefgh"),
        (206, {"Content-Range": "bytes 2-4/10", "Content-Length": "3"}, b"abc"),
        (206, {"Content-Range": "bytes 2-5/10", "Content-Length": "3"}, b"abc"),
        (206, {"Content-Range": "bytes 2-5/10"}, b"abc"),
        (206, {"Content-Range": "bytes 2-5/4", "Content-Length": "4"}, b"abcd"),
        (206, {"Content-Range": "items 2-5/10", "Content-Length": "4"}, b"abcd"),
        (206, {"Content-Type": "multipart/byteranges; boundary=x", "Content-Length": "4"}, b"abcd"),
        (206, {"Content-Length": "4"}, b"abcd"),
        (206, {}, endless),
        (200, {}, endless),
        (200, {"Content-Length": "10"}, b"abc"),
        (302, {"Location": "file:///etc/passwd", "Content-Length": "0"}, b""),
        (302, {"Location": "ftp://127.0.0.1/x", "Content-Length": "0"}, b""),
        (302, {"Location": "/data/table.csv", "Content-Length": "0"}, b""),
        (302, {"Content-Length": "0"}, b""),
        (400, {"Content-Length": "4"}, b"\x1b[2J"),
    ],
)  # fmt: skip
def test_what_is_no_answer_to_the_question_is_refused(server, monkeypatch, status, headers, body):
    monkeypatch.setattr(driver, "LONGEST_UNTOLD", 1 << 22)
    server.scripted = status, headers, body

    with pytest.raises(StorageError) as caught:
        open_storage(server.url).get("data/table.csv", 2, 6)

    assert str(caught.value).isprintable()
    assert server.sent < 32 << 20


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, br", "\x1b[2J"])
def test_an_encoding_that_lines_would_not_recognise_is_refused(server, coding):
    server.scripted = 200, {"Content-Length": "4", "Content-Encoding": coding}, b"abcd"
    storage = open_storage(server.url)

    for read in (storage.head, storage.get):
        with pytest.raises(InputError, match="comes encoded .* unpack it by another program") as caught:
            read("data/table.csv")
        assert str(caught.value).isprintable()


def test_an_object_that_a_server_calls_compressed_is_unpacked_by_lines_and_raw_otherwise(server):
    packed = gzip.compress(TABLE)
    server.scripted = 200, {"Content-Length": str(len(packed)), "Content-Encoding": "gzip"}, packed
    (handle,) = chunks(server)

    assert handle.read() == packed
    assert b"".join(handle.lines()) == TABLE


def test_an_answer_with_more_than_its_range_is_read_no_further(server):
    server.scripted = 206, {"Content-Range": "bytes 2-5/10"}, endless
    storage = open_storage(server.url)

    assert storage.get("data/table.csv", 2, 6) == bytes(4)
    assert storage.bytes_in == 4


def test_redirects_are_asked_in_the_same_way(server):
    server.files["/moved"] = "/data/table.csv"
    storage = open_storage(server.url)

    assert storage.head("moved").size == len(TABLE)
    assert storage.get("moved", 5, 10) == b"value"
    assert server.seen == [("HEAD", None), ("HEAD", None), ("GET", "bytes=5-9"), ("GET", "bytes=5-9")]


@pytest.mark.parametrize(
    "address", ["http://[", "http://host:port/x", "http://host:99999", "http://:80", "https://\x00"]
)
def test_addresses_that_are_none_are_refused_at_once(address):
    with pytest.raises((ConfigError, InputError), match=r"web address|cannot read") as caught:
        open_storage(address).head("key")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["\udcff", "a\ud800"])
def test_a_key_that_no_address_can_hold_is_refused_at_once(server, key):
    with pytest.raises(InputError, match="correct the address"):
        open_storage(server.url).get(key)
