"""One HTTP connection to a service, kept while it lasts, with what can go wrong told apart."""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import select
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import SplitResult

from core.compute.remote.slot import NotStarted, Oversized, WorkerEnded
from core.errors import ComputeDenied, ConfigError, excerpt
from core.settings import Address
from core.task.messages import HTTP_LARGEST

CONNECT_TIMEOUT = 10.0
"""Seconds to connect."""

PAGE = 1 << 16
"""Bytes of an answer that are looked at for people."""

FAILURE_LARGEST = 4 << 20
"""Bytes of an answer that is no success; a platform's record of a failure has no more."""

PIECE = 1 << 20
"""Bytes of an answer that are asked for at a time."""

REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
"""Answers to credentials that do not do, or do no more."""

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)

KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""When a quiet connection is probed, and given up: a machine that is gone is noticed within two minutes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of a response, and the secrets that its request carried."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: Sequence[str] = field(default=(), repr=False)

    @property
    def is_page(self) -> bool:
        """Whether it is meant for a browser."""
        return self.headers.get("Content-Type", "").startswith("text/html")

    @property
    def text(self) -> str:
        """The beginning of the body in one line for people: of a page the title, and no secret that it repeats."""
        text = self.body[:PAGE].decode(errors="replace")
        for known in self.secrets:
            text = text.replace(known, "***")
        if text.lstrip().startswith("<"):
            title = _TITLE.search(text)
            text = title[1] if title else ""
        return excerpt(text)


