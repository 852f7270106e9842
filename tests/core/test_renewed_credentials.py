"""Credentials that were renewed are picked up after one refusal; those that are refused as they are end the job."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.compute.cluster.kubernetes import KubernetesBackend
from core.compute.remote.openwhisk import Api
from core.errors import ComputeDenied
from core.settings import ExecutorConfig, parse_address


class Guarded(ThreadingHTTPServer):
    """Answers those who show what it `wants`; `on_refusal` is called whenever somebody does not."""

    daemon_threads = True

    def __init__(self, wants: str) -> None:
        super().__init__(("127.0.0.1", 0), Guard)
        self.wants, self.refused, self.on_refusal = wants, 0, lambda: None


class Guard(BaseHTTPRequestHandler):
    server: Guarded
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        welcome = self.headers.get("Authorization") == self.server.wants
        body = json.dumps({"items": [], "message": "Unauthorized"}).encode()
        if not welcome:
            self.server.refused += 1
            self.server.on_refusal()
        self.send_response(200 if welcome else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with Guarded("") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def basic(key: str) -> str:
    return f"Basic {base64.b64encode(key.encode()).decode()}"


@pytest.fixture
def whisk(guarded: Guarded, tmp_path: Path) -> Api:
    (tmp_path / "key").write_text("user:outdated")
    address = f"openwhisk://127.0.0.1:{guarded.server_port}/guest?plain=yes&auth_file={tmp_path}/key"
    return Api(parse_address(address))


def test_an_openwhisk_key_that_was_renewed_meanwhile_is_shown_at_once(guarded, whisk, tmp_path):
    guarded.wants = basic("user:renewed")
    guarded.on_refusal = lambda: (tmp_path / "key").write_text("user:renewed")

    answer = whisk.ask(whisk.connection(), "GET", whisk.action)

    assert (answer.status, guarded.refused) == (200, 1)


def test_an_openwhisk_key_that_is_refused_and_not_renewed_is_shown_once(guarded, whisk):
    answer = whisk.ask(whisk.connection(), "GET", whisk.action)

    assert (answer.status, guarded.refused) == (401, 1)


@pytest.fixture
def kubernetes(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubernetesBackend:
    pytest.importorskip("kubernetes", reason="needs its client: pip install '.[kubernetes]'")
    (tmp_path / "config").write_text(kubeconfig(guarded, "outdated"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    address = parse_address("kubernetes://here?image=registry.example.org/fanfold-base:1")
    return KubernetesBackend(address, ExecutorConfig(storage="s3://bucket/jobs"))


def kubeconfig(guarded: Guarded, token: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{guarded.server_port}"}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
    )


def test_a_kubernetes_token_that_was_renewed_is_read_again(guarded, kubernetes, tmp_path):
    guarded.wants = "Bearer renewed"
    guarded.on_refusal = lambda: (tmp_path / "config").write_text(kubeconfig(guarded, "renewed"))

    kubernetes.prepare()

    assert guarded.refused == 1
    kubernetes.release()
    assert guarded.refused == 1


def test_a_kubernetes_token_that_is_refused_and_not_renewed_says_to_log_in(guarded, kubernetes):
    with pytest.raises(ComputeDenied, match="log in again"):
        kubernetes.prepare()

    assert guarded.refused == 2
