"""The OpenWhisk client against a conformance server (tests/servers/openwhisk.py), which is no OpenWhisk."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from core import ConfigError, FunctionExecutor, InputError
from core.compute.remote.openwhisk import OpenWhiskBackend, delete, deploy
from core.errors import ComputeDenied, ComputeError, TaskTimeout, WorkerDied
from core.settings import ExecutorConfig, parse_address
from tests.servers.openwhisk import ActionContainer

IMAGE = "registry.example.org/fanfold-base:1"


@pytest.fixture
def deployed(whisk):
    deploy(parse_address(whisk.address), IMAGE, {"memory": "256MiB", "timeout": "2m"})
    return whisk


def test_deploying_makes_an_action_with_its_limits_again_and_again(deployed):
    said = deploy(parse_address(deployed.address), IMAGE + "2", {"timeout": "90s"})

    assert "action fanfold in namespace guest" in said
    action = deployed.actions["fanfold"]
    assert action["exec"] == {"kind": "blackbox", "image": IMAGE + "2"}
    assert action["limits"] == {"timeout": 90_000, "memory": 512, "concurrency": 1}


def test_an_action_that_is_deleted_is_gone_and_cannot_be_deleted_twice(deployed):
    delete(parse_address(deployed.address), "base")

    assert deployed.actions == {}
    with pytest.raises(InputError, match="no action fanfold"):
        delete(parse_address(deployed.address), "base")


def test_without_an_action_the_command_that_makes_it_is_named(whisk):
    with FunctionExecutor(whisk.address, workers=1) as executor, pytest.raises(ConfigError, match="runtime deploy"):
        executor.call_async(abs, -1).result(60)


@pytest.mark.parametrize("call", ["blocking", "polling"])
def test_blocking_and_polled_calls_give_the_same(deployed, call):
    with FunctionExecutor(f"{deployed.address}&call={call}", workers=2) as executor:
        assert executor.map(lambda x: x * x, range(20), batch_size=4).results(60) == [x * x for x in range(20)]


def test_a_blocking_call_that_takes_too_long_is_asked_for(deployed):
    deployed.blocking_limit = 0.05

    with FunctionExecutor(deployed.address, workers=1) as executor:
        assert executor.call_async(lambda: time.sleep(0.4) or 7).result(60) == 7


def test_a_namespace_without_room_is_asked_again_until_it_has(deployed):
    deployed.concurrency = 2

    with FunctionExecutor(deployed.address, workers=6) as executor:
        results = executor.map(lambda x: time.sleep(0.05) or -x, range(18), batch_size=1).results(120)

    assert results == [-x for x in range(18)]
    assert deployed.refused > 0


def test_messages_over_a_megabyte_go_through_storage(deployed, tmp_path):
    arrays = [np.full(200_000, float(i)) for i in range(3)]

    with FunctionExecutor(deployed.address, storage=f"file://{tmp_path}/store", workers=2) as executor:
        results = executor.map(lambda a: a + 1, arrays).results(60)

    assert [float(result[0]) for result in results] == [1.0, 2.0, 3.0]
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_an_action_over_its_time_limit_is_a_timeout(deployed):
    with FunctionExecutor(deployed.address, workers=1, retries=0) as executor:
        assert executor.call_async(abs, -1).result(60) == 1
        deployed.action_timeout = 0.5
        assert isinstance(executor.call_async(time.sleep, 600).exception(60), TaskTimeout)


def test_a_container_that_is_killed_costs_no_result(deployed):
    began = threading.Event()

    def kill():
        began.wait(60)
        while not (busy := [known for known in deployed.busy if hasattr(known, "process")]):
            time.sleep(0.01)
        os.kill(busy[0].process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with FunctionExecutor(deployed.address, workers=2, retries=3) as executor:
        futures = executor.map(lambda x: time.sleep(0.1) or x + 1, range(12), batch_size=3)
        began.set()
        assert futures.results(120) == list(range(1, 13))
    killer.join()


def test_an_activation_is_waited_for_as_long_as_its_action_may_take(whisk):
    deploy(parse_address(whisk.address), IMAGE, {"timeout": "20m"})
    backend = OpenWhiskBackend(parse_address(whisk.address), ExecutorConfig())

    backend.prepare()

    assert backend.limit == 1200


@pytest.mark.parametrize("result", [{"hello": 1}, {"body": 5}, {"body": "no base64!"}, None])
def test_an_action_of_another_kind_is_recognised(deployed, monkeypatch, result):
    monkeypatch.setattr(ActionContainer, "post", lambda *_: (200, result))

    with FunctionExecutor(deployed.address, workers=1) as executor:
        error = executor.call_async(abs, -1).exception(60)

    assert isinstance(error, ComputeError)
    assert "not made from a fanfold runtime" in str(error)


def test_an_activation_without_a_response_costs_an_attempt(deployed, monkeypatch):
    class Forgetful(dict):
        def __setitem__(self, ident, record):
            super().__setitem__(ident, {"activationId": ident} if not self else record)

    monkeypatch.setattr(deployed, "activations", Forgetful())

    with FunctionExecutor(f"{deployed.address}&call=polling", workers=1, retries=1) as executor:
        assert executor.call_async(abs, -1).result(60) == 1


def test_an_activation_that_is_not_named_is_not_asked_for(deployed, monkeypatch):
    monkeypatch.setattr(deployed, "invoke", lambda *_: ("", threading.Event()))

    with FunctionExecutor(f"{deployed.address}&call=polling", workers=1, retries=0) as executor:
        error = executor.call_async(abs, -1).exception(60)

    assert isinstance(error, WorkerDied)
    assert "did not name it" in str(error)


def test_a_task_that_ends_its_worker_is_named(deployed):
    with FunctionExecutor(deployed.address, workers=1, retries=0) as executor:
        futures = executor.map(lambda x: os._exit(4) if x else x, [0, 1], batch_size=2)
        assert futures[0].result(60) == 0
        assert isinstance(futures[1].exception(60), WorkerDied)


def test_a_wrong_key_is_refused_with_the_remedy_and_without_the_key(deployed, monkeypatch):
    monkeypatch.setenv("OPENWHISK_AUTH", "someone:their-own-password")

    with FunctionExecutor(deployed.address, workers=1) as executor, pytest.raises(ComputeDenied) as caught:
        executor.call_async(abs, -1).result(60)

    assert "OPENWHISK_AUTH" in str(caught.value)
    assert "their-own-password" not in str(caught.value)


def test_another_namespace_is_denied(deployed):
    with pytest.raises(ComputeDenied, match="not authorized"):
        deploy(parse_address(deployed.address.replace("guest", "other")), IMAGE, {})


def test_a_host_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("OPENWHISK_AUTH", "a:b")

    with pytest.raises(ComputeError, match=r"127\.0\.0\.1:9 cannot be reached"):
        deploy(parse_address("openwhisk://127.0.0.1:9/guest?plain=yes"), IMAGE, {})


@pytest.mark.parametrize(
    "address",
    [
        "openwhisk://host",
        "openwhisk://host/a/b",
        "openwhisk://host/ns?colour=red",
        "openwhisk://host/ns?call=never",
        "openwhisk://host/ns?timeout=long",
    ],
)
def test_an_address_that_cannot_work_is_refused(address):
    with pytest.raises(ConfigError, match="openwhisk"):
        FunctionExecutor(address)


@pytest.mark.parametrize("options", [{"memory": "much"}, {"colour": "red"}])
def test_limits_that_do_not_fit_are_refused(whisk, options):
    with pytest.raises(ConfigError):
        deploy(parse_address(whisk.address), IMAGE, options)
