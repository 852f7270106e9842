"""What becomes of jobs when the cluster refuses, kills, evicts or loses what runs them: all on a real cluster."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from core import ConfigError, FunctionExecutor
from core.compute.cluster.kubernetes_manifest import RULES
from core.errors import ComputeDenied, ComputeError, MemoryLimitExceeded, TaskTimeout, WorkerDied
from tests.servers.kubernetes import ADMIN, LIMITED, NAMESPACE

pytestmark = pytest.mark.slow

WAIT = 120


def hold(path):
    """Say that this task runs, and go on when the test says so."""
    open(f"{path}.runs", "w").close()
    while not os.path.exists(path):
        time.sleep(0.05)
    return "let go"


@pytest.fixture
def namespace(kubernetes_api, request):
    """Return a namespace of one test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name)[-50:].strip("-")
    kubernetes_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    kubernetes_api.wait_until(lambda: "secrets" in (kubernetes_api.call("GET", account) or {}))
    yield name
    kubernetes_api.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def start(kubernetes_site, tmp_path_factory):
    """Return what makes executors on the cluster, given a namespace and further options of the address."""

    def make(namespace=NAMESPACE, options="", **settings):
        compute = kubernetes_site["compute"].replace(f"//{NAMESPACE}?", f"//{namespace}?") + options
        given = {"workers": 1, "retries": 0, "storage": f"file://{tmp_path_factory.mktemp('store')}", **settings}
        return FunctionExecutor(compute, **given)

    return make


def restrict(cluster, namespace, kind, spec):
    cluster.apply(
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": "mine", "namespace": namespace}, "spec": spec}
    )


def left_in(cluster, namespace):
    made = cluster.kubectl(
        "-n", namespace, "get", "jobs,pods,secrets", "-l", "app.kubernetes.io/name=fanfold", "-o=name"
    )
    return made.split()


def running(cluster, path):
    cluster.wait_until(lambda: os.path.exists(f"{path}.runs"), WAIT)


def error_of(executor, function, *arguments):
    return executor.call_async(function, *arguments).exception(WAIT)


def test_a_refused_driver_is_told_the_rights_that_suffice_and_uses_each_of_them(
    kubernetes_api, namespace, start, monkeypatch
):
    monkeypatch.setenv("KUBECONFIG", str(kubernetes_api.kubeconfig(LIMITED)))
    with start(namespace) as executor, pytest.raises(ComputeDenied) as caught:
        executor.call_async(abs, -1).result(WAIT)
    said, _, yaml = str(caught.value).partition("given:\n")
    assert 'User "limited" cannot list resource "jobs" in API group "batch"' in said

    kubernetes_api.kubectl("apply", "-f", "-", given=yaml)
    before = len(kubernetes_api.audited())
    with start(namespace, workers=2) as executor:
        assert executor.map(lambda x: x * x, range(20)).results(WAIT) == [x * x for x in range(20)]
    restrict(kubernetes_api, namespace, "ResourceQuota", {"hard": {"requests.memory": "1Mi"}})
    with start(namespace, memory="100MB") as executor:
        assert isinstance(error_of(executor, abs, -1), ComputeDenied)

    used = set()
    for row in kubernetes_api.audited()[before:]:
        target = row["objectRef"]
        assert target["namespace"] == namespace
        assert row["responseStatus"]["code"] in (200, 201, 404), row
        used.add((target.get("apiGroup", ""), target["resource"], row["verb"]))
    assert used == {(group, resource, verb) for group, resource, verbs in RULES for verb in verbs}


def test_nothing_is_left_when_an_executor_closes(kubernetes_api, namespace, start, tmp_path):
    with start(namespace) as executor:
        executor.call_async(hold, str(tmp_path / "gate"))
        running(kubernetes_api, tmp_path / "gate")
        held = left_in(kubernetes_api, namespace)
        executor.shutdown(cancel_futures=True)

    assert {name.partition("/")[0] for name in held} == {"job.batch", "pod", "secret"}
    kubernetes_api.wait_until(lambda: not left_in(kubernetes_api, namespace))


def test_what_a_killed_driver_left_is_removed_by_the_next(kubernetes_api, namespace, start, kubernetes_site, tmp_path):
    code = (
        "import sys, time; from core import FunctionExecutor\n"
        "with FunctionExecutor(sys.argv[1], workers=1, storage='file://' + sys.argv[2]) as executor:\n"
        "    executor.call_async(time.sleep, 600).result()"
    )
    compute = kubernetes_site["compute"].replace(f"//{NAMESPACE}?", f"//{namespace}?")
    driver = subprocess.Popen([sys.executable, "-c", code, compute, str(tmp_path)])
    kubernetes_api.wait_until(lambda: left_in(kubernetes_api, namespace))
    driver.kill()
    driver.wait()
    left = set(left_in(kubernetes_api, namespace))

    with start(namespace) as executor:
        assert executor.call_async(abs, -1).result(WAIT) == 1

    kubernetes_api.wait_until(lambda: not left & set(left_in(kubernetes_api, namespace)))


