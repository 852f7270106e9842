"""Access to AWS Lambda: which function an address means, its client, and what the service's refusals mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from core.compute.base import check_options
from core.compute.remote.slot import NotStarted, Oversized, Throttled, WorkerEnded, retry_after
from core.errors import (
    ComputeDenied,
    ComputeError,
    ComputeUnavailable,
    ConfigError,
    FanfoldError,
    MissingExtra,
    excerpt,
)
from core.settings import Address

OPTIONS = ("region", "profile", "endpoint", "call", "silence", "architecture")

LONGEST_RUN = 900.0
"""Seconds that a function may run (AWS Lambda quotas, "Function timeout")."""

CONNECT_TIMEOUT, MARGIN = 10.0, 10.0
"""Seconds to connect, and that an answer may take beyond the function's own time limit."""

_NAME = re.compile(r"[A-Za-z0-9_:$-]{1,170}")
_HIDDEN = {"UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException"}
_STARTING = {"ResourceConflictException", "ResourceNotReadyException", "TooManyRequestsException"}
_PASSING = {"ServiceException", "EC2ThrottledException", "ENILimitReachedException", "InternalFailure"}


@dataclass(frozen=True, slots=True)
class Target:
    """A function, and the account and region it is looked for in."""

    function: str
    region: str | None
    profile: str | None
    endpoint: str | None

    @property
    def place(self) -> str:
        """The function, for people."""
        where = self.region or "its region"
        return f"function {self.function} in {where}"


def target_of(address: Address) -> Target:
    """Return what an address names.

    Raises
    ------
    ConfigError
        The name or an option cannot be right.
    """
    options = address.options
    check_options("lambda", options, OPTIONS)
    if not _NAME.fullmatch(address.where):
        raise ConfigError(
            f"{address.where!r} is no function; expected lambda://NAME, lambda://NAME:ALIAS or the function's ARN"
        )
    endpoint = options.get("endpoint")
    if endpoint is not None and not re.fullmatch(r"https?://[^/@\s]+/?", endpoint):
        raise ConfigError("endpoint= of lambda is not valid; expected http://HOST:PORT or https://HOST")
    arn = address.where.split(":")
    region = options.get("region") or (arn[3] if arn[0] == "arn" and len(arn) > 3 else None)
    return Target(address.where, region, options.get("profile"), endpoint)