class Connection:
    """A connection to one host, opened when it is needed.

    Parameters
    ----------
    url : SplitResult
        Scheme, host and port.
    wait : float
        Seconds for an answer, the whole of it.
    largest : int
        Bytes of an answer that are read.
    context : SSLContext, optional
        Which certificates to trust, for ``https``.
    """

    def __init__(
        self, url: SplitResult, wait: float, context: ssl.SSLContext | None, largest: int = HTTP_LARGEST
    ) -> None:
        self._url, self._wait, self._context, self._largest = url, wait, context, largest
        self._http: http.client.HTTPConnection | None = None

    @property
    def where(self) -> str:
        """The address, for people."""
        return self._url.geturl()

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request and return the response.

        Raises
        ------
        NotStarted
            The service cannot be reached.
        WorkerEnded
            The request was sent, and no whole answer came.
        Oversized
            The answer has more bytes than are read.
        ComputeDenied
            The service's certificate is not trusted.
        """
        connection = self._connected()
        is_whole = False
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            content = self._read(response, time.monotonic() + self._wait)
            is_whole = not response.will_close
        except TimeoutError:
            raise WorkerEnded(f"{self.where} did not answer within {self._wait:g} s", "timeout") from None
        except (OSError, http.client.HTTPException) as error:
            raise WorkerEnded(f"the connection to {self.where} broke: {_words(error)}") from None
        finally:
            if not is_whole:
                self.close()
        secrets = [value.rpartition(" ")[2] for name, value in headers.items() if name.endswith("Authorization")]
        return Answer(response.status, dict(response.headers), content, secrets)

    def _read(self, response: http.client.HTTPResponse, until: float) -> bytes:
        """Return the body of an answer; of one that is only shown, the beginning.

        Raises
        ------
        HTTPException
            It breaks off, or where it ends is in doubt.
        """
        lengths = response.headers.get_all("Content-Length", [])
        coded = response.headers.get_all("Transfer-Encoding", [])
        in_doubt = len(lengths) + len(coded) > 1 or not all(re.fullmatch(r"[0-9]{1,19}", each) for each in lengths)
        if in_doubt or [each.lower() for each in coded] not in ([], ["chunked"]):
            raise http.client.HTTPException("its answer does not say plainly where it ends")
        most = self._largest if response.status == HTTPStatus.OK else min(self._largest, FAILURE_LARGEST)
        body = bytearray()
        while len(body) <= most and (piece := response.read1(PIECE)):
            body += piece
            if time.monotonic() > until:
                raise TimeoutError
        if len(body) > most:
            response.will_close = True
            if response.status == HTTPStatus.OK:
                raise Oversized(f"the answer of {self.where} has more than {most / 1e6:.1f} MB")
        elif response.length:
            raise http.client.IncompleteRead(bytes(body), response.length)
        response.close()  # without it the connection takes no further request
        return bytes(body[:most])

    def _connected(self) -> http.client.HTTPConnection:
        # What is readable although nothing is due has been closed from the other side.
        if self._http is not None and self._http.sock is not None and not is_readable(self._http.sock):
            return self._http
        self.close()
        host, port = self._url.hostname or "", self._url.port
        made = (
            http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT)
            if self._context is None
            else http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT, context=self._context)
        )
        try:
            made.connect()
        except ssl.SSLCertVerificationError as error:
            raise ComputeDenied(
                f"the certificate of {self.where} is not trusted: {error.verify_message.rstrip('.')}; "
                "if it is of an authority of your own, name the file of that with ?ca="
            ) from None
        except OSError as error:
            raise NotStarted(
                f"{self.where} cannot be reached: {_words(error)}; is it up, and the address right?"
            ) from None
        made.sock.settimeout(self._wait)
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                made.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._http = made
        return made

    def interrupt(self) -> None:
        """Make a request that waits fail. Called from any thread."""
        connection = self._http  # its thread may be closing it
        made = None if connection is None else connection.sock
        if made is not None:
            with suppress(OSError):  # an SSLSocket's own method would let the request go on unencrypted for a moment
                socket.socket.shutdown(made, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._http is not None:
            self._http.close()
            self._http = None


def is_readable(end: socket.socket) -> bool:
    """Whether there is something to read, if only that the other side is gone."""
    line = select.poll()  # select() refuses descriptors above 1023
    line.register(end, select.POLLIN)
    return bool(line.poll(0))


def check_host(address: Address, url: SplitResult) -> None:
    """Refuse a host that cannot be, and to send secrets in clear to another one unless ``plain=yes`` says it may be.

    Raises
    ------
    ConfigError
        It is refused.
    """
    host = url.hostname or ""
    try:
        host.encode("idna")
    except UnicodeError:
        raise ConfigError(f"{host!r} cannot be the name of a host") from None
    if url.scheme == "http" and not _is_here(host) and address.options.get("plain") != "yes":
        raise ConfigError(
            f"http://{host} would carry the token and the data unencrypted; use https, or say plain=yes in a network "
            "that you trust with both"
        )


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusted(authority: str | None) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, or those in a file."""
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError(f"certificates cannot be read from {authority}: {error}") from None


def secret(path: str | None, variable: str | None, required: bool) -> str:
    """Return a secret from a file or else an environment variable; empty if neither is named.

    Raises
    ------
    NotStarted
        The file is empty, as it is for a moment while another program writes it anew.
    ConfigError
        The file cannot be read, or the variable is required and empty.
    """
    if path is not None:
        try:
            token = _one_line(Path(path).expanduser().read_text("utf-8"), f"the file {path}")
        except OSError as error:
            raise ConfigError(f"the token cannot be read from {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"the token cannot be read from {path}: it is no text") from None
        if not token:
            raise NotStarted(f"the file {path} holds no token")
        return token
    if variable is None:
        return ""
    token = _one_line(os.environ.get(variable, ""), f"the variable {variable}")
    if required and not token:
        raise ConfigError(f"the variable {variable} holds no token")
    return token


def _one_line(text: str, where: str) -> str:
    # The HTTP client would put a value that it cannot send into its exception.
    token = text.strip()
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(f"{where} holds no token: one line of excerpt ASCII characters is expected")
    return token


def _words(error: BaseException) -> str:
    return excerpt(str(error)) or type(error).__name__
