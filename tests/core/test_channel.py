import gc
import os
import socket

import pytest

from core.compute.local import channel
from core.compute.local.channel import INLINE_BYTES, Channel, ConnectionLost


@pytest.fixture(params=[True, False], ids=["shared", "stream"])
def ends(request):
    left, right = (Channel(end, request.param) for end in socket.socketpair())
    yield left, right
    left.close()
    right.close()


def pump(sender, receiver, segments):
    """Send without blocking, as a driver does, and return what arrives."""
    sender.socket.setblocking(False)
    receiver.socket.setblocking(False)
    sender.queue(segments)
    messages = []
    while not messages or sender.unsent:
        sender.flush()
        messages += receiver.drain()
    return messages


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    "sizes", [[], [0], [1], [5, 0, 7], [INLINE_BYTES - 1], [INLINE_BYTES + 1], [3, 1 << 20, 0, 70_001]]
)
def test_messages_arrive_as_they_were_sent(ends, sizes):
    segments = [os.urandom(size) for size in sizes]

    (message,) = pump(*ends, segments)

    assert [bytes(part) for part in message] == segments


def test_many_messages_arrive_in_order(ends):
    received = []
    for number in range(200):
        received += pump(*ends, [number.to_bytes(2, "big"), bytes(number * 997 % 100_000)])

    assert [int.from_bytes(message[0], "big") for message in received] == list(range(200))
    assert [len(message[1]) for message in received] == [number * 997 % 100_000 for number in range(200)]


def test_what_arrives_is_writable_and_stays_as_it_was_while_it_is_held(ends):
    first = pump(*ends, [b"a" * 100_000])[0][0]
    second = pump(*ends, [b"b" * 100_000])[0][0]
    memoryview(second)[0] = 1

    assert bytes(first) == b"a" * 100_000
    assert bytes(second) == b"\x01" + b"b" * 99_999


def test_shared_files_are_used_again_when_the_receiver_has_let_go_of_them():
    left, right = (Channel(end, True) for end in socket.socketpair())
    before = descriptors()
    for _ in range(12):
        message = pump(left, right, [bytes(200_000)])
        del message
        gc.collect()
        pump(right, left, [b"news"])

    assert len(left._files) <= 2
    assert descriptors() - before <= 2
    left.close()
    right.close()


def test_a_receiver_that_keeps_everything_does_not_run_out_of_descriptors(monkeypatch):
    monkeypatch.setattr(channel, "MAPPED_FILES", 10)
    left, right = (Channel(end, True) for end in socket.socketpair())
    before = descriptors()

    kept = [pump(left, right, [bytes([number % 256]) * 70_000])[0][0] for number in range(100)]

    assert descriptors() - before <= 10 + channel.POOL_FILES + 1
    assert [bytes(part[:1]) for part in map(memoryview, kept)] == [bytes([number % 256]) for number in range(100)]
    left.close()
    right.close()


def test_what_is_mapped_outlives_the_channel(ends):
    (message,) = pump(*ends, [b"x" * 100_000])
    for end in ends:
        end.close()

    assert bytes(message[0]) == b"x" * 100_000


def test_an_end_that_is_gone_is_noticed_after_its_last_words(ends):
    left, right = ends
    left.send([b"last"])
    left.socket.close()
    right.socket.setblocking(False)

    def drain_to_the_end():
        while True:
            right.drain()

    with pytest.raises(ConnectionLost):
        drain_to_the_end()
    assert [[bytes(part) for part in message] for message in right.pending()] in ([[b"last"]], [])


def test_sending_to_an_end_that_is_gone_says_so(ends):
    left, right = ends
    right.socket.close()

    def send_until_noticed():
        for _ in range(3):
            left.send([b"x"])

    with pytest.raises(ConnectionLost):
        send_until_noticed()
