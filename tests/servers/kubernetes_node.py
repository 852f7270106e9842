"""A node of the test run's Kubernetes: containerd and kubelet, in process and mount namespaces that end with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.servers.containers import Containers
from tests.servers.kubernetes import ADMIN, NAMESPACE, SEARCHED, START, Cluster, find
from tests.servers.ports import free_port

NODE = "node"
PAUSE = "localhost/fanfold-test-pause:1"
PLUGINS = Path("/usr/lib/cni")
BUSYBOX = Path("/bin/busybox")
TOOLS = "apt-get install containerd containernetworking-plugins busybox-static runc"
CGROUPS = Path("/sys/fs/cgroup")
SUBNET = "10.213.77"

CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_tcp_service = true
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{plugins}"
  conf_dir = "{folder}/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
"""

KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "cgroupDriver": "cgroupfs",
    "failSwapOn": False,
    "readOnlyPort": 0,
    "healthzPort": 0,
    "clusterDNS": [],
    "makeIPTablesUtilChains": False,
    "enforceNodeAllocatable": [],
    "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
    "imageGCHighThresholdPercent": 100,
    "nodeStatusUpdateFrequency": "2s",
    "nodeLeaseDurationSeconds": 4,
    "syncFrequency": "5s",
    "resolvConf": "",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
}


class Node:
    """containerd and kubelet, below one process whose death ends every pod and unmounts everything."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.folder = cluster, cluster.folder / "node"
        self.cgroup = cluster.folder.name
        self.bridge = f"ff{os.getpid()}"

    def start(self) -> None:
        """Start the node, and wait until it is ready for pods."""
        for name in ("cni", "opt", "kubelet"):
            (self.folder / name).mkdir(parents=True)
        network = {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self.bridge,
                    "isGateway": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.folder / "addresses"),
                        "ranges": [[{"subnet": f"{SUBNET}.0/24"}]],
                    },
                }
            ],
        }
        (self.folder / "cni" / "10-pods.conflist").write_text(json.dumps(network))
        text = CONTAINERD.format(folder=self.folder, pause=PAUSE, plugins=PLUGINS)
        (self.folder / "containerd.toml").write_text(text)
        port = free_port()
        settings = {**KUBELET, "port": port, "cgroupRoot": f"/{self.cgroup}"}
        (self.folder / "kubelet.json").write_text(json.dumps(settings))
        for kind in self._cgroups():
            kind.mkdir()
        self._cpus()
        # The file systems that pods mount must not show outside.
        script = (
            'mount --make-rprivate / && { "$2" --config "$3/containerd.toml" >"$3/containerd.log" 2>&1 & } && '
            'until [ -S "$3/containerd.sock" ]; do sleep 0.05; done; exec "$1" --config "$3/kubelet.json" '
            '--kubeconfig "$4" --root-dir "$3/kubelet" --hostname-override "$5" --container-runtime=remote '
            '--container-runtime-endpoint "unix://$3/containerd.sock" --cert-dir "$3/kubelet/pki"'
        )
        self.cluster.serve(
            "kubelet",
            *(find("containerd"), str(self.folder), str(self.cluster.kubeconfig(ADMIN)), NODE),
            prefix=(
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                script,
                "node",
            ),
        )
        self.cluster.wait_until(lambda: (self.folder / "containerd.sock").exists())
        self.load(_pause(self.folder / "pause.tar"))
        self.cluster.wait_until(self.ready)

    def _cgroups(self) -> list[Path]:
        kinds = [
            path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink() and path.name != "unified"
        ]
        return [kind / self.cgroup for kind in kinds]

    def _cpus(self) -> None:
        for name in ("cpuset.cpus", "cpuset.mems"):
            whole = (CGROUPS / "cpuset" / name).read_text()
            (CGROUPS / "cpuset" / self.cgroup / name).write_text(whole)

    def ready(self) -> bool:
        """Whether the node takes pods."""
        node = self.cluster.call("GET", f"/api/v1/nodes/{NODE}")
        states = {row["type"]: row["status"] for row in (node or {}).get("status", {}).get("conditions", [])}
        return states.get("Ready") == "True" and not node["spec"].get("taints")

    @property
    def address(self) -> str:
        """Address of this machine as pods see it."""
        return f"{SUBNET}.1"

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Keep the kubelet from saying anything; its pods run on.

        A node without pods is heard meanwhile: a cluster of which no node is heard evicts nothing.
        """
        witness = {"name": "witness"}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Node", "metadata": witness, "spec": {"unschedulable": True}},
        )
        over = threading.Event()
        heart = threading.Thread(target=self._beat, args=(over,), daemon=True)
        heart.start()
        (kubelet,) = _children(self.cluster.running["kubelet"].pid)
        os.kill(kubelet, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(kubelet, signal.SIGCONT)
            over.set()
            heart.join()
            self.cluster.kubectl("delete", "node", "witness")

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(1):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
            ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "is here", **times}
            path, kind = "/api/v1/nodes/witness/status", "application/strategic-merge-patch+json"
            self.cluster.call("PATCH", path, {"status": {"conditions": [ready]}}, kind=kind)

    def load(self, archive: Path) -> None:
        """Give containerd the images of an archive."""
        command = ["ctr", "--address", str(self.folder / "containerd.sock"), "-n", "k8s.io", "images", "import"]
        done = subprocess.run([*command, str(archive)], capture_output=True, text=True, timeout=START, check=False)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """End every pod and the node."""
        process = self.cluster.running.pop("kubelet", None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)
        # What ran in pods is killed with their namespace, a moment after its first process.
        self.cluster.wait_until(lambda: all(map(_is_removed, CGROUPS.glob(f"*/{self.cgroup}"))))


