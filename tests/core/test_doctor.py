"""What ``fanfold doctor`` says of real platforms: that they work, and how fast, or what to mend."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.cli.main import main
from tests.servers.http import HttpWorker
from tests.servers.redis import PASSWORD, RedisServer

ANSWERED = r"Python \d+\.\d+\.\d+ on \S+ answered in \d+ ms, then in [\d.]+ ms"


@dataclass
class Found:
    """Exit status, and the checks by their names: whether each is well, and what it says."""

    status: int
    checks: dict[str, tuple[bool, str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FANFOLD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("core.cli.doctor.UNAVAILABLE_TIMEOUT", 0.2)
    return tmp_path


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> Found:
    status = main(["doctor", "--json", *arguments])
    checks = json.loads(capsys.readouterr().out)["checks"]
    return Found(status, {check["name"]: (check["ok"], check["detail"]) for check in checks})


@pytest.mark.parametrize(
    "site", ["process", "http_site", "dask_site", "lambda_site", pytest.param("container_site", marks=pytest.mark.slow)]
)
def test_a_platform_that_works_says_how_fast_it_answers(
    site: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(request.getfixturevalue(site)["compute"]) if site.endswith("_site") else site

    found = doctor(capsys, "--compute", address)

    ok, detail = found.checks[f"compute {address}"]
    assert (found.status, ok) == (0, True), detail
    assert re.fullmatch(ANSWERED, detail)


@pytest.mark.parametrize("site", ["slurm_site", "lambda_async_site"])
def test_a_platform_that_gives_no_answers_is_tried_through_its_storage(
    site: str, request: pytest.FixtureRequest, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, store = str(request.getfixturevalue(site)["compute"]), f"file://{folder}/store"

    found = doctor(capsys, "--compute", address, "--storage", store)

    assert found.status == 0, found.checks
    assert re.fullmatch(ANSWERED, found.checks[f"compute {address}"][1])
    assert [path for path in (folder / "store").rglob("*") if path.is_file()] == []


def test_with_a_storage_a_task_goes_through_it_too(
    http_site: dict[str, object], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(http_site["compute"])

    found = doctor(capsys, "--compute", address, "--storage", f"file://{folder}/store")

    assert re.fullmatch(ANSWERED + r", and through the storage in [\d.]+ ms", found.checks[f"compute {address}"][1])


def test_a_storage_of_no_use_does_not_hide_that_workers_answer(
    http_site: dict[str, object], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_text("in the way")
    address = str(http_site["compute"])

    found = doctor(capsys, "--compute", address, "--storage", f"file://{folder}/file")

    assert found.status == 1
    assert [ok for ok, _ in found.checks.values()] == [True, False]


def test_a_storage_that_keeps_no_first_result_fails(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.storage.local import LocalStorage

    put = LocalStorage.put
    monkeypatch.setattr(LocalStorage, "put", lambda self, key, data, if_absent=False: put(self, key, data))

    found = doctor(capsys, "--compute", "serial", "--storage", f"file://{folder}/careless")

    ok, detail = found.checks[f"storage file://{folder}/careless"]
    assert (found.status, ok) == (1, False)
    assert "cannot hold durable jobs" in detail


def test_a_service_that_is_not_there_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    address = HttpWorker().url

    found = doctor(capsys, "--compute", address)

    ok, detail = found.checks[f"compute {address}"]
    assert (found.status, ok) == (1, False)
    assert re.search(r"cannot be reached: .*refused; is it up, and the address right\?", detail)


def test_a_wrong_token_is_told_with_the_remedy_and_never_shown(
    http_site: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", "not-the-token-5d1c")
    address = str(http_site["compute"])

    found = doctor(capsys, "--compute", address)

    ok, detail = found.checks[f"compute {address}"]
    assert (found.status, ok) == (1, False)
    assert "401" in detail
    assert "token_file=" in detail
    assert "5d1c" not in detail


def test_other_software_on_the_workers_is_told_with_both_versions(
    http_site: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.task.versions import versions

    monkeypatch.setattr("core.compute.remote.courier.versions", lambda: versions() | {"cloudpickle": "0.1"})
    address = str(http_site["compute"])

    found = doctor(capsys, "--compute", address)

    ok, detail = found.checks[f"compute {address}"]
    assert (found.status, ok) == (1, False)
    assert "cloudpickle 0.1 there" in detail
    assert "install the same" in detail


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("dask://127.0.0.1:1", "no Dask scheduler answers at 127.0.0.1:1.*start one with 'dask scheduler'"),
        ("lambda://f?region=eu-west-1&call=async", "leaves results in storage; give the executor one"),
        ("container://?network=none", "names no place before"),
        ("container", "names no image: container://IMAGE, or runtime=IMAGE"),
        ("slurm://main?cpus=none", "cpus=none must be a whole number"),
        ("http://example.org/run", "unencrypted; use https"),
    ],
)
def test_an_address_that_cannot_work_says_why(
    address: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.compute.remote.dask.CONNECT_TIMEOUT", 0.5)

    found = doctor(capsys, "--compute", address)

    (detail,) = [detail for ok, detail in found.checks.values() if not ok]
    assert found.status == 1
    assert re.search(words, detail)


@pytest.mark.parametrize(
    ("package", "address", "extra"), [("distributed", "dask://127.0.0.1:1", "dask"), ("boto3", "lambda://f", "lambda")]
)
def test_a_missing_package_is_named_with_the_command_that_adds_it(package: str, address: str, extra: str) -> None:
    script = (
        f"import sys; sys.modules['{package}'] = None\n"
        f"from core.cli.main import main; sys.exit(main(['doctor', '--compute', '{address}']))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]

    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )

    assert done.returncode == 1
    assert re.search(rf"FAILED  compute {address}.*pip install 'fanfold\[{extra}\]'", done.stdout), done.stdout


def test_redis_is_tried_by_a_word_that_comes_back(
    redis_server: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANFOLD_NOTIFY", redis_server.address)

    well = doctor(capsys, "--compute", "serial")
    monkeypatch.setenv("REDIS_PASSWORD", "not-the-password")
    refused = doctor(capsys, "--compute", "serial")
    redis_server.kill()
    abandoned = doctor(capsys, "--compute", "serial")

    name = f"notify {redis_server.address}"
    assert re.fullmatch(r"a word came back in [\d.]+ ms", well.checks[name][1])
    assert (refused.status, refused.checks[name][0]) == (1, False)
    assert "set REDIS_PASSWORD" in refused.checks[name][1]
    assert PASSWORD not in refused.checks[name][1]
    assert "Redis does not answer" in abandoned.checks[name][1]
    assert abandoned.checks["compute serial"][0]


def test_the_configuration_file_and_the_runtime_reach_the_round_trip(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other.toml").write_text('compute = "container"\nruntime = "localhost/there-is-no-such-image:1"\n')

    found = doctor(capsys, "--config", "other.toml")

    ok, detail = found.checks["compute container"]
    assert (found.status, ok) == (1, False)
    assert "there-is-no-such-image" in detail or "no container engine works here" in detail
