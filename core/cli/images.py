"""``fanfold runtime``: images in which tasks run on other machines."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.cli.text import readable_age, readable_size, table
from core.errors import ComputeError, ConfigError, VersionMismatch

if TYPE_CHECKING:
    from core.images.build import Runtime
    from core.images.engines import Engine
    from core.settings import Address

DONE = 0

_ASKED_TOGETHER = 4
"""Images that are asked for their versions at the same time."""

_NAME = "[REGISTRY/]RUNTIME[:TAG]"


def add_runtime_commands(commands: Any) -> None:
    """Add ``runtime`` and its commands to the parser of ``fanfold``."""
    runtime = commands.add_parser(
        "runtime",
        help="build, push, deploy, list and delete the images that remote workers run",
        description="The images that remote workers run: one for each application, and 'base' for functions of your "
        "own. They are built from a checkout by podman, docker or buildah, whichever works here.",
    )
    actions = runtime.add_subparsers(required=True, metavar="command")

    build = _action(actions, "build", _build, "build the image of a runtime, unless it is there already")
    build.add_argument("--requirements", metavar="FILE", type=Path, help="further packages, as pip reads them")
    build.add_argument("--base", metavar="IMAGE", help="image that brings Python, instead of the Dockerfiles'")
    build.add_argument("--source", metavar="FOLDER", help="source tree to build from, instead of this package's")
    build.add_argument(
        "--build-arg",
        metavar="NAME=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="of the runtime's Dockerfile; NAME=@FILE gives it a file of yours",
    )

    push = _action(actions, "push", _push, "send a runtime to the registry in its name")
    deploy = _action(actions, "deploy", _deploy, "make a platform run a runtime")
    deploy.add_argument("--compute", metavar="ADDRESS", required=True, help="backend and place, such as lambda://name")
    deploy.add_argument(
        "--option",
        metavar="NAME=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="for the platform",
    )
    deploy.add_argument("--manifest", action="store_true", help="print what would be applied, and change nothing")
    listing = _action(actions, "list", _list, "list the runtimes on this machine", named=False)
    delete = _action(actions, "delete", _delete, "remove a runtime from this machine, or from a platform")
    delete.add_argument("--compute", metavar="ADDRESS", help="remove what deploy made there, and no image here")

    for action in (build, push, deploy, listing, delete):
        action.add_argument("--engine", metavar="NAME", help="podman, docker or buildah; the first that works")
        action.add_argument("--json", action="store_true", help="print one JSON object")


def _action(
    actions: Any, name: str, command: Callable[[argparse.Namespace], int], text: str, *, named: bool = True
) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    if named:
        action.add_argument("name", metavar="NAME", help=f"{_NAME}; a runtime is a folder below runtimes/")
    action.set_defaults(command=command)
    return action


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _engine(arguments: argparse.Namespace) -> Engine:
    from core.images.engines import find_engine

    return find_engine(arguments.engine)


def _build(arguments: argparse.Namespace) -> int:
    from core.images.build import build, check_runtime, runtime_versions
    from core.images.spec import RuntimeSpec, default_base, find_source, split_name
    from core.task.versions import versions as own_versions

    registry, name, tag = split_name(arguments.name)
    if tag:
        raise ConfigError(f"{arguments.name!r} has a tag; what is built is tagged by its content")
    spec = RuntimeSpec(
        name,
        find_source(arguments.source),
        registry,
        arguments.base or default_base(own_versions()["python"]),
        arguments.requirements,
        arguments=dict(arguments.build_arg),
    )
    engine = _engine(arguments)
    runtime = build(spec, engine, show=True)
    versions = runtime_versions(engine, runtime)
    try:
        check_runtime(runtime, versions)
    except VersionMismatch as error:
        # It is what was asked for, and other clients may be the ones to use it.
        print(f"fanfold: this client cannot use what was built: {error}", file=sys.stderr)
    _print_runtime(arguments, runtime, versions)
    return DONE


def _push(arguments: argparse.Namespace) -> int:
    from core.images.build import push

    runtime = push(_engine(arguments), arguments.name, show=True)
    _say(arguments, runtime.reference, {"pushed": runtime.reference})
    return DONE


def _deploy(arguments: argparse.Namespace) -> int:
    from core.images.build import check_runtime, find_runtime, runtime_versions
    from core.settings import parse_address

    address = parse_address(arguments.compute)
    hook = backend_hook(address, "manifest" if arguments.manifest else "deploy")
    engine = _engine(arguments)
    runtime = find_runtime(engine, arguments.name)
    check_runtime(runtime, runtime_versions(engine, runtime))
    said = hook(address, runtime.reference, dict(arguments.option))
    _say(arguments, said, {"image": runtime.reference, "manifest" if arguments.manifest else "deployed": said})
    return DONE


def _delete(arguments: argparse.Namespace) -> int:
    if arguments.compute:
        from core.settings import parse_address

        address = parse_address(arguments.compute)
        said = backend_hook(address, "delete")(address, arguments.name)
        _say(arguments, said, {"deleted": said})
        return DONE
    from core.images.build import delete

    removed = delete(_engine(arguments), arguments.name)
    _say(arguments, "\n".join(f"deleted {name}" for name in removed), {"deleted": removed})
    return DONE


def _list(arguments: argparse.Namespace) -> int:
    from core.images.build import runtime_versions, runtimes

    engine = _engine(arguments)
    found = runtimes(engine)

    def asked(runtime: Runtime) -> dict[str, str]:
        try:
            return runtime_versions(engine, runtime)
        except ComputeError as error:
            return {"error": str(error)}

    # One image may have many names.
    images = {runtime.image.ident: runtime for runtime in found}
    with ThreadPoolExecutor(_ASKED_TOGETHER) as threads:
        told_by = dict(zip(images, threads.map(asked, images.values()), strict=True))
    versions = [told_by[runtime.image.ident] for runtime in found]
    if arguments.json:
        pairs = zip(found, versions, strict=True)
        print(json.dumps({"runtimes": [_row_object(runtime, told) for runtime, told in pairs]}, indent=2))
    elif not found:
        print("no runtimes on this machine; 'fanfold runtime build base' makes one")
    else:
        rows = [
            (
                runtime.repository,
                runtime.tag,
                "latest" if runtime.latest else "",
                readable_size(runtime.image.size),
                readable_age(time.time() - runtime.image.created),
                _readable_versions(told),
            )
            for runtime, told in zip(found, versions, strict=True)
        ]
        print(table([("NAME", "TAG", "", "SIZE", "AGE", "VERSIONS"), *rows]))
    return DONE


def _print_runtime(arguments: argparse.Namespace, runtime: Runtime, versions: dict[str, str]) -> None:
    size = readable_size(runtime.image.size)
    _say(arguments, f"{runtime.reference}  {size}  {_readable_versions(versions)}", _row_object(runtime, versions))


def _row_object(runtime: Runtime, versions: dict[str, str]) -> dict[str, object]:
    return {
        "image": runtime.reference,
        "latest": runtime.latest,
        "bytes": runtime.image.size,
        "created": runtime.image.created,
        "versions": versions,
    }


def _readable_versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _say(arguments: argparse.Namespace, text: str, fields: dict[str, object]) -> None:
    print(json.dumps(fields, indent=2) if arguments.json else text)


def backend_hook(address: Address, name: str) -> Callable[..., str]:
    """Return what a backend does with runtimes: its module's ``deploy``, ``delete`` or ``manifest``.

    ``deploy(address, image, options)`` makes the platform run an image and returns one sentence about where;
    ``delete(address, name)`` takes back what deploy made; ``manifest(address, image, options)`` returns text that the
    platform's own tools apply.

    Raises
    ------
    ConfigError
        There is no such backend, or it has nothing to do here.
    """
    from core.compute.base import backend_module

    hook: Callable[..., str] | None = getattr(backend_module(address), name, None)
    if hook is None:
        raise ConfigError(f"backend {address.scheme} has no {name}: it uses images where they are; push is enough")
    return hook
