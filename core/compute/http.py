"""Runs batches on services that scale the HTTP worker: Knative, OpenShift, Cloud Run, Code Engine, or a plain host."""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from core.compute.base import Invocation
from core.compute.remote import NotStarted, RemoteBackend, Slot, Throttled, WorkerEnded
from core.config import Address, ExecutorConfig, parse_duration, parse_size
from core.errors import ComputeDenied, ConfigError
from core.serve import DEFAULT_LARGEST, TOKEN

DEFAULT_WORKERS = 8
"""Requests under way at the same time; the service starts instances for them."""

DEFAULT_WAIT = 3600.0
"""Seconds that a batch may take (the longest request of Cloud Run, "Quotas and limits")."""

CONNECT = 10.0
"""Seconds to connect."""

OPTIONS = ("token_env", "token_file", "platform_token_env", "platform_token_file", "ca", "wait", "largest", "plain")


class HttpBackend(RemoteBackend):
    """Sends each batch as one ``POST``.

    Address: ``https://HOST/PATH?token_file=FILE``.

    - ``token_env``, ``token_file``: where the worker's secret is, by default the variable ``FANFOLD_WORKER_TOKEN``; it
      is sent as bearer token.
    - ``platform_token_env``, ``platform_token_file``: a token for the platform itself, sent as
      ``X-Serverless-Authorization`` (Cloud Run, "Authenticating service-to-service").
    - ``ca``: file with the certificates to trust, instead of the system's.
    - ``wait``: how long a batch may take. ``largest``: bytes that a request or reply may have.
    - ``plain=yes``: allow ``http://`` to another machine, in a network that is trusted with the token and the data.
    """

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        self.name = address.scheme
        options = address.options
        self.url = urlsplit(f"{address.scheme}://{address.where}")
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise ConfigError(f"{self.name} has no option {unknown[0]!r}; known: {', '.join(OPTIONS)}")
        if not self.url.hostname:
            raise ConfigError(f"{address.scheme}:// names no host; expected {address.scheme}://host/path")
        if self.name == "http" and options.get("plain") != "yes" and not _is_loopback(self.url.hostname):
            raise ConfigError(
                f"http://{self.url.hostname} would carry the token and the data unencrypted; use https://, or add "
                "?plain=yes in a network that you trust with both"
            )
        super().__init__(address, config, config.workers or DEFAULT_WORKERS)
        try:
            self.wait = parse_duration(options.get("wait", str(DEFAULT_WAIT)))
            self.largest = parse_size(options.get("largest", DEFAULT_LARGEST))
        except ValueError:
            raise ConfigError(
                f"{self.name} needs wait= as a time such as 15m, largest= as a size such as 32MB"
            ) from None
        self._context: ssl.SSLContext | None = None

    def prepare(self) -> None:
        """Load the certificates to trust."""
        if self.name == "https":
            try:
                self._context = ssl.create_default_context(cafile=self.address.options.get("ca"))
            except OSError as error:
                raise ConfigError(
                    f"certificates cannot be read from {self.address.options.get('ca')}: {error}"
                ) from None

    def headers(self) -> dict[str, str]:
        """Return the headers of a request; secrets are read each time, since platforms renew them."""
        options = self.address.options
        token = _secret(options.get("token_file"), options.get("token_env", TOKEN), "token_env" in options)
        own = _secret(options.get("platform_token_file"), options.get("platform_token_env"), True)
        headers = {"Content-Type": "application/octet-stream"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if own:
            headers["X-Serverless-Authorization"] = f"Bearer {own}"
        return headers

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, not yet opened."""
        host, port = self.url.hostname or "", self.url.port
        if self._context is not None:
            return http.client.HTTPSConnection(host, port, timeout=CONNECT, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=CONNECT)

    def open_slot(self, index: int) -> Slot:
        """Return a slot; it connects with its first request."""
        return HttpSlot(self)


class HttpSlot(Slot):
    """One connection to the service, kept while it lasts."""

    def __init__(self, backend: HttpBackend) -> None:
        self._backend = backend
        self._connection: http.client.HTTPConnection | None = None

    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Send a request and return the reply."""
        backend = self._backend
        connection = self._connected()
        try:
            connection.request("POST", backend.url.path or "/", message, backend.headers())
            response = connection.getresponse()
            body = response.read()
        except TimeoutError:
            self.close()
            raise WorkerEnded(f"{self._where} did not answer within {backend.wait:g} s", "timeout") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise WorkerEnded(f"the connection to {self._where} broke: {_words(error)}") from None
        if response.will_close:
            self.close()
        if response.status == http.client.OK:
            return body
        raise self._error(response.status, response.headers.get("Retry-After", ""), body)

    @property
    def _where(self) -> str:
        return self._backend.url.geturl()

    def _connected(self) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is not None and connection.sock is not None and not _is_closed(connection.sock):
            return connection
        self.close()
        connection = self._backend.connect()
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise ComputeDenied(
                f"the certificate of {self._where} is not trusted: {error.verify_message}; "
                "name the file of its authority with ?ca="
            ) from None
        except OSError as error:
            raise NotStarted(f"{self._where} cannot be reached: {_words(error)}") from None
        connection.sock.settimeout(self._backend.wait)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        return connection

    def _error(self, status: int, wait: str, body: bytes) -> Exception:
        """Return what a status other than 200 means."""
        said = body[:200].decode(errors="replace").strip()
        what = f"{self._where} answered {status}" + (f": {said}" if said else "")
        if status in (401, 403):
            return ComputeDenied(f"{what}; give the token that the worker expects with token_file= or token_env=")
        if status in (429, 503):
            return Throttled(what, float(wait) if wait.isdigit() else 0.0)
        if status == 413:
            return ConfigError(f"{what}; lower ?largest= to what the service carries")
        if status < 500:
            return ConfigError(f"{what}; is this the address of a worker ('python -m core.entry http')?")
        return WorkerEnded(what, "timeout" if status == 504 else "died")

    def interrupt(self) -> None:
        """Close the connection: the worker notices, and ends what it runs."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _secret(path: str | None, variable: str | None, required: bool) -> str:
    """Return a secret from a file or else a variable; empty if neither is named."""
    if path is not None:
        try:
            return Path(path).expanduser().read_text("utf-8").strip()
        except OSError as error:
            raise ConfigError(f"the token cannot be read from {path}: {error.strerror}") from None
    if variable is None:
        return ""
    if required and not os.environ.get(variable):
        raise ConfigError(f"the variable {variable} holds no token")
    return os.environ.get(variable, "")


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _is_closed(sock: socket.socket) -> bool:
    """Whether the other side has closed a connection on which nothing is due."""
    return bool(select.select([sock], [], [], 0)[0])


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def manifest(address: Address, image: str, options: dict[str, str]) -> str:
    """Return what Knative, OpenShift Serverless, Cloud Run or Code Engine apply to serve an image.

    Raises
    ------
    ConfigError
        An option is unknown or its value does not fit.
    """
    from core.compute.http_manifest import text

    return text(image, options)


def deploy(address: Address, image: str, options: dict[str, str]) -> str:
    """Refuse: there is no one interface to all services behind HTTP.

    Raises
    ------
    ConfigError
        Always, with the command that serves instead.
    """
    raise ConfigError(
        "services behind http(s) are deployed by their own tools: print what they apply with --manifest, and give it "
        "to kubectl, oc or 'gcloud run services replace'"
    )
