"""What strangers may send to an HTTP worker: a request is whole and beyond doubt, or it is refused and the connection
ends; nothing that stands in one request is ever run as the next."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from core.worker import wire
from core.worker.wire import Refused, Wire, parse_head
from tests.servers.http import TOKEN, HttpWorker

BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()
HIDDEN = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
"""A request that stands where a body is expected: it would be answered with 200."""


@pytest.fixture(scope="module")
def worker() -> Iterator[HttpWorker]:
    started = HttpWorker()
    started.start()
    yield started
    started.stop()


def conversation(worker: HttpWorker, *sent: bytes) -> bytes:
    """Return all that the worker says until it closes the connection."""
    with socket.create_connection(("127.0.0.1", worker.port), timeout=60) as caller:
        for part in sent:
            caller.sendall(part)
        heard = b""
        while data := caller.recv(1 << 16):
            heard += data
    return heard


def post(headers: bytes, body: bytes = HIDDEN, *, first: bytes = b"POST /run HTTP/1.1") -> bytes:
    return first + b"\r\nHost: x\r\n" + BEARER + headers + b"\r\n" + body


LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)
ATTACKS = {
    "a GET with a body": (b"GET /health HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n" + HIDDEN, 400),
    "a GET with a chunked body": (
        b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        411,
    ),
    "a HEAD with a body": (b"HEAD /health HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n" + HIDDEN, 400),
    "a DELETE with a body": (b"DELETE / HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n" + HIDDEN, 400),
    "a PUT": (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + HIDDEN, 405),
    "an unknown method": (b"JUMP / HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, 405),
    "a POST without a token": (b"POST /run HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n" + HIDDEN, 401),
    "a POST without a length": (post(b""), 411),
    "length and chunks (CL.TE)": (post(LENGTH + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + HIDDEN), 411),
    "chunks and length (TE.CL)": (post(b"Transfer-Encoding: chunked\r\n" + LENGTH, b"0\r\n\r\n" + HIDDEN), 411),
    "two encodings (TE.TE)": (post(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n" + LENGTH), 400),
    "an encoding in disguise": (post(b"Transfer-Encoding: xchunked\r\n" + LENGTH), 411),
    "an encoding after a tab": (post(b"Transfer-Encoding:\tchunked\r\n" + LENGTH), 411),
    "an encoding with a space before the colon": (post(b"Transfer-Encoding : chunked\r\n" + LENGTH), 400),
    "an encoding after a space": (post(b" Transfer-Encoding: chunked\r\n" + LENGTH), 400),
    "an encoding with a vertical tab": (post(b"Transfer-Encoding: \x0bchunked\r\n" + LENGTH), 400),
    "an encoding behind a bare CR": (post(b"X: y\rTransfer-Encoding: chunked\r\n" + LENGTH), 400),
    "an encoding behind a bare LF": (post(b"X: y\nTransfer-Encoding: chunked\r\n" + LENGTH), 400),
    "an encoding behind a NUL": (post(b"X: y\x00\r\nTransfer-Encoding: chunked\r\n" + LENGTH), 400),
    "two lengths": (post(b"Content-Length: 0\r\n" + LENGTH), 400),
    "two equal lengths": (post(LENGTH + LENGTH), 400),
    "a list of lengths": (post(b"Content-Length: 0, 0\r\n"), 400),
    "a length with a sign": (post(b"Content-Length: +0\r\n"), 400),
    "a negative length": (post(b"Content-Length: -1\r\n"), 400),
    "a length in hexadecimal": (post(b"Content-Length: 0x0\r\n"), 400),
    "a length with an underscore": (post(b"Content-Length: 0_0\r\n"), 400),
    "a length in other digits": (post("Content-Length: ٠\r\n".encode()), 400),
    "a length in superscript": (post(b"Content-Length: \xb2\r\n"), 400),
    "an empty length": (post(b"Content-Length: \r\n"), 400),
    "a length in a fraction": (post(b"Content-Length: 0.0\r\n"), 400),
    "a length without end": (post(b"Content-Length: " + b"9" * 5000 + b"\r\n"), 400),
    "a length over the limit": (post(b"Content-Length: 9999999999\r\n"), 413),
    "a length with a space before the colon": (post(b"Content-Length : 0\r\n"), 400),
    "a folded length": (post(b"Content-Length:\r\n 0\r\n"), 400),
    "a folded header": (post(b"X: y\r\n Content-Length: 0\r\n" + LENGTH), 400),
    "a header without a colon": (post(b"Content-Length 0\r\n"), 400),
    "a header without a name": (post(b": x\r\n" + LENGTH), 400),
    "a header with a name in quotes": (post(b'"Content-Length": 0\r\n' + LENGTH), 400),
    "two hosts": (post(b"Host: y\r\n" + LENGTH), 400),
    "two tokens": (post(b"Authorization: Bearer x\r\n" + LENGTH), 400),
    "an unknown expectation": (post(b"Expect: 200-ok\r\n" + LENGTH), 417),
    "an older version": (b"GET /health HTTP/0.9\r\nHost: x\r\n\r\n" + HIDDEN, 400),
    "no version": (b"GET /health\r\n\r\n" + HIDDEN, 400),
    "another version": (b"GET /health HTTP/2.0\r\n\r\n" + HIDDEN, 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN, 400),
    "a version with more digits": (b"GET /health HTTP/1.01\r\n\r\n" + HIDDEN, 400),
    "a lower-case version": (b"GET /health http/1.1\r\n\r\n" + HIDDEN, 400),
    "a target with spaces": (b"GET /health HTTP/1.1 x HTTP/1.1\r\n\r\n" + HIDDEN, 400),
    "a target with a control character": (b"GET /hea\x7flth HTTP/1.1\r\n\r\n" + HIDDEN, 400),
    "tabs for spaces": (b"GET\t/health\tHTTP/1.1\r\n\r\n" + HIDDEN, 400),
    "an empty line before": (b"\r\n" + HIDDEN, 400),
    "line ends without CR": (b"GET /health HTTP/1.1\nHost: x\n\n" + HIDDEN, 400),
    "line ends without LF": (b"GET /health HTTP/1.1\rHost: x\r\r" + HIDDEN, 400),
    "the bytes of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n" + HIDDEN, 400),
    "a line without end": (b"GET /" + b"a" * (64 << 10), 431),
    "headers without end": (b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, 431),
    "a header without end": (b"GET /health HTTP/1.1\r\nX: " + b"y" * (64 << 10), 431),
    "HTTP/1.0, which ends with its answer": (b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + HIDDEN, 200),
    "a last request": (b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: x, close\r\n\r\n" + HIDDEN, 200),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_whatever_is_in_doubt_gets_one_answer_and_the_end_of_the_connection(worker, attack):
    sent, status = ATTACKS[attack]

    heard = conversation(worker, sent)

    assert heard.startswith(b"HTTP/1.1 %d " % status), heard[:200]
    assert heard.count(b"HTTP/1.1 ") == 1
    assert TOKEN.encode() not in heard


def test_a_worker_that_was_attacked_serves_on(worker):
    for sent, _ in ATTACKS.values():
        conversation(worker, sent)

    heard = conversation(worker, HIDDEN, HIDDEN.replace(b"Host", b"Connection: close\r\nHost"))

    assert heard.count(b"HTTP/1.1 200 OK") == 2


def test_a_request_in_pieces_is_one_request(worker):
    pieces = [bytes([byte]) for byte in post(b"Connection: close\r\nContent-Length: 3\r\n", b"abc")]

    heard = conversation(worker, *pieces)

    assert heard.startswith(b"HTTP/1.1 200 ")
    assert b"IntegrityError" in heard


def test_an_answer_to_head_has_no_body_that_could_be_taken_for_the_next(worker):
    heard = conversation(worker, b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert heard.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length: 3\r\n" in heard
    assert heard.endswith(b"\r\n\r\n")


def test_a_caller_that_waits_to_be_invited_is_and_one_without_the_token_is_not(worker):
    heard = conversation(worker, post(b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n", b"abc"))
    refused = conversation(worker, post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"").replace(b"Bear", b"Be"))

    assert heard.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 401 ")


@pytest.fixture
def ends(monkeypatch) -> Iterator[tuple[Wire, socket.socket]]:
    monkeypatch.setattr(wire, "HEAD_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname())
        ours = listener.accept()[0]
        with caller, ours:
            yield Wire(ours), caller


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: y\r\n\r"])
def test_a_head_that_comes_too_slowly_is_refused(ends, sent):
    near, caller = ends
    caller.sendall(sent)

    with pytest.raises(Refused, match="too slowly") as caught:
        near.read_head()

    assert caught.value.status == 408


def test_a_head_that_never_stops_coming_is_refused_all_the_same(ends):
    near, caller = ends
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.001):
            caller.sendall(b"a")

    dripping = threading.Thread(target=drip)
    dripping.start()
    with pytest.raises(Refused, match="too slowly"):
        near.read_head()
    stop.set()
    dripping.join()


def test_a_body_that_comes_too_slowly_is_refused_and_one_that_breaks_off_is_none(ends):
    near, caller = ends
    with pytest.raises(Refused, match="too slowly"):
        near.read_body(5)
    caller.sendall(b"abc")
    caller.shutdown(socket.SHUT_WR)

    assert near.read_body(5) is None


def test_a_quiet_connection_ends_without_a_word(ends, monkeypatch):
    monkeypatch.setattr(wire, "IDLE_TIMEOUT", 0.05)

    assert ends[0].read_head() is None


def test_more_callers_than_a_worker_holds_are_turned_away(worker):
    from core.worker.http import LEAST_CONNECTIONS

    callers = [socket.create_connection(("127.0.0.1", worker.port), timeout=60) for _ in range(LEAST_CONNECTIONS)]
    try:
        for caller in callers:  # each is served by now
            caller.sendall(HIDDEN)
            assert caller.recv(15) == b"HTTP/1.1 200 OK"
        assert conversation(worker) == b""
    finally:
        for caller in callers:
            caller.close()


def test_headers_are_read_whatever_the_case_of_their_names():
    head = parse_head(b"POST / HTTP/1.1\r\nCONTENT-LENGTH: 007 \r\nX:\r\nx: a  b")

    assert (head.length, head.headers["x"]) == (7, ", a  b")
