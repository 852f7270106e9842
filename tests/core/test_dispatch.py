"""Which worker gets which batch, with real channels and claims but no process behind them."""

import os
import pickle
import socket

import pytest

from core import serialization
from core.compute.local.channel import Channel
from core.compute.local.dispatch import DEPTH_MAX, Dispatcher
from core.compute.local.wire import CLAIM, TaskStatus
from core.compute.local.workers import WorkerProcess
from core.task.protocol import Invocation


class Table:
    """Two workers of whom only the driver's ends exist, and the other ends of their channels."""

    def __init__(self):
        self.workers, self.others = {}, []
        for ident in range(2):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            claim_read, claim_write = os.pipe()
            os.set_blocking(claim_read, False)
            status = TaskStatus(TaskStatus.file())
            self.workers[ident] = WorkerProcess(ident, Channel(ours), claim_read, claim_write, status, None)
            self.others.append(Channel(theirs))

    def living(self):
        return list(self.workers.values())


@pytest.fixture
def table():
    made = Table()
    yield made
    for worker, other in zip(made.workers.values(), made.others, strict=True):
        worker.release()
        other.close()


def batch(number, call_hash="f"):
    packed = serialization.pack([number])
    return Invocation(number, "job", b"function", call_hash, range(number, number + 1), 0, packed=packed)


def requests_at(other):
    """Return the messages that have come to a worker's end, each as the batches in it."""
    return [pickle.loads(segments[0])[1] for segments in other.drain()]


def held(table):
    return [[one.batch_id for one in worker.held.values()] for worker in table.workers.values()]


def filled(table, count):
    dispatcher = Dispatcher(table)
    for number in range(count):
        dispatcher.put(batch(number))
    dispatcher.dispatch()
    return dispatcher


def test_batches_go_to_the_worker_that_holds_least_and_wait_when_all_hold_enough(table):
    dispatcher = filled(table, 5)

    assert held(table) == [[0, 2], [1, 3]]
    assert dispatcher.room == 0
    assert dispatcher.revoke(4)
    assert not dispatcher.revoke(4)


def test_quick_batches_are_sent_further_ahead_many_in_one_message_and_refilled_by_halves(table):
    dispatcher = filled(table, 2)
    dispatcher.learn(0.0)
    for number in range(2, 2 * DEPTH_MAX):
        dispatcher.put(batch(number))
    dispatcher.dispatch()
    dispatcher.flush()

    assert [len(one) for one in held(table)] == [DEPTH_MAX, DEPTH_MAX]
    # The first message ends with the function.
    assert [[len(message) for message in requests_at(other)] for other in table.others] == 2 * [[1, DEPTH_MAX - 1]]
    table.workers[0].held.popitem(last=False)
    assert dispatcher.room == 0
    while len(table.workers[0].held) > DEPTH_MAX // 2:
        table.workers[0].held.popitem(last=False)
    assert dispatcher.room == DEPTH_MAX // 2


def test_a_function_is_sent_once_to_each_worker_and_again_when_it_was_forgotten(table):
    def functions():
        return [bytes(part) for other in table.others for message in other.drain() for part in message[1:]]

    dispatcher = filled(table, 4)
    dispatcher.flush()
    assert functions() == [b"function", b"function"]
    for worker in table.workers.values():
        worker.held.clear()
    dispatcher.forget("f")
    dispatcher.put(batch(9))
    dispatcher.dispatch()
    dispatcher.flush()

    assert functions() == [b"function"]


def test_a_batch_is_taken_back_unless_its_worker_has_claimed_it(table):
    dispatcher = filled(table, 4)
    dispatcher.flush()
    first = table.workers[0]
    assert CLAIM.unpack(os.read(first.claim_read, CLAIM.size)) == (min(first.held),)  # as the worker does

    assert not dispatcher.revoke(0)
    assert dispatcher.revoke(2)
    assert held(table) == [[0], [1, 3]]


def test_a_batch_that_was_not_sent_is_taken_back_without_a_word(table):
    dispatcher = filled(table, 4)

    assert dispatcher.revoke(0)
    dispatcher.flush()

    assert held(table) == [[2], [1, 3]]
    assert [request[0] for message in requests_at(table.others[0]) for request in message] == list(
        table.workers[0].held
    )


def test_a_worker_that_idles_gets_the_batch_that_waits_behind_another(table):
    dispatcher = filled(table, 4)
    dispatcher.flush()
    os.read(table.workers[0].claim_read, CLAIM.size)
    table.workers[1].held.clear()

    dispatcher.steal()

    assert held(table) == [[0], [2]]


def test_what_a_lost_worker_held_is_next(table):
    dispatcher = filled(table, 5)
    lost = table.workers[1]

    dispatcher.abandon(lost)
    table.workers[0].held.clear()
    del table.workers[1]
    dispatcher.dispatch()

    assert held(table) == [[1, 3]]
    table.workers[1] = lost  # for the fixture to close
