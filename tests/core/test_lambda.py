"""lambda:// on AWS's runtime interface emulators: what the platform does to calls, and what comes of it."""

import json
import os
import signal
import sys
import threading

import numpy as np
import pytest

from core import ConfigError, FunctionExecutor, InputError, TaskError, open_storage
from core.compute.remote.aws_lambda import LambdaBackend, delete
from core.errors import ComputeDenied, ComputeError, ComputeUnavailable, MissingExtra, TaskTimeout, WorkerDied
from core.settings import ExecutorConfig, parse_address
from tests.servers.lambda_emulators import EmulatedLambda

LIMIT = 4
SECRET = "fanfold-test-secret"


def started(service):
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def short(s3_server, tmp_path_factory):
    """A function with a time limit of seconds, whose role may use this run's S3 server."""
    yield from started(EmulatedLambda(tmp_path_factory.mktemp("short"), count=2, timeout=LIMIT))


@pytest.fixture(scope="module")
def patient(s3_server, tmp_path_factory):
    """The same with the emulator's own time limit: a worker's first look at S3 takes long on a busy machine."""
    yield from started(EmulatedLambda(tmp_path_factory.mktemp("patient"), count=2))


@pytest.fixture
def strange(request, tmp_path):
    """A function made from another image: its code is the test's parameter."""
    (tmp_path / "strange.py").write_text(request.param)
    yield from started(EmulatedLambda(tmp_path, count=1, handler="strange.handler"))


def error_of(service, function=abs, **settings):
    with FunctionExecutor(service.address(), workers=1, **settings) as executor:
        return executor.call_async(function, 1).exception(60)


def refuse(service, status, kind, headers=None, **fields):
    service.refusals.put((status, kind, headers or {}, json.dumps(fields).encode()))


def kill_agent(x):
    """Kill the process that the platform started, which runs this task in a grandchild."""
    if x == 1:
        agent = int(os.popen(f"ps -o ppid= -p {os.getppid()}").read())
        os.kill(agent, signal.SIGKILL)
        signal.pause()
    return x


def stop_agent(x):
    """Stop that process, so that only the platform can end the call."""
    if x == 1:
        agent = int(os.popen(f"ps -o ppid= -p {os.getppid()}").read())
        os.kill(agent, signal.SIGSTOP)
        signal.pause()
    return x


@pytest.mark.parametrize("call", ["sync", "async"])
def test_the_task_that_runs_into_the_functions_time_limit_is_named_and_its_batch_mates_go_on(short, call, tmp_path):
    def stuck(x):
        while x == 1:
            pass
        return x

    with FunctionExecutor(short.address(call=call), workers=2, storage=f"file://{tmp_path}") as executor:
        futures = executor.map(stuck, range(3), batch_size=3, retries=0)
        error = futures[1].exception(60)
        assert [futures[0].result(60), futures[2].result(60)] == [0, 2]

    assert isinstance(error, TaskTimeout)
    assert error.attempts == 1
    assert "time limit of its platform" in str(error)


def test_a_call_that_the_platform_ends_for_its_time_is_a_timeout(short):
    with FunctionExecutor(short.address(), workers=2) as executor:
        futures = executor.map(stop_agent, range(3), batch_size=3, retries=0)
        error = futures[1].exception(60)
        assert [futures[0].result(60), futures[2].result(60)] == [0, 2]

    assert isinstance(error, TaskTimeout)
    assert "Task timed out after 4.00 seconds" in str(error)


def test_a_crash_of_the_runtime_is_tried_again_then_named_and_blames_no_other_task(short):
    with FunctionExecutor(short.address(), workers=2) as executor:
        futures = executor.map(kill_agent, range(4), batch_size=4, retries=1)
        error = futures[1].exception(60)
        assert [futures[i].result(60) for i in (0, 2, 3)] == [0, 2, 3]

    assert isinstance(error, WorkerDied)
    assert error.attempts == 2
    assert "Runtime.ExitError" in str(error)


