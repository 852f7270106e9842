"""Images fit the client that builds them, whatever was released since the pins were written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.containers import Containers

ROOT = Path(__file__).resolve().parents[3]
PINS = dict(line.split("==") for line in (ROOT / "runtimes/base/requirements.txt").read_text().split())
OTHER = next(version for version in ("3.1.2", "3.1.1") if version != PINS["cloudpickle"])
BUILD = "import sys; from core.cli.main import main; sys.exit(main())"
SQUARES = """
import sys
from importlib.metadata import version
from core import FunctionExecutor
with FunctionExecutor(f"container://{sys.argv[1]}", workers=2) as executor:
    squares = executor.map(lambda x: x * x, range(20)).results(120)
    print(version("cloudpickle"), executor.call_async(version, "cloudpickle").result(120), sum(squares))
"""

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="needs Python 3.11 here, which the base image of the tests has"
)


@pytest.fixture(scope="module")
def other_client(containers: Containers, tmp_path_factory) -> dict[str, str]:
    """Return the environment of a client that has another patch release of cloudpickle than the pins."""
    folder = tmp_path_factory.mktemp("other") / "site-packages"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={folder}"]
    subprocess.run([*command, f"cloudpickle=={OTHER}"], check=True)
    return {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}


def client(environment: dict[str, str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def test_a_client_with_another_release_than_the_pins_builds_runs_and_gets_results(containers, other_client):
    flags = ("--base", containers.python, "--engine", "podman", "--json")

    built = client(other_client, BUILD, "runtime", "build", "base", *flags)
    ran = client(other_client, SQUARES, json.loads(built.stdout)["image"])

    assert "cannot use what was built" not in built.stderr
    assert ran.stdout.split() == [OTHER, OTHER, str(sum(x * x for x in range(20)))], ran.stderr


def test_an_image_of_another_client_is_refused_with_the_command_that_builds_it_again(containers, other_client):
    ran = client(other_client, SQUARES, containers.runtime("base"))

    assert ran.returncode == 1
    assert f"cloudpickle {PINS['cloudpickle']} there and {OTHER} here; run: fanfold runtime build base" in ran.stderr


def test_a_doctor_names_the_command_that_builds_an_image_again(containers, other_client):
    examined = client(other_client, BUILD, "doctor", "--compute", f"container://{containers.runtime('base')}")

    assert examined.returncode == 1
    assert f"and {OTHER} here; run: fanfold runtime build base" in examined.stdout
