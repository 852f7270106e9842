"""Runs batches as activations of an Apache OpenWhisk action, by its public REST API.

IBM Cloud Functions, which served this API to the first systems of this kind, was closed in 2024; OpenWhisk lives on as
open source, and under other providers' names.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlsplit

from core.compute.base import check_options
from core.compute.remote.base import RemoteBackend
from core.compute.remote.connection import REFUSALS, Answer, Connection, check_host, secret, trusted
from core.compute.remote.slot import ExchangeError, NotStarted, Slot, Throttled, WorkerEnded
from core.compute.waiting import Backoff
from core.errors import ComputeDenied, ComputeError, ConfigError, InputError, excerpt
from core.settings import Address, ExecutorConfig, parse_duration, parse_size
from core.task.messages import WHISK_LARGEST
from core.task.protocol import Invocation

OPTIONS = ("action", "auth_env", "auth_file", "call", "ca", "plain", "timeout", "memory")

AUTH = "OPENWHISK_AUTH"
"""Variable that holds the API key, ``user:password``, unless another or a file is named."""

DEFAULT_ACTION = "fanfold"

DEFAULT_WORKERS = 30
"""Activations at the same time: the concurrency that a namespace has by default (OpenWhisk, "System details")."""

ANSWER_TIMEOUT = 75.0
"""Seconds for an answer: the API holds a blocking call for 60 and then gives the activation's id."""

RECORD_LARGEST = 4 * WHISK_LARGEST
"""Bytes of an activation's record: its result, and what the platform says of it."""

POLL_MIN, POLL_MAX = 0.1, 2.0
"""Seconds between two looks at an activation that goes on."""

RECORD_TIMEOUT = 60.0
"""Seconds for which an activation may be unknown after it was accepted: its record is written when it ends."""

DEFAULT_TIMEOUT, DEFAULT_MEMORY = "5m", "512MiB"
"""Limits of an action that is made here; OpenWhisk allows these without changes to its configuration."""


class OpenWhiskBackend(RemoteBackend):
    """Invokes an action for each batch.

    Address: ``openwhisk://HOST/NAMESPACE?action=NAME``.

    - ``action``: its name, by default ``fanfold``; it is made from the executor's runtime if it is not there.
    - ``auth_env``, ``auth_file``: where the API key is, by default the variable ``OPENWHISK_AUTH``.
    - ``call``: ``blocking`` waits for each answer, ``polling`` asks for it; an answer that takes more than a minute is
      always asked for.
    - ``timeout``, ``memory``: limits of an action that is made. ``ca``: certificates to trust. ``plain=yes``: http.
    """

    name = "openwhisk"
    largest = WHISK_LARGEST * 3 // 4 - 4096  # base64 adds a third, the platform's envelope a little

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        options = address.options
        check_options("openwhisk", options, OPTIONS)
        if options.get("call", "blocking") not in ("blocking", "polling"):
            raise ConfigError(f"openwhisk needs call=blocking or call=polling, not {options['call']!r}")
        super().__init__(address, config, config.workers or DEFAULT_WORKERS)
        self.api = Api(address)
        self.limit = _limits(options)[0]

    def prepare(self) -> None:
        """See that the action is there, or make it.

        Raises
        ------
        ConfigError
            There is none, and no runtime to make it from.
        ComputeDenied
            The API key is wrong.
        """
        api = self.api
        with closing(api.connection()) as connection:
            answer = api.ask(connection, "GET", api.action)
        if answer.status == 404:
            if self.config.runtime is None:
                raise ConfigError(
                    f"there is no action {api.name} in namespace {api.namespace}; make it with 'fanfold runtime deploy "
                    f"NAME --compute openwhisk://{self.address.where}', or name an image with runtime="
                )
            deploy(self.address, self.config.runtime, {})
        elif answer.status != 200:
            raise api.error(answer)
        else:
            self.limit = _limit(answer) or self.limit

    def open_slot(self, index: int) -> Slot:
        """Return a slot; it connects with its first request."""
        return WhiskSlot(self.api, self.limit, self.address.options.get("call") == "polling")


