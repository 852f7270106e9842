"""GET, HEAD, and PUT of short bodies, with a third of the CPU time that they cost through boto3.

Of the 0.65 ms that boto3 takes for 4 KiB, 0.2 remain here; the rest are its events, endpoint rules and parsers. So
boto3 makes the first request of a kind to each bucket, and the next ones repeat what it decided there: the address and
its style, region, way of signing, headers, and checksums to compare. Credentials, failures and checksums are left to
it, and so are proxies, long or streamed bodies, unknown options or signatures, and repeating what was sent elsewhere.
"""

from __future__ import annotations

import functools
import os
import socket
import ssl
import threading
import time
import weakref
from collections import defaultdict, deque
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import SimpleNamespace
from typing import Any

from core.storage.s3_auth import TokenSource
from core.storage.s3_errors import Damaged
from core.storage.s3_route import KNOWN, METADATA, Route, route_of

CONNECTIONS = 32
"""Connections that wait for the next request."""

AT_ONCE = 1 << 18
"""Bytes of a body sent without asking whether it is wanted; servers read as much before they refuse a request."""

CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60

_ANSWERS = {
    "ETag": "etag",
    "ContentRange": "content-range",
    "ContentEncoding": "content-encoding",
    "ChecksumCRC32": "x-amz-checksum-crc32",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
}
_ELSEWHERE = (301, 302, 303, 307, 308, 400)
"""Answers with which a service may mean that a bucket is in another place or region."""


class Direct:
    """Three methods of a boto3 client; may be used by any thread.

    Parameters
    ----------
    session, client : boto3's
    tokens : TokenSource, optional
        If requests carry a token instead of a signature.
    """

    def __init__(self, session: Any, client: Any, tokens: TokenSource | None) -> None:
        self._session, self._client, self._tokens = session, client, tokens
        self._routes: dict[tuple[str, str], Route] = {}
        self._idle: dict[tuple[str, str], deque[HTTPConnection]] = defaultdict(deque)
        # Its connections, not itself: nothing else ends them when it is let go.
        weakref.finalize(self, _end, self._idle).atexit = False
        self._signed = threading.local()
        for operation in ("GetObject", "HeadObject", "PutObject"):
            client.meta.events.register_last(f"before-sign.s3.{operation}", self._note)

    def get_object(self, **options: Any) -> dict[str, Any]:
        """Do what boto3's method does."""
        return self._ask("GET", "GetObject", self._client.get_object, options)

    def head_object(self, **options: Any) -> dict[str, Any]:
        """Do what boto3's method does."""
        return self._ask("HEAD", "HeadObject", self._client.head_object, options)

    def put_object(self, **options: Any) -> dict[str, Any]:
        """Do what boto3's method does."""
        return self._ask("PUT", "PutObject", self._client.put_object, options)

    def _ask(self, method: str, operation: str, by_boto3: Any, options: dict[str, Any]) -> dict[str, Any]:
        body = options.get("Body", b"")
        where = options["Bucket"], method
        usual = options.keys() <= KNOWN and isinstance(body, bytes) and len(body) <= AT_ONCE
        route = self._routes.get(where) if usual else None
        if route is not None:
            return self._send(route, method, operation, options)
        self._signed.last = None
        answer: dict[str, Any] = by_boto3(**options)
        last, self._signed.last = self._signed.last, None
        if usual and last is not None and (found := route_of(options["Key"], *last)) is not None:
            self._routes[where] = found
        return answer

    def _note(self, request: Any, signature_version: Any, **_: Any) -> None:
        # Not the whole context, which holds the body.
        context = {name: request.context.get(name) for name in ("signing", "checksum", "client_region")}
        self._signed.last = (request.url, dict(request.headers), context, signature_version)

    def _send(self, route: Route, method: str, operation: str, options: dict[str, Any]) -> dict[str, Any]:
        credentials = self._session.get_credentials().get_frozen_credentials() if route.region else None
        path, headers = route.request(method, options, credentials, time.time())
        if self._tokens is not None:
            headers["authorization"] = f"Bearer {self._tokens.token()}"
        received = self._exchange(route, method, path, headers, options.get("Body"))
        status = received.response.status
        found = {name.lower(): value for name, value in received.response.getheaders()}
        if status in _ELSEWHERE:
            received.close()
            self._routes.pop((options["Bucket"], method), None)
            raise Damaged(f"status {status}")
        answer: dict[str, Any] = {field: found[name] for field, name in _ANSWERS.items() if name in found}
        if found.get("content-length", "").isdecimal():
            answer["ContentLength"] = int(found["content-length"])
        if method == "GET" and status < 300:
            return answer | {"Body": self._body(received, found, route)}
        content = received.read()
        # Services may fail after they have begun to answer.
        status = 500 if status < 300 and b"<Error" in content else status
        if status >= 300:
            raise self._failure(operation, {"status_code": status, "headers": found, "body": content})
        told = {name.removeprefix(METADATA): found[name] for name in found if name.startswith(METADATA)}
        return answer | {"Metadata": told}

    def _body(self, received: Received, headers: dict[str, str], route: Route) -> Any:
        from botocore.httpchecksum import handle_checksum_body
        from botocore.response import StreamingBody

        body = StreamingBody(received, headers.get("content-length"))
        answer = {"headers": headers, "body": body, "context": {}}
        context = {"checksum": {"response_algorithms": route.checksums}}
        model = self._client.meta.service_model.operation_model("GetObject")
        handle_checksum_body(SimpleNamespace(raw=received), answer, context, model)
        return answer["body"]

    def _failure(self, operation: str, answer: dict[str, Any]) -> Exception:
        from botocore.parsers import create_parser

        shape = self._client.meta.service_model.operation_model(operation).output_shape
        parsed = create_parser("rest-xml").parse(answer, shape)
        kind = self._client.exceptions.from_code(parsed.get("Error", {}).get("Code"))
        failure: Exception = kind(parsed, operation)
        return failure

    def _exchange(self, route: Route, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Received:
        from botocore.exceptions import HTTPClientError, SSLError

        idle = self._idle[route.scheme, route.host]
        connection = None
        try:
            connection = _waiting(idle) or self._connect(route)
            # A service that refuses a body may close before it has read all; its answer is there all the same.
            with suppress(BrokenPipeError):
                connection.request(method, path, body, headers)
            return Received(self, idle, connection, connection.getresponse())
        except (OSError, HTTPException) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, ssl.SSLError):
                raise SSLError(endpoint_url=route.host, error=error) from None
            raise HTTPClientError(error=error) from None

    def _connect(self, route: Route) -> HTTPConnection:
        connection = HTTPConnection(route.host, timeout=CONNECT_TIMEOUT)
        if route.scheme == "https":
            trusted = self._session._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
            connection = HTTPSConnection(route.host, timeout=CONNECT_TIMEOUT, context=_tls(trusted or True))
        connection.connect()
        connection.sock.settimeout(READ_TIMEOUT)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection


