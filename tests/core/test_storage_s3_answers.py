"""What a service answers that is no proper answer ends in one printable line of a storage error."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core import open_storage
from core.errors import StorageError
from core.storage import s3_client

pytest.importorskip("boto3", reason="needs boto3: pip install '.[s3]'")

ENTRY = "<Contents><Key>{}</Key><Size>{}</Size><ETag>&quot;t&quot;</ETag></Contents>"


def listing(inside):
    head = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{head}<Name>data</Name>{inside}</ListBucketResult>"


@pytest.fixture
def service(monkeypatch):
    """A service whose every answer is (status, headers, body) of ``service.answer``, and its storage."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, headers, body = self.server.answer
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Connection", "close")  # else a client may be about to use it again
            self.end_headers()
            try:
                for piece in body if not isinstance(body, bytes) else (body,):
                    if self.command != "HEAD":
                        self.wfile.write(piece)
                        self.server.sent += len(piece)
            except OSError:
                pass
            self.close_connection = True

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    monkeypatch.setattr(s3_client, "PATIENCE", 0)
    monkeypatch.setattr(s3_client, "FIRST_PATIENCE", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.sent = True, 0
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.storage = open_storage(f"s3://data?endpoint=http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def known(service):
    """Have boto3 make the first requests, after which others go without it."""
    service.answer = (200, [("Content-Length", "4"), ("ETag", '"t"')], b"abcd")
    assert service.storage.get("key") == b"abcd"
    assert service.storage.head("key").size == 4


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>not here</html>",
        "not XML \x1b[31m",
        listing("")[:-20],
        listing(ENTRY.format("a", "many")),
        listing(ENTRY.format("a", -1)).replace("<Size>-1</Size>", ""),
        listing("<Contents><Size>1</Size></Contents>"),
        listing("<CommonPrefixes></CommonPrefixes>"),
        listing(ENTRY.format("a", 1) + "<IsTruncated>true</IsTruncated>"),
        listing("<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>"),
        "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
            f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9)
        ) + "]>" + listing(ENTRY.format("&j;", 1)),
    ],
)  # fmt: skip
def test_a_listing_that_is_none_is_an_error_and_never_an_empty_one(service, body):
    content = body.encode()
    service.answer = (200, [("Content-Length", str(len(content))), ("Content-Type", "application/xml")], content)

    with pytest.raises(StorageError) as caught:
        list(service.storage.list())

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


REFUSALS = (
    b"",
    b"\xff\x00\x1b[2J",
    b"<Error><Code>A\xc2\x9bB\r\nC</Code><Message>&#10;\xe2\x80\xae</Message></Error>",
    b"<Error>",
)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 418, 500, 503])
@pytest.mark.parametrize("warm", [False, True])
def test_a_refusal_of_any_content_is_one_printable_line(service, status, warm):
    if warm:
        known(service)

    for body in REFUSALS:  # one client for all, which takes longer to make than they do
        service.answer = (status, [("Content-Length", str(len(body)))], body)
        for use in (service.storage.get, service.storage.head, lambda key: list(service.storage.list(key))):
            with pytest.raises(StorageError) as caught:
                use("key")
            assert str(caught.value).isprintable(), body


def endless():
    while True:
        yield bytes(1 << 16)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("Content-Range", "bytes 0-3/10"), ("Content-Length", "4")], b"abcd"),
        ([("Content-Range", "bytes 2-9/10"), ("Content-Length", "8")], b"abcdefgh"),
        ([("Content-Range", "bytes 2-5/10"), ("Content-Length", "8")], b"abcdefgh"),
        ([("Content-Range", "bytes 2-5/10"), ("Content-Length", "3")], b"abc"),
        ([("Content-Range", "bytes 2-5/*"), ("Content-Length", "4")], b"abcd"),
        ([("Content-Range", "bytes 2-5/4"), ("Content-Length", "4")], b"abcd"),
        ([("Content-Range", "rubbish"), ("Content-Length", "4")], b"abcd"),
        ([("Content-Length", "4")], b"abcd"),
        ([("Content-Range", "bytes 2-5/10")], b"abcd"),
        ([("Content-Range", "bytes 2-5/10")], endless),
        ([("Content-Range", "bytes 2-5/10"), ("Content-Length", "-4")], endless),
        ([("Content-Range", "bytes 2-5/10"), ("Content-Length", "4"), ("Transfer-Encoding", "chunked")],
         lambda: (b"10000\r\n" + bytes(1 << 16) + b"\r\n" for _ in iter(int, 1))),
    ],
)  # fmt: skip
def test_the_answer_to_another_range_than_was_asked_for_is_refused(service, warm, headers, body):
    if warm:
        known(service)
    service.answer = (206, [*headers, ("ETag", '"t"')], body if isinstance(body, bytes) else body())

    with pytest.raises(StorageError):
        service.storage.get("key", 2, 6)

    assert service.sent < 32 << 20


def test_the_answer_to_the_range_that_was_asked_for_is_taken(service):
    headers = [("Content-Range", "bytes 2-5/6"), ("Content-Length", "4"), ("ETag", '"t"')]
    service.answer = (206, headers, b"abcd")

    assert (
        service.storage.get("key", 2, 6)
        == service.storage.get("key", 2)
        == service.storage.get("key", 2, 99)
        == b"abcd"
    )
    assert service.storage.get_stream("key", 2, 6).read() == b"abcd"