def open_client(target: Target, connections: int = 10, wait: float = LONGEST_RUN, attempts: int = 4) -> Any:
    """Return a client for a function.

    Parameters
    ----------
    target : Target
        The function.
    connections : int
        Requests under way at the same time.
    wait : float
        Seconds that the function may run.
    attempts : int
        How often a request is made that meets a passing failure.

    Raises
    ------
    MissingExtra
        boto3 is not installed.
    ConfigError
        The profile or the region is missing.
    """
    session = _session(target)
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=wait + MARGIN,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=connections,
        tcp_keepalive=True,
    )
    try:
        region = session.region_name or ("us-east-1" if target.endpoint else None)
        return session.client("lambda", region_name=region, endpoint_url=target.endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise fatal(error, target) from None


def _session(target: Target) -> Any:
    try:
        import boto3
    except ImportError:
        raise MissingExtra("lambda:// needs boto3; run: pip install 'fanfold[lambda]'") from None
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session(profile_name=target.profile, region_name=target.region)
    except BotoCoreError as error:
        raise fatal(error, target) from None


def credentials_of(target: Target) -> object:
    """Return what the environment, the files and the role of this process give as credentials now.

    Raises
    ------
    ComputeDenied
        They cannot be had.
    """
    from botocore.exceptions import BotoCoreError

    try:
        found = _session(target).get_credentials()
        return found and found.get_frozen_credentials()
    except BotoCoreError as error:
        raise fatal(error, target) from None


def code_of(error: Exception) -> str:
    """Return the service's name for a refusal, empty if it did not answer."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return excerpt(str(response.get("Error", {}).get("Code", "")))


def status_of(error: Exception) -> int:
    """Return the status of the answer, 0 if there was none."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_denied(error: Exception) -> bool:
    """Whether the credentials are good and do not allow the request."""
    return code_of(error) in ("AccessDeniedException", "AccessDenied")


def outcome(error: Exception, target: Target) -> Exception:
    """Return what became of an invocation that failed: an exception for the slot to raise."""
    from botocore.exceptions import (
        ClientError,
        ConnectionClosedError,
        ConnectionError,
        HTTPClientError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    if isinstance(error, ClientError):
        code, status = code_of(error), status_of(error)
        if status == 429 or code == "TooManyRequestsException":
            reason = error.response.get("Reason") or code
            wait = str(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", ""))
            return Throttled(f"{target.place} is throttled ({reason})", retry_after(wait))
        if status == 413:
            return Oversized(f"{target.place} refuses a request as too large ({code})")
        if code.isdecimal() and status in (502, 504):
            return WorkerEnded(f"something before {target.place} answers {status}: {_message(error)}")
        if code in _STARTING | _PASSING or status in (500, 503, 504):
            return NotStarted(f"{target.place} answers {code} ({status}): {_message(error)}")
        return fatal(error, target)
    if _is_untrusted(error):
        return fatal(error, target)
    if isinstance(error, ReadTimeoutError):
        return WorkerEnded(f"{target.place} did not answer within its time limit", "timeout")
    if isinstance(error, ConnectionClosedError | IncompleteReadError | ResponseStreamingError):
        return WorkerEnded(f"the connection to {target.place} broke before the whole answer was there")
    if isinstance(error, ConnectionError | HTTPClientError | OSError):
        return NotStarted(f"{target.place} cannot be reached: {type(error).__name__}")
    return fatal(error, target)


def fatal(error: Exception, target: Target) -> FanfoldError:
    """Return the error that says in one sentence why nothing will work, and what to do."""
    from botocore.exceptions import (
        ClientError,
        ConnectionError,
        CredentialRetrievalError,
        HTTPClientError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    if isinstance(error, ProfileNotFound):
        return ConfigError(f"there is no AWS profile {target.profile!r}; see ~/.aws/config, or leave out profile=")
    if isinstance(error, NoRegionError):
        return ConfigError(f"lambda://{target.function} is in no region; add ?region=, such as region=eu-west-1")
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return ComputeDenied(
            f"there are no credentials for {target.place}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE, or add ?profile="
        )
    if _is_untrusted(error):
        return ComputeDenied(f"the certificate of the service for {target.place} is not trusted; set AWS_CA_BUNDLE")
    if isinstance(error, ConnectionError | HTTPClientError):
        return ComputeUnavailable(f"{target.place} cannot be reached: {type(error).__name__}; check network and region")
    if not isinstance(error, ClientError):
        return ComputeError(f"{target.place} cannot be used: {type(error).__name__}: {excerpt(str(error))}")
    code, status = code_of(error), status_of(error)
    if is_denied(error):
        return ComputeDenied(f"{target.place} refuses: {_message(error)}; docs/lambda.md has the policy to attach")
    them = "them, or the clock of this machine" if code == "InvalidSignatureException" else "them"
    if code in _HIDDEN or status in (401, 403):
        return ComputeDenied(f"{target.place} does not take the credentials in use ({code}); renew or correct {them}")
    if code == "ResourceNotFoundException":
        return ConfigError(
            f"there is no {target.place}; check name and region, or make it with "
            f"'fanfold runtime deploy NAME --compute lambda://{target.function}'"
        )
    return ComputeError(f"{target.place} answers {code} ({status}): {_message(error)}")


def _is_untrusted(error: Exception) -> bool:
    """Whether the service's certificate is to blame, and not a handshake that broke."""
    from botocore.exceptions import SSLError

    return isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)


def _message(error: Exception) -> str:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return excerpt(str(response.get("Error", {}).get("Message", ""))).rstrip(".")
