"""A Kubernetes control plane of this test run: etcd, API server, controllers and scheduler, each a child process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ports import free_port
from tests.servers.processes import end_with_parent

START = 120.0
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
BINARIES = os.environ.get("KUBERNETES_BIN", "")
SEARCHED = f"{BINARIES}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
HOW = (
    "needs Kubernetes' programs on PATH or in the folder KUBERNETES_BIN, and etcd (apt-get install etcd-server); "
    "docs/kubernetes.md says how to build them from Debian's source package"
)
ADMIN, LIMITED = "admin-of-this-test-run", "limited-in-this-test-run"
NAMESPACE = "science"


class Cluster:
    """A control plane on this machine, with users that are known by tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.users: dict[str, str] = {ADMIN: "admin"}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start every server, and wait until the API server and its controllers are at work."""
        (self.folder / "pki").mkdir()
        key = self.folder / "pki" / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        tokens = [f"{ADMIN},admin,1,system:masters", f"{LIMITED},limited,2"]
        (self.folder / "tokens.csv").write_text("\n".join(tokens) + "\n")
        audit = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
        users = {"level": "Metadata", "users": ["limited"]}
        (self.folder / "audit.json").write_text(json.dumps({**audit, "rules": [users, {"level": "None"}]}))
        clients, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.serve(
            "etcd",
            *(f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=error"),
            *(f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}"),
            *(f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"),
            f"--initial-cluster=default={peers}",
        )
        self.serve(
            "kube-apiserver",
            *(f"--etcd-servers={clients}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
            *(f"--secure-port={self.port}", f"--cert-dir={self.folder / 'pki'}"),
            *("--service-cluster-ip-range=10.250.0.0/24", "--authorization-mode=Node,RBAC"),
            *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
            *(f"--service-account-issuer={self.url}", "--api-audiences=fanfold"),
            *(f"--token-auth-file={self.folder / 'tokens.csv'}", "--allow-privileged=true"),
            *(f"--audit-policy-file={self.folder / 'audit.json'}", f"--audit-log-path={self.folder / 'audit.log'}"),
        )
        self.wait_until(lambda: self.call("GET", "/readyz", text=True) == "ok")
        kubeconfig = str(self.kubeconfig(ADMIN))
        common = ("--bind-address=127.0.0.1", "--port=0", "--secure-port=0", "--leader-elect=false")
        self.serve(
            "kube-controller-manager",
            *(f"--kubeconfig={kubeconfig}", f"--service-account-private-key-file={key}", *common),
            *("--node-monitor-grace-period=8s", "--node-monitor-period=1s", "--pod-eviction-timeout=4s"),
        )
        self.serve("kube-scheduler", f"--kubeconfig={kubeconfig}", *common)
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
        self.wait_until(lambda: "secrets" in (self.call("GET", account) or {}))

    def serve(self, program: str, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        with open(self.folder / f"{program}.log", "ab") as log:
            self.running[program] = subprocess.Popen(
                [*prefix, find(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def kubeconfig(self, token: str) -> Path:
        """Return a file that lets clients in as the user of a token."""
        path = self.folder / f"kubeconfig-{token}"
        if path.exists():
            return path
        cluster = {"server": self.url, "certificate-authority": str(self.folder / "pki" / "apiserver.crt")}
        made = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user", "namespace": NAMESPACE}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(made))
        return path

    def call(
        self, method: str, path: str, body: object = None, text: bool = False, kind: str = "application/json"
    ) -> Any:
        """Ask the API server; returns its answer, None if there is no such thing or it is not up."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:
                said = answer.read().decode()
        except urllib.error.HTTPError as error:
            said = error.read().decode()
            if error.code not in (404, 500, 503):
                raise AssertionError(f"{method} {path}: {said}") from None
            return None
        except OSError:
            return None
        return said if text else json.loads(said)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects, as ``kubectl apply`` does."""
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "-f", "-", given=given)

    def kubectl(self, *arguments: str, given: str = "") -> str:
        """Run kubectl as the administrator; returns what it prints."""
        command = [find("kubectl"), f"--kubeconfig={self.kubeconfig(ADMIN)}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=START, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def audited(self) -> list[dict[str, Any]]:
        """Return the requests of the user ``limited``, as the API server has noted them."""
        return [json.loads(line) for line in (self.folder / "audit.log").read_text().splitlines()]

    def wait_until(self, condition: Callable[[], Any], limit: float = START) -> None:
        deadline = time.monotonic() + limit
        while not condition():
            for name, process in self.running.items():
                assert process.poll() is None, self.log(name)
            assert time.monotonic() < deadline, f"{condition} not within {limit:g} s"
            time.sleep(0.05)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-4000:]

    def stop(self) -> None:
        """End every server."""
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.running.clear()


def find(program: str) -> str:
    return shutil.which(program, path=SEARCHED) or program


@pytest.fixture(scope="session")
def kubernetes_api() -> Iterator[Cluster]:
    """Return a running control plane without nodes; the environment leads clients to it as its administrator."""
    pytest.importorskip("kubernetes", reason="needs the client: pip install '.[kubernetes]'")
    missing = [name for name in (*PROGRAMS, "etcd", "openssl") if shutil.which(name, path=SEARCHED) is None]
    if missing:
        pytest.skip(f"{HOW}; missing: {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="fanfold-k8s-") as folder, pytest.MonkeyPatch.context() as patch:
        cluster = Cluster(Path(folder))
        patch.setenv("KUBECONFIG", str(cluster.folder / f"kubeconfig-{ADMIN}"))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
