"""Bearer tokens of IBM Cloud: one for an API key, fetched once and shared by this user's processes until it expires.

The API key stays in the environment, and the token in a file that only the user can read. Neither is part of any
address, job, log line or exception.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.errors import AccessDenied, ConfigError, StorageError, StorageUnavailable
from core.settings import state_dir
from core.trust import make_private, read_private

API_KEY_VARIABLES = ("IBM_API_KEY_ID", "IBMCLOUD_API_KEY")
ENDPOINT_VARIABLE = "IBM_AUTH_ENDPOINT"
PUBLIC_ENDPOINT = "https://iam.cloud.ibm.com/identity/token"

MARGIN = 120.0
"""Seconds before its end from which a token is replaced: a request with it may take that long to be served."""

ATTEMPTS = 5
BACKOFF = 0.5
"""Seconds of the longest first delay between attempts, doubled for each further one; the delay is drawn below it."""

TIMEOUT = 20.0
LARGEST_TOKEN = 64 << 10
"""Bytes of the file of a token; they have about two thousand."""

_GRANT = "urn:ibm:params:oauth:grant-type:apikey"
_PASSING = (408, 425, 429, 500, 502, 503, 504)


def api_key() -> str | None:
    """Return the API key in the environment, if there is one."""
    return next((os.environ[name] for name in API_KEY_VARIABLES if os.environ.get(name)), None)


class TokenSource:
    """Gives the current token of the API key in the environment; may be used by any thread.

    Raises
    ------
    AccessDenied
        There is no API key, or it is refused.
    StorageUnavailable
        The token service does not answer.
    """

    def __init__(self) -> None:
        self._known: tuple[str, float] = ("", 0.0)
        self._lock = threading.Lock()

    def token(self) -> str:
        """Return a token that is valid for a while yet."""
        token, expires = self._known
        if time.time() < expires - MARGIN:
            return token
        with self._lock:
            if time.time() >= self._known[1] - MARGIN:
                self._known = _shared(_key(), _endpoint())
            return self._known[0]

    def refused(self) -> None:
        """Forget a token that the service no longer takes, here and for the user's other processes."""
        with self._lock:
            self._known = ("", 0.0)
            path = _cache(_key(), _endpoint())
            path.unlink(missing_ok=True)


def _key() -> str:
    key = api_key()
    if key is None:
        names = " or ".join(API_KEY_VARIABLES)
        raise AccessDenied(f"there is no API key for cos:// in the environment; set {names}")
    return key


def _endpoint() -> str:
    return os.environ.get(ENDPOINT_VARIABLE) or PUBLIC_ENDPOINT


def _cache(key: str, endpoint: str) -> Path:
    digest = hashlib.sha256(f"{endpoint}\0{key}".encode()).hexdigest()
    return state_dir() / "tokens" / f"{digest[:32]}.json"


def _shared(key: str, endpoint: str) -> tuple[str, float]:
    """Return the token in the user's cache, or fetch one while the other processes wait for it."""
    path = _cache(key, endpoint)
    if (known := _read(path)) is not None:
        return known
    make_private(path.parent)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (known := _read(path)) is not None:
            return known
        known = _fetch(key, endpoint)
        temporary = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"token": known[0], "expires": known[1]}, file)
        os.replace(temporary, path)
        return known
    finally:
        os.close(lock)


def _read(path: Path) -> tuple[str, float] | None:
    with suppress(OSError, ValueError, KeyError, TypeError, ConfigError):  # one that others could have written is none
        stored = json.loads(read_private(path, LARGEST_TOKEN))
        if time.time() < float(stored["expires"]) - MARGIN:
            return str(stored["token"]), float(stored["expires"])
    return None


def _fetch(key: str, endpoint: str) -> tuple[str, float]:
    form = urllib.parse.urlencode({"grant_type": _GRANT, "apikey": key}).encode()
    request = urllib.request.Request(endpoint, form, {"Accept": "application/json"})
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                return _parse(json.loads(response.read()))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            status = error.code if isinstance(error, urllib.error.HTTPError) else 0
            if (status and status not in _PASSING) or attempt == ATTEMPTS - 1:
                # Without its cause, whose request holds the key.
                raise _typed(error, status, endpoint) from None
            time.sleep(random.uniform(0, BACKOFF * 2**attempt))
    raise AssertionError("the last attempt returns or raises")


def _parse(answer: dict[str, Any]) -> tuple[str, float]:
    lifetime = float(answer["expires_in"])
    return str(answer["access_token"]), time.time() + lifetime


def _typed(error: Exception, status: int, endpoint: str) -> StorageError:
    place = urllib.parse.urlsplit(endpoint).hostname
    if status in (400, 401, 403):
        names = " or ".join(API_KEY_VARIABLES)
        return AccessDenied(f"the token service {place} refuses the API key ({status}); check {names}")
    cause = f"status {status}" if status else type(error).__name__
    return StorageUnavailable(
        f"the token service {place} gives no token ({cause}); check the network and {ENDPOINT_VARIABLE}"
    )
