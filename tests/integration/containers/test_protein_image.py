"""The image for simulations of proteins: OpenMM, and ProtoMol from a file or an image."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.servers.containers import Containers

CONFINED = ("--rm", "--network=none", "--no-healthcheck", "--pull=never", "--read-only", "--cap-drop=all")
PROTOMOL = "#!/bin/sh\necho ProtoMol stands here: $*\n"
STEPS = """
from openmm import CustomExternalForce, LangevinMiddleIntegrator, System, unit
from openmm.app import Simulation, Topology
system = System()
system.addParticle(12.0)
force = CustomExternalForce("x*x + y*y + z*z")
force.addParticle(0)
system.addForce(force)
topology = Topology()
topology.addAtom("C", None, topology.addResidue("C", topology.addChain()))
integrator = LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.002 * unit.picoseconds)
simulation = Simulation(topology, system, integrator)
simulation.context.setPositions([(1, 0, 0)])
simulation.step(10)
print(simulation.currentStep, simulation.context.getState(getEnergy=True).getPotentialEnergy()._value > 0)
"""


@pytest.fixture
def build(containers: Containers, tmp_path) -> Iterator:
    """Return a function that builds the image with further arguments, under a name of this test's own."""
    name = f"fanfold.test/{tmp_path.name.lower()}/protein_remd"
    flags = ("--base", containers.python, "--engine", "podman", "--json")
    yield lambda *given: containers.fanfold(
        "runtime", "build", name, *flags, *(f"--build-arg={argument}" for argument in given)
    )
    containers.fanfold("runtime", "delete", name)


@pytest.fixture
def donor(containers: Containers, tmp_path) -> Iterator[str]:
    """Return an image that has a ProtoMol in a place of its own, and a program without its library."""
    (tmp_path / "donor").mkdir()
    (tmp_path / "donor" / "ProtoMol").write_text(PROTOMOL)
    (tmp_path / "donor" / "ProtoMol").chmod(0o700)
    (tmp_path / "donor" / "Dockerfile").write_text(
        f"FROM {containers.python}\nCOPY ProtoMol /opt/protomol/bin/ProtoMol\n"
    )
    image = f"localhost/fanfold-test-donor:{tmp_path.name.lower()}"
    made = containers.podman("build", "--tag", image, str(tmp_path / "donor"))
    assert made.returncode == 0, made.stderr
    yield image
    containers.podman("rmi", image)


def said_by_protomol(containers: Containers, image: str) -> str:
    done = containers.podman("run", *CONFINED, "--user=4711:0", "--entrypoint=ProtoMol", image, "a.conf")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_openmm_runs_in_the_image_and_protomol_is_not_there_unless_it_is_given(containers):
    image = containers.runtime("protein_remd")

    steps = containers.podman("run", *CONFINED, "--user=4711:0", "--entrypoint=python", image, "-c", STEPS)
    absent = containers.podman("run", *CONFINED, "--entrypoint=ProtoMol", image)

    assert steps.stdout.split() == ["10", "True"], steps.stderr
    assert absent.returncode == 127


def test_a_campaign_in_containers_is_the_one_that_runs_here(containers, tmp_path):
    pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")
    image = containers.runtime("protein_remd")
    campaign = ["--platform", "Reference", "--temperatures", "300,350", "--steps", "50", "--rounds", "3"]
    runs = {"here": "serial", "there": f"container://{image}"}

    for name, compute in runs.items():
        command = [sys.executable, "-m", "apps.protein_remd", *campaign, "--output", name, "--compute", compute]
        done = subprocess.run(command, cwd=tmp_path, env=containers.checkout(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    found = {name: {path.name: path.read_bytes() for path in (tmp_path / name).rglob("0*.*")} for name in runs}
    assert len(found["here"]) == 3 + 6
    assert found["there"] == found["here"]


def test_the_command_runs_in_the_image_too(containers, tmp_path):
    image = containers.runtime("protein_remd")
    tmp_path.chmod(0o777)
    command = ["-m", "apps.protein_remd", "--platform", "Reference", "--steps", "20", "--rounds", "2", "--output", "a"]

    ran = containers.podman(
        "run", *CONFINED, "--tmpfs=/tmp", f"--volume={tmp_path}:/job", "--user=4711:0", "--entrypoint=python", image,
        *command,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "a" / "report.html").is_file()


def test_protomol_comes_from_a_file(containers, build, tmp_path):
    (tmp_path / "my_protomol").write_text(PROTOMOL)

    built = build(f"PROTOMOL_FILE=@{tmp_path / 'my_protomol'}")

    assert built.returncode == 0, built.stderr
    assert said_by_protomol(containers, json.loads(built.stdout)["image"]) == "ProtoMol stands here: a.conf"


def test_protomol_comes_from_an_image(containers, build, donor):
    built = build(f"PROTOMOL_IMAGE={donor}", "PROTOMOL_PATH=/opt/protomol/bin/ProtoMol")

    assert built.returncode == 0, built.stderr
    assert said_by_protomol(containers, json.loads(built.stdout)["image"]) == "ProtoMol stands here: a.conf"


def test_what_cannot_be_protomol_ends_the_build_with_the_reason(build, donor, tmp_path):
    (tmp_path / "text").write_text("no program")
    (tmp_path / "script").write_text(PROTOMOL)

    elsewhere = build(f"PROTOMOL_IMAGE={donor}")
    text = build(f"PROTOMOL_FILE=@{tmp_path / 'text'}")
    both = build(f"PROTOMOL_IMAGE={donor}", f"PROTOMOL_FILE=@{tmp_path / 'script'}")

    assert f"the image {donor} has no file /usr/local/bin/ProtoMol" in elsewhere.stderr
    assert "what was given as ProtoMol is no Linux program" in text.stderr
    assert "are both given; give one of them" in both.stderr
    assert [done.returncode for done in (elsewhere, text, both)] == [1, 1, 1]


def test_an_empty_file_is_refused_as_protomol_before_anything_is_built(build, tmp_path):
    (tmp_path / "empty").touch()

    refused = build(f"PROTOMOL_FILE=@{tmp_path / 'empty'}")

    assert refused.returncode == 2
    assert f"PROTOMOL_FILE: {tmp_path / 'empty'} is empty" in refused.stderr


def test_a_protomol_whose_libraries_are_missing_ends_the_build(build, tmp_path):
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    (tmp_path / "lib.c").write_text("int answer(void) { return 42; }\n")
    (tmp_path / "main.c").write_text("int answer(void);\nint main(void) { return answer() != 42; }\n")
    for command in (
        [compiler, "-shared", "-fPIC", "-o", "libanswer.so", "lib.c"],
        [compiler, "-o", "ProtoMol", "main.c", "-L.", "-lanswer"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)

    built = build(f"PROTOMOL_FILE=@{tmp_path / 'ProtoMol'}")

    assert built.returncode == 1
    assert "ProtoMol needs shared libraries that the image lacks: libanswer.so" in built.stderr
