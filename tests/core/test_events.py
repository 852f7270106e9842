import logging

import pytest

from core import EventLog, FunctionExecutor, RetryPolicy, open_storage
from core.types import BatchInvoked, JobCreated, JobDone, TaskDone, TaskFailed, TaskLogged, TaskRetried


@pytest.fixture(params=["serial", "process"])
def compute(request):
    return request.param


def listen(compute, work, **settings):
    heard = []
    with FunctionExecutor(compute, listeners=[heard.append], **settings) as executor:
        work(executor)
    return heard


def test_a_job_is_told_in_order(compute):
    heard = listen(compute, lambda executor: executor.map(lambda x: x, range(3), batch_size=3).results(60))

    assert [type(event) for event in heard] == [JobCreated, BatchInvoked, TaskDone, TaskDone, TaskDone, JobDone]
    assert heard[0].tasks == 3
    assert heard[0].name == "<lambda>"
    assert heard[1].tasks == (0, 1, 2)
    assert (heard[-1].tasks, heard[-1].failed, heard[-1].cancelled) == (3, 0, 0)
    assert all(earlier.time <= later.time for earlier, later in zip(heard, heard[1:], strict=False))


def test_a_stream_has_no_number_of_tasks_at_first():
    heard = listen("process", lambda executor: executor.map(lambda x: x, iter(range(30))).results(60))

    assert heard[0].tasks is None or heard[0].tasks == 30
    assert heard[-1].tasks == 30


def test_what_tasks_write_is_told_with_their_number(compute):
    def speak(x):
        print("to one", x)
        print("to the other", x, file=__import__("sys").stderr)

    heard = listen(compute, lambda executor: executor.map(speak, range(2), batch_size=2).results(60))

    assert [(event.task_id, event.text) for event in heard if type(event) is TaskLogged] == [
        (0, "to one 0\nto the other 0\n"),
        (1, "to one 1\nto the other 1\n"),
    ]


def test_of_what_a_task_writes_the_end_is_kept(compute):
    def shout(x):
        for number in range(20_000):
            print("line", number)

    heard = listen(compute, lambda executor: executor.map(shout, [1]).results(60))

    (logged,) = [event for event in heard if type(event) is TaskLogged]
    assert len(logged.text) <= 64 << 10
    assert logged.text.endswith("line 19999\n")


def test_failures_are_told_with_type_message_and_attempts(compute):
    def fail(x):
        raise KeyError("k")

    policy = RetryPolicy(1, (KeyError,), backoff=0.001)
    heard = listen(compute, lambda executor: executor.map(fail, [1], retries=policy).wait())

    (failed,) = [event for event in heard if type(event) is TaskFailed]
    assert (failed.task_id, failed.attempts, failed.error) == (0, 2, "KeyError: 'k'")
    assert heard[-1].failed == 1
    assert not [event for event in heard if type(event) is TaskDone]


def test_repetitions_are_told_with_their_reason():
    def leave(x, attempt):
        if attempt == 0:
            raise_exit = __import__("os")._exit
            raise_exit(9)
        return x

    heard = listen("process", lambda executor: executor.map(leave, [1]).results(60))

    (retried,) = [event for event in heard if type(event) is TaskRetried]
    assert (retried.task_id, retried.attempts) == (0, 1)
    assert "status 9" in retried.reason


def test_cancelled_tasks_are_counted():
    def work(executor):
        futures = executor.map(lambda x: __import__("time").sleep(60), range(3), batch_size=1)
        executor.cancel(futures)

    heard = listen("process", work, workers=1)

    assert (heard[-1].tasks, heard[-1].failed, heard[-1].cancelled) == (3, 0, 3)


def test_a_listener_that_raises_is_left_out_and_the_job_goes_on(compute, caplog):
    heard = []

    def broken(event):
        heard.append(event)
        raise ValueError("deaf")

    with caplog.at_level(logging.WARNING, "fanfold"), FunctionExecutor(compute, listeners=[broken]) as executor:
        assert executor.map(lambda x: x, range(5)).results(60) == list(range(5))

    assert len(heard) == 1
    assert "deaf" in caplog.text


