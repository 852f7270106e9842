from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import types
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from core import __version__
from core.cli.images import backend_hook
from core.cli.main import main
from core.compute import base
from core.errors import ComputeError, ConfigError, InputError, VersionMismatch
from core.images.build import Runtime, build, check_runtime
from core.images.engines import Engine, Image, build_image, find_engine, list_images
from core.images.spec import (
    PINNED_PYTHON,
    RuntimeSpec,
    build_arguments,
    content,
    content_tag,
    default_base,
    find_source,
    runtime_name,
    split_name,
    write_files,
)
from core.settings import parse_address
from core.task.versions import check_versions, versions

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = Runtime("registry.example/team/fanfold-montecarlo", "abc", True, Image("1", (), 1, 0.0))
TREE = {
    **{name: name for name in ("LICENSE", "README.md", "pyproject.toml", "core/a.py", "apps/b.py")},
    **{f"runtimes/{name}/Dockerfile": name for name in ("base", "mine", "other")},
    "runtimes/mine/requirements.txt": "numpy==2.0\n",
    "runtimes/base/requirements.txt": "cloudpickle==3.1.0\nnumpy==2.0\nsix==1.17.0\n",
}


@pytest.fixture
def spec(tmp_path: Path) -> RuntimeSpec:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return RuntimeSpec("mine", tmp_path)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that puts a program of a given name, and no other, on the path."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def make(name: str, text: str) -> None:
        file = tmp_path / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    return make


def tag(spec: RuntimeSpec) -> str:
    return content_tag(spec, content(spec))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("base", ("", "base", "")),
        ("fanfold-base:abc", ("", "base", "abc")),
        ("127.0.0.1:5000/team/base", ("127.0.0.1:5000/team", "base", "")),
        ("127.0.0.1:5000/fanfold-base:abc", ("127.0.0.1:5000", "base", "abc")),
    ],
)
def test_a_name_is_registry_runtime_and_tag(text, parts):
    assert split_name(text) == parts


@pytest.mark.parametrize("text", ["", "registry/", ":tag", "fanfold-"])
def test_a_name_without_runtime_is_refused(text):
    with pytest.raises(ConfigError, match="names no runtime"):
        split_name(text)


@pytest.mark.parametrize("changed", [name for name in TREE if "other" not in name])
def test_the_tag_changes_with_every_file_that_goes_in(spec, changed):
    before = tag(spec)

    (spec.source / changed).write_text("changed")

    assert tag(spec) != before


@pytest.mark.parametrize("name", ["runtimes/other/Dockerfile", "core/__pycache__/a.pyc", "notes.txt"])
def test_the_tag_stays_when_other_files_change(spec, name):
    before = tag(spec)

    (spec.source / name).parent.mkdir(exist_ok=True)
    (spec.source / name).write_text("changed")

    assert tag(spec) == before


def test_the_tag_changes_with_base_build_arguments_and_further_packages(spec, tmp_path):
    (tmp_path / "further.txt").write_text("six")
    specs = [
        spec,
        replace(spec, base="python:3.12-slim"),
        replace(spec, arguments={"A": "1"}),
        replace(spec, requirements=tmp_path / "further.txt"),
        replace(spec, constraints=tmp_path / "further.txt"),
        replace(spec, name="other"),
    ]

    assert len({tag(one) for one in specs}) == len(specs)


def test_what_is_written_for_a_build_is_what_the_tag_was_made_of(spec, tmp_path):
    files = content(spec)

    write_files(tmp_path / "context", files)

    written = [path for path in (tmp_path / "context").rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path / "context")): path.read_bytes() for path in written} == {
        name: file.data for name, file in files.items()
    }
    assert len({(path.stat().st_mtime, path.stat().st_mode) for path in written}) == 1


def test_a_file_that_a_build_argument_gives_is_known_by_its_content_not_its_place(spec, tmp_path):
    given = []
    for name, text in (("one", "same"), ("two", "same"), ("three", "other")):
        (tmp_path / name).write_text(text)
        given.append(replace(spec, arguments={"ENGINE": f"@{tmp_path / name}"}))

    assert build_arguments(given[0]) == {"ENGINE": "further/ENGINE"}
    assert content(given[0])["further/ENGINE"].data == b"same"
    assert tag(given[0]) == tag(given[1])
    assert len({tag(spec), tag(given[0]), tag(given[2])}) == 3


