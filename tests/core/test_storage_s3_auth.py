"""Tokens of IBM Cloud: fetched once, shared by processes, and seen nowhere."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import stat
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from core import open_storage
from core.errors import AccessDenied, ConfigError, FanfoldError, StorageUnavailable
from core.storage import s3_auth, s3_client
from core.storage.s3_auth import TokenSource

KEY = "apikey-8f14e45fceea167a"
TOKEN = "bearer-c9f0f895fb98ab91"


class Service(ThreadingHTTPServer):
    """A token service, and an object storage that takes its tokens."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.granted: list[str] = []
        self.answers: list[tuple[int, dict[str, object]]] = []
        self.accepted: set[str] = set()
        self.lifetime = 3600
        self._lock = threading.Lock()

    def grant(self, form):
        with self._lock:
            if self.answers:
                return self.answers.pop(0)
            if form != {"grant_type": ["urn:ibm:params:oauth:grant-type:apikey"], "apikey": [KEY]}:
                return 400, {"errorCode": "BXNIM0415E", "errorMessage": f"{form} could not be found"}
            token = f"{TOKEN}-{len(self.granted)}"
            self.granted.append(token)
            self.accepted = {token}
            return 200, {"access_token": token, "expires_in": self.lifetime, "token_type": "Bearer"}


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        status, answer = self.server.grant(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self._answer(status, json.dumps(answer).encode())

    def do_GET(self):
        if self.headers.get("Authorization", "").removeprefix("Bearer ") in self.server.accepted:
            self._answer(200, b"content")
        else:
            self._answer(401, b"<Error><Code>InvalidToken</Code></Error>")

    def _answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def service(monkeypatch, tmp_path):
    started = Service()
    thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("IBM_API_KEY_ID", KEY)
    monkeypatch.setenv("IBM_AUTH_ENDPOINT", f"{started.endpoint}/identity/token")
    monkeypatch.setenv("FANFOLD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(s3_auth, "BACKOFF", 0.01)
    yield started
    s3_client.connection.cache_clear()
    started.shutdown()
    started.server_close()
    thread.join()


def cached(tmp_path):
    return sorted((tmp_path / "state" / "tokens").glob("*.json"))


def token_of_a_process(_):
    return TokenSource().token()


def test_a_token_is_fetched_once_and_read_by_everybody(service):
    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(lambda _: TokenSource().token(), range(16)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        tokens |= set(pool.map(token_of_a_process, range(4)))

    assert tokens == {f"{TOKEN}-0"}
    assert len(service.granted) == 1


def test_the_cache_is_the_users_alone_and_does_not_hold_the_key(service, tmp_path):
    TokenSource().token()

    (file,) = cached(tmp_path)
    for path in (tmp_path / "state" / "tokens").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert KEY not in path.name + path.read_text()
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_token_that_ends_soon_is_replaced(service):
    service.lifetime = s3_auth.MARGIN - 1
    source = TokenSource()

    assert [source.token(), source.token()] == [f"{TOKEN}-0", f"{TOKEN}-1"]


def test_a_damaged_cache_is_replaced(service, tmp_path):
    TokenSource().token()
    (file,) = cached(tmp_path)
    file.write_text('{"token": ')

    assert TokenSource().token() == f"{TOKEN}-1"


@pytest.mark.parametrize("answer", [(500, {}), (429, {}), (200, {"nothing": 1})])
def test_a_token_service_that_fails_is_asked_again(service, answer):
    service.answers = [answer] * 2

    assert TokenSource().token() == f"{TOKEN}-0"


def test_a_token_service_that_keeps_failing_is_told(service):
    service.answers = [(503, {})] * s3_auth.ATTEMPTS

    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1.*503.*IBM_AUTH_ENDPOINT"):
        TokenSource().token()


def shown(error):
    """Return all that a log could have of an exception, its causes included."""
    # Not by pickle.dumps: a library that another test imports (tblib) has pickles take along what caused an exception.
    return "".join(traceback.format_exception(error)) + repr(error.__dict__) + repr(error.__reduce_ex__(5))


def test_a_refused_key_is_told_without_being_shown(service, monkeypatch):
    monkeypatch.setenv("IBM_API_KEY_ID", "wrong-key-45c48cce2e2d")

    with pytest.raises(AccessDenied, match="refuses the API key") as caught:
        open_storage(f"cos://data?endpoint={service.endpoint}").get("key")

    assert "45c48cce2e2d" not in shown(caught.value)


def test_requests_carry_the_token_and_no_log_or_representation_shows_it(service, caplog):
    caplog.set_level(logging.DEBUG)
    storage = open_storage(f"cos://data/a?endpoint={service.endpoint}")

    assert storage.get("key") == b"content"

    connection = storage._connection
    seen = caplog.text + repr(storage) + repr(vars(storage)) + repr(connection) + repr(vars(connection))
    seen += str(pickle.dumps(storage)) + storage.address
    assert "Sending http request" in caplog.text
    assert KEY not in seen
    assert TOKEN not in seen


def test_a_token_that_is_taken_back_is_fetched_again_once(service):
    storage = open_storage(f"cos://data?endpoint={service.endpoint}")
    storage.get("key")
    service.accepted.clear()

    assert storage.get("key") == b"content"
    assert len(service.granted) == 2


def test_a_token_that_is_never_taken_is_told_without_being_shown(service, monkeypatch):
    monkeypatch.setattr(service, "grant", lambda form: (200, {"access_token": TOKEN, "expires_in": 3600}))

    with pytest.raises(AccessDenied, match=r"denied \(InvalidToken\)") as caught:
        open_storage(f"cos://data?endpoint={service.endpoint}").get("key")

    assert TOKEN not in shown(caught.value)
    assert KEY not in shown(caught.value)


def test_without_region_or_endpoint_nothing_says_where_the_service_is(service, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    with pytest.raises(ConfigError, match=r"region=.*endpoint="):
        open_storage("cos://data").get("key")


def test_a_region_names_the_public_endpoint(service):
    client = open_storage("cos://data?region=eu-de").client

    assert client.meta.endpoint_url == "https://s3.eu-de.cloud-object-storage.appdomain.cloud"


def test_without_an_api_key_requests_are_signed(service, monkeypatch):
    monkeypatch.delenv("IBM_API_KEY_ID")
    service.accepted = {""}

    with pytest.raises(FanfoldError, match="denied"):
        open_storage(f"cos://data?endpoint={service.endpoint}").get("key")
    assert service.granted == []
    assert os.environ["AWS_ACCESS_KEY_ID"]
