"""Entry points of remote workers: ``python -m core.worker.entry worker|http|lambda|openwhisk|job|versions``.

One image serves every platform; the argument chooses how requests come in.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from core.compute.cluster.base import note, take_notes
from core.errors import ConfigError, FanfoldError, IntegrityError
from core.storage.clients import process_storage
from core.task import keys, messages
from core.task.commit import write_loss_report
from core.task.protocol import BatchLost, Invocation
from core.task.versions import RUNTIME, check_versions, versions
from core.worker.agent import Agent, answer_silently

DONE, FAILED, WRONG_USE = 0, 1, 2

LAMBDA_LARGEST = 6 * 1024 * 1024
"""Bytes of a synchronous request or response (AWS Lambda quotas, "Invocation payload")."""

LAMBDA_FAREWELL = 2.0
"""Seconds before a function's time limit at which what it runs is ended, so that it can say which task that was."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run an entry point; returns the exit status of the process."""
    kind, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if kind == "versions":
        print(json.dumps(versions()))
        return DONE
    if kind == "worker":
        return worker()
    if kind == "job" and len(rest) in (1, 2):
        return job(rest[0], int(rest[1]) if len(rest) > 1 else 1)
    if kind in ("http", "openwhisk"):
        from core.worker import http as serve

        # OpenWhisk starts an image with the arguments it was built with.
        is_action = kind == "openwhisk" or "__OW_API_HOST" in os.environ
        try:
            return serve.openwhisk() if is_action else serve.http()
        except ConfigError as error:
            print(f"fanfold: {error}", file=sys.stderr)
            return WRONG_USE
    if kind == "lambda":
        os.execv(sys.executable, [sys.executable, "-m", "awslambdaric", "core.worker.entry.lambda_handler"])
    print(__doc__, file=sys.stderr)
    return WRONG_USE


def worker() -> int:
    """Answer requests that come as frames on standard input, until it ends.

    The first frame out tells the versions of this software. Whatever else writes to standard output, a user's
    function or a library, goes to standard error.
    """
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    agent = Agent()
    line = select.poll()
    line.register(0, 0)  # a hang-up is always told: the driver is gone
    hello = {"kind": "hello", "versions": versions(), "runtime": os.environ.get(RUNTIME)}
    messages.write_frame(replies, messages.encode(hello))
    try:
        while (message := messages.read_frame(requests)) is not None:
            messages.write_frame(replies, agent.answer(message, lambda: not line.poll(0)))
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    finally:
        agent.close()
    return DONE


def job(path: str, workers: int = 1) -> int:
    """Run the durable batches in a file of request frames; every outcome goes to their job's storage.

    Parameters
    ----------
    path : str
        The file, written by the driver. Beside it, where that folder can be written to, are notes on what runs.
    workers : int
        Batches that run at the same time.
    """
    invocations: dict[int, Invocation] = {}
    try:
        with open(path, "rb") as file:
            while (message := messages.read_frame(file)) is not None:
                head, segments = messages.decode(message)
                check_versions(head["versions"])
                invocation, _ = messages.read_request(head, segments)
                if invocation.durable is None:
                    raise IntegrityError(f"{path} holds a batch whose input is not in storage")
                invocations[invocation.batch_id] = invocation
    except (FanfoldError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        print(f"fanfold: {type(error).__name__}: {error}", file=sys.stderr)
        return WRONG_USE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if take_notes(path):
        invocations = {ident: batch for ident, batch in invocations.items() if not _is_committed(batch)}
    agent = Agent(workers=workers)
    status = DONE
    try:
        for reply in agent.run_all(list(invocations.values()), begin=lambda ident: note(path, ident, True)):
            if isinstance(reply, BatchLost):
                print(f"fanfold: {reply.message}", file=sys.stderr)
                try:
                    write_loss_report(invocations[reply.batch_id], reply)
                except FanfoldError as error:
                    print(f"fanfold: {type(error).__name__}: {error}", file=sys.stderr)
                    status = FAILED
                    continue
            note(path, reply.batch_id, False)
    finally:
        agent.close()
    return status


def _is_committed(invocation: Invocation) -> bool:
    ref = invocation.durable
    assert ref is not None
    try:
        process_storage(ref.address).head(keys.commit(ref.job_id, ref.batch, ref.item))
    except FanfoldError:
        return False
    return True


@lru_cache(maxsize=1)
def _lambda_agent() -> Agent:
    return Agent(os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"), LAMBDA_LARGEST * 3 // 4)


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, str] | None:
    """Answer one invocation of an AWS Lambda function.

    ``event["body"]`` is a request in base64. With ``event["silent"]`` nobody reads the answer: the invocation was
    asynchronous, and a batch that was lost is reported through its job's storage.
    """
    until = time.monotonic() + context.get_remaining_time_in_millis() / 1e3 - LAMBDA_FAREWELL
    agent = _lambda_agent()
    message = base64.b64decode(event["body"])
    if not event.get("silent"):
        return {"body": base64.b64encode(agent.answer(message, until=until)).decode()}
    answer_silently(agent, message, until)
    return None


if __name__ == "__main__":
    sys.exit(main())
