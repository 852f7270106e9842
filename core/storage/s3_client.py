"""Clients of S3 services: which service an address means, one client per process, and requests tried until they work.

boto3 is loaded with the first client. Its own repetitions are switched off, so that each request is counted, and
because they end where the body of an answer begins.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import os
import random
import re
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from core.errors import ConfigError, FanfoldError, MissingExtra
from core.storage.s3_auth import TokenSource, api_key
from core.storage.s3_direct import AT_ONCE, CONNECT_TIMEOUT, CONNECTIONS, READ_TIMEOUT, Direct
from core.storage.s3_errors import Damaged, is_passing, is_refused, typed

THREADS = 8
"""Transfers at the same time in one process, for objects of many parts."""

BACKOFF, LONGEST_BACKOFF = 0.05, 5.0
"""Seconds of the longest first delay between attempts, doubled for each further one; the delay is drawn below it."""

PATIENCE = 60.0
"""Seconds for which a service that has answered before may be out of order; a shorter fault is never seen."""

FIRST_PATIENCE = 10.0
"""The same for a service that has never answered: more likely its address is wrong."""

COS_ENDPOINT = "https://s3.{region}.cloud-object-storage.appdomain.cloud"
COS_ENDPOINT_VARIABLE = "IBM_COS_ENDPOINT"
_AWS_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_OPTIONS = ("anonymous", "endpoint", "path_style", "profile", "region")
_SWITCH = {"true": True, "1": True, "false": False, "0": False}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Service:
    """Which service, and as whom; everything here may be shown, since credentials are found elsewhere."""

    scheme: str
    endpoint: str | None = None
    profile: str | None = None
    region: str | None = None
    path_style: bool | None = None
    anonymous: bool = False


def parse(address: str) -> tuple[Service, str, str, str]:
    """Split an S3 address.

    Returns
    -------
    service : Service
    bucket : str
    prefix : str
        Empty, or ending in ``/``.
    canonical : str
        The address as every process would write it.

    Raises
    ------
    ConfigError
        The bucket's name is impossible, or an option is unknown or malformed.
    """
    place, _, query = address.partition("?")
    scheme, _, path = place.partition("://")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.strip("/")
    if "@" in place:
        raise ConfigError(f"a {scheme}:// address has no user name or password; use the environment or a profile")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"{place!r} names no bucket; write {scheme}://BUCKET or {scheme}://BUCKET/PREFIX")
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        # Neither name nor value is shown: somebody may have taken the address for the place of a secret.
        if name not in _OPTIONS or not value or name in options:
            raise ConfigError(
                f"an option of the address {place!r} is unknown, empty or given twice; known: {', '.join(_OPTIONS)}; "
                "credentials belong in the environment or a profile"
            )
        options[name] = value
    endpoint = options.get("endpoint")
    if endpoint is not None and not _is_endpoint(endpoint):
        raise ConfigError(f"the endpoint of {place!r} must be http://HOST:PORT or https://HOST, without password")
    switches = {}
    for name in ("anonymous", "path_style"):
        if name in options and options[name] not in _SWITCH:
            raise ConfigError(f"option {name} of {place!r} must be true or false")
        switches[name] = _SWITCH[options[name]] if name in options else None
    service = Service(
        scheme,
        endpoint.rstrip("/") if endpoint else None,
        options.get("profile"),
        options.get("region"),
        switches["path_style"],
        bool(switches["anonymous"]),
    )
    suffix = "&".join(f"{name}={options[name]}" for name in sorted(options))
    canonical = f"{scheme}://{bucket}/{prefix}".rstrip("/") + (f"?{suffix}" if suffix else "")
    return service, bucket, f"{prefix}/" if prefix else "", canonical


def _is_endpoint(text: str) -> bool:
    try:
        place = urlsplit(text)
        return place.scheme in ("http", "https") and bool(place.hostname) and place.port != 0 and "@" not in text
    except ValueError:
        return False


@functools.lru_cache(maxsize=16)
def connection(service: Service, process: int) -> Connection:
    """Return a process's one connection to a service; one inherited through fork is never used."""
    return Connection(service)