class Api:
    """An OpenWhisk host, a namespace in it, and the action that runs batches."""

    def __init__(self, address: Address) -> None:
        options = address.options
        host, _, self.namespace = address.where.partition("/")
        if not host or not self.namespace or "/" in self.namespace:
            raise ConfigError(
                f"openwhisk needs a host and a namespace: openwhisk://HOST/NAMESPACE, not {address.where!r}"
            )
        self.name = options.get("action", DEFAULT_ACTION)
        self.url = urlsplit(f"{'http' if options.get('plain') == 'yes' else 'https'}://{host}")
        self.base = f"/api/v1/namespaces/{quote(self.namespace, safe='')}"
        self.action = f"{self.base}/actions/{quote(self.name, safe='')}"
        self.options = options
        self._context: ssl.SSLContext | None = None
        check_host(address, self.url)

    def connection(self) -> Connection:
        """Return a connection, not yet opened."""
        if self.url.scheme == "https" and self._context is None:
            self._context = trusted(self.options.get("ca"))
        return Connection(self.url, ANSWER_TIMEOUT, self._context, RECORD_LARGEST)

    def ask(self, connection: Connection, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Make one request with the API key, once more if that was renewed since it was read."""
        key = self._key()
        answer = self._ask(connection, method, path, body, key)
        if answer.status in REFUSALS and (renewed := self._key()) != key:
            answer = self._ask(connection, method, path, body, renewed)
        return answer

    @staticmethod
    def _ask(connection: Connection, method: str, path: str, body: dict[str, Any] | None, key: str) -> Answer:
        authorization = f"Basic {base64.b64encode(key.encode()).decode()}"
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        return connection.ask(method, path, b"" if body is None else json.dumps(body).encode(), headers)

    def _key(self) -> str:
        return secret(self.options.get("auth_file"), self.options.get("auth_env", AUTH), True)

    def error(self, answer: Answer) -> Exception:
        """Return what an unexpected status means."""
        what = f"OpenWhisk at {self.url.netloc} answered {answer.status}" + (f": {answer.text}" if answer.text else "")
        if answer.status in REFUSALS:
            return ComputeDenied(f"{what}; is the API key in {AUTH} (user:password) that of {self.namespace}?")
        if answer.status == 404:
            return ConfigError(f"{what}; there is no action {self.name} in namespace {self.namespace} any more")
        if answer.status == 413:
            return ConfigError(f"{what}; its limits are below the usual 1 MB: give the executor smaller batches")
        if answer.status in (429, 503):
            return Throttled(what)
        if answer.status < 500:
            return ComputeError(what)
        return WorkerEnded(what)


class WhiskSlot(Slot):
    """One activation at a time."""

    def __init__(self, api: Api, limit: float, polling: bool) -> None:
        self._api, self._limit, self._polling = api, limit, polling
        self._connection = api.connection()
        self._ended = threading.Event()

    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Invoke the action and return what it answers."""
        self._ended.clear()
        blocking = "false" if self._polling else "true"
        path = f"{self._api.action}?blocking={blocking}&result=false"
        answer = self._api.ask(self._connection, "POST", path, {"body": base64.b64encode(message).decode()})
        if answer.status in (200, 502):  # 502: the activation ended with an error
            record = _json(answer)
            if "response" not in record:
                raise self._api.error(answer)
            return _result(record)
        if answer.status != 202:
            raise self._api.error(answer)
        activation = _json(answer).get("activationId")
        if not activation:
            raise WorkerEnded(f"OpenWhisk accepted an activation and did not name it: {answer.text}")
        return _result(self._await(str(activation)))

    def _await(self, activation: str) -> dict[str, Any]:
        """Ask for an activation's record until it is there."""
        limit = self._limit + RECORD_TIMEOUT
        looks = Backoff(POLL_MIN, POLL_MAX, 1.5, timeout=limit)
        while not looks.is_over:
            if self._ended.wait(looks.next()):
                raise WorkerEnded("the activation is not waited for any more", "killed")
            try:
                answer = self._api.ask(self._connection, "GET", f"{self._api.base}/activations/{quote(activation)}")
            except (NotStarted, WorkerEnded):
                continue  # the activation goes on, whoever asks
            if answer.status == 200:
                return _json(answer)
            if answer.status not in (404, 429, 502, 503):
                raise self._api.error(answer)
        raise WorkerEnded(f"activation {activation} has no record after {limit:g} s", "timeout")

    def interrupt(self) -> None:
        """Wait for the activation no more; the platform has no way to end it before its time limit."""
        self._ended.set()
        self._connection.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _json(answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WorkerEnded(f"OpenWhisk answered {answer.status} with what is no JSON object: {answer.text}")
    return found


def _limit(answer: Answer) -> float | None:
    """Return the seconds that an activation of an action may take, as its description says."""
    try:
        return float(_json(answer)["limits"]["timeout"]) / 1000
    except (LookupError, TypeError, ValueError, WorkerEnded):
        return None


def _result(record: dict[str, Any]) -> bytes:
    """Return the reply in an activation's record.

    Raises
    ------
    ComputeError
        It was another program that ran.
    WorkerEnded
        The activation failed; the message is the platform's.
    """
    response = record.get("response")
    if not isinstance(response, dict):
        raise WorkerEnded(excerpt(f"the record of activation {record.get('activationId')} has no response"))
    result: Any = response.get("result")
    if response.get("success"):
        try:
            return base64.b64decode(result["body"], validate=True)
        except (LookupError, TypeError, ValueError):
            raise ComputeError(
                "the action is not made from a fanfold runtime; make it with 'fanfold runtime deploy'"
            ) from None
    said = result.get("error", result) if isinstance(result, dict) else result
    message = excerpt(f"activation {record.get('activationId')} ended with {response.get('status')}: {said}")
    if "exceeded its time limits" in message:
        raise WorkerEnded(message, "timeout")
    if "exhausted its memory" in message:
        raise WorkerEnded(message, "memory")
    raise WorkerEnded(message)


def deploy(address: Address, image: str, options: dict[str, str]) -> str:
    """Make or replace the action that runs an image; returns a sentence about it.

    Parameters
    ----------
    options : dict
        ``timeout`` and ``memory`` of the action; by default those of the address.

    Raises
    ------
    ConfigError, ComputeError
        A limit does not fit, or the platform refuses.
    """
    check_options("an OpenWhisk action", options, ("timeout", "memory"))
    timeout, memory = _limits({**address.options, **options})
    api = Api(address)
    body = {
        "exec": {"kind": "blackbox", "image": image},
        "limits": {"timeout": round(1000 * timeout), "memory": memory >> 20, "concurrency": 1},
        "annotations": [{"key": "provide-api-key", "value": False}],
    }
    _manage(api, "PUT", f"{api.action}?overwrite=true", body)
    return f"action {api.name} in namespace {api.namespace} of {api.url.netloc} runs {image}"


def _limits(options: Mapping[str, str]) -> tuple[float, int]:
    """Return seconds and bytes that an activation of an action made here may take."""
    try:
        timeout = parse_duration(options.get("timeout", DEFAULT_TIMEOUT))
        return timeout, parse_size(options.get("memory", DEFAULT_MEMORY))
    except ValueError:
        raise ConfigError("openwhisk needs timeout= as a time such as 5m, memory= as a size such as 512MiB") from None


def delete(address: Address, name: str) -> str:
    """Remove the action; returns a sentence about it.

    Raises
    ------
    InputError
        There is none.
    """
    api = Api(address)
    _manage(api, "DELETE", api.action)
    return f"action {api.name} is gone from namespace {api.namespace} of {api.url.netloc}"


def _manage(api: Api, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    try:
        with closing(api.connection()) as connection:
            answer = api.ask(connection, method, path, body)
        if answer.status == 404:
            raise InputError(f"there is no action {api.name} in namespace {api.namespace} of {api.url.netloc}")
        if answer.status != 200:
            raise api.error(answer)
    except ExchangeError as error:
        raise ComputeError(f"openwhisk cannot be used: {error}") from None
