from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from core.settings import (
    Address,
    default_storage,
    describe,
    load_config,
    parse_address,
    parse_duration,
    parse_size,
    resolve,
    state_dir,
    unknown_variables,
)
from core.types import RetryPolicy


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    return folder


def write_user_file(here: Path, text: str) -> None:
    file = here.parent / "user" / "fanfold" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_defaults_need_no_file_and_no_variable(here: Path) -> None:
    config = load_config()

    assert (config.compute, config.storage, config.durable) == ("process", None, False)
    assert config.retries == RetryPolicy()


def test_a_configuration_folder_that_cannot_be_looked_into_is_passed_over(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/" + 300 * "x")  # to root no folder is closed, but no name is that long

    assert load_config().workers is None


def test_each_layer_yields_to_the_one_above(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_user_file(here, "workers = 1\nmemory = 1\ntimeout = 1\nretries = 1\n")
    (here / "fanfold.toml").write_text("workers = 2\nmemory = 2\ntimeout = 2\n")
    monkeypatch.setenv("FANFOLD_WORKERS", "3")
    monkeypatch.setenv("FANFOLD_MEMORY", "3")

    resolved = resolve(workers=4)

    config = resolved.config
    assert (config.workers, config.memory, config.timeout, config.retries.retries) == (4, 3, 2.0, 1)
    assert resolved.origins["workers"] == "argument"
    assert resolved.origins["memory"] == "FANFOLD_MEMORY"
    assert resolved.origins["timeout"] == "fanfold.toml"
    assert resolved.origins["retries"].endswith("fanfold/config.toml")
    assert resolved.origins["compute"] == "default"


def test_an_argument_of_none_is_not_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_WORKERS", "3")

    assert load_config(workers=None).workers == 3


def test_an_empty_variable_is_not_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_WORKERS", "")

    assert load_config().workers is None


def test_a_named_file_replaces_the_search(here: Path) -> None:
    (here / "fanfold.toml").write_text("workers = 2\n")
    (here / "other.toml").write_text("retries = 5\n")

    config = load_config("other.toml")

    assert (config.workers, config.retries.retries) == (None, 5)


def test_a_named_file_that_is_missing_is_an_error(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read configuration file absent\.toml: No such file"):
        load_config("absent.toml")


def test_every_setting_can_be_given_in_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_as = {
        "compute": ("serial", "serial"),
        "storage": ("memory://x", "memory://x"),
        "runtime": ("fanfold-montecarlo", "fanfold-montecarlo"),
        "workers": ("3", 3),
        "memory": ("1.5GiB", 3 << 29),
        "timeout": ("2m", 120.0),
        "retries": ("0", RetryPolicy(retries=0)),
        "durable": ("yes", True),
        "speculation": ("off", False),
        "notify": ("redis://cache:6379/1", "redis://cache:6379/1"),
        "machine_price": ("0.04", 0.04),
        "log": ("events.jsonl", Path("events.jsonl")),
    }
    for name, (text, _) in given_as.items():
        monkeypatch.setenv(f"FANFOLD_{name.upper()}", text)

    config = load_config()

    assert set(given_as) == {setting.name for setting in describe()}
    assert {name: getattr(config, name) for name in given_as} == {name: value for name, (_, value) in given_as.items()}


def test_an_unknown_key_names_file_key_and_the_known_ones(here: Path) -> None:
    (here / "fanfold.toml").write_text("wrokers = 2\n")

    with pytest.raises(
        ConfigError,
        match=r"^fanfold\.toml has no setting 'wrokers' \(is it 'workers'\?\); known: compute, storage, runtime",
    ):
        load_config()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("workers = 0", "a whole number of at least 1"),
        ("workers = true", "a whole number of at least 1"),
        ("workers = 1.5", "a whole number of at least 1"),
        ("workers = [1]", "a whole number of at least 1"),
        ('memory = "lots"', "a size such as 512MB or 2GiB"),
        ("memory = -1", "a size such as 512MB or 2GiB"),
        ("memory = inf", "a size such as 512MB or 2GiB"),
        ('timeout = "soon"', "a time such as 30s"),
        ("timeout = nan", "a time such as 30s"),
        ("retries = -1", "a whole number of at least 0"),
        ('durable = "maybe"', "true or false"),
        ("durable = 1", "true or false"),
        ("compute = 3", "an address"),
        ('storage = " "', "an address"),
    ],
)
def test_a_value_that_does_not_fit_says_what_does(here: Path, line: str, expected: str) -> None:
    (here / "fanfold.toml").write_text(line)
    name = line.partition(" ")[0]

    with pytest.raises(ConfigError, match=rf"^fanfold\.toml: {name} = .*: expected {expected}"):
        load_config()


def test_a_malformed_address_in_a_setting_names_the_setting(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_COMPUTE", "process?start")

    with pytest.raises(ConfigError, match="^FANFOLD_COMPUTE: compute: options of address 'process' are malformed"):
        load_config()


def test_a_file_with_a_byte_order_mark_is_read(here: Path) -> None:
    (here / "fanfold.toml").write_bytes(b"\xef\xbb\xbfworkers = 3\n")

    assert load_config().workers == 3


def test_malformed_toml_is_named_with_its_line(here: Path) -> None:
    (here / "fanfold.toml").write_text("workers = \n")

    with pytest.raises(ConfigError, match=r"^configuration file fanfold\.toml is not valid TOML: .*line 1"):
        load_config()


def test_a_file_that_is_not_text_is_named(here: Path) -> None:
    (here / "fanfold.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match=r"fanfold\.toml is not UTF-8"):
        load_config()


def test_a_retry_policy_is_kept_as_given(here: Path) -> None:
    policy = RetryPolicy(retries=7, retry_on=(OSError,))

    assert load_config(retries=policy).retries is policy


def test_misspelt_variables_are_reported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_WROKERS", "3")

    assert unknown_variables() == ["FANFOLD_WROKERS"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512MB", 512_000_000), ("2GiB", 2 << 30), ("1.5 kB", 1500), ("64kib", 65536), ("3B", 3), (7, 7)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "5iB", "-1", "1e3", "0", "1 XB", None, True])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="^$"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30", 30), ("30s", 30), ("5 m", 300), ("2h", 7200), ("1d", 86400), (1.5, 1.5)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5s", "0s", "5 years", float("inf"), False])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="^$"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("process", Address("process")),
        ("process?start=spawn", Address("process", "", {"start": "spawn"})),
        ("lambda://fn?region=eu-west-1&alias=", Address("lambda", "fn", {"region": "eu-west-1", "alias": ""})),
        ("file:///data/a@b:c@d", Address("file", "/data/a@b:c@d")),
        ("S3://bucket/Prefix?endpoint=http%3A%2F%2Fh%3A1", Address("s3", "bucket/Prefix", {"endpoint": "http://h:1"})),
        ("memory://", Address("memory")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not an address"),
        ("/tmp/x", "is not an address"),
        ("://x", "is not an address"),
        ("dask://?a=b", "names no place"),
        ("process?start", "malformed"),
        ("process?a=1&a=2", "twice"),
    ],
)
def test_what_is_no_address(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_address(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="carries a password") as caught:
        parse_address("s3://key:hunter2@bucket/x")

    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert address.scheme == address.scheme.lower() != ""


def test_state_and_storage_are_named_but_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_STATE_DIR", str(tmp_path / "state"))

    assert state_dir() == tmp_path / "state"
    assert default_storage() == f"file://{tmp_path}/state/storage"
    assert not (tmp_path / "state").exists()
