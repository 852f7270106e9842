"""Runs batches on services that scale the HTTP worker: Knative, OpenShift, Cloud Run, Code Engine, or a plain host."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from core.compute.base import check_options
from core.compute.remote.base import RemoteBackend
from core.compute.remote.connection import REFUSALS, Answer, Connection, check_host, secret, trusted
from core.compute.remote.slot import NotStarted, Slot, Throttled, WorkerEnded, retry_after
from core.errors import ComputeDenied, ConfigError, excerpt
from core.settings import Address, ExecutorConfig, parse_duration, parse_size
from core.task.messages import HTTP_LARGEST, WORKER_TOKEN
from core.task.protocol import Invocation

DEFAULT_WORKERS = 8
"""Requests under way at the same time; the service starts instances for them."""

DEFAULT_WAIT = 3600.0
"""Seconds that a batch may take (the longest request of Cloud Run, "Quotas and limits")."""

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
        check_options(self.name, options, OPTIONS)
        try:
            is_whole = bool(self.url.hostname) and self.url.port != 0
        except ValueError:
            is_whole = False
        if not is_whole:
            raise ConfigError(f"{address.scheme}:// names no host and port; expected {address.scheme}://host:port/path")
        check_host(address, self.url)
        self.path = quote(self.url.path, safe="/%:@!$&'()*+,;=~") or "/"
        super().__init__(address, config, config.workers or DEFAULT_WORKERS)
        try:
            self.wait = parse_duration(options.get("wait", str(DEFAULT_WAIT)))
            self.largest = self.limit = parse_size(options.get("largest", HTTP_LARGEST))
        except ValueError:
            raise ConfigError(
                f"{self.name} needs wait= as a time such as 15m, largest= as a size such as 32MB"
            ) from None
        self.context: ssl.SSLContext | None = None

    def prepare(self) -> None:
        """Load the certificates to trust, and see that there are secrets to show."""
        if self.name == "https":
            self.context = trusted(self.address.options.get("ca"))
        try:
            self.headers()
        except NotStarted as error:
            raise ConfigError(str(error)) from None

    def headers(self) -> dict[str, str]:
        """Return the headers of a request; secrets are read each time, since platforms renew them."""
        options = self.address.options
        token = secret(options.get("token_file"), options.get("token_env", WORKER_TOKEN), "token_env" in options)
        own = secret(options.get("platform_token_file"), options.get("platform_token_env"), True)
        headers = {"Content-Type": "application/octet-stream"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if own:
            headers["X-Serverless-Authorization"] = f"Bearer {own}"
        return headers

    def open_slot(self, index: int) -> Slot:
        """Return a slot; it connects with its first request."""
        return HttpSlot(self)


class HttpSlot(Slot):
    """One connection to the service."""

    def __init__(self, backend: HttpBackend) -> None:
        self._backend = backend
        self._connection = Connection(backend.url, backend.wait, backend.context, backend.limit)

    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Send a request and return the reply."""
        headers = self._backend.headers()
        answer = self._connection.ask("POST", self._backend.path, message, headers)
        if answer.status == HTTPStatus.OK and not answer.is_page:
            return answer.body
        if answer.status in REFUSALS and self._backend.headers() != headers:
            raise NotStarted(f"{self._connection.where} refused a token that was renewed since")
        raise self._error(answer)

    def _error(self, answer: Answer) -> Exception:
        """Return what an answer means that is none of a worker to a batch."""
        status = answer.status
        what = f"{self._connection.where} answered {status}" + (f": {answer.text}" if answer.text else "")
        if status in REFUSALS:
            return ComputeDenied(f"{what}; give the token that the worker expects with token_file= or token_env=")
        if status in (408, 429, 503):
            return Throttled(what, retry_after(answer.headers.get("Retry-After", "")))
        if status == 413:
            return ConfigError(f"{what}; lower ?largest= to what the service carries")
        if 300 <= status < 400:
            what += f", a redirection to {excerpt(answer.headers.get('Location', 'nowhere').partition('?')[0])}"
        if status < 500 or status == 501:
            return ConfigError(f"{what}; is this the address of a worker ('python -m core.worker.entry http')?")
        return WorkerEnded(what, "timeout" if status == 504 else "died")

    def interrupt(self) -> None:
        """Close the connection: the worker notices, and ends what it runs."""
        self._connection.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def manifest(address: Address, image: str, options: dict[str, str]) -> str:
    """Return what Knative, OpenShift Serverless, Cloud Run or Code Engine apply to serve an image.

    Raises
    ------
    ConfigError
        An option is unknown or its value does not fit.
    """
    from core.compute.remote.http_manifest import text

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
