import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from http.server import ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from core import ConfigError, FunctionExecutor
from core.compute.remote.connection import Connection
from core.compute.remote.openwhisk import OpenWhiskBackend
from core.errors import ComputeDenied, ComputeUnavailable, WorkerDied
from core.worker.http import LARGEST
from tests.servers.begun import await_begun
from tests.servers.http import TOKEN, HttpWorker


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", TOKEN)


@pytest.fixture
def worker(request):
    started = HttpWorker(**getattr(request, "param", {}))
    started.start()
    yield started
    started.stop()


def post(worker, body=b"", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
    connection.request("POST", "/run", body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


@pytest.mark.parametrize("offered", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}])
def test_a_worker_refuses_callers_that_do_not_show_its_token(worker, offered):
    status, said = post(worker, b"anything", offered)

    assert status == 401
    assert TOKEN not in said


@pytest.mark.parametrize("worker", [{"environment": {LARGEST: "1000"}}], indirect=True)
def test_a_worker_refuses_a_request_over_its_limit_unread(worker):
    status, said = post(worker, b"x" * 1001, {"Authorization": f"Bearer {TOKEN}"})

    assert status == 413
    assert "1001 bytes are more than the 1000" in said


def test_a_worker_answers_bytes_that_are_no_request_with_a_refusal_and_lives(worker, secret):
    status, said = post(worker, b"GET / HTTP/1.1", {"Authorization": f"Bearer {TOKEN}"})

    assert status == 200
    assert "IntegrityError" in said
    with FunctionExecutor(worker.url, workers=1) as executor:
        assert executor.call_async(abs, -3).result(60) == 3