def test_a_program_that_a_build_argument_gives_stays_one(spec, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh")
    given = replace(spec, arguments={"ENGINE": f"@{program}"})
    plain = tag(given)
    program.chmod(0o755)

    write_files(tmp_path / "context", content(given))

    assert (tmp_path / "context/further/ENGINE").stat().st_mode & 0o777 == 0o755
    assert tag(given) != plain


def test_a_file_of_a_build_argument_may_be_in_the_home_folder(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "program").write_text("text")

    assert content(replace(spec, arguments={"ENGINE": "@~/program"}))["further/ENGINE"].data == b"text"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("missing", "cannot read .*/missing: No such file"),
        (".", "ENGINE: .* is not a file"),
        ("pipe", "ENGINE: .*/pipe after @ is not a file"),
        ("empty", "ENGINE: .*/empty is empty"),
    ],
)
def test_a_file_for_a_build_argument_that_cannot_be_used_is_named(spec, tmp_path, file, reason):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()

    with pytest.raises(ConfigError, match=reason):
        content(replace(spec, arguments={"ENGINE": f"@{tmp_path / file}"}))


@pytest.mark.parametrize(("name", "reason"), [("ENGINE", "ENGINE: nothing"), ("../../up", "no name of a build")])
def test_a_build_argument_that_can_be_no_file_is_refused(spec, name, reason):
    with pytest.raises(ConfigError, match=reason):
        content(replace(spec, arguments={name: "@"}))


def test_an_unknown_runtime_is_refused_with_those_that_are_known(spec):
    with pytest.raises(ConfigError, match="known: base, mine, other"):
        content(replace(spec, name="none"))


def test_a_requirements_file_that_is_missing_is_named(spec):
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.txt"):
        content(replace(spec, requirements=spec.source / "gone.txt"))


def test_a_folder_without_dockerfiles_is_no_source_tree(tmp_path):
    with pytest.raises(ConfigError, match="--source"):
        find_source(tmp_path)


def test_the_label_of_the_base_image_is_the_version_of_the_product():
    labels = (ROOT / "runtimes" / "base" / "Dockerfile").read_text()

    assert re.findall(r'image\.version="(.*?)"', labels) == [__version__]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("runtimes/*/requirements.txt")))
def test_requirements_are_pinned_and_no_runtime_pins_again_what_the_base_has(name):
    lines = (ROOT / "runtimes" / name / "requirements.txt").read_text().split()
    base_names = {line.partition("==")[0] for line in (ROOT / "runtimes/base/requirements.txt").read_text().split()}

    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert name == "base" or not base_names & {line.partition("==")[0] for line in lines}


def test_the_first_engine_that_works_is_used_not_the_first_that_is_there(program):
    program("podman", "echo podman version 4; [ $1 = --version ] || { echo no storage >&2; exit 1; }")
    program("docker", "echo Docker version 28")

    assert find_engine() == Engine("docker", "docker")


def test_an_image_that_is_deleted_while_others_are_listed_is_left_out(program, tmp_path):
    row = '[{"Id": "b", "RepoTags": ["fanfold-base:1"], "Size": 5, "Created": "2026-01-01T00:00:00Z"}]'
    program(
        "podman",
        f"[ $2 = inspect ] && [ $# = 4 ] && {{ : >{tmp_path}/gone; echo a: image not known >&2; exit 125; }}\n"
        f"[ $2 = inspect ] && {{ echo '{row}'; exit; }}\n[ -e {tmp_path}/gone ] || echo a; echo b",
    )

    [image] = list_images(Engine("podman", "podman"), "fanfold.runtime")

    assert image.names == ("fanfold-base:1",)


