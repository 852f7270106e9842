"""``fanfold runtime`` with real engines and a real registry."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import VersionMismatch
from core.images.build import LATEST, check_runtime, find_runtime, runtime_versions
from core.images.engines import find_engine
from tests.servers.containers import CONTAINER_TOOLS, Containers
from tests.servers.ports import free_port

PACKAGE = "iniconfig"
"""A small package without dependencies that no runtime has."""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of an empty registry of this test's own."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip(f"needs a registry: {CONTAINER_TOOLS}")
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nhttp: {{addr: {address}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\n"
    )
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    with open(tmp_path / "registry.log", "wb") as log:
        server = subprocess.Popen([program, "serve", str(tmp_path / "registry.yml")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/v2/").close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "registry.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "registry.log").read_text()
        yield address
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def further(containers: Containers, tmp_path: Path) -> Iterator[str]:
    """Return a base runtime with a further package, built by buildah under a name of this test's own."""
    if shutil.which("buildah") is None:
        pytest.skip(f"needs buildah: {CONTAINER_TOOLS}")
    containers.runtime("base")
    (tmp_path / "further.txt").write_text(f"{PACKAGE}\n")
    name = f"fanfold.test/{tmp_path.name}/base"
    built = containers.fanfold(
        *("runtime", "build", name, "--engine", "buildah", "--base", containers.python, "--json"),
        *("--requirements", str(tmp_path / "further.txt")),
    )
    assert built.returncode == 0, built.stderr
    yield json.loads(built.stdout)["image"]
    containers.fanfold("runtime", "delete", name)


def test_further_packages_are_in_the_image_and_its_tag_tells_it_from_others(containers, further):
    found = containers.podman("run", "--rm", "--entrypoint=python", further, "-c", f"import {PACKAGE}")

    assert found.returncode == 0, found.stderr
    assert further.rpartition(":")[2] != containers.runtime("base").rpartition(":")[2]


def test_what_was_built_is_listed_and_can_be_deleted(containers, further):
    listed = json.loads(containers.fanfold("runtime", "list", "--json").stdout)["runtimes"]
    by_buildah = json.loads(containers.fanfold("runtime", "list", "--json", "--engine", "buildah").stdout)["runtimes"]

    row = next(row for row in listed if row["image"] == further)
    assert row["latest"]
    assert row["bytes"] > 50e6
    assert row["versions"]["python"] == "3.11"
    assert row["versions"] == next(other for other in by_buildah if other["image"] == further)["versions"]

    deleted = containers.fanfold("runtime", "delete", further)

    assert deleted.returncode == 0, deleted.stderr
    assert further in deleted.stdout
    # Not by the list, which starts every image again.
    assert containers.podman("image", "exists", further).returncode == 1
    assert containers.podman("image", "exists", containers.runtime("base")).returncode == 0


def test_packages_that_contradict_the_pinned_ones_are_refused(containers, tmp_path):
    containers.runtime("base")
    (tmp_path / "older.txt").write_text("numpy<2\n")
    flags = ("--base", containers.python, "--requirements", str(tmp_path / "older.txt"))

    built = containers.fanfold("runtime", "build", "base", "--engine", "podman", *flags)

    assert built.returncode == 1
    assert "numpy<2" in built.stderr


def test_a_runtime_is_pushed_to_the_registry_in_its_name(containers, registry):
    tag = containers.runtime("base").rpartition(":")[2]

    # By its tag: a client of other versions may have built the latest.
    pushed = containers.fanfold("runtime", "push", f"{registry}/team/base:{tag}")

    try:
        assert pushed.returncode == 0, pushed.stderr
        assert pushed.stdout.strip() == f"{registry}/team/fanfold-base:{tag}"
        with urllib.request.urlopen(f"http://{registry}/v2/team/fanfold-base/tags/list") as answer:
            assert set(json.load(answer)["tags"]) == {tag, LATEST}
    finally:
        containers.fanfold("runtime", "delete", f"{registry}/team/base")


def test_a_registry_that_does_not_answer_is_a_failure_that_says_so(containers):
    containers.runtime("base")
    name = f"127.0.0.1:{free_port()}/base"

    pushed = containers.fanfold("runtime", "push", name)

    containers.fanfold("runtime", "delete", name)
    assert pushed.returncode == 1
    assert "push failed" in pushed.stderr
    assert "connection refused" in pushed.stderr


def test_an_image_of_another_version_is_refused_with_the_command_that_mends_it(containers, tmp_path):
    current = containers.runtime("base")
    name = f"fanfold-old-{tmp_path.name.replace('_', '-')}"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {current}\nUSER 0\n"
        "RUN find /opt/product -path '*/core/version.py' -exec sed -i 's/\"[0-9.]*\"/\"0.0.9\"/' {} +\n"
        "USER 10001:0\n"
    )
    containers.podman("build", "--tag", f"{name}:1", str(tmp_path))
    engine = find_engine("podman")
    runtime = find_runtime(engine, f"{name}:1")
    try:
        told = runtime_versions(engine, runtime)

        assert told["fanfold"] == "0.0.9"
        with pytest.raises(VersionMismatch, match=r"fanfold 0\.0\.9 there and .* here; run: fanfold runtime build"):
            check_runtime(runtime, told)
    finally:
        containers.podman("rmi", f"{name}:1")