def test_an_image_that_is_nowhere_is_named_instead_of_waited_for(kubernetes_image, start):
    compute = f"kubernetes://{NAMESPACE}?image=localhost:1/team/nothing:7"

    with FunctionExecutor(compute, workers=1) as executor, pytest.raises(ConfigError) as caught:
        executor.call_async(abs, -1).result(WAIT)

    assert "image localhost:1/team/nothing:7 cannot be pulled" in str(caught.value)


def test_an_image_that_is_no_runtime_is_named(kubernetes_image):
    compute = f"kubernetes://{NAMESPACE}?image=localhost/fanfold-test-pause:1&user=1000"

    with FunctionExecutor(compute, workers=1) as executor, pytest.raises(ComputeError) as caught:
        executor.call_async(abs, -1).result(WAIT)

    assert "fanfold-test-pause:1" in str(caught.value)


@pytest.mark.parametrize("what", ["job", "pod"])
def test_a_job_or_pod_that_somebody_deletes_is_a_worker_that_died(kubernetes_api, namespace, start, tmp_path, what):
    with start(namespace) as executor:
        future = executor.call_async(hold, str(tmp_path / "gate"))
        running(kubernetes_api, tmp_path / "gate")
        kubernetes_api.kubectl("-n", namespace, "delete", what, "--all", "--wait=false")
        error = future.exception(WAIT)

    assert type(error) is WorkerDied
    assert "deleted" in str(error)


def test_a_deleted_job_is_tried_again(kubernetes_api, namespace, start, tmp_path):
    with start(namespace, retries=1) as executor:
        futures = executor.map(hold, [str(tmp_path / "gate"), str(tmp_path / "other")], batch_size=1)
        running(kubernetes_api, tmp_path / "gate")
        kubernetes_api.kubectl("-n", namespace, "delete", "job", "--all", "--wait=false")
        for name in ("gate", "other"):
            (tmp_path / name).touch()
        assert [future.result(WAIT) for future in futures] == ["let go", "let go"]


def test_a_pod_killed_for_its_memory_is_a_memory_error(kubernetes_api, namespace, start):
    limit = {"limits": [{"type": "Container", "default": {"memory": "16Mi"}, "defaultRequest": {"memory": "16Mi"}}]}
    restrict(kubernetes_api, namespace, "LimitRange", limit)

    with start(namespace) as executor:
        error = error_of(executor, abs, -1)

    assert isinstance(error, MemoryLimitExceeded)
    assert "16Mi" in str(error)


def test_an_evicted_pod_is_a_worker_that_died(kubernetes_api, namespace, start):
    limit = {"limits": [{"type": "Container", "default": {"ephemeral-storage": "20Mi"}}]}
    restrict(kubernetes_api, namespace, "LimitRange", limit)

    def fill():
        with open("/tmp/large", "wb") as file:
            file.write(bytes(100 << 20))
        time.sleep(600)

    with start(namespace) as executor:
        error = error_of(executor, fill)

    assert type(error) is WorkerDied
    assert "Evicted" in str(error)


def test_a_lost_node_is_a_worker_that_died(kubernetes_api, kubernetes_node, namespace, start, tmp_path):
    with start(namespace) as executor:
        future = executor.call_async(hold, str(tmp_path / "gate"))
        running(kubernetes_api, tmp_path / "gate")
        with kubernetes_node.unheard():
            error = future.exception(WAIT)
        (tmp_path / "gate").touch()
    kubernetes_api.wait_until(kubernetes_node.ready)

    assert type(error) is WorkerDied
    assert "with its node" in str(error)


def test_a_job_past_its_deadline_is_a_timeout(namespace, start, tmp_path):
    with start(namespace, "&deadline=3s") as executor:
        error = error_of(executor, hold, str(tmp_path / "gate"))

    assert isinstance(error, TaskTimeout)
    assert "deadline" in str(error)


def test_pods_that_fit_no_node_are_given_up_with_the_schedulers_words(namespace, start, kubernetes_site):
    compute = re.sub(r"cpu=\w+", "cpu=64", kubernetes_site["compute"]).replace(NAMESPACE, namespace, 1)

    with FunctionExecutor(f"{compute}&wait=2s", workers=64) as executor, pytest.raises(ComputeError) as caught:
        executor.call_async(abs, -1).result(WAIT)

    assert "Insufficient cpu" in str(caught.value)