def test_a_listener_may_submit_a_job(compute):
    extra = []

    def react(event):
        if type(event) is JobDone and not extra:
            extra.append(None)
            extra[0] = executor.submit(int, "5")

    with FunctionExecutor(compute, listeners=[react]) as executor:
        executor.map(lambda x: x, range(3)).results(60)
        executor.shutdown()

    assert extra[0].result(60) == 5


def test_statistics_timeline_and_bill_come_from_the_tasks(compute, tmp_path):
    with FunctionExecutor(compute) as executor:
        futures = executor.map(lambda x: sum(range(20_000)), range(6), batch_size=2)
        futures.results(60)
        executor.plot(tmp_path / "timeline.png")
        table, bill = executor.stats(), executor.bill()

    assert list(table.columns) == [
        "job_id", "function", "task_id", "started", "duration", "cpu", "worker", "attempts", "peak_rss", "bytes_in",
        "bytes_out", "requests",
    ]  # fmt: skip
    assert sorted(table.task_id) == list(range(6))
    assert (table.cpu > 0).all()
    assert (table.peak_rss > 1 << 20).all()
    assert (tmp_path / "timeline.png").read_bytes()[:4] == b"\x89PNG"
    assert bill.tasks == 6
    assert bill.invocations == 3
    assert bill.cost == 0
    assert bill.cpu_seconds == pytest.approx(table.cpu.sum())


def test_events_can_be_logged_to_a_file(tmp_path):
    with EventLog(tmp_path / "events.jsonl") as log, FunctionExecutor("serial", listeners=[log]) as executor:
        executor.map(lambda x: x, range(2)).results()

    assert len((tmp_path / "events.jsonl").read_text().splitlines()) >= 4


@pytest.mark.parametrize("durable", [False, True])
def test_requests_that_tasks_make_of_storage_are_counted_to_the_last(compute, tmp_path, s3_server, durable):
    place = f"s3://fanfold/counted-{compute}-{durable}"
    storage = open_storage(place)
    for number in range(7):
        storage.put(f"data/{number}", b"x" * 100)
    with FunctionExecutor(compute, f"{place}/made") as executor:
        futures = executor.map(lambda obj: len(obj.read()), f"{place}/data/", batch_size=3)
        assert futures.results(60) == [100] * 7
        read, rows = executor.bill(), executor.stats()

        def work(x, storage):
            storage.put(f"copy/{x}", b"y" * 10)
            return len(storage.get(f"copy/{x}"))

        assert executor.map(work, range(5), batch_size=2, durable=durable).results(60) == [10] * 5
        written = executor.bill()
        mine = executor.stats().iloc[7:]

    listing = 1
    assert rows.requests.sum() == 7
    assert read.requests == 7 + listing
    assert rows.bytes_in.sum() == read.bytes_in >= 700
    if not durable:
        assert mine.requests.sum() == 10
        assert written.requests == read.requests + 10
    assert mine.requests.sum() >= 10
    assert 50 <= mine.bytes_in.sum() == written.bytes_in - read.bytes_in
    assert 50 <= mine.bytes_out.sum()


def test_requests_that_tasks_make_by_the_boto3_client_are_counted_once(compute, s3_server):
    with FunctionExecutor(compute, f"s3://fanfold/own-client-{compute}") as executor:

        def work(x, boto3_client, storage):
            boto3_client.put_object(Bucket="fanfold", Key=f"own-client/{x}", Body=b"z")
            boto3_client.head_object(Bucket="fanfold", Key=f"own-client/{x}")
            storage.put(f"copy/{x}", b"y" * 10)

        executor.map(work, range(4), batch_size=1).results(60)

        assert executor.bill().requests == executor.stats().requests.sum() == 4 * 3


def test_a_job_with_a_label_is_called_so_in_events_and_failures(compute):
    def fail(x):
        import os

        os._exit(3) if compute == "process" else 1 / 0

    raised = []

    def work(executor):
        try:
            executor.map(fail, [1], label="2/7 centroids", retries=0).results(60)
        except Exception as error:
            raised.append(str(error))

    heard = listen(compute, work)

    assert heard[0].name == "2/7 centroids"
    assert compute == "serial" or "task 0 of 2/7 centroids" in raised[0]
