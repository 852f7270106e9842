"""Notices over a real Redis, for a backend whose workers are processes that nobody hears replies of."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import replace

import pytest

from core import ConfigError, FunctionExecutor, serialization
from core.compute import base
from core.compute.local.process import ProcessBackend
from core.errors import MissingExtra, WorkerDied
from core.job import commits
from core.job import durable as durable_run
from core.settings import Address, load_config
from core.task import keys
from core.task import notices as notify
from core.task.notices import CommitListener
from core.task.protocol import BatchLost, DurableRef, Invocation, NotifyCredentials
from core.worker.agent import write_loss_report


class SilentBackend(ProcessBackend):
    """Worker processes as an asynchronous platform has them: they commit and leave word, and send no replies."""

    name = "silent"

    def __init__(self, address, config):
        super().__init__(Address("process"), config)
        self.capabilities = replace(
            self.capabilities, reports_completion=False, results_in_storage=True, carries_queues=False
        )
        self._held = {}

    def invoke(self, invocation):
        self._held[invocation.batch_id] = invocation
        super().invoke(invocation)

    def poll(self, timeout):
        for reply in super().poll(timeout):
            invocation = self._held.pop(reply.batch_id)
            if isinstance(reply, BatchLost):
                write_loss_report(invocation, reply)
        return []


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    monkeypatch.setitem(base._BACKENDS, "silent", f"{__name__}:SilentBackend")
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or __import__(__name__))


@pytest.fixture
def store(tmp_path):
    return f"file://{tmp_path}/store"


@pytest.fixture
def looks(monkeypatch):
    """Return a list that grows with each look for commits in storage."""
    seen = []
    real = durable_run.DurableJob._discover
    monkeypatch.setattr(durable_run.DurableJob, "_discover", lambda run: (seen.append(1), real(run))[1])
    return seen


def until(condition, patience=30.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def nap(x):
    time.sleep(0.02)
    return -x


def wait_for(path, x):
    while not os.path.exists(path):
        time.sleep(0.005)
    return x


def test_with_notices_the_storage_is_hardly_looked_through(redis_server, store, looks):
    with FunctionExecutor("silent", store, workers=2) as executor:
        assert executor.map(nap, range(60), batch_size=1).results(60) == [-x for x in range(60)]
    polled = len(looks)
    looks.clear()

    with FunctionExecutor("silent", store, workers=2, notify=redis_server.address) as executor:
        assert executor.map(nap, [0]).results(60) == [0]
        assert executor._listener.healthy
        looks.clear()
        assert executor.map(nap, range(60), batch_size=1).results(60) == [-x for x in range(60)]

    assert polled >= 15
    assert 3 * len(looks) <= polled


def test_a_notice_ends_the_wait_for_the_next_look(redis_server, store, tmp_path, monkeypatch):
    monkeypatch.setattr(commits, "POLL_NOTIFIED", 1000.0)
    monkeypatch.setattr(commits, "POLL_MAX", 1000.0)
    gate = str(tmp_path / "gate")

    with FunctionExecutor("silent", store, workers=1, notify=redis_server.address) as executor:
        executor.call_async(abs, 1).result(60)
        until(lambda: executor._listener.healthy)
        future = executor.call_async(wait_for, gate, 7)
        until(future.running)
        open(gate, "w").close()

        assert future.result(60) == 7


def test_a_loss_is_told_too(redis_server, store, monkeypatch):
    monkeypatch.setattr(commits, "POLL_NOTIFIED", 1000.0)
    monkeypatch.setattr(commits, "POLL_MAX", 1000.0)

    with FunctionExecutor("silent", store, workers=1, retries=0, notify=redis_server.address) as executor:
        executor.call_async(abs, 1).result(60)
        until(lambda: executor._listener.healthy)

        error = executor.call_async(lambda: os.kill(os.getpid(), signal.SIGKILL)).exception(60)

    assert isinstance(error, WorkerDied)


def test_a_redis_that_dies_costs_no_result_and_is_used_again_when_it_returns(
    redis_server, store, tmp_path, looks, caplog, monkeypatch
):
    gate = str(tmp_path / "gate")
    heard = []
    real = durable_run.DurableJob._hear
    monkeypatch.setattr(
        durable_run.DurableJob, "_hear", lambda job, places, now: heard.append(real(job, places, now)) or heard[-1]
    )

    with FunctionExecutor("silent", store, workers=1, notify=redis_server.address) as executor:
        future = executor.call_async(wait_for, gate, 1)
        until(lambda: executor._listener.healthy)
        with caplog.at_level(logging.WARNING, "fanfold"):
            redis_server.kill()
            until(lambda: not executor._listener.healthy)
        open(gate, "w").close()
        assert future.result(60) == 1  # found by looking
        before = len(looks)

        redis_server.start()
        until(lambda: executor._listener.healthy)
        heard.clear()
        until(lambda: executor.call_async(abs, -2).result(60) == 2 and True in heard)  # the worker pauses a while

    assert before > 0
    assert "are lost, results are looked for" in caplog.text
    assert "redis-secret" not in caplog.text


def test_a_redis_that_never_was_there_costs_no_result(redis_server, store):
    redis_server.kill()

    with FunctionExecutor("silent", store, workers=2, notify=redis_server.address) as executor:
        assert executor.map(nap, range(20), batch_size=1).results(60) == [-x for x in range(20)]


def test_workers_that_cannot_reach_redis_are_polled_as_ever(redis_server, store, monkeypatch):
    monkeypatch.setattr(notify.CommitListener, "take", lambda self, job_id: [])

    with FunctionExecutor("silent", store, workers=2, notify=redis_server.address) as executor:
        assert executor.map(nap, range(20), batch_size=1).results(60) == [-x for x in range(20)]


def test_forged_and_repeated_notices_do_nothing(redis_server, store, tmp_path, monkeypatch):
    gate = str(tmp_path / "gate")
    touched = tmp_path / "touched"
    taken = []
    real = notify.CommitListener._take
    monkeypatch.setattr(notify.CommitListener, "_take", lambda self, data: (taken.append(1), real(self, data))[1])

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(touched),)

    with FunctionExecutor("silent", store, workers=1, notify=redis_server.address) as executor:
        future = executor.call_async(wait_for, gate, 5)
        until(lambda: executor._listener.healthy)
        grant = executor._listener.credentials
        forged = serialization.sign(os.urandom(32), grant.channel, serialization.dumps(Harmful()))
        moved = serialization.sign(grant.key, "fanfold:elsewhere", serialization.dumps(Harmful()))
        place = keys.commit(future.job_id, 0)
        early = serialization.sign(grant.key, grant.channel, serialization.dumps(("stored", future.job_id, place)))
        with redis_server.client() as client:
            for message in (forged, moved, b"", early, early):
                client.publish(grant.channel, message)
        until(lambda: len(taken) == 2)
        open(gate, "w").close()

        assert future.result(60) == 5
    assert not touched.exists()


def test_nothing_stays_in_redis(redis_server, store):
    with FunctionExecutor("silent", store, workers=2, notify=redis_server.address) as executor:
        executor.map(nap, range(4)).results(60)

    with redis_server.client() as client:
        assert client.dbsize() == 0


def test_a_worker_waits_for_a_mute_redis_once_and_then_lets_it_be(monkeypatch):
    pytest.importorskip("redis", reason="needs the package redis: pip install '.[redis]'")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        mute.settimeout(0.0)
        grant = NotifyCredentials(f"redis://127.0.0.1:{mute.getsockname()[1]}/0", "fanfold:x", b"k")
        speaker = notify._Publisher(grant.address)
        tries = []
        monkeypatch.setattr(speaker._client, "publish", _counted(speaker._client.publish, tries))

        for _ in range(5):
            speaker.publish(grant, "stored", "job", "place")

    assert len(tries) == 1


def _counted(function, calls):
    def counting(*args):
        calls.append(args)
        return function(*args)

    return counting


def test_a_listener_that_closes_leaves_no_thread(redis_server):
    notices = CommitListener(redis_server.address)
    notices.start()
    until(lambda: notices.healthy)

    notices.close()

    assert [thread.name for thread in threading.enumerate() if thread.name == "fanfold-notices"] == []


def test_the_key_is_not_shown():
    assert "c0ffee" not in repr(NotifyCredentials("redis://x", "c", b"c0ffee"))
    ref = DurableRef("file:///x", "job", b"k", 0)
    assert "c0ffee" not in repr(
        Invocation(0, "j", b"", "", [0], 0, durable=ref, notify=NotifyCredentials("r", "c", b"c0ffee"))
    )


@pytest.mark.parametrize("address", ["redis://", "http://x", "redis://h?x=1", "redis://h:a", "redis://h/x", "h:6379"])
def test_an_address_that_names_no_redis_is_refused(address):
    with pytest.raises(ConfigError, match="notify"):
        load_config(notify=address)


def test_a_password_in_the_address_is_refused_and_not_shown():
    with pytest.raises(ConfigError, match="carries a password") as caught:
        load_config(notify="redis://:hidden77@host:6379/0")

    assert "hidden77" not in str(caught.value)


def test_a_missing_package_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(MissingExtra, match=r"pip install 'fanfold\[redis\]'"):
        FunctionExecutor("silent", store, notify="redis://127.0.0.1:1/0")


def test_backends_that_hear_their_workers_need_no_redis(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)

    with FunctionExecutor("serial", notify="redis://127.0.0.1:1/0") as executor:
        assert executor.map(abs, [-1]).results() == [1]
