"""What a driver makes of replies: that to its own request is read, whatever else comes is refused in a sentence."""

import io
import json
import struct
from dataclasses import replace

import pytest

from core import serialization
from core.errors import IntegrityError
from core.task import messages
from core.task.messages import NeedsCall, TooLarge
from core.task.protocol import BatchDone, BatchLost, BatchResult, DurableRef, Invocation, TaskFailure
from core.task.versions import versions
from core.worker.agent import Agent


def asked(batch=5, job="job", tasks=2, durable=None):
    return Invocation(batch, job, b"", "hash", range(tasks), 0, durable=durable)


def done(invocation, values=(1, 2)):
    outcome = BatchResult(serialization.pack(list(values)), [0.0] * len(values))
    return messages.reply(BatchDone(invocation.batch_id, "w", outcome), invocation)


def test_a_reply_is_read_by_who_asked():
    reply = messages.read_reply(done(asked()), asked())

    assert (reply.batch_id, reply.worker) == (5, "w")
    assert list(serialization.unpack(reply.outcome.values)) == [1, 2]


@pytest.mark.parametrize("other", [asked(batch=6), asked(job="another job")])
@pytest.mark.parametrize(
    "answer",
    [
        lambda of: done(of),
        lambda of: messages.reply(BatchDone(of.batch_id, "w", None), of),
        lambda of: messages.reply(BatchLost(of.batch_id, "w", "died", "it did", 0, True), of),
    ],
    ids=["done", "committed", "lost"],
)
def test_the_answer_to_another_batch_is_not_taken_for_the_own(answer, other):
    ours = asked(durable=DurableRef("memory://", "job", b"k", 0))

    with pytest.raises(IntegrityError, match="it is the answer to batch"):
        messages.read_reply(answer(other), ours)


def test_as_many_results_as_tasks_are_expected():
    with pytest.raises(IntegrityError, match="it has 3 results of 2 tasks"):
        messages.read_reply(done(asked(), (1, 2, 3)), asked())


def test_only_a_durable_batch_is_committed():
    reply = messages.reply(BatchDone(5, "w", None), asked())

    with pytest.raises(IntegrityError, match="kind 'committed'"):
        messages.read_reply(reply, asked())


def test_a_refusal_needs_no_batch():
    refused = messages.reply(messages.refusal(0, TaskFailure("IntegrityError", "no request", "", None, 1)))

    reply = messages.read_reply(refused, asked())

    assert (reply.batch_id, reply.message) == (5, "IntegrityError: no request")


@pytest.mark.parametrize("answer", [NeedsCall("hash"), TooLarge(7)])
def test_other_replies_come_as_they_are(answer):
    assert messages.read_reply(messages.reply(answer), asked()) == answer


LOST = {"worker": "w", "reason": "died", "message": "", "position": None, "started": True, "failure": None}
OURS = {"of": ["job", 5], "worker": "w", "packed": [2, None, None]}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"<html>Please sign in</html>",
        done(asked())[:-1],
        done(asked()) + b"x",
        struct.pack("<I", 2) + b"[]",
        messages.encode({"kind": "needs"}),
        messages.encode({"kind": "large"}),
        messages.encode({"kind": "large", "size": "much"}),
        messages.encode({"kind": "spilled"}),
        messages.encode({"kind": "unheard of"}),
        messages.encode({"kind": "lost", "of": None}),
        messages.encode({"kind": "lost", "of": None, **LOST, "reason": "unheard of"}),
        messages.encode({"kind": "lost", "of": None, **LOST, "position": "first"}),
        messages.encode({"kind": "lost", "of": None, **LOST, "failure": [1]}),
        messages.encode({"kind": "done"}),
        messages.encode({"kind": "done", **OURS}),
        messages.encode({"kind": "done", **OURS}, [b"no pickle", b""]),
        messages.encode({"kind": "done", **OURS}, [serialization.dumps(5), b""]),
    ],
)
def test_whatever_else_comes_is_refused_by_one_type_of_error(message):
    with pytest.raises(IntegrityError):
        messages.read_reply(message, asked())


@pytest.mark.parametrize("sizes", [[-1, 4], [1.5], [True], ["1"], [None], 3, None])
def test_parts_of_a_message_have_whole_lengths(sizes):
    text = json.dumps({"kind": "run", "segments": sizes}).encode()

    with pytest.raises(IntegrityError, match="cannot be read"):
        messages.decode(struct.pack("<I", len(text)) + text + b"abc")


def test_a_loss_is_told_without_a_pickle_and_comes_as_it_was():
    lost = BatchLost(5, "w", "timeout", "too long", 1, True, TaskFailure("KeyError", "'a'", "Traceback", None, 3))

    assert messages.read_reply(messages.reply(lost, asked()), asked()) == lost
    assert replace(messages.read_loss(messages.reply(lost)), batch_id=5) == lost
    assert messages.decode(messages.reply(lost, asked()))[1] == []


@pytest.mark.parametrize("length", [10, 1 << 40])
def test_a_message_that_breaks_off_is_none_whatever_length_it_claimed(length):
    assert messages.read_frame(io.BytesIO(messages.FRAME.pack(length) + b"short")) is None


def test_a_message_in_several_pieces_is_whole(monkeypatch):
    monkeypatch.setattr(messages, "_PIECE", 4)
    pipe = io.BytesIO()
    messages.write_frame(pipe, b"ten bytes.")
    messages.write_frame(pipe, b"")
    pipe.seek(0)

    assert [messages.read_frame(pipe) for _ in range(3)] == [b"ten bytes.", b"", None]


def test_what_other_software_refuses_is_told_without_a_pickle(monkeypatch):
    agent = Agent()
    request = messages.request(asked(), {**versions(), "cloudpickle": "0.1"}, True)
    try:
        answer = agent.answer(request)
    finally:
        agent.close()
    monkeypatch.setattr(serialization, "loads", lambda *_: pytest.fail("a pickle was opened"))

    reply = messages.read_reply(answer, asked())

    assert reply.failure.kind == "VersionMismatch"
    assert "cloudpickle 0.1 there" in reply.message
