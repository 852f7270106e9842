import base64
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from core import ConfigError
from core.compute.cluster.kubernetes import KubernetesBackend, manifest
from core.compute.cluster.kubernetes_manifest import OPTIONS, RULES, job, pod_settings, rights, secret
from core.errors import MissingExtra
from core.settings import ExecutorConfig, parse_address

client = pytest.importorskip("kubernetes.client", reason="needs the client: pip install '.[kubernetes]'")

EVERYTHING = (
    "kubernetes://science?image=registry.example.org/fanfold-base:1&cpu=2&service_account=worker&secret=s3"
    "&volume=data:/data,/scratch:/scratch&user=1000&deadline=2h&wait=1m"
)


def settings(text, **config):
    return pod_settings(parse_address(text), ExecutorConfig(**config))


def made(text=EVERYTHING, memory=1 << 30, **config):
    return job("fanfold-1-0", "fanfold-1", "host:1:2", memory, settings(text, **config))


def read(value, kind):
    """Return an object as the client's model of the API has it; unknown or mistyped fields do not survive it."""
    return client.ApiClient().deserialize(SimpleNamespace(data=json.dumps(value)), kind)


@pytest.mark.parametrize("text", [EVERYTHING, "kubernetes?image=a"])
def test_a_job_has_only_fields_that_the_api_has_with_the_types_it_has(text):
    body = made(text)

    back = client.ApiClient().sanitize_for_serialization(read(body, "V1Job"))

    assert without_empty(back) == without_empty(body)


def test_a_secret_has_only_fields_that_the_api_has_and_goes_with_its_job():
    body = secret({"metadata": {"name": "fanfold-1-0", "uid": "u-1"}}, "fanfold-1", b"\0frames")

    back = client.ApiClient().sanitize_for_serialization(read(body, "V1Secret"))

    assert back == body
    assert base64.b64decode(body["data"]["requests"]) == b"\0frames"
    assert body["metadata"]["ownerReferences"][0]["uid"] == "u-1"


def test_a_field_that_the_api_does_not_have_would_be_found():
    body = made()
    body["spec"]["template"]["spec"]["containers"][0]["colour"] = "red"

    back = client.ApiClient().sanitize_for_serialization(read(body, "V1Job"))

    assert without_empty(back) != without_empty(body)


def without_empty(value):
    if isinstance(value, dict):
        return {name: without_empty(part) for name, part in value.items() if part not in ({}, [], None)}
    return [without_empty(part) for part in value] if isinstance(value, list) else value


def test_pods_meet_the_restricted_pod_security_standard_and_openshifts_arbitrary_users():
    pod = made("kubernetes?image=a")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert {"name": "scratch", "mountPath": "/tmp"} in container["volumeMounts"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


def test_a_unit_is_one_pod_that_is_never_started_again_and_whose_node_may_be_lost():
    spec = made()["spec"]

    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert {row["tolerationSeconds"] for row in spec["template"]["spec"]["tolerations"]} == {30}
    assert "completionMode" not in spec  # Kubernetes 1.20 has no indexed Jobs


def test_memory_and_processors_follow_from_the_executors_settings():
    two, none = made(memory=1 << 30), made("kubernetes?image=a&cpu=500m", memory=None)

    assert two["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "2", "memory": "2304Mi"},
        "limits": {"memory": "2304Mi"},
    }
    assert none["spec"]["template"]["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "500m"}, "limits": {}}
    assert none["spec"]["template"]["spec"]["containers"][0]["args"][-1] == "1"


def test_credentials_are_named_and_never_copied(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-drivers-own-secret")

    text = json.dumps(made())

    assert "the-drivers-own-secret" not in text
    assert '"secretName": "s3"' in text
    assert '"serviceAccountName": "worker"' in text


def test_the_image_is_that_of_the_address_or_else_of_the_executor():
    assert settings("kubernetes?image=a", runtime="b").image == "a"
    assert settings("kubernetes", runtime="b").image == "b"
    with pytest.raises(ConfigError, match="runtime= or [?]image="):
        settings("kubernetes")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("colour=red", f"no option 'colour'; known: {', '.join(OPTIONS)}"),
        ("cpu=many", "cpu= must be"),
        ("cpu=0", "cpu= must be"),
        ("wait=soon", "wait= and deadline= times"),
        ("user=me", "user= the number"),
        ("volume=data", "must be CLAIM:/path"),
        ("volume=data:relative", "must be CLAIM:/path"),
        ("volume=Not_A_Name:/data", "must be CLAIM:/path"),
        ("secret=no/name", "no name of a Kubernetes object"),
        ("service_account=Mixed", "no name of a Kubernetes object"),
    ],
)
def test_options_that_cannot_work_are_refused_with_what_would(option, words):
    with pytest.raises(ConfigError) as caught:
        settings(f"kubernetes?image=a&{option}")

    assert words in str(caught.value)


def test_a_root_user_is_only_had_by_asking():
    pod = made("kubernetes?image=a&user=0")["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsUser"] == 0
    assert pod["securityContext"]["runAsNonRoot"] is False


def test_the_rights_are_a_role_that_names_whoever_was_refused():
    import yaml

    refusal = 'jobs.batch is forbidden: User "system:serviceaccount:tools:driver" cannot create resource "jobs"'
    role, binding = yaml.safe_load_all(rights("science", refusal))

    assert {(rule["apiGroups"][0], rule["resources"][0], tuple(rule["verbs"])) for rule in role["rules"]} == set(RULES)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "driver", "namespace": "tools"}]
    assert read(role, "V1Role").rules
    assert read(binding, "V1RoleBinding").role_ref.name == role["metadata"]["name"]


def test_the_rights_in_the_documentation_are_those_that_are_needed():
    import yaml

    page = (Path(__file__).resolve().parents[2] / "docs" / "kubernetes.md").read_text()

    text = page.partition("```yaml\n")[2].partition("```")[0]

    assert list(yaml.safe_load_all(text)) == list(yaml.safe_load_all(rights("science")))


def test_the_manifest_of_a_runtime_is_the_drivers_rights():
    text = manifest(parse_address("kubernetes://cluster/science"), "registry.example.org/fanfold-base:1", {})

    assert "namespace: science" in text
    assert "registry.example.org/fanfold-base:1" in text
    with pytest.raises(ConfigError, match="no option 'scale'"):
        manifest(parse_address("kubernetes://science"), "image", {"scale": "1"})


def test_without_its_package_the_backend_says_what_adds_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "kubernetes", None)

    with pytest.raises(MissingExtra, match=r"pip install 'fanfold\[kubernetes\]'"):
        KubernetesBackend(parse_address("kubernetes?image=a"), ExecutorConfig())
