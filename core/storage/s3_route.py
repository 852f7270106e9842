"""How boto3 reaches a bucket, and the next request made and signed in the same way."""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

METADATA = "x-amz-meta-"
_OPTIONS = {
    "Range": "range",
    "IfMatch": "if-match",
    "IfNoneMatch": "if-none-match",
    "ChecksumCRC32": "x-amz-checksum-crc32",
}
KNOWN = {"Bucket", "Key", "Body", "Metadata", *_OPTIONS}
"""Parameters of boto3's methods that `Route.request` understands."""

_REPEATED = ("user-agent", "x-amz-checksum-mode")
_NOTHING = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach the objects of a bucket.

    Attributes
    ----------
    scheme, host : str
        Of the service or, where the bucket is part of its name, of the bucket.
    folder : str
        What stands before an object's key in the path.
    region : str
        For which requests are signed; empty if they are not.
    headers : dict
        Those that are the same in each request.
    checksums : tuple of str
        Algorithms by which bodies can be compared.
    """

    scheme: str
    host: str
    folder: str
    region: str
    headers: dict[str, str]
    checksums: tuple[str, ...]

    def request(
        self, method: str, options: dict[str, Any], credentials: Any = None, now: float = 0.0
    ) -> tuple[str, dict[str, str]]:
        """Return path and headers of a request, signed if there are credentials.

        Parameters
        ----------
        options : dict
            As boto3's methods take them.
        credentials : botocore's frozen credentials, optional
        now : float
            Seconds since 1970.

        Notes
        -----
        Source: "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API Reference.
        """
        path = self.folder + _quoted(options["Key"])
        headers = {"host": self.host}
        headers |= {header: " ".join(options[name].split()) for name, header in _OPTIONS.items() if name in options}
        headers |= {METADATA + name: value for name, value in options.get("Metadata", {}).items()}
        headers |= self.headers
        if credentials is None:
            return path, headers
        agent = headers.pop("user-agent", "")  # proxies change it, so it is not signed
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        body = options.get("Body")
        digest = hashlib.sha256(body).hexdigest() if body else _NOTHING
        headers |= {"x-amz-content-sha256": digest, "x-amz-date": moment}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = sorted(headers)
        signed = ";".join(names)
        canonical = "\n".join([method, path, "", *(f"{name}:{headers[name]}" for name in names), "", signed, digest])
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(_signing_key(credentials.secret_key, scope), text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return path, headers | {"user-agent": agent}


def route_of(key: str, url: str, headers: dict[str, str], context: dict[str, Any], version: Any) -> Route | None:
    """Return the route of a request for an object that boto3 signed, None if only boto3 can make another such.

    Parameters
    ----------
    context : dict
        What botocore noted of the request: of it ``signing`` and ``checksum`` are used, and ``client_region``.
    version : str or botocore.UNSIGNED
        How it was signed.
    """
    from botocore import UNSIGNED
    from botocore.utils import get_environ_proxies

    place, name = urlsplit(url), _quoted(key)
    signing = context.get("signing") or {}
    known = version is UNSIGNED or (version == "s3v4" and signing.get("signing_name", "s3") == "s3")
    plain = not place.query and "@" not in place.netloc and place.path.endswith(f"/{name}")
    if not known or not plain or get_environ_proxies(url):
        return None
    return Route(
        place.scheme,
        place.netloc.lower().removesuffix(":443" if place.scheme == "https" else ":80"),
        place.path.removesuffix(name),
        "" if version is UNSIGNED else signing.get("region") or context["client_region"],
        {header.lower(): value for header, value in headers.items() if header.lower() in _REPEATED},
        tuple((context.get("checksum") or {}).get("response_algorithms", ())),
    )


@functools.lru_cache(maxsize=16)
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _quoted(key: str) -> str:
    return quote(key, safe="/~")
