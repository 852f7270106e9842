import threading

import pytest

from core.compute.waiting import Backoff, Mailbox
from core.errors import ComputeError


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_what_any_thread_puts_comes_in_order_and_all_at_once():
    mailbox = Mailbox()
    for number in range(5):
        putting = threading.Thread(target=mailbox.put, args=(number,))
        putting.start()
        putting.join()

    assert mailbox.poll(None) == [0, 1, 2, 3, 4]


def test_a_poll_that_waits_is_ended_by_a_word_from_another_thread():
    mailbox = Mailbox()
    waker = threading.Thread(target=mailbox.wake)
    waker.start()

    assert mailbox.poll(None) == []
    waker.join()


def test_a_poll_without_time_returns_at_once():
    assert Mailbox().poll(0) == []


def test_what_came_before_a_failure_is_taken_and_the_first_failure_is_raised_from_then_on():
    mailbox = Mailbox()
    mailbox.put("last")
    mailbox.fail(ComputeError("first"))
    mailbox.fail(ComputeError("second"))

    assert mailbox.poll(0) == ["last"]
    for _ in range(2):
        with pytest.raises(ComputeError, match="first"):
            mailbox.poll(0)


def test_pauses_grow_to_the_longest_and_begin_anew_after_success():
    backoff = Backoff(1.0, 5.0, clock=Clock())

    assert [backoff.next() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next() == 1.0


def test_chance_takes_a_share_of_a_pause_away_and_no_more():
    backoff = Backoff(1.0, 1.0, jitter=0.5, clock=Clock())

    assert all(0.5 <= backoff.next() <= 1.0 for _ in range(100))


def test_the_other_side_may_ask_for_a_longer_pause_up_to_the_time_that_there_is():
    backoff = Backoff(1.0, 5.0, timeout=60.0, clock=Clock())

    assert [backoff.next(30.0), backoff.next(1e9), backoff.next(0.1)] == [30.0, 60.0, 4.0]


def test_it_is_over_when_nothing_was_heard_for_its_time():
    clock = Clock()
    backoff = Backoff(1.0, 5.0, timeout=60.0, clock=clock)

    clock.now += 60.0
    assert not backoff.is_over
    clock.now += 0.1
    assert backoff.is_over
    backoff.hear()
    assert not backoff.is_over
    clock.now += 61.0
    backoff.hasten()
    assert backoff.is_over
