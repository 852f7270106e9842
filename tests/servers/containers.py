"""podman, with a base image made from Debian packages: no registry is needed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTAINER_PYTHON = "localhost/fanfold-test-python:bookworm"
CONTAINER_TOOLS = "apt-get install podman runc buildah debootstrap docker-registry"
CONTAINER_VERSION = (3, 11)
PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host", "cert", "proxy")


@dataclass
class Containers:
    """podman with images of its own, kept from one test run to the next, and a base image made from Debian packages."""

    python: str = CONTAINER_PYTHON
    built: dict[str, str] = field(default_factory=dict)

    def fanfold(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the ``fanfold`` command."""
        command = [sys.executable, "-c", "import sys; from core.cli.main import main; sys.exit(main())", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    def runtime(self, name: str) -> str:
        """Return the image of a runtime, built from this source tree by ``fanfold runtime build``."""
        if name not in self.built:
            done = self.fanfold("runtime", "build", name, "--base", self.python, "--engine", "podman", "--json")
            assert done.returncode == 0, done.stderr
            self.built[name] = json.loads(done.stdout)["image"]
        return self.built[name]

    def checkout(self) -> dict[str, str]:
        """Return the environment of a process in any folder that runs this source tree."""
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def podman(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run podman; what it says is text."""
        return subprocess.run(["podman", *arguments], capture_output=True, text=True, **options)


@contextmanager
def container_engine(folder: Path) -> Iterator[Containers]:
    """Set up a container engine that works, with a base image, and builds that reach the package index of this host."""
    if shutil.which("podman") is None or shutil.which("runc") is None or os.geteuid() != 0:
        pytest.skip(f"needs root, and podman with runc: {CONTAINER_TOOLS}")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fanfold-tests"
    kept.mkdir(parents=True, exist_ok=True)
    mounts = _package_index(folder)
    (folder / "containers.conf").write_text(
        '[engine]\nruntime = "runc"\n[containers]\n'
        'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
        f"volumes = {json.dumps(mounts)}\n"
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{kept / "containers"}"\nrunroot = "/run/fanfold-tests"\n'
    )
    engine = Containers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        with open(kept / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if engine.podman("image", "exists", engine.python).returncode:
                _import_base(engine, kept, folder)
        tried = engine.podman("run", "--rm", "--network=none", engine.python, "python3", "--version")
        if tried.returncode:
            pytest.skip(f"podman cannot run containers here: {tried.stderr.strip()}")
        yield engine
        engine.podman("image", "prune", "--force", "--filter", "until=12h")
        engine.podman(
            *("image", "prune", "--all", "--force", "--filter", "label=fanfold.runtime", "--filter", "until=2h")
        )


@pytest.fixture(scope="session")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Return podman with images of its own."""
    with container_engine(tmp_path_factory.mktemp("containers")) as engine:
        yield engine


def _package_index(folder: Path) -> list[str]:
    """Return mounts with which pip in a build uses the index, certificates and local packages of this host's pip."""
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CONFIG_HOME"}
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    settings = {}
    for scope, name, value in re.findall(r"^(:env:|\w+)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        if name in PIP_SETTINGS and (scope == ":env:" or name not in settings):
            settings[name] = value.replace("\\n", " ")
    (folder / "pip.conf").write_text("".join(["[global]\n", *(f"{name} = {settings[name]}\n" for name in settings)]))
    paths = {Path(word.removeprefix("file://")) for value in settings.values() for word in value.split()}
    # The pages of an index on disk point to files beside its folder.
    local = {path.parent if path.name == "simple" else path for path in paths if path.is_absolute() and path.exists()}
    return [f"{folder / 'pip.conf'}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(local))]


def _import_base(engine: Containers, kept: Path, folder: Path) -> None:
    archive = kept / "python-bookworm.tar"
    if not archive.exists():
        if shutil.which("debootstrap") is None:
            pytest.skip(f"needs debootstrap to make the base image: {CONTAINER_TOOLS}")
        command = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm"]
        made = subprocess.run([*command, str(folder / "root")], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"debootstrap cannot make the base image here: {made.stdout.strip().splitlines()[-1:]}")
        left_out = ["--exclude=./var/cache/apt", "--exclude=./var/lib/apt/lists"]
        partial = archive.with_suffix(".partial")
        subprocess.run(["tar", "-C", str(folder / "root"), *left_out, "-cf", str(partial), "."], check=True)
        partial.rename(archive)
        shutil.rmtree(folder / "root")
    done = engine.podman("import", str(archive), engine.python)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def container_site(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return settings of an executor whose containers see this run's temporary folder."""
    if sys.version_info[:2] != CONTAINER_VERSION:
        pytest.skip("needs Python 3.11 here, which the base image of the tests has")
    image = containers.runtime("base")
    return {"compute": f"container://{image}?mount={tmp_path_factory.getbasetemp()}", "workers": 2}
