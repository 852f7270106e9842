import json

import pytest

from core import ConfigError
from core.compute.remote.http import deploy, manifest
from core.settings import parse_address

ADDRESS = parse_address("https://fanfold.example.org/run")


def test_a_manifest_is_a_knative_service_of_one_batch_an_instance():
    text = manifest(ADDRESS, "registry.example.org/fanfold-base:1", {"memory": "512MiB", "scale": "7"})

    made = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    spec = made["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (made["apiVersion"], made["kind"]) == ("serving.knative.dev/v1", "Service")
    assert made["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"] == "7"
    assert spec["containerConcurrency"] == 1
    assert container["args"] == ["http"]
    assert container["resources"]["limits"]["memory"] == str(512 << 20)


def test_a_manifest_gives_no_rights_and_names_its_secret_without_holding_it(monkeypatch):
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", "secret-of-the-worker")

    text = manifest(ADDRESS, "image", {"secret": "mine"})

    made = json.loads("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    spec = made["spec"]["template"]["spec"]
    security = spec["containers"][0]["securityContext"]
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert spec["volumes"][0]["secret"] == {"secretName": "mine"}
    assert "secret-of-the-worker" not in text


@pytest.mark.parametrize("options", [{"colour": "red"}, {"memory": "much"}, {"scale": "0"}, {"timeout": "soon"}])
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ConfigError, match="the manifest"):
        manifest(ADDRESS, "image", options)


def test_deploying_says_which_tools_do_it():
    with pytest.raises(ConfigError, match="--manifest"):
        deploy(ADDRESS, "image", {})