def _is_removed(group: Path) -> bool:
    for path, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(path)
    return not group.exists()


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _pause(path: Path) -> Path:
    """Write the image whose one process holds a pod's namespaces, in the form of ``docker save``."""
    layer = BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(BUSYBOX, "busybox")
    settings = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/busybox"], "Cmd": ["tail", "-f", "/dev/null"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer.getvalue())}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
    parts: dict[str, Any] = {"config.json": json.dumps(settings).encode(), "layer.tar": layer.getvalue()}
    parts["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    return path


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="session")
def kubernetes_node(kubernetes_api: Cluster) -> Iterator[Node]:
    """Return a running node of the cluster."""
    missing = [name for name in ("containerd", "ctr", "runc", "unshare") if shutil.which(name, path=SEARCHED) is None]
    if missing or not (PLUGINS / "bridge").exists() or not BUSYBOX.exists() or os.geteuid() != 0:
        pytest.skip(f"needs root, and containerd with network plug-ins: {TOOLS}")
    if not (CGROUPS / "memory").is_dir():
        pytest.skip("this kubelet needs version 1 of Linux' control groups, which this machine does not have")
    node = Node(kubernetes_api)
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def kubernetes_image(kubernetes_node: Node, containers: Containers) -> str:
    """Return the base runtime, built from this source tree and known to the node."""
    image = containers.runtime("base")
    archive = kubernetes_node.folder / "base.tar"
    done = containers.podman("save", "--output", str(archive), image)
    assert done.returncode == 0, done.stderr
    kubernetes_node.load(archive)
    archive.unlink()
    return f"localhost/{image}"


@pytest.fixture(scope="session")
def kubernetes_site(kubernetes_image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return how the compute contract reaches the cluster; its pods share the temporary folder of the tests."""
    shared = tmp_path_factory.getbasetemp()
    options = f"image={kubernetes_image}&cpu=100m&user={os.geteuid()}&volume={shared}:{shared}"
    return {"compute": f"kubernetes://{NAMESPACE}?{options}", "workers": 2}
