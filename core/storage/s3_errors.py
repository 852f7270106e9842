"""What the failures of S3 services mean: whether to try again, and what to tell the user."""

from __future__ import annotations

from platform import node
from typing import Any

from core.errors import (
    AccessDenied,
    ConfigError,
    FanfoldError,
    InputError,
    NotFound,
    StorageError,
    StorageUnavailable,
)
from core.storage.base import not_found

_THROTTLED = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"}
_DAMAGED = {"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch", "InternalError"}
_REFUSED = {"ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"}
_ELSEWHERE = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
_PASSING_STATUS = (408, 409, 425, 429, 500, 502, 503, 504)

LONGEST_CAUSE = 300


class Damaged(Exception):
    """A body did not arrive as it was sent; the request is repeated."""


def typed(error: Exception, place: str, key: str, endpoint: str) -> FanfoldError:
    """Return the error that says in one sentence what a final failure means."""
    from botocore.exceptions import (
        ClientError,
        CredentialRetrievalError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    what = f"object {key!r} in {place}" if key else place
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return AccessDenied(
            f"cannot use {what}: there are no credentials on {node()}; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY there, AWS_PROFILE, or add ?anonymous=true for public data"
        )
    if isinstance(error, ParamValidationError):
        return InputError(f"cannot use {what}: {' '.join(str(error).split())}")
    if not isinstance(error, ClientError):
        return StorageUnavailable(
            f"cannot use {what}: {endpoint} does not answer properly ({_cause(error)}); "
            "check the endpoint and the network, or try again later"
        )
    code, status = code_of(error), status_of(error)
    if code == "NoSuchBucket":
        return NotFound(f"there is no bucket for {place} at {endpoint}; check its name and the endpoint")
    if status == 404:
        return not_found(place, key)
    if code == "RequestTimeTooSkewed":
        return AccessDenied(f"{endpoint} refuses {what}: this machine's clock is wrong; set it")
    if status in (401, 403) or code in _REFUSED:
        return AccessDenied(
            f"access to {what} is denied ({code}); check the credentials in use and what they are allowed to do"
        )
    if code in _ELSEWHERE or status == 301:
        return ConfigError(f"{place} is in another region ({code}); add ?region= to the address")
    if code == "KeyTooLongError":
        return InputError(f"cannot use {what}: the key is too long; choose a shorter one")
    if is_passing(error):
        return StorageUnavailable(f"cannot use {what}: {endpoint} answers {code} ({status}); try again later")
    return StorageError(f"cannot use {what}: {endpoint} answers {code} ({status}): {_message(error)}")


def status_of(error: Exception) -> int:
    """Return the status of the answer, 0 if there was none."""
    return int(_part(error, "ResponseMetadata").get("HTTPStatusCode", 0))


def code_of(error: Exception) -> str:
    """Return the service's name for the failure, empty if there is none."""
    return str(_part(error, "Error").get("Code", ""))


def _message(error: Exception) -> str:
    return str(_part(error, "Error").get("Message", "")).rstrip(".")


def _part(error: Exception, name: str) -> dict[str, Any]:
    response: dict[str, dict[str, Any]] = getattr(error, "response", None) or {}
    return response.get(name, {})


def is_precondition(error: Exception) -> bool:
    """Whether a condition of the request did not hold."""
    return status_of(error) == 412 or code_of(error) == "PreconditionFailed"


def is_past_end(error: Exception) -> bool:
    """Whether a byte range begins behind the object's end."""
    return status_of(error) == 416 or code_of(error) == "InvalidRange"


def is_refused(error: Exception) -> bool:
    """Whether the credentials in use, if there are any, are not (or no longer) accepted for the request."""
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return True
    status, code = status_of(error), code_of(error)
    # An answer to HEAD has no body to name the failure, which for an expired token is a 400.
    return status in (401, 403) or code in _REFUSED or (status == 400 and code == "400")


def is_ambiguous(error: Exception) -> bool:
    """Whether a write may have happened although it failed."""
    return status_of(error) in (0, 408, 500, 502, 503, 504)


def is_gone(error: Exception) -> bool:
    """Whether an upload of parts is not there (any more)."""
    return code_of(error) == "NoSuchUpload"


def is_passing(error: Exception) -> bool:
    """Whether the same request may well succeed later."""
    from botocore.exceptions import (
        ClientError,
        ConnectionError,
        FlexibleChecksumError,
        HTTPClientError,
        IncompleteReadError,
        SSLError,
    )
    from botocore.parsers import ResponseParserError

    if isinstance(error, ClientError):
        return status_of(error) in _PASSING_STATUS or code_of(error) in (_THROTTLED | _DAMAGED)
    if isinstance(error, SSLError):
        return False
    passing = (
        Damaged,
        ConnectionError,
        HTTPClientError,
        IncompleteReadError,
        FlexibleChecksumError,
        ResponseParserError,
    )
    return isinstance(error, (*passing, OSError))


def _cause(error: Exception) -> str:
    details: dict[str, Any] = getattr(error, "kwargs", {})
    cause = details.get("error", error)
    return " ".join(f"{type(error).__name__}: {cause}".split())[:LONGEST_CAUSE]
