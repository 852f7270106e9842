"""Reads and short writes that go past boto3: what services make of them, and what is left to boto3."""

import datetime
import gc
import itertools
import json
import multiprocessing
import os
import shutil
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from core import open_storage
from core.errors import AccessDenied, NotFound, PreconditionFailed, StorageUnavailable
from core.storage import s3_client, s3_direct
from core.storage.s3_direct import AT_ONCE

numbers = itertools.count()

pytest.importorskip("boto3", reason="needs boto3: pip install '.[s3]'")

KEYS = ("a b/c", "ü/\U0001f4c8", "a+b~c", "q?x=1&y=2#z", "%41", "a=b;c,d:@'($)*!", "-._~")
MALFORMED = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-de</Region></Error>"


class Server(ThreadingHTTPServer):
    """Answers each request in turn as `answers` says, then with ``content``."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server_port}"
        self.answers, self.seen, self.ended = [], [], threading.Semaphore(0)
        self.hangs_up = False

    def by_boto3(self):
        """Return of each request whether boto3 marked it as its own."""
        return [any(name.lower() == "amz-sdk-request" for name in headers) for _, _, headers, _ in self.seen]

    def connections(self):
        return len({client for *_, client in self.seen})

    def shutdown_request(self, request):
        super().shutdown_request(request)
        self.ended.release()

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _serve(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers), self.client_address))
        default = (200, {}, b"content" if self.command == "GET" else b"")
        status, headers, body = self.server.answers.pop(0) if self.server.answers else default
        self.send_response(status)
        for name, value in {"ETag": '"tag"', "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.server.hangs_up

    do_GET = do_PUT = do_HEAD = _serve  # noqa: N815


@pytest.fixture
def service():
    started = Server()
    thread = threading.Thread(target=started.serve_forever, args=(0.01,))
    thread.start()
    yield started
    started.shutdown()
    thread.join()
    started.server_close()
    s3_client.connection.cache_clear()


@pytest.fixture
def asked(service):
    """A storage at that service, of which a read and a write have been made."""
    storage = open_storage(f"s3://data?endpoint=http://{service.address}")
    storage.get("first")
    storage.put("first", b"1")
    assert service.by_boto3() == [True, True]
    service.seen.clear()
    storage.requests = 0
    return storage


@pytest.fixture
def place(s3_server):
    return f"s3://fanfold/direct-{next(numbers)}"


@pytest.fixture
def used(place):
    """A storage on a real server that needs boto3 no longer: see `sent_by_boto3`."""
    storage = open_storage(place)
    storage.put("first", b"1")
    storage.head("first")
    storage.get("first")
    return storage


@pytest.fixture
def sent_by_boto3(used):
    """The requests that boto3 has made since the storage was used."""
    sent = []

    def note(request, **_):
        sent.append((request.method, request.url))

    used.client.meta.events.register("before-send.s3", note)
    yield sent
    used.client.meta.events.unregister("before-send.s3", note)


@pytest.mark.parametrize("key", KEYS)
def test_a_server_takes_the_signature_of_every_key(used, sent_by_boto3, key):
    info = used.put(key, key.encode())

    assert used.get(key) == key.encode()
    assert used.get(key, 1, 2, etag=info.etag) == key.encode()[1:2]
    assert used.head(key) == info
    assert sent_by_boto3 == []
    assert key in [info.key for info in used.list()]


def test_a_server_takes_empty_bodies_and_conditions(used, sent_by_boto3):
    used.put("empty", b"", if_absent=True)

    assert used.get("empty") == b""
    with pytest.raises(PreconditionFailed, match="empty"):
        used.put("empty", b"", if_absent=True)
    with pytest.raises(NotFound, match="nothing"):
        used.get("nothing")
    with pytest.raises(NotFound, match="nothing"):
        used.head("nothing")
    assert sent_by_boto3 == []


def test_a_wrong_clock_is_told(used, sent_by_boto3, monkeypatch):
    monkeypatch.setattr(s3_direct, "time", SimpleNamespace(time=lambda: time.time() - 3600))

    with pytest.raises(AccessDenied, match="clock"):
        used.get("first")
    assert sent_by_boto3 == []


def test_credentials_that_expire_are_asked_for_again(s3_server, place, tmp_path, monkeypatch):
    given = tmp_path / "given"

    def give(secret):
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)
        keys = {"AccessKeyId": os.environ["AWS_ACCESS_KEY_ID"], "SecretAccessKey": secret}
        given.write_text(json.dumps({"Version": 1, **keys, "Expiration": soon.isoformat()}))

    (tmp_path / "config").write_text(f"[profile rotated]\ncredential_process = cat {given}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    right = os.environ["AWS_SECRET_ACCESS_KEY"]
    give(right)
    storage = open_storage(f"{place}?profile=rotated")
    storage.put("key", b"1")
    storage.get("key")
    assert storage.direct._routes.keys() >= {("fanfold", "GET"), ("fanfold", "PUT")}

    give("wrong")
    with pytest.raises(AccessDenied, match="SignatureDoesNotMatch"):
        storage.get("key")
    give(right)
    assert storage.get("key") == b"1"


def test_a_session_token_is_sent_and_signed(service, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token")
    storage = open_storage(f"s3://data?endpoint=http://{service.address}")
    for _ in range(2):
        storage.get("key")

    _, _, headers, _ = service.seen[1]
    assert service.by_boto3() == [True, False]
    assert headers["x-amz-security-token"] == "session-token"
    assert "x-amz-security-token" in headers["authorization"]


def test_public_data_are_read_without_a_signature(service):
    storage = open_storage(f"s3://data?endpoint=http://{service.address}&anonymous=true")

    assert [storage.get("key") for _ in range(2)] == [b"content"] * 2
    assert service.by_boto3() == [True, False]
    assert "authorization" not in service.seen[1][2]


def test_connections_serve_one_request_after_the_other(service, asked):
    for _ in range(20):
        asked.get("key")
        asked.put("key", b"1")

    assert service.by_boto3() == [False] * 40
    assert service.connections() == 1


def test_a_connection_that_the_server_has_closed_is_replaced_without_an_error(service, asked):
    service.hangs_up = True
    for _ in range(3):
        asked.get("key")
        service.ended.acquire()

    assert asked.requests == len(service.seen) == service.connections() == 3
    assert not any(service.by_boto3())


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_a_storage_that_is_let_go_ends_its_connections_whoever_still_reads(service):
    storage = open_storage(f"s3://bucket?endpoint=http://{service.address}&anonymous=true")
    service.answers += [(200, {}, b"content")] * 3
    for _ in range(2):
        storage.get("key")
    stream = storage.get_stream("key")

    del storage
    s3_client.connection.cache_clear()
    gc.collect()
    read = stream.read() + stream.read()
    stream = None
    gc.collect()

    assert read == b"content"
    assert stream is None
    for _ in range(service.connections()):
        assert service.ended.acquire(timeout=60)


def test_threads_share_connections_and_mix_nothing_up(used, sent_by_boto3):
    def turn(number):
        used.put(f"k{number}", str(number).encode() * 1000)
        return all(used.get(f"k{number}") == str(number).encode() * 1000 for _ in range(5))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(turn, range(40)))
    assert sent_by_boto3 == []
    (idle,) = used.direct._idle.values()
    assert 1 <= len(idle) <= 8


def read_often(place, number, answers):
    storage = open_storage(place)
    answers.put((number, {storage.get(f"k{number}") for _ in range(30)}))


def test_a_forked_process_uses_no_connection_of_its_parent(used, place):
    for number in range(4):
        used.put(f"k{number}", str(number).encode() * 5000)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=read_often, args=(place, number, answers)) for number in range(3)]
    for child in children:
        child.start()
    own = {used.get("k3") for _ in range(30)}
    found = dict(answers.get(timeout=60) for _ in children)
    for child in children:
        child.join()

    assert own == {b"3" * 5000}
    assert found == {number: {str(number).encode() * 5000} for number in range(3)}


@pytest.mark.parametrize(
    "answer", [(301, {}, b""), (307, {"Location": "http://127.0.0.1:9/"}, b""), (400, {}, MALFORMED)]
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_boto3_repeats_what_was_sent_elsewhere(service, asked, answer, method):
    service.answers = [answer]
    for _ in range(2):
        assert asked.get("key") == b"content" if method == "GET" else asked.put("key", b"1").etag == "tag"

    assert service.by_boto3() == [False, True, False]
    assert asked.requests == 3


def test_a_write_that_fails_after_the_answer_began_is_repeated(service, asked):
    service.answers = [(200, {}, b"<Error><Code>InternalError</Code></Error>")]

    assert asked.put("key", b"1").etag == "tag"
    assert service.by_boto3() == [False, False]


@pytest.mark.parametrize("algorithm", ["crc32", "sha1", "sha256"])
def test_a_body_is_compared_with_each_checksum_that_boto3_knows(service, asked, algorithm):
    service.answers = [(200, {f"x-amz-checksum-{algorithm}": "AAAAAA=="}, b"content")]

    assert asked.get("key") == b"content"
    assert service.by_boto3() == [False, False]


def test_a_failure_reads_as_it_does_from_boto3(service, monkeypatch):
    monkeypatch.setattr(s3_client, "PATIENCE", -1)
    failure = (503, {}, b"<Error><Code>SlowDown</Code><Message>Less.</Message></Error>")
    storage = open_storage(f"s3://data?endpoint=http://{service.address}")
    texts = []
    for _ in range(2):
        service.answers = [failure]
        with pytest.raises(StorageUnavailable, match="SlowDown") as caught:
            storage.get("key")
        texts.append(str(caught.value))
        storage.get("key")

    assert texts[0] == texts[1]
    assert service.by_boto3() == [True, True, False, False]


def test_only_long_and_streamed_bodies_are_left_to_boto3(service, asked):
    asked.put("key", bytes(AT_ONCE))
    asked.put("key", bytes(AT_ONCE + 1))

    assert service.by_boto3() == [False, True]


def test_a_stream_that_is_left_early_gives_its_connection_up(service, asked):
    with asked.get_stream("key") as stream:
        assert stream.read(3) == b"con"
    assert asked.get("key") == b"content"

    assert service.by_boto3() == [False, False]


def test_what_goes_through_a_proxy_is_left_to_boto3(service, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://{service.address}")
    storage = open_storage("s3://data?endpoint=http://store.example")

    assert [storage.get("key") for _ in range(2)] == [b"content"] * 2
    assert [path for _, path, *_ in service.seen] == ["http://store.example/data/key"] * 2
    assert service.by_boto3() == [True, True]


def certificate(folder, name):
    openssl = shutil.which("openssl") or pytest.skip("needs openssl: apt-get install openssl")
    key, made = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", made]
        + ["-days", "2", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    return key, made


def test_connections_over_tls_trust_what_boto3_trusts(service, tmp_path, monkeypatch):
    key, made = certificate(tmp_path, "service")
    _, other = certificate(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    service.socket = context.wrap_socket(service.socket, server_side=True)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(made))
    storage = open_storage(f"s3://data?endpoint=https://{service.address}")

    assert [storage.get("key") for _ in range(3)] == [b"content"] * 3
    assert service.by_boto3() == [True, False, False]
    monkeypatch.setenv("AWS_CA_BUNDLE", str(other))
    storage.direct._idle.clear()
    with pytest.raises(StorageUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        storage.get("key")
    assert len(service.seen) == 3