@pytest.mark.parametrize("environment", [{}, {"FANFOLD_WORKER_TOKEN_FILE": "/nowhere/token"}])
def test_a_worker_without_a_token_does_not_start(environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FANFOLD_")}
    ended = subprocess.run(
        [*HttpWorker.command()],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert "FANFOLD_WORKER_TOKEN" in ended.stderr or "/nowhere/token" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_token_ends_the_job_with_the_remedy_and_without_the_secret(worker, monkeypatch):
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", "guess-of-the-secret")

    with FunctionExecutor(worker.url, workers=2) as executor, pytest.raises(ComputeDenied) as caught:
        executor.map(abs, range(4)).results(60)

    assert "answered 401" in str(caught.value)
    assert "token_file=" in str(caught.value)
    assert "guess-of-the-secret" not in str(caught.value)


def test_the_token_is_read_from_a_file_for_every_request(worker, tmp_path, monkeypatch):
    monkeypatch.delenv("FANFOLD_WORKER_TOKEN", raising=False)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")

    with FunctionExecutor(f"{worker.url}?token_file={file}", workers=1) as executor:
        assert executor.call_async(abs, -1).result(60) == 1
        file.write_text("revoked")
        with pytest.raises(ComputeDenied):
            executor.call_async(abs, -1).result(60)


def test_more_requests_than_workers_wait_their_turn(worker, secret):
    with FunctionExecutor(worker.url, workers=8) as executor:
        results = executor.map(lambda x: time.sleep(0.05) or x, range(40), batch_size=1).results(120)

    assert results == list(range(40))


def test_a_worker_that_is_killed_and_started_again_costs_no_result(worker, secret, tmp_path):
    begun = tmp_path / "begun"

    def work(x):
        begun.touch()
        time.sleep(0.2)
        return -x

    with FunctionExecutor(worker.url, workers=2, retries=5) as executor:
        futures = executor.map(work, range(8), batch_size=2)
        await_begun(futures[0], begun)
        worker.stop()
        worker.start()
        assert futures.results(120) == [-x for x in range(8)]


def test_a_task_that_ends_its_worker_is_named_after_its_last_attempt(worker, secret):
    with FunctionExecutor(worker.url, workers=2, retries=1) as executor:
        futures = executor.map(lambda x: os._exit(9) if x == 1 else x, range(4), batch_size=4)

        error = futures[1].exception(60)
        assert isinstance(error, WorkerDied)
        assert error.attempts == 2
        assert [futures[i].result(60) for i in (0, 2, 3)] == [0, 2, 3]


@pytest.mark.parametrize("worker", [{"slots": 1}], indirect=True)
def test_a_cancelled_task_gives_its_worker_back(worker, secret):
    with FunctionExecutor(worker.url, workers=1) as executor:
        endless = executor.call_async(time.sleep, 10_000)
        await_begun(endless)
        executor.cancel(endless)

        assert executor.call_async(abs, -5).result(60) == 5


def test_a_driver_that_is_gone_keeps_no_worker(worker):
    request = f"POST /run HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\nbroken off".encode()
    import socket

    for _ in range(3):
        with socket.create_connection(("127.0.0.1", worker.port)) as connection:
            connection.sendall(request)

    assert post(worker, b"", {"Authorization": f"Bearer {TOKEN}"})[0] == 200


def test_a_service_that_is_not_there_is_named(secret, monkeypatch):
    monkeypatch.setattr("core.compute.remote.base.UNAVAILABLE_TIMEOUT", 0.3)
    absent = HttpWorker()

    with FunctionExecutor(absent.url, workers=2) as executor, pytest.raises(ComputeUnavailable) as caught:
        executor.map(abs, range(3)).results(60)

    assert f"{absent.url} cannot be reached: " in str(caught.value)


def test_what_is_no_worker_is_said_to_be_none(worker, secret):
    with FunctionExecutor(worker.url.replace("/run", "/"), workers=1) as executor:
        assert executor.call_async(abs, -1).result(60) == 1
    from http.server import SimpleHTTPRequestHandler

    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with FunctionExecutor(f"http://127.0.0.1:{other.server_port}/", workers=1) as executor:
            error = executor.call_async(abs, -1).exception(60)
        other.shutdown()
    assert "answered 501" in str(error)


@pytest.mark.parametrize(
    "address", ["http://10.0.0.1/run", "http://service.example.org/", "http://127.example.org/run"]
)
def test_plain_http_to_another_machine_is_refused(address):
    with pytest.raises(ConfigError, match="unencrypted; use https"):
        FunctionExecutor(address)


@pytest.mark.parametrize(
    "address",
    ["https://", "https://host/?tokn_file=x", "https://host/?wait=never", "https://host:x/", "https://a..b/run"],
)
def test_an_address_that_cannot_work_is_refused(address):
    with pytest.raises(ConfigError):
        FunctionExecutor(address)


@pytest.fixture
def encrypted(worker, tmp_path):
    """Yield the address of a TLS front to the worker, and the file of the authority it is signed by."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key)]
    subprocess.run([*made, "-out", str(certificate), *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    from http.server import BaseHTTPRequestHandler

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format, *args):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            behind = http.client.HTTPConnection("127.0.0.1", urlsplit(worker.url).port)
            behind.request("POST", "/run", body, {"Authorization": self.headers["Authorization"]})
            answer = behind.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    front = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    front.daemon_threads = True
    front.socket = context.wrap_socket(front.socket, server_side=True)
    threading.Thread(target=front.serve_forever, daemon=True).start()
    yield f"https://localhost:{front.server_port}/run", certificate
    front.shutdown()
    front.server_close()


def test_over_tls_the_certificate_is_checked(encrypted, secret):
    address, authority = encrypted

    with FunctionExecutor(f"{address}?ca={authority}", workers=1) as executor:
        assert executor.call_async(abs, -2).result(60) == 2
    with FunctionExecutor(address, workers=1) as executor, pytest.raises(ComputeDenied, match="not trusted"):
        executor.call_async(abs, -2).result(60)


def test_a_wrong_token_is_named_however_much_was_sent_with_it(worker, monkeypatch):
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", "wrong")

    with FunctionExecutor(worker.url, workers=1) as executor, pytest.raises(ComputeDenied, match="answered 401"):
        executor.map(len, [b"x" * (20 << 20)]).results(60)


def test_a_token_that_cannot_be_sent_is_refused_without_being_shown(worker, monkeypatch):
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", "first-secret\nsecond-secret")

    with FunctionExecutor(worker.url, workers=1) as executor, pytest.raises(ConfigError) as caught:
        executor.call_async(abs, 1).result(60)

    assert "FANFOLD_WORKER_TOKEN" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_worker_that_is_told_to_end_finishes_what_runs_and_waits_for_no_idle_driver(worker, secret, tmp_path):
    gate, began = tmp_path / "gate", tmp_path / "began"

    def wait(began=str(began), gate=str(gate)):
        open(began, "w").close()
        while not os.path.exists(gate):
            time.sleep(0.01)
        return 5

    idle = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
    idle.request("GET", "/health")
    idle.getresponse().read()
    with FunctionExecutor(worker.url, workers=1) as executor:
        running = executor.call_async(wait)
        await_begun(running, began)
        worker.process.terminate()
        assert idle.sock.recv(1) == b""
        gate.touch()
        assert running.result(60) == 5
        assert worker.process.wait(30) == 0


@pytest.mark.parametrize("worker", [{"kind": "openwhisk"}], indirect=True)
def test_an_action_takes_the_largest_message_that_a_driver_sends(worker):
    message = base64.b64encode(bytes(OpenWhiskBackend.largest)).decode()

    status, said = post(worker, json.dumps({"value": {"body": message}}).encode())

    assert (status, "body" in json.loads(said)) == (200, True)


def test_a_connection_to_a_machine_that_is_gone_is_noticed(worker):
    connection = Connection(urlsplit(worker.url), 60, None)
    connection.ask("GET", "/health", b"", {})

    assert connection._http.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