def test_an_image_with_several_names_is_asked_once_for_its_versions(program, tmp_path, capsys):
    names = '["fanfold-base:1", "fanfold-base:2", "registry.example/team/fanfold-base:2"]'
    row = f'[{{"Id": "b", "RepoTags": {names}, "Size": 5, "Created": "2026-01-01T00:00:00Z"}}]'
    program(
        "podman",
        f'[ $1 = run ] && {{ echo asked >>{tmp_path}/asked; echo \'{{"python": "3.11"}}\'; exit; }}\n'
        f"[ $1 = --version ] && echo podman\n[ $2 = ls ] && echo b\n[ $2 != inspect ] || echo '{row}'",
    )

    status = main(["runtime", "list", "--engine", "podman", "--json"])

    listed = json.loads(capsys.readouterr().out)["runtimes"]
    assert status == 0
    assert [row["versions"] for row in listed] == [{"python": "3.11"}] * 3
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_build_that_says_why_it_ends_is_believed_before_its_engine(program, tmp_path):
    program("podman", "echo STEP 1 >&2; echo fanfold: the pins clash >&2; echo Error: exit status 1 >&2; exit 1")

    with pytest.raises(ComputeError, match=r"podman build failed: the pins clash$"):
        build_image(Engine("podman", "podman"), tmp_path, "Dockerfile", {}, ["name:tag"], show=False)


def test_an_engine_under_the_name_of_another_gets_its_own_options(program):
    program("docker", "echo podman version 4")

    assert find_engine("docker") == Engine("docker", "podman")


def test_without_a_working_engine_the_message_says_why_each_does_not_work(program):
    program("docker", "echo Cannot connect to the daemon >&2; exit 1")

    with pytest.raises(ConfigError, match=r"podman is not installed; docker does not work \(Cannot connect .* buildah"):
        find_engine()


def test_the_same_software_passes():
    check_runtime(RUNTIME, versions())


@pytest.mark.parametrize(
    "different", [{"python": "2.7"}, {"fanfold": "0.0.1"}, {"cloudpickle": "1.0"}, {"numpy": "1.9"}]
)
def test_other_software_is_refused_with_the_command_that_mends_it(different):
    [(name, version)] = different.items()

    with pytest.raises(VersionMismatch) as caught:
        check_runtime(RUNTIME, {**versions(), **different})

    assert f"{name} {version} there and {versions()[name]} here" in str(caught.value)
    assert str(caught.value).endswith("; run: fanfold runtime build registry.example/team/montecarlo")


def test_an_image_is_built_for_the_client_that_builds_it(spec):
    client = {"python": "3.12", "fanfold": "0.1", "cloudpickle": "3.0.9", "numpy": "1.26.4"}

    fitted = content(replace(spec, client=client))["runtimes/base/requirements.txt"].data

    assert fitted == b"cloudpickle==3.0.9\nnumpy==1.26.4\nsix==1.17.0\n"


def test_a_pin_that_a_handshake_takes_stays(spec):
    client = {"python": "3.12", "fanfold": "0.1", "cloudpickle": "3.1.0", "numpy": "2.9.1"}

    fitted = content(replace(spec, client=client))["runtimes/base/requirements.txt"].data

    assert fitted.decode() == TREE["runtimes/base/requirements.txt"]


def test_the_tag_changes_with_what_a_handshake_compares_and_with_nothing_else_of_the_client(spec):
    client = {"cloudpickle": "3.1.0", "numpy": "2.9.1"}
    same = [client, {**client, "numpy": "2.0.1"}]
    other = [{**client, "cloudpickle": "3.1.1"}, {**client, "numpy": "1.26.4"}]

    tags = [tag(replace(spec, client=one)) for one in same + other]

    assert tags[0] == tags[1]
    assert len(set(tags)) == 3


def environment(folder: Path, packages: dict[str, str]) -> Path:
    """Make an environment without pip that has packages by name and version, and what they need."""
    venv.create(folder)
    for package, needs in packages.items():
        info = folder / f"lib/python3.{sys.version_info.minor}/site-packages/{package}.dist-info"
        info.mkdir()
        name, version = package.split("-")
        needed = f"Requires-Dist: {needs}\n" if needs else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
    return folder