def test_a_crash_of_the_runtime_costs_nothing_when_it_does_not_come_again(short, tmp_path):
    def once(x, flag=str(tmp_path / "crashed")):
        if x == 2 and not os.path.exists(flag):
            open(flag, "w").close()
            os.kill(int(os.popen(f"ps -o ppid= -p {os.getppid()}").read()), signal.SIGKILL)
            signal.pause()
        return -x

    with FunctionExecutor(short.address(), workers=2) as executor:
        assert executor.map(once, range(6), batch_size=6).results(60) == [0, -1, -2, -3, -4, -5]


def test_an_instance_that_was_frozen_between_two_calls_goes_on(tmp_path):
    service = EmulatedLambda(tmp_path, count=1)
    try:
        service.start()
        with FunctionExecutor(service.address(), workers=1) as executor:
            agent, worker = executor.call_async(lambda: (os.getppid(), os.getpid())).result(60)
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for process in (agent, worker):
                    os.kill(process, number)
            assert executor.call_async(os.getpid).result(60) == worker
    finally:
        service.stop()


def test_payloads_over_6_mb_go_through_s3_both_ways_and_leave_nothing(patient):
    array = np.arange(1_000_000.0)

    with FunctionExecutor(patient.address(), storage="s3://fanfold/lambda-large", workers=1) as executor:
        grown = executor.call_async(lambda a: np.concatenate([a, a]), array).result(60)
        small = executor.call_async(lambda n: np.ones(n), 1_000_000).result(60)

    assert np.array_equal(grown, np.concatenate([array, array]))
    assert small.sum() == 1_000_000
    assert list(open_storage("s3://fanfold/lambda-large").list("")) == []


def test_payloads_just_below_the_limit_need_no_storage(short):
    with FunctionExecutor(short.address(), workers=1) as executor:
        back = executor.call_async(lambda data: data + b"x", os.urandom(4_600_000)).result(60)

    assert len(back) == 4_600_001


@pytest.mark.parametrize(("given", "returned"), [(7_000_000, 1), (1, 7_000_000)], ids=["inputs", "results"])
def test_payloads_over_6_mb_without_storage_say_what_to_do(short, given, returned):
    with FunctionExecutor(short.address(), workers=1) as executor:
        future = executor.call_async(lambda data: bytes(returned), os.urandom(given))
        with pytest.raises(InputError, match=r"7\.0 MB.*lambda carries 4\.7 MB a call; give the executor a storage"):
            future.result(60)


def test_events_leave_inputs_and_results_of_any_size_in_s3(patient):
    arrays = [np.full(200_000, float(i)) for i in range(6)]

    with FunctionExecutor(patient.address(call="async"), storage="s3://fanfold/lambda-events", workers=2) as executor:
        results = executor.map(lambda a: a + 1, arrays, batch_size=2).results(60)

    assert [float(result[-1]) for result in results] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert patient.calls[-1] == "Event"
    assert list(open_storage("s3://fanfold/lambda-events").list("")) == []


def test_an_event_that_the_platform_loses_is_sent_again_after_its_silence(short, tmp_path):
    short.events_lost = 1

    with FunctionExecutor(
        short.address(call="async", silence="1s"), workers=1, storage=f"file://{tmp_path}"
    ) as executor:
        assert executor.call_async(lambda: "heard").result(60) == "heard"

    assert short.events_lost == 0


def test_an_event_whose_function_crashes_every_time_fails_its_own_task_alone(short, tmp_path):
    with FunctionExecutor(
        short.address(call="async", silence="2s"), workers=2, storage=f"file://{tmp_path}"
    ) as executor:
        futures = executor.map(kill_agent, range(2), batch_size=1, retries=0)
        error = futures[1].exception(60)
        assert futures[0].result(60) == 0

    assert isinstance(error, WorkerDied)
    assert "nothing was heard of its event for 2 s" in str(error)


def test_throttling_is_waited_for_and_costs_no_attempt(short):
    for _ in range(3):
        refuse(short, 429, "TooManyRequestsException", {"Retry-After": "0"}, Reason="CallerRateLimitExceeded")

    with FunctionExecutor(short.address(), workers=1) as executor:
        futures = executor.map(lambda x, attempt: (x, attempt), range(3), batch_size=3)
        assert futures.results(60) == [(0, 0), (1, 0), (2, 0)]