class Received:
    """An answer being read, after which its connection waits for the next request of whoever asked for it."""

    def __init__(
        self, owner: Direct, idle: deque[HTTPConnection], connection: HTTPConnection, response: HTTPResponse
    ) -> None:
        self._owner, self._idle, self._connection, self.response = owner, idle, connection, response

    def read(self, amount: int | None = None) -> bytes:
        """Return the next bytes, or all that are left."""
        from botocore.exceptions import HTTPClientError

        reading = not self.response.isclosed()
        try:
            data = self.response.read(amount)
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise HTTPClientError(error=error) from None
        if reading and self.response.isclosed() and self._connection.sock and len(self._idle) < CONNECTIONS:
            self._idle.append(self._connection)
        return data

    def close(self) -> None:
        """End the connection, unless all was read."""
        if not self.response.isclosed():
            self.response.close()
            self._connection.close()


def _end(idle: dict[tuple[str, str], deque[HTTPConnection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()


def _waiting(idle: deque[HTTPConnection]) -> HTTPConnection | None:
    from urllib3.util import wait_for_read

    with suppress(IndexError):
        while True:
            connection = idle.pop()
            # Where something arrives unasked, the other side has closed.
            if not wait_for_read(connection.sock, 0):
                return connection
            connection.close()
    return None


@functools.lru_cache(maxsize=4)
def _tls(trusted: str | bool) -> ssl.SSLContext:
    from botocore.httpsession import get_cert_path
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context()
    context.check_hostname = True
    context.load_verify_locations(get_cert_path(trusted))
    return context