def checked(filled: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", ROOT / "runtimes/base/check_pins.sh", f"{sys.prefix}/bin/pip", filled]
    return subprocess.run(command, capture_output=True, text=True)


def test_pins_that_clash_with_the_clients_numpy_are_said_in_one_sentence(tmp_path):
    packages = {"numpy-1.26.4": "", "fanfold-0.1.0": "absent", "cv-4.14": "numpy>=2", "skimage-0.26": "numpy>=1.24"}

    done = checked(environment(tmp_path / "filled", packages))

    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert re.match(r"fanfold: .* clashes with pinned packages: cv 4\.14 .* numpy>=2.*1\.26\.4", sentence)


def test_pins_that_fit_end_no_build(tmp_path):
    filled = environment(tmp_path / "filled", {"numpy-2.4.6": "", "fanfold-0.1.0": "absent", "cv-4.14": "numpy>=2"})

    assert checked(filled).returncode == 0


@pytest.mark.parametrize(
    ("python", "base"),
    [("3.11", PINNED_PYTHON), ("3.1", "python:3.1-slim-bookworm"), ("3.13", "python:3.13-slim-bookworm")],
)
def test_the_base_brings_the_python_of_the_client(python, base):
    assert default_base(python) == base


def test_the_dockerfiles_begin_with_the_pinned_python():
    texts = {path.parent.name: path.read_text() for path in ROOT.glob("runtimes/*/Dockerfile")}

    assert re.findall(r"^ARG BASE=(.*)", texts["base"], re.MULTILINE) == [PINNED_PYTHON]
    assert {found for text in texts.values() for found in re.findall(r"^ARG BASE=(.*)", text, re.M)} == {PINNED_PYTHON}


@pytest.mark.parametrize(("engine", "takes"), [("podman", True), ("buildah", True), ("docker", False)])
def test_a_runtime_begins_with_the_packages_of_the_base_where_the_engine_takes_an_image_by_identifier(
    spec, program, tmp_path, engine, takes
):
    program(
        engine,
        f'echo "$@" >>{tmp_path}/asked\n[ $1 = images ] && echo "[]"\n'
        'while [ $# -gt 0 ]; do [ "$1" != --iidfile ] || echo sha256:abc >"$2"; shift; done',
    )

    with pytest.raises(InputError, match="there is no runtime"):
        build(spec, Engine(engine, engine))

    builds = [line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("build")]
    assert ["--target packages" in line for line in builds] == ([False, True, False] if takes else [False, False])
    assert ("--build-arg PACKAGES=sha256:abc" in builds[-1]) == takes
    assert "--build-arg CORE=fanfold-base:" in builds[-1]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("fanfold-base:abc", "base"),
        ("localhost/fanfold-base", "base"),
        ("registry.example:5000/team/fanfold-montecarlo:abc", "registry.example:5000/team/montecarlo"),
        ("registry.example/team/own:1", None),
    ],
)
def test_an_image_tells_the_name_by_which_it_is_built_again(image, name):
    assert runtime_name(image) == name


def test_a_worker_outside_of_images_asks_for_the_same_software_and_one_in_an_image_for_its_runtime(monkeypatch):
    other = {**versions(), "cloudpickle": "1.0"}
    with pytest.raises(VersionMismatch, match=r"cloudpickle 1\.0 there and .* here; install the same$"):
        check_versions(other)
    monkeypatch.setenv("FANFOLD_WORKER_RUNTIME", "montecarlo")

    with pytest.raises(VersionMismatch, match=r"; run: fanfold runtime build montecarlo$"):
        check_versions(other)


def test_a_backend_that_deploys_nothing_says_so():
    with pytest.raises(ConfigError, match="serial has no deploy"):
        backend_hook(parse_address("serial"), "deploy")


def test_deletion_on_a_platform_is_the_backends(monkeypatch, capsys):
    module = types.ModuleType("cloud")
    module.delete = lambda address, name: f"deleted {name} at {address.where}"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cloud", module)
    monkeypatch.setitem(base._BACKENDS, "cloud", "cloud:Backend")

    status = main(["runtime", "delete", "montecarlo", "--compute", "cloud://there"])

    assert status == 0
    assert capsys.readouterr().out == "deleted montecarlo at there\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "base:tag"],
        ["build", "base", "--source", "/nowhere"],
        ["push", "base", "--engine", "no-such-engine"],
        ["deploy", "base", "--compute", "serial"],
        ["deploy", "base", "--compute", "no-such-backend://x"],
    ],
)
def test_wrong_usage_exits_with_two_and_one_sentence(arguments, capsys):
    status = main(["runtime", *arguments])

    assert status == 2
    assert capsys.readouterr().err.startswith("fanfold: ")
