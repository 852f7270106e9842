"""Makes, updates and deletes Lambda functions from runtime images."""

from __future__ import annotations

import json
import re
from typing import Any

from core.compute.base import check_options
from core.compute.remote.aws_lambda_client import LONGEST_RUN, Target, code_of, fatal, open_client, status_of, target_of
from core.errors import ComputeError, ConfigError, FanfoldError
from core.settings import Address, parse_duration, parse_size

OPTIONS = ("role", "memory", "timeout", "architecture", "concurrency")
ARCHITECTURES = ("x86_64", "arm64")

DEFAULT_MEMORY = "1769MiB"
"""Memory with which a function has one virtual processor (AWS Lambda, "Configure function memory")."""

EVENT_AGE = 300
"""Seconds after which an event that found no room is dropped: the driver sends another."""

TAG = {"fanfold": "runtime"}
"""Tag of the functions that are made here: no other is ever deleted."""

BAD_REQUEST = 400

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REPOSITORY = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/\S+")
_MEMORY = range(128, 10241)


def deploy(address: Address, image: str, options: dict[str, str]) -> str:
    """Make a function run an image, or an existing one that was made here; returns where it is.

    Parameters
    ----------
    address : Address
        ``lambda://FUNCTION``.
    image : str
        A runtime in Amazon ECR, in the function's region.
    options : dict
        ``role`` (ARN, required to make a function), ``memory``, ``timeout``, ``architecture``, ``concurrency``.

    Raises
    ------
    ConfigError
        A name or an option cannot be right.
    ComputeError
        Lambda does not make the function.
    """
    target = _plain(address)
    asked = _settings(address, image, options)
    client = open_client(target)
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = _find(client, target)
        if found is None:
            return _made(client, target, asked)
        _check_ours(found, target)
        return _updated(client, target, asked, found, options)
    except (BotoCoreError, ClientError) as error:
        raise _typed(error, target, image) from None


def delete(address: Address, name: str) -> str:
    """Delete the function of an address if it was made here; returns one sentence.

    Raises
    ------
    ConfigError
        It was not made by ``fanfold runtime deploy``.
    """
    target = _plain(address)
    client = open_client(target)
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = _find(client, target)
        if found is None:
            return f"there is no {target.place} any more"
        _check_ours(found, target)
        client.delete_function(FunctionName=target.function)
    except (BotoCoreError, ClientError) as error:
        raise fatal(error, target) from None
    return f"{target.place}, which ran {name}, is deleted; its image stays in the registry"


def manifest(address: Address, image: str, options: dict[str, str]) -> str:
    """Return what would be asked of Lambda, as ``aws lambda create-function --cli-input-json`` takes it."""
    asked = _settings(address, image, options)
    return json.dumps({name: value for name, value in asked.items() if name != "Concurrency"}, indent=2)


def wait_active(client: Any, target: Target, update: bool = False) -> None:
    """Wait until a function can be invoked.

    Raises
    ------
    ComputeError
        It cannot be made ready; the message has Lambda's reason.
    """
    from botocore.exceptions import WaiterError

    try:
        client.get_waiter("function_updated_v2" if update else "function_active_v2").wait(FunctionName=target.function)
    except WaiterError as error:
        state = error.last_response.get("Configuration", {})
        reason = state.get("LastUpdateStatusReason" if update else "StateReason") or str(error)
        raise ComputeError(f"{target.place} does not become ready: {reason}") from None


def _plain(address: Address) -> Target:
    target = target_of(address)
    if not _NAME.fullmatch(target.function):
        raise ConfigError(f"{target.function!r} is no plain function name; only lambda://NAME can be deployed")
    return target


