"""What runs inside a Dask worker: an agent for each of its threads."""

from __future__ import annotations

import threading

from core.worker.agent import Agent

TOLD = 8 << 10
"""Replies of up to this many bytes come as an event, which saves the driver a request; the scheduler keeps 1,000 of
them (``distributed.admin.low-level-log-length``) until the executor ends."""

_thread = threading.local()


def answer(requests: list[bytes], keys: list[str], function: bytes | None = None) -> list[bytes]:
    """Answer requests, in a Dask worker: every thread has an agent of its own.

    A short reply goes to the driver at once, a long one waits for it to ask. The returned replies stand by in any case.
    Of a batch that is alone the driver hears when it begins: where its worker ends, it is then known to have run.
    """
    from distributed import get_worker

    worker = get_worker()
    if not hasattr(_thread, "agent"):
        _thread.agent = Agent(f"{worker.name}-{threading.get_ident()}", agents=worker.state.nthreads)

    def is_heard() -> bool:
        task = worker.state.tasks.get(keys[0])
        return task is not None and task.state == "executing"

    topic = keys[0].rpartition("-")[0]
    if len(keys) == 1:
        worker.log_event(topic, (keys[0], True))
    replies = []
    for key, message in zip(keys, requests, strict=True):
        reply: bytes = _thread.agent.answer(message, is_heard, function=function)
        worker.log_event(topic, (key, reply if len(reply) <= TOLD else None))
        replies.append(reply)
    return replies
