"""What boto3's client is made to do with less work."""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core import open_storage
from core.storage.s3_client import AT_ONCE, moment

pytest.importorskip("boto3", reason="needs boto3: pip install '.[s3]'")


@pytest.fixture
def noting(monkeypatch):
    """A server that takes every object, the headers it was asked with, and its address."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            asked.append(dict(self.headers))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"tag"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield asked, f"s3://data?endpoint=http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("size", "asks"), [(1, False), (AT_ONCE, False), (AT_ONCE + 1, True)])
def test_only_a_long_body_asks_whether_it_is_wanted(noting, size, asks):
    asked, address = noting

    open_storage(address).put("key", bytes(size))

    assert ["Expect" in headers for headers in asked] == [asks]


def test_the_service_is_told_what_program_asks(noting):
    asked, address = noting

    open_storage(address).put("key", b"1")

    assert asked[0]["User-Agent"].startswith("fanfold Boto3/")


def test_threads_that_start_together_share_one_client():
    storage, together = open_storage("s3://data?endpoint=http://127.0.0.1:9&region=unused"), threading.Barrier(4)

    def connect(_):
        together.wait()
        return storage.client

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(connect, range(4)))) == 1


@pytest.mark.parametrize(
    "text", ["2026-11-23T20:48:16.123Z", "2026-11-23T20:48:16+02:00", "Mon, 23 Nov 2026 20:48:16 GMT", "1795466896"]
)
def test_times_are_those_that_boto3_reads(text):
    from botocore.utils import parse_timestamp

    assert moment(text) == parse_timestamp(text)


def test_what_is_no_time_is_refused():
    with pytest.raises(ValueError, match="Invalid timestamp"):
        moment("yesterday")