class Full:
    """Refuses every request until there is room."""

    def __init__(self):
        self.has_room, self.accepted = False, 0

    def empty(self):
        self.accepted += self.has_room
        return self.has_room

    def get(self):
        return 429, "TooManyRequestsException", {}, b'{"Reason": "ConcurrentInvocationLimitExceeded"}'


def test_an_event_that_is_cancelled_while_there_is_no_room_is_not_sent(short, tmp_path, monkeypatch):
    full = Full()
    monkeypatch.setattr(short, "refusals", full)

    store = f"file://{tmp_path}/store"
    with FunctionExecutor(short.address(call="async", silence="30s"), store, workers=1) as executor:
        cancelled = executor.call_async(abs, -2)
        while not executor._backend.reach.struggling:
            threading.Event().wait(0.01)
        executor.cancel(cancelled)
        while executor._backend.reach.struggling:
            threading.Event().wait(0.01)
        full.has_room = True
        assert executor.call_async(abs, -1).result(60) == 1

    assert full.accepted == 1


def test_throttling_without_end_is_reported_with_its_reason(short, monkeypatch):
    monkeypatch.setattr("core.compute.remote.base.UNAVAILABLE_TIMEOUT", 0.2)
    for _ in range(10):
        refuse(short, 429, "TooManyRequestsException", Reason="ConcurrentInvocationLimitExceeded")

    try:
        error = error_of(short)
    finally:
        while not short.refusals.empty():
            short.refusals.get()

    assert isinstance(error, ComputeUnavailable)
    assert "throttled (ConcurrentInvocationLimitExceeded)" in str(error)


@pytest.mark.parametrize(("kind", "status"), [("ServiceException", 500), ("ResourceConflictException", 409)])
def test_passing_failures_of_the_service_are_tried_again(short, kind, status):
    refuse(short, status, kind, Message="Try again")

    assert error_of(short) is None


def test_a_413_of_the_service_says_what_to_do(short):
    refuse(short, 413, "RequestTooLargeException")

    error = error_of(short)

    assert isinstance(error, InputError)
    assert "RequestTooLargeException" in str(error)
    assert "give the executor a storage" in str(error)


def test_a_caller_that_may_not_invoke_is_told_which_policy_is_missing(short):
    refuse(short, 403, "AccessDeniedException", Message="User: x is not authorized to perform: lambda:InvokeFunction")

    error = error_of(short)

    assert isinstance(error, ComputeDenied)
    assert "lambda:InvokeFunction" in str(error)
    assert "docs/lambda.md has the policy" in str(error)


def test_credentials_that_were_renewed_are_taken_up_after_one_refusal(short, monkeypatch):
    with FunctionExecutor(short.address(), workers=1) as executor:
        assert executor.call_async(abs, -1).result(60) == 1
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
        refuse(short, 403, "ExpiredTokenException")

        assert executor.call_async(abs, -2).result(60) == 2


def test_refused_credentials_are_reported_without_what_the_service_says_of_them(short):
    refuse(short, 403, "InvalidSignatureException", Message=f"signature of {SECRET} does not match")

    error = error_of(short)

    assert isinstance(error, ComputeDenied)
    assert "InvalidSignatureException" in str(error)
    assert SECRET not in str(error)


def test_a_function_that_does_not_exist_is_a_mistake_with_the_command_that_makes_it(short):
    address = short.address().replace("lambda://fanfold?", "lambda://nothing?")

    with (
        FunctionExecutor(address, workers=1) as executor,
        pytest.raises(ConfigError, match=r"no function nothing in eu-west-1.*fanfold runtime deploy"),
    ):
        executor.call_async(abs, 1).result(60)


@pytest.mark.parametrize("strange", ["def handler(event, context):\n    raise KeyError('body')\n"], indirect=True)
def test_an_error_that_the_handler_does_not_handle_is_shown(strange):
    error = error_of(strange, retries=0)

    assert isinstance(error, WorkerDied)
    assert "ended with KeyError: 'body'" in str(error)


