"""lambda:// when answers break off, come from something in between, or speak of the wrong time."""

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core import FunctionExecutor, InputError
from core.errors import ComputeDenied, ComputeUnavailable, FanfoldError, WorkerDied

DENIED = (403, {"x-amzn-errortype": "AccessDeniedException"}, b'{"Message": "no"}')


class Service(BaseHTTPRequestHandler):
    """Gives every invocation the same answer; of function and account it tells nothing."""

    protocol_version = "HTTP/1.1"
    answer = DENIED

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        self.tell(*DENIED)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.tell(*self.answer)

    def tell(self, status, headers, body):
        self.send_response(status)
        length = {} if "Transfer-Encoding" in headers else {"Content-Length": str(len(body))}
        for name, value in {**length, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


def error_of(status, headers, body):
    handler = type("Told", (Service,), {"answer": (status, headers, body)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"lambda://f?region=eu-west-1&endpoint=http://127.0.0.1:{server.server_port}"
        with FunctionExecutor(address, workers=1, retries=0) as executor:
            error = executor.call_async(abs, -1).exception(60)
        server.shutdown()
    return error


@pytest.mark.parametrize(
    ("headers", "body"),
    [({"Content-Length": "500"}, b"abc"), ({"Transfer-Encoding": "chunked"}, b"50\r\nabc")],
    ids=["counted", "chunks"],
)
def test_a_call_whose_answer_breaks_off_counts_as_an_attempt(headers, body):
    error = error_of(200, headers, body)

    assert isinstance(error, WorkerDied)
    assert "function f in eu-west-1 broke before the whole answer was there" in str(error)


def test_an_answer_is_read_to_the_limit_of_the_platform_and_no_further():
    error = error_of(200, {}, bytes(20 << 20))

    assert isinstance(error, InputError)
    assert "the answer of function f in eu-west-1 has more than 8.4 MB" in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {}, b""),
        (200, {}, b"[" * 100_000),
        (200, {}, b'{"body": 5}'),
        (200, {}, b'{"body": "AAAA"}'),
        (200, {"X-Amz-Function-Error": "Unhandled"}, b"\x1b]0;a\x07\xff"),
        (200, {"X-Amz-Function-Error": "Unhandled"}, b"[" * 100_000),
        (200, {"X-Amz-Function-Error": "Unhandled"}, b'{"errorType": "\\u001b[2J", "errorMessage": "\\u001b[2J"}'),
        (400, {"x-amzn-errortype": "\x1b[2JException"}, b'{"message": "\\u001b[2J"}'),
        (400, {}, b"\x1b[2J"),
    ],
)
def test_whatever_a_service_says_ends_in_a_typed_error_of_printable_text(status, headers, body):
    error = error_of(status, headers, body)

    assert isinstance(error, FanfoldError)
    assert str(error).isprintable()


@pytest.mark.parametrize("status", [502, 504])
def test_what_a_gateway_says_costs_an_attempt_and_not_the_job(status):
    error = error_of(status, {"Content-Type": "text/html"}, b"<html><body>somewhere\nelse</body></html>")

    assert isinstance(error, WorkerDied)
    assert f"something before function f in eu-west-1 answers {status}" in str(error)


def test_a_signature_of_the_wrong_time_points_to_the_clock():
    said = b'{"message": "Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z"}'

    error = error_of(403, {"x-amzn-errortype": "InvalidSignatureException"}, said)

    assert isinstance(error, ComputeDenied)
    assert "the clock of this machine" in str(error)


@pytest.fixture
def strangers(tmp_path):
    """Return the port of a TLS server whose certificate nobody trusts."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", str(key)]
    subprocess.run([*made, "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def unencrypted():
    """Return the port of a server that speaks no TLS."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def refused(port):
    address = f"lambda://f?region=eu-west-1&endpoint=https://localhost:{port}"
    with FunctionExecutor(address, workers=1) as executor, pytest.raises((ComputeDenied, ComputeUnavailable)) as caught:
        executor.call_async(abs, -1).result(60)
    return caught.value


def test_a_certificate_that_is_not_trusted_is_told_from_a_handshake_that_fails(strangers, unencrypted):
    untrusted, broken = refused(strangers), refused(unencrypted)

    assert isinstance(untrusted, ComputeDenied)
    assert "is not trusted; set AWS_CA_BUNDLE" in str(untrusted)
    assert isinstance(broken, ComputeUnavailable)
    assert "cannot be reached: SSLError" in str(broken)
