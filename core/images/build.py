"""Runtimes: images in which tasks run on other machines, built from a source tree and known by their content.

`fanfold-NAME:TAG` is built from ``runtimes/NAME/Dockerfile`` on top of the base image. The tag is a hash of all that
goes in, so a runtime that is there already is not built again, and two that differ never have the same name.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import ComputeError, ConfigError, InputError
from core.images.engines import Engine, Image, build_image, list_images, push_image, remove_image, run_entry, tag_image
from core.images.spec import (
    BASE,
    OPTIONAL_FILES,
    PREFIX,
    BuildFile,
    RuntimeSpec,
    build_arguments,
    content,
    content_tag,
    runtime_name,
    split_name,
    write_files,
)
from core.task.versions import check_versions

LABEL = "fanfold.runtime"
"""Label that every runtime's image carries, with its name."""

LATEST = "latest"

PACKAGES = "packages"
"""Stage of the base's Dockerfile that has all but the product, whose sources change most often."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime on this machine: its image, and one name of it."""

    repository: str
    tag: str
    latest: bool
    image: Image

    @property
    def reference(self) -> str:
        """Name and tag."""
        return f"{self.repository}:{self.tag}"


def build(spec: RuntimeSpec, engine: Engine, *, show: bool = False) -> Runtime:
    """Build a runtime, and the base below it, unless they are there already; it becomes the latest of its name.

    Raises
    ------
    ConfigError
        The source tree has no such runtime.
    ComputeError
        The engine could not build it.
    """
    reference = _built(spec, engine, show)
    tag_image(engine, reference, f"{spec.repository}:{LATEST}")
    return find_runtime(engine, reference)


def _built(spec: RuntimeSpec, engine: Engine, show: bool) -> str:
    files = content(spec)
    reference = f"{spec.repository}:{content_tag(spec, files)}"
    if any(reference in image.names for image in list_images(engine, LABEL)):
        return reference
    arguments: dict[str, str] = {}
    if spec.name != BASE:
        # Further packages are the base's to install, in versions that agree with those of the runtime above it.
        pinned = spec.source / "runtimes" / spec.name / "requirements.txt"
        below = replace(spec, name=BASE, registry="", arguments={}, constraints=spec.requirements and pinned)
        arguments["CORE"] = _built(below, engine, show)
        if engine.kind != "docker":
            # Its builder takes no image by its identifier; without this, layers are this build's own.
            arguments["PACKAGES"] = _build_files(below, content(below), engine, {}, [], show, target=PACKAGES)
    _build_files(spec, files, engine, arguments, [reference], show)
    return reference


def _build_files(
    spec: RuntimeSpec,
    files: Mapping[str, BuildFile],
    engine: Engine,
    arguments: Mapping[str, str],
    names: Sequence[str],
    show: bool,
    target: str = "",
) -> str:
    given = {"BASE": spec.base, **build_arguments(spec), **arguments}
    given |= {name: file for name, file in OPTIONAL_FILES.items() if file in files and spec.name == BASE}
    with tempfile.TemporaryDirectory(prefix="fanfold-build-") as folder:
        write_files(Path(folder), files)
        dockerfile = f"runtimes/{spec.name}/Dockerfile"
        return build_image(engine, Path(folder), dockerfile, given, names, target=target, show=show)


def runtimes(engine: Engine) -> list[Runtime]:
    """Return the runtimes on this machine, the newest first."""
    found = []
    for image in list_images(engine, LABEL):
        split = [name.rpartition(":") for name in image.names]
        for repository, _, tag in split:
            latest = (repository, ":", LATEST) in split
            # An image that only has the moving name was built without this command.
            if tag != LATEST or sum(other == repository for other, _, _ in split) == 1:
                found.append(Runtime(repository, tag, latest, image))
    return sorted(found, key=lambda runtime: (-runtime.image.created, runtime.reference))


def matching(engine: Engine, text: str) -> list[Runtime]:
    """Return the runtimes on this machine that a name means: with a tag that one, without all of them.

    Raises
    ------
    InputError
        There is none.
    """
    registry, name, tag = split_name(text)
    repository = f"{registry}/{PREFIX}{name}" if registry else PREFIX + name
    found = [
        runtime
        for runtime in runtimes(engine)
        if runtime.repository == repository and tag in ("", runtime.tag, LATEST if runtime.latest else "")
    ]
    if not found:
        raise InputError(
            f"there is no runtime {text!r} on this machine; 'fanfold runtime list' shows those that are there, "
            f"'fanfold runtime build {registry and registry + '/'}{name}' builds it"
        )
    return found


def find_runtime(engine: Engine, text: str) -> Runtime:
    """Return the one runtime that a name means: its latest, unless the name has a tag.

    Raises
    ------
    InputError
        There is none.
    """
    found = matching(engine, text)
    return next((runtime for runtime in found if runtime.latest), found[0])


def push(engine: Engine, text: str, *, show: bool = False) -> Runtime:
    """Send a runtime to the registry in its name, under its tag and as the latest.

    One that was built without a registry gets its name first.

    Raises
    ------
    ConfigError
        The name has no registry.
    InputError
        There is no such runtime on this machine.
    ComputeError
        The registry does not take it.
    """
    registry, name, tag = split_name(text)
    if not registry:
        raise ConfigError(f"{text!r} names no registry to push to; expected registry.example.org/team/{text}")
    try:
        runtime = find_runtime(engine, text)
    except InputError:
        plain = find_runtime(engine, f"{name}:{tag}" if tag else name)
        runtime = replace(plain, repository=f"{registry}/{PREFIX}{name}")
        tag_image(engine, plain.reference, runtime.reference)
    latest = f"{runtime.repository}:{LATEST}"
    tag_image(engine, runtime.reference, latest)
    for reference in dict.fromkeys((runtime.reference, latest)):
        push_image(engine, reference, show=show)
    return runtime


def delete(engine: Engine, text: str) -> list[str]:
    """Remove the runtimes that a name means from this machine; returns what they were called.

    Raises
    ------
    InputError
        There is none.
    ComputeError
        One is in use.
    """
    removed = []
    for runtime in matching(engine, text):
        names = [runtime.reference]
        if runtime.latest and runtime.tag != LATEST:
            names.append(f"{runtime.repository}:{LATEST}")
        for name in names:
            remove_image(engine, name)
        removed += names
    return removed


def runtime_versions(engine: Engine, runtime: Runtime) -> dict[str, str]:
    """Return the versions that decide whether a runtime can exchange pickles with others, as it tells them.

    Raises
    ------
    ComputeError
        It does not run, or says something else.
    """
    said = run_entry(engine, runtime.reference, "versions")
    try:
        return {str(name): str(version) for name, version in json.loads(said).items()}
    except (ValueError, AttributeError):
        raise ComputeError(f"{runtime.reference} does not tell its versions; build it again") from None


def check_runtime(runtime: Runtime, theirs: Mapping[str, str]) -> None:
    """Refuse a runtime whose software cannot exchange pickles with this client's.

    Raises
    ------
    VersionMismatch
        The message says what differs, and the command that mends it.
    """
    check_versions(theirs, f"{runtime.reference} has other software than this client", runtime_name(runtime.reference))
