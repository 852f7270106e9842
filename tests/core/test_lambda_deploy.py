"""Deploying to Lambda, against moto's control plane, and the policies of docs/lambda.md against what is called."""

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from core import ConfigError
from core.compute.remote.aws_lambda import LambdaBackend, delete, deploy, manifest
from core.errors import ComputeError, FanfoldError
from core.settings import ExecutorConfig, parse_address

ROOT = Path(__file__).parents[2]
REGION = "eu-west-1"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
BY_ANOTHER_NAME = {
    "Invoke": "InvokeFunction",
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "DeleteObjects": "DeleteObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
"""API operations whose IAM action is called otherwise (Service Authorization Reference)."""


@dataclass
class Account:
    """An account of moto, with a role and a repository of two images."""

    endpoint: str
    client: object
    role: str
    images: list[str]

    def address(self, name):
        return parse_address(f"lambda://{name}?region={REGION}&endpoint={self.endpoint}")

    def function(self, name):
        return self.client.get_function(FunctionName=name)


@pytest.fixture(scope="module")
def account():
    server_module = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]'")
    import boto3

    patch = pytest.MonkeyPatch()
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"

    def client(service):
        return boto3.client(service, region_name=REGION, endpoint_url=endpoint)

    trust = {"Version": "2012-10-17", "Statement": []}
    role = client("iam").create_role(RoleName="worker", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    ecr = client("ecr")
    repository = ecr.create_repository(repositoryName="fanfold-base")["repository"]["repositoryUri"]
    for tag in ("one", "two"):
        config = {"digest": f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}", "mediaType": "x", "size": 1}
        image = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
        ecr.put_image(repositoryName="fanfold-base", imageTag=tag, imageManifest=json.dumps(image))
    try:
        patch.setenv("MOTO_LAMBDA_STUB_ECR", "false")
        yield Account(endpoint, client("lambda"), role, [f"{repository}:one", f"{repository}:two"])
    finally:
        patch.undo()
        server.stop()


def test_a_function_is_made_with_the_command_limits_and_tag_that_it_needs(account):
    said = deploy(account.address("made"), account.images[0], {"role": account.role, "memory": "2GiB"})

    found = account.function("made")
    configuration = found["Configuration"]
    events = account.client.get_function_event_invoke_config(FunctionName="made")
    assert said == f"function made in {REGION} runs {account.images[0]}"
    assert configuration["State"] == "Active"
    assert configuration["PackageType"] == "Image"
    assert configuration["ImageConfigResponse"]["ImageConfig"]["Command"] == ["lambda"]
    assert (configuration["MemorySize"], configuration["Timeout"]) == (2048, 900)
    assert configuration["Architectures"] == ["x86_64"]
    assert configuration["Role"] == account.role
    assert found["Tags"] == {"fanfold": "runtime"}
    assert events["MaximumRetryAttempts"] == 0


def test_the_same_deployment_again_changes_nothing(account):
    options = {"role": account.role, "memory": "512MiB", "timeout": "60s"}
    deploy(account.address("again"), account.images[0], options)
    before = account.function("again")["Configuration"]

    said = deploy(account.address("again"), account.images[0], options)

    assert "already ran" in said
    assert account.function("again")["Configuration"] == before


def test_a_new_image_keeps_the_settings_and_new_settings_keep_the_others(account):
    deploy(account.address("changed"), account.images[0], {"role": account.role, "memory": "512MiB", "timeout": "60s"})

    said = deploy(account.address("changed"), account.images[1], {"timeout": "2m"})

    found = account.function("changed")
    assert "now runs" in said
    assert found["Code"]["ImageUri"] == account.images[1]
    assert (found["Configuration"]["MemorySize"], found["Configuration"]["Timeout"]) == (512, 120)


def test_the_reserved_concurrency_of_a_function_bounds_the_calls_under_way(account):
    deploy(account.address("few"), account.images[0], {"role": account.role, "concurrency": "3"})
    backend = LambdaBackend(account.address("few"), ExecutorConfig(workers=50))

    backend.prepare()

    assert backend.workers == 3


def test_the_time_limit_of_a_function_is_how_long_an_event_may_be_silent(account):
    deploy(account.address("limit"), account.images[0], {"role": account.role, "timeout": "100s"})
    address = parse_address(f"lambda://limit?region={REGION}&endpoint={account.endpoint}&call=async")
    backend = LambdaBackend(address, ExecutorConfig(storage="s3://bucket"))

    backend.prepare()

    assert backend.silence == 100 + 300 + 10


def test_a_function_is_deleted_once_and_a_second_time_is_no_mistake(account):
    deploy(account.address("gone"), account.images[0], {"role": account.role})

    first, second = (delete(account.address("gone"), "base") for _ in range(2))

    assert "is deleted" in first
    assert "there is no function gone" in second
    with pytest.raises(account.client.exceptions.ResourceNotFoundException):
        account.function("gone")


def test_functions_of_others_are_neither_changed_nor_deleted(account):
    account.client.create_function(
        FunctionName="theirs", PackageType="Image", Code={"ImageUri": account.images[0]}, Role=account.role
    )
    before = account.function("theirs")["Configuration"]

    with pytest.raises(ConfigError, match="not made by 'fanfold runtime deploy'"):
        deploy(account.address("theirs"), account.images[1], {"role": account.role})
    with pytest.raises(ConfigError, match="not made by 'fanfold runtime deploy'"):
        delete(account.address("theirs"), "base")

    assert account.function("theirs")["Configuration"] == before


def test_a_function_that_does_not_exist_cannot_be_called(account):
    with pytest.raises(ConfigError, match=r"no function absent in eu-west-1.*fanfold runtime deploy"):
        LambdaBackend(account.address("absent"), ExecutorConfig()).prepare()


def test_a_manifest_is_what_the_aws_command_line_takes(account):
    told = json.loads(manifest(account.address("shown"), account.images[0], {"role": account.role, "concurrency": "2"}))

    account.client.create_function(**told)

    assert account.function("shown")["Configuration"]["MemorySize"] == 1769


@pytest.mark.parametrize(
    ("name", "image", "options", "kind", "words"),
    [
        ("new", "one", {}, ConfigError, "--option role=arn"),
        ("new", "missing", {"role": "ROLE"}, ComputeError, "is in the function's region"),
        ("new", "one", {"role": "ROLE", "memory": "64MiB"}, ConfigError, "from 128 to 10240 MiB"),
        ("new", "one", {"role": "ROLE", "timeout": "1h"}, ConfigError, "from 1 s to 900 s"),
        ("new", "one", {"role": "ROLE", "architecture": "mips"}, ConfigError, "x86_64 or arm64"),
        ("new", "one", {"role": "ROLE", "memory": "much"}, ConfigError, "memory= as 2GiB"),
        ("new", "one", {"vpc": "1"}, ConfigError, "no option 'vpc'; known: role, memory"),
        ("new:alias", "one", {}, ConfigError, "only lambda://NAME can be deployed"),
    ],
)
def test_deployments_that_cannot_work_say_what_would(account, name, image, options, kind, words):
    given = {option: value.replace("ROLE", account.role) for option, value in options.items()}
    reference = f"{account.images[0].rpartition(':')[0]}:{image}"

    with pytest.raises(FanfoldError, match=re.escape(words)) as caught:
        deploy(account.address(name), reference, given)

    assert isinstance(caught.value, kind)


def test_an_image_outside_amazons_registry_is_refused_with_the_command_that_pushes_it(account):
    with pytest.raises(ConfigError, match=r"fanfold runtime push ACCOUNT\.dkr\.ecr"):
        deploy(account.address("new"), "registry.example.org/fanfold-base:1", {"role": account.role})


def policy(name):
    """Return the actions of one of the page's policies, by service."""
    text = re.search(rf"```json {name}\n(.*?)```", (ROOT / "docs/lambda.md").read_text(), re.DOTALL)[1]
    allowed = [statement["Action"] for statement in json.loads(text)["Statement"]]
    return {action for actions in allowed for action in ([actions] if isinstance(actions, str) else actions)}


def called(service, *files):
    """Return the IAM actions of every request to a service that the source of some modules makes."""
    import boto3

    methods = boto3.client(service, region_name=REGION).meta.method_to_api_mapping
    names = {
        node.attr
        for file in files
        for node in ast.walk(ast.parse((ROOT / "core" / file).read_text()))
        if isinstance(node, ast.Attribute) and node.attr in methods
    }
    operations = {methods[name] for name in names}
    return {f"{service}:{BY_ANOTHER_NAME.get(operation, operation)}" for operation in operations}


def test_the_policy_for_running_jobs_allows_what_is_called_and_no_more():
    assert policy("invoke") == called("lambda", "compute/remote/aws_lambda.py", "compute/remote/aws_lambda_client.py")


def test_the_policy_for_deploying_allows_what_is_called_and_no_more():
    needed = called("lambda", "compute/remote/aws_lambda_deploy.py")

    # A tag and a role are given in the request that makes a function, but are allowed separately.
    assert {action for action in policy("deploy") if action.startswith("lambda:")} == {*needed, "lambda:TagResource"}
    assert "iam:PassRole" in policy("deploy")


def test_the_policy_of_workers_allows_what_storage_does_and_no_more():
    files = [f"storage/{file.name}" for file in (ROOT / "core/storage").glob("s3*.py")]

    assert {action for action in policy("worker") if action.startswith("s3:")} == called("s3", *files)