def _settings(address: Address, image: str, options: dict[str, str]) -> dict[str, Any]:
    """Return the settings of the function that is asked for."""
    check_options("a Lambda function", options, OPTIONS)
    if not _REPOSITORY.fullmatch(image):
        raise ConfigError(
            f"Lambda runs images from Amazon ECR alone, and {image} is not there; push it first: "
            "fanfold runtime push ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME"
        )
    architecture = options.get("architecture") or address.options.get("architecture", ARCHITECTURES[0])
    try:
        memory = round(parse_size(options.get("memory", DEFAULT_MEMORY)) / (1 << 20))
        timeout = round(parse_duration(options.get("timeout", LONGEST_RUN)))
        concurrency = int(options.get("concurrency", 0))
    except ValueError:
        raise ConfigError("lambda needs memory= as 2GiB, timeout= as 10m, concurrency= as a whole number") from None
    if memory not in _MEMORY or not 1 <= timeout <= LONGEST_RUN or architecture not in ARCHITECTURES or concurrency < 0:
        raise ConfigError(
            f"lambda needs memory from {_MEMORY[0]} to {_MEMORY[-1]} MiB, timeout from 1 s to {LONGEST_RUN:g} s, "
            f"architecture {' or '.join(ARCHITECTURES)}"
        )
    asked = {
        "FunctionName": address.where,
        "PackageType": "Image",
        "Code": {"ImageUri": image},
        "ImageConfig": {"Command": ["lambda"]},
        "MemorySize": memory,
        "Timeout": timeout,
        "Architectures": [architecture],
        "Tags": TAG,
    }
    if "role" in options:
        asked["Role"] = options["role"]
    if concurrency:
        asked["Concurrency"] = concurrency
    return asked


def _find(client: Any, target: Target) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        found: dict[str, Any] = client.get_function(FunctionName=target.function)
        return found
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            return None
        raise


def _check_ours(found: dict[str, Any], target: Target) -> None:
    if any(found.get("Tags", {}).get(name) != value for name, value in TAG.items()):
        raise ConfigError(
            f"{target.place} was not made by 'fanfold runtime deploy' (it has no tag fanfold=runtime); "
            "choose another name"
        )


def _made(client: Any, target: Target, asked: dict[str, Any]) -> str:
    if "Role" not in asked:
        raise ConfigError(
            "a new function needs the role that it runs as; add --option role=arn:aws:iam::ACCOUNT:role/NAME "
            "(docs/lambda.md has its policy)"
        )
    client.create_function(**{name: value for name, value in asked.items() if name != "Concurrency"})
    wait_active(client, target)
    _set_limits(client, target, asked)
    return f"{target.place} runs {asked['Code']['ImageUri']}"


def _updated(client: Any, target: Target, asked: dict[str, Any], found: dict[str, Any], options: dict[str, str]) -> str:
    """Change what differs; settings that were not given stay as they are."""
    now, changed = found["Configuration"], False
    code = {"ImageUri": asked["Code"]["ImageUri"]}
    if "architecture" in options:
        code["Architectures"] = asked["Architectures"]
    image = found.get("Code", {}).get("ImageUri")
    if image != code["ImageUri"] or code.get("Architectures", now.get("Architectures")) != now.get("Architectures"):
        client.update_function_code(FunctionName=target.function, **code)
        wait_active(client, target, update=True)
        changed = True
    given = {"MemorySize": "memory", "Timeout": "timeout", "Role": "role"}
    differing = {
        name: asked[name] for name, option in given.items() if option in options and now.get(name) != asked[name]
    }
    if differing:
        client.update_function_configuration(FunctionName=target.function, **differing)
        wait_active(client, target, update=True)
    _set_limits(client, target, asked)
    return f"{target.place} {'now runs' if changed or differing else 'already ran'} {code['ImageUri']}"


def _set_limits(client: Any, target: Target, asked: dict[str, Any]) -> None:
    """Have failed events reported by their silence: it is the driver that repeats, and counts attempts."""
    client.put_function_event_invoke_config(
        FunctionName=target.function, MaximumRetryAttempts=0, MaximumEventAgeInSeconds=EVENT_AGE
    )
    if "Concurrency" in asked:
        client.put_function_concurrency(FunctionName=target.function, ReservedConcurrentExecutions=asked["Concurrency"])


def _typed(error: Exception, target: Target, image: str) -> FanfoldError:
    said = fatal(error, target)
    if type(said) is ComputeError and status_of(error) == BAD_REQUEST:
        return ComputeError(
            f"{said}; check that {image} is in the function's region and of its architecture, and that the role "
            "trusts lambda.amazonaws.com (a new role takes some seconds)"
        )
    return said