@functools.lru_cache(maxsize=1)
def turn(process: int) -> threading.Lock:
    """Return the lock under which threads ask for a connection.

    Without it those that start together would each make a client, a tenth of a second of work.
    """
    return threading.Lock()


@functools.lru_cache(maxsize=1)
def threads(process: int) -> ThreadPoolExecutor:
    """Return a process's threads for transfers of many parts."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="fanfold-s3")


class Connection:
    """The client of one service in one process.

    Attributes
    ----------
    client : boto3's S3 client
    direct : Direct
        The same for reads and short writes, with less work.
    sorts_by_directory : bool
        Whether the server that answered last lists directory by directory; see `s3_listing`.

    Raises
    ------
    MissingExtra
        boto3 is not installed.
    ConfigError
        The profile is unknown, or nothing says where the service is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._answered = False
        self.sorts_by_directory = False
        self._tokens = TokenSource() if service.scheme == "cos" and not service.anonymous and api_key() else None
        self._session = self._open_session()
        self._identity = _identity(self._session)
        self.client, self.direct = self._make_client()
        self._attempting = threading.local()
        self._renewing = threading.Lock()
        self._lent: Any = None
        self._is_refused = False

    def attempt(self, place: str, key: str, count: Callable[[], None], request: Callable[[], T]) -> T:
        """Return what a request returns, repeated with growing, random delays while its failures are passing ones.

        Parameters
        ----------
        place : str
            Canonical address of the storage, for messages.
        count : callable
            Called before each attempt.

        Raises
        ------
        StorageError, ConfigError, InputError
            The failure is final, or has lasted too long.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        began = time.monotonic()
        longest = BACKOFF
        renewed = False
        while True:
            count()
            session = self._session
            try:
                self._attempting.now = True
                result = request()
            except (BotoCoreError, ClientError, ResponseParserError, Damaged, OSError, ValueError) as error:
                if isinstance(error, FanfoldError):
                    raise
                answered = isinstance(error, ClientError | Damaged)
                self._answered |= answered
                if is_refused(error) and not renewed:
                    renewed = True
                    if self._renew(session):
                        continue
                patience = PATIENCE if self._answered else FIRST_PATIENCE
                if not is_passing(error) or time.monotonic() - began > patience:
                    # Without its cause: causes are shown, and their requests may hold tokens.
                    raise typed(error, place, key, self.endpoint) from None
                time.sleep(random.uniform(0, longest))
                longest = min(2 * longest, LONGEST_BACKOFF)
            else:
                self._answered = True
                return result
            finally:
                self._attempting.now = False

    def client_for(self, count: Callable[[], None]) -> Any:
        """Return the client for a user's function, whose requests are told to `count`; `attempt` counts its own."""

        def tell(**_: Any) -> None:
            if not getattr(self._attempting, "now", False):
                count()

        if self._is_refused:
            self._is_refused = False
            self._renew(self._session)
        if self._lent is not self.client:
            self._lent = self.client
            self.client.meta.events.register("before-send.s3", tell)
        return self.client

    @property
    def endpoint(self) -> str:
        """Where the service is."""
        return str(self.client.meta.endpoint_url)

    def _renew(self, session: Any) -> bool:
        """Look for credentials again, as one of a session was refused; whether there are others now."""
        if self._tokens is not None:
            self._tokens.refused()
            return True
        with self._renewing:
            if self._session is not session:  # another thread has been here
                return True
            fresh = self._open_session()
            found = _identity(fresh)
            if self._service.anonymous or found in (None, self._identity):
                return False
            self._session, self._identity = fresh, found
            self.client, self.direct = self._make_client()
            return True

    def _open_session(self) -> Any:
        try:
            import boto3
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise MissingExtra(f"{self._service.scheme}:// needs boto3: pip install 'fanfold[s3]'") from None
        try:
            session = boto3.Session(profile_name=self._service.profile, region_name=self._service.region)
        except (BotoCoreError, ValueError) as error:
            raise self._unusable(error) from None
        session._session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
        return session

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(f"{self._service.scheme}:// cannot be used: {error}; check the profile and the endpoint")

    def _make_client(self) -> tuple[Any, Direct]:
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        service, session = self._service, self._session
        endpoint = _endpoint(service)
        try:
            custom = endpoint or _configured_endpoint(session)
            path_style = service.path_style if service.path_style is not None else custom is not None
            client = session.client(
                "s3",
                endpoint_url=endpoint,
                region_name=session.region_name or ("us-east-1" if custom else None),
                config=Config(
                    signature_version=UNSIGNED if service.anonymous or self._tokens else None,
                    max_pool_connections=CONNECTIONS,
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=READ_TIMEOUT,
                    tcp_keepalive=True,
                    user_agent=f"fanfold {session._session.user_agent()}",  # else put together twice a request
                    retries={"total_max_attempts": 1},
                    s3={"addressing_style": "path" if path_style else "auto"},
                    # Bodies carry their checksum in a header, which older services ignore where they refuse trailers.
                    request_checksum_calculation="when_required",
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise self._unusable(error) from None
        client.meta.events.register("before-call.s3.DeleteObjects", _add_digest)
        client.meta.events.register_last("before-call.s3", _send_at_once)
        client.meta.events.register("after-call.s3", self._note_server)
        if self._tokens is not None:
            # As late as this, so that no log of requests has seen the token.
            client.meta.events.register("before-send.s3", self._add_token)
        return client, Direct(session, client, self._tokens)

    def _note_server(self, parsed: dict[str, Any], **_: Any) -> None:
        headers = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self.sorts_by_directory = str(headers.get("server", "")).startswith("SeaweedFS")
        status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status in (401, 403) and not getattr(self._attempting, "now", False):
            self._is_refused = True  # to a function that the client was lent to

    def _add_token(self, request: Any, **_: Any) -> None:
        assert self._tokens is not None
        request.headers["Authorization"] = f"Bearer {self._tokens.token()}"


def _identity(session: Any) -> Any:
    """Return the credentials that a session finds, None if there are none that can be used."""
    from botocore.exceptions import BotoCoreError

    try:
        found = session.get_credentials()
        return found and tuple(found.get_frozen_credentials())
    except BotoCoreError:
        return None


def _endpoint(service: Service) -> str | None:
    if service.endpoint or service.scheme != "cos":
        return service.endpoint
    configured = os.environ.get(COS_ENDPOINT_VARIABLE)
    if configured:
        return configured
    if service.region:
        return COS_ENDPOINT.format(region=service.region)
    if any(os.environ.get(name) for name in _AWS_ENDPOINT_VARIABLES) or service.profile:
        return None
    raise ConfigError(
        f"nothing says where cos:// is; add ?region=eu-de (or another) or ?endpoint=https://HOST to the address, "
        f"or set {COS_ENDPOINT_VARIABLE}"
    )


def _configured_endpoint(session: Any) -> str | None:
    if any(os.environ.get(name) for name in _AWS_ENDPOINT_VARIABLES):
        return "environment"
    profile = session._session.get_scoped_config()
    return profile.get("endpoint_url") or (profile.get("services") and "profile")


def _add_digest(params: dict[str, Any], **_: Any) -> None:
    # Ceph and IBM COS want this digest where boto3 sends a newer one.
    body = params["body"]
    params["headers"]["Content-MD5"] = md5(body if isinstance(body, bytes) else body.encode())


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    # Asking first costs a round trip, and boto3 reads the answer byte by byte.
    body = params.get("body")
    if isinstance(body, io.BytesIO) and body.getbuffer().nbytes <= AT_ONCE:
        params["headers"].pop("Expect", None)


def moment(text: str) -> datetime:
    """Return the time in a listing or a header, with a fiftieth of the work that boto3 makes of it."""
    from botocore.utils import parse_timestamp

    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(TypeError, ValueError):
            return parse(text)
    return parse_timestamp(text)  # type: ignore[no-any-return]


def md5(data: bytes | bytearray | memoryview) -> str:
    """Return what a ``Content-MD5`` header says of a body."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def crc32(data: bytes) -> str:
    """Return what an ``x-amz-checksum-crc32`` header says of a body: an eighth of the work of an MD5."""
    return header_of(zlib.crc32(data))


def header_of(checksum: int) -> str:
    """Return a CRC-32 as headers write it."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