@pytest.mark.parametrize("strange", ["def handler(event, context):\n    return {'hello': 1}\n"], indirect=True)
def test_a_function_of_another_kind_is_recognised(strange):
    assert "not made from a fanfold runtime" in str(error_of(strange))


@pytest.mark.parametrize("strange", ["import nothing_of_this_name\n"], indirect=True)
def test_an_image_that_cannot_start_ends_the_job_with_its_reason(strange):
    error = error_of(strange)

    assert isinstance(error, ComputeError)
    assert not isinstance(error, TaskError)
    assert "Runtime.ImportModuleError" in str(error)


def prepare(address):
    LambdaBackend(parse_address(address), ExecutorConfig()).prepare()


def test_a_service_that_cannot_be_reached_is_named():
    with pytest.raises(ComputeUnavailable, match="function f in us-east-1 cannot be reached: EndpointConnectionError"):
        prepare("lambda://f?endpoint=http://127.0.0.1:9&region=us-east-1")


def test_no_more_calls_are_made_at_once_than_the_account_allows(short, monkeypatch):
    monkeypatch.setitem(short.told, "account-settings", {"AccountLimit": {"UnreservedConcurrentExecutions": 10}})
    backend = LambdaBackend(parse_address(short.address()), ExecutorConfig(workers=500))

    backend.prepare()

    assert backend.workers == 10


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        ({"Concurrency": {"ReservedConcurrentExecutions": 0}}, ConfigError, "reserved concurrency of 0; raise or"),
        ({"Configuration": {"State": "Failed", "StateReason": "no image"}}, ComputeError, "does not start: no image"),
    ],
)
def test_a_function_that_may_not_or_cannot_run_is_found_before_anything_is_sent(short, monkeypatch, told, kind, words):
    monkeypatch.setitem(short.told, "functions/fanfold", told)

    with pytest.raises(kind, match=words):
        prepare(short.address())


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("lambda", "expected lambda://NAME"),
        ("lambda://my function", "expected lambda://NAME"),
        ("lambda://f?zone=1", "no option 'zone'; known: region, profile"),
        ("lambda://f?call=maybe", "expected sync or async"),
        ("lambda://f?silence=long", "silence= as a time"),
        ("lambda://f?endpoint=http://user:word@host", "expected http://HOST:PORT"),
    ],
)
def test_addresses_that_cannot_work_say_what_would(address, words):
    with pytest.raises(ConfigError, match=words):
        LambdaBackend(parse_address(address), ExecutorConfig())


def test_an_arn_brings_its_region():
    arn = "arn:aws:lambda:eu-central-1:123456789012:function:fanfold:live"

    assert LambdaBackend(parse_address(f"lambda://{arn}"), ExecutorConfig()).target.region == "eu-central-1"


def test_without_region_profile_or_credentials_the_remedy_is_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"add \?region="):
        prepare("lambda://f")
    with pytest.raises(ConfigError, match="no AWS profile 'none'"):
        prepare("lambda://f?profile=none")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(ComputeDenied, match=r"no credentials.*AWS_PROFILE"):
        prepare("lambda://f?region=eu-west-1&endpoint=http://127.0.0.1:9")


def test_a_missing_package_is_named_with_the_command_that_adds_it(monkeypatch):
    for name in ("boto3", "botocore", "botocore.exceptions", "botocore.config"):
        monkeypatch.setitem(sys.modules, name, None)
    address = "lambda://f?region=eu-west-1"

    with pytest.raises(MissingExtra, match=r"pip install 'fanfold\[lambda\]'"):
        prepare(address)
    with pytest.raises(MissingExtra, match=r"pip install 'fanfold\[lambda\]'"):
        delete(parse_address(address), "base")


def test_events_without_storage_are_refused_at_once():
    with pytest.raises(ConfigError, match="storage='s3://bucket/prefix'"):
        prepare("lambda://f?call=async&region=eu-west-1")
