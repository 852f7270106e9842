"""The images as they are built from this source tree: what is in them, and that they compute what this machine does."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from core.task import messages
from core.task.versions import check_versions, versions
from tests.apps.metabolomics.planted import write_database, write_dataset

ROOT = Path(__file__).resolve().parents[3]
CONFINED = (
    *("--rm", "--network=none", "--no-healthcheck", "--pull=never", "--read-only", "--cap-drop=all"),
    *("--security-opt=no-new-privileges", "--memory=2g", "--pids-limit=512"),
)
NAMES = ("base", "montecarlo", "face_align", "metabolomics", "protein_remd", "satellite")
FORECAST = ("-m", "apps.montecarlo", "--forecasts", "2000", "--seed", "7", "--json")
PACKAGES = """
import json
from importlib.metadata import distributions
print(json.dumps({d.name: [d.version, d.requires or []] for d in distributions()}))
"""
SQUARES = """
import os
from core import FunctionExecutor
with FunctionExecutor(workers=2) as executor:
    print(os.getuid(), sum(executor.map(lambda x: x * x, range(100)).results()))
"""


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_every_package_that_its_packages_need(containers, name):
    image = containers.runtime(name)

    done = containers.podman("run", *CONFINED, "--entrypoint=python", image, "-c", PACKAGES)

    assert done.returncode == 0, done.stderr
    there = {key.lower().replace("_", "-"): value for key, value in json.loads(done.stdout).items()}
    needed = [
        (package, Requirement(text))
        for package, (_, requires) in there.items()
        if package != "fanfold"
        for text in requires
    ]
    unmet = [
        f"{package} needs {requirement}"
        for package, requirement in needed
        if requirement.marker is None or requirement.marker.evaluate({"extra": "", "python_version": "3.11"})
        if not requirement.specifier.contains(
            there.get(requirement.name.lower().replace("_", "-"), ("0",))[0], prereleases=True
        )
        or requirement.name.lower().replace("_", "-") not in there
    ]
    assert unmet == []
    assert {"boto3", "awslambdaric", "cloudpickle", "numpy", "fanfold"} <= set(there)
    assert "pip" not in there


@pytest.mark.parametrize("name", NAMES)
def test_an_image_says_what_it_is_and_runs_as_no_user_of_the_host(containers, name):
    [image] = json.loads(containers.podman("image", "inspect", containers.runtime(name)).stdout)

    labels = image["Config"]["Labels"]
    assert labels["fanfold.runtime"] == name
    assert labels["org.opencontainers.image.title"] == f"fanfold {name}"
    assert labels["org.opencontainers.image.version"] == versions()["fanfold"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image["Config"]["User"] == "10001:0"
    assert image["Config"]["Entrypoint"] == ["python", "-m", "core.worker.entry"]
    assert image["Healthcheck"]["Test"] == ["CMD", "python", "/opt/fanfold/health.py"]


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_change_of_the_sources_leaves_the_layers_of_packages_as_they_are(containers, name):
    layers = {
        each: json.loads(containers.podman("image", "inspect", containers.runtime(each)).stdout)[0]["RootFS"]["Layers"]
        for each in ("base", name)
    }

    packages, product = layers["base"][:-1], layers["base"][-1]

    assert layers[name][: len(packages)] == packages
    assert product not in layers[name][: len(packages) + 1]


def test_an_image_runs_under_any_user_number_with_nothing_but_its_temporary_folder(containers):
    image = containers.runtime("base")

    done = containers.podman("run", *CONFINED, "--user=123456:0", "--entrypoint=python", image, "-c", SQUARES)

    assert done.stdout.split() == ["123456", "328350"], done.stderr


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the base image of the tests has Python 3.11")
def test_a_worker_in_a_container_presents_software_that_this_client_can_use(containers):
    image = containers.runtime("base")

    done = subprocess.run(["podman", "run", "-i", *CONFINED, image, "worker"], capture_output=True, input=b"")

    assert done.returncode == 0, done.stderr
    frame = messages.read_frame(io.BytesIO(done.stdout))
    assert frame is not None
    head, _ = messages.decode(frame)
    assert head["kind"] == "hello"
    check_versions(head["versions"])


@pytest.mark.parametrize(
    ("entry", "environment"), [("http", "FANFOLD_WORKER_TOKEN=of-this-test"), ("openwhisk", "A=b")]
)
def test_the_health_check_tells_a_service_that_answers_from_one_that_does_not(containers, entry, environment):
    image = containers.runtime("base")
    flags = ("--detach", "--rm", "--network=none", "--read-only", "--env", environment, "--env=PORT=8099")
    container = containers.podman("run", *flags, image, entry).stdout.strip()
    try:
        check = ("exec", container, "python", "/opt/fanfold/health.py")
        wait = "until python /opt/fanfold/health.py; do :; done"
        started = containers.podman("exec", container, "timeout", "60", "sh", "-c", wait)
        elsewhere = containers.podman(check[0], "--env=PORT=8098", *check[1:])
    finally:
        containers.podman("kill", container)
    assert started.returncode == 0
    assert elsewhere.returncode == 1


def test_the_health_check_leaves_workers_that_are_no_service_alone(containers):
    image = containers.runtime("base")
    flags = ("--detach", "--interactive", "--rm", "--network=none", "--read-only")
    container = containers.podman("run", *flags, image, "worker").stdout.strip()
    try:
        assert containers.podman("exec", container, "python", "/opt/fanfold/health.py").returncode == 0
    finally:
        containers.podman("kill", container)


def test_scenes_become_the_same_cells_in_a_container_and_here(containers, tmp_path):
    pytest.importorskip("rasterio", reason="needs rasterio: pip install '.[satellite]'")
    image = containers.runtime("satellite")
    command = ("-m", "apps.satellite", "--compute", "serial", "--json")

    there = containers.podman("run", *CONFINED, "--workdir=/tmp", "--entrypoint=python", image, *command)
    here = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, env=containers.checkout()
    )

    assert there.returncode == 0, there.stderr
    assert here.returncode == 0, here.stderr
    assert json.loads(there.stdout)["cells_sha256"] == json.loads(here.stdout)["cells_sha256"]


def test_a_forecast_has_the_same_hash_in_a_container_and_here(containers, tmp_path):
    image = containers.runtime("montecarlo")

    there = containers.podman("run", *CONFINED, "--workdir=/tmp", "--entrypoint=python", image, *FORECAST)
    here = subprocess.run(
        [sys.executable, *FORECAST], capture_output=True, text=True, cwd=tmp_path, env=containers.checkout()
    )

    assert there.returncode == 0, there.stderr
    assert here.returncode == 0, here.stderr
    assert json.loads(there.stdout)["result_sha256"] == json.loads(here.stdout)["result_sha256"]


def test_the_demonstration_faces_have_the_same_bytes_in_a_container_and_here(containers, tmp_path):
    image = containers.runtime("face_align")
    command = ("-m", "apps.face_align", "--json", "--output")
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o777)

    mount = f"--volume={tmp_path / 'there'}:/job"
    there = containers.podman("run", *CONFINED, mount, "--entrypoint=python", image, *command, "/job/faces")
    here = subprocess.run(
        [sys.executable, *command, str(tmp_path / "faces")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=containers.checkout(),
    )

    assert there.returncode == 0, there.stderr
    assert here.returncode == 0, here.stderr
    crops = _images(tmp_path / "faces")
    assert len(crops) >= 10
    assert _images(tmp_path / "there" / "faces") == crops


def test_kernels_of_the_image_are_used_and_not_compiled_again(containers):
    image = containers.runtime("metabolomics")
    module = ["--entrypoint=python", image, "-m", "apps.metabolomics.precompile"]

    brought = containers.podman("run", *CONFINED, "--env=NUMBA_DEBUG_CACHE=1", *module)
    other = containers.podman("run", *CONFINED, "--env=NUMBA_DEBUG_CACHE=1", "--env=NUMBA_CPU_NAME=host", *module)

    assert brought.returncode == 0, brought.stderr
    assert "data loaded from" in brought.stdout
    assert "data saved to" not in brought.stdout
    assert "data saved to" in other.stdout, "numba no longer says so"


def test_annotations_have_the_same_bytes_in_a_container_and_here(containers, tmp_path):
    image = containers.runtime("metabolomics")
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o777)
    write_dataset(str(tmp_path / "there" / "planted.imzML"))
    write_database(tmp_path / "there" / "molecules.tsv")
    command = ("-m", "apps.metabolomics", "annotate", "planted.imzML", "--db", "molecules.tsv", "--fdr", "0.5")

    mount = f"--volume={tmp_path / 'there'}:/job"
    there = containers.podman("run", *CONFINED, mount, "--entrypoint=python", image, *command, "--output=container")
    here = subprocess.run(
        [sys.executable, *command, "--output=here"], capture_output=True, text=True, cwd=tmp_path / "there",
        env=containers.checkout(),
    )  # fmt: skip

    assert there.returncode == 0, there.stderr
    assert here.returncode == 0, here.stderr
    for name in ("annotations.csv", "intensities.parquet", "tic.png"):
        made = (tmp_path / "there" / "container" / name).read_bytes()
        assert made == (tmp_path / "there" / "here" / name).read_bytes()
        assert made


def _images(folder: Path) -> dict[str, bytes]:
    made = {"contact-sheet.png", "report.html", "result.json", "manifest.csv", "manifest.json", "manifest.parquet"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in made and ".run" not in path.parts
    }