def test_a_pod_larger_than_the_quota_is_denied_at_once(kubernetes_api, namespace, start):
    restrict(kubernetes_api, namespace, "ResourceQuota", {"hard": {"limits.memory": "512Mi"}})

    with start(namespace, memory="4GB") as executor, pytest.raises(ComputeDenied) as caught:
        executor.call_async(abs, -1).result(WAIT)

    assert "limits.memory=4071Mi" in str(caught.value)
    assert "512Mi" in str(caught.value)


def test_a_quota_of_memory_asks_for_memory(kubernetes_api, namespace, start):
    restrict(kubernetes_api, namespace, "ResourceQuota", {"hard": {"limits.memory": "512Mi"}})

    with start(namespace) as executor, pytest.raises(ComputeDenied, match="memory="):
        executor.call_async(abs, -1).result(WAIT)


@pytest.mark.parametrize("counted", ["count/jobs.batch", "pods"])
def test_a_quota_for_fewer_units_than_wanted_slows_a_job_down_and_fails_nothing(
    kubernetes_api, namespace, start, counted
):
    restrict(kubernetes_api, namespace, "ResourceQuota", {"hard": {counted: "1"}})

    with start(namespace, workers=3) as executor:
        assert executor.map(lambda x: x + 1, range(12), batch_size=1).results(WAIT) == list(range(1, 13))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("&service_account=nobody", 'serviceaccount "nobody" not found'),
        ("&secret=nothing", 'secret "nothing" not found'),
    ],
    ids=["account", "secret"],
)
def test_what_pods_need_and_the_namespace_lacks_is_named(namespace, start, options, words):
    with start(namespace, f"{options}&wait=5s") as executor, pytest.raises((ConfigError, ComputeError), match=words):
        executor.call_async(abs, -1).result(WAIT)


def test_a_claim_that_is_not_there_is_named(namespace, start, kubernetes_site):
    compute = re.sub(r"volume=.*", "volume=nothing:/data", kubernetes_site["compute"]).replace(NAMESPACE, namespace, 1)

    with FunctionExecutor(compute, workers=1) as executor, pytest.raises(ConfigError, match="volume=.*nothing"):
        executor.call_async(abs, -1).result(WAIT)


def test_a_namespace_that_is_not_there_is_named(start):
    with start("nowhere") as executor, pytest.raises(ConfigError, match="nowhere"):
        executor.call_async(abs, -1).result(WAIT)


@contextmanager
def relayed(port):
    """Let pods reach a server of this machine's loopback; yields the port that leads to it."""

    def copy(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve():
        with suppress(OSError):
            while True:
                caller = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", port))
                for pair in ((caller, server), (server, caller)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    with socket.create_server(("", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_pods_of_an_arbitrary_user_reach_s3_with_credentials_from_a_secret(
    kubernetes_api, kubernetes_node, kubernetes_image, s3_server, namespace
):
    credentials = f"[default]\naws_access_key_id={os.environ['AWS_ACCESS_KEY_ID']}\n"
    credentials += f"aws_secret_access_key={os.environ['AWS_SECRET_ACCESS_KEY']}\n"
    with relayed(int(s3_server.endpoint.rpartition(":")[2])) as port:
        settings = f"[default]\nendpoint_url=http://{kubernetes_node.address}:{port}\nregion=us-east-1\n"
        kubernetes_api.kubectl(
            *("-n", namespace, "create", "secret", "generic", "s3"),
            *(f"--from-literal=credentials={credentials}", f"--from-literal=config={settings}"),
        )
        compute = f"kubernetes://test/{namespace}?image={kubernetes_image}&cpu=100m&secret=s3&user=1000650000"
        with FunctionExecutor(compute, workers=1, storage="s3://fanfold/kubernetes") as executor:
            user, environment, root = executor.call_async(
                lambda: (os.getuid(), dict(os.environ), os.access("/opt", os.W_OK))
            ).result(WAIT)

    assert user == 1000650000
    assert not root
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(environment)


def test_a_token_that_the_cluster_does_not_know_is_denied(kubernetes_api, start, monkeypatch):
    unknown = kubernetes_api.folder / "kubeconfig-unknown"
    unknown.write_text(kubernetes_api.kubeconfig(ADMIN).read_text().replace(ADMIN, "unknown"))
    monkeypatch.setenv("KUBECONFIG", str(unknown))

    with start() as executor, pytest.raises(ComputeDenied, match="credentials"):
        executor.call_async(abs, -1).result(WAIT)


def test_an_api_server_that_is_gone_for_a_while_costs_no_result(kubernetes_api, namespace, start, tmp_path):
    server = kubernetes_api.running["kube-apiserver"]
    with start(namespace) as executor:
        future = executor.call_async(hold, str(tmp_path / "gate"))
        running(kubernetes_api, tmp_path / "gate")
        server.send_signal(signal.SIGSTOP)
        (tmp_path / "gate").touch()
        try:
            assert future.result(WAIT) == "let go"
        finally:
            server.send_signal(signal.SIGCONT)
