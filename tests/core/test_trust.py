"""Files that others could have written, folders and links included, are not used."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from core import ConfigError, FunctionExecutor, InputError, shared_file
from core.trust import distrust, make_private, read_private

OTHER = 4242
"""A user that is neither this one nor root."""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("FANFOLD_STATE_DIR", str(folder))
    return folder


def given_away(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    os.lchown(path, OTHER, OTHER)


def test_what_only_this_user_can_write_is_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_private(folder)
    (folder / "file").write_bytes(b"x")

    assert distrust(folder / "file") is None
    assert distrust(tmp_path / "absent" / "file") is None
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
    finally:
        os.umask(before)

    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o702])
@pytest.mark.parametrize("which", ["", "a", "a/b", "a/b/file"])
def test_a_folder_or_file_that_others_can_write_is_not_trusted(tmp_path: Path, which: str, mode: int) -> None:
    root = tmp_path / "root"
    make_private(root / "a" / "b")
    (root / "a" / "b" / "file").write_bytes(b"x")
    (root / which).chmod(mode)

    assert distrust(root / "a" / "b" / "file") == f"others can write to {root / which}".rstrip("/")


def test_a_group_of_others_counts_as_others_and_one_s_own_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp
    import pwd

    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o770)
    user = pwd.getpwuid(os.getuid())

    def members(gid: int, name: str, others: list[str]) -> None:
        monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((name, "x", gid, others)))

    members(user.pw_gid, user.pw_name, [])
    assert distrust(folder) is None
    members(user.pw_gid, user.pw_name, ["somebody"])
    assert distrust(folder) == f"others can write to {folder}"
    members(user.pw_gid, "staff", [])
    assert distrust(folder) == f"others can write to {folder}"


def test_a_sticky_folder_is_trusted_for_what_is_this_user_s(tmp_path: Path) -> None:
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "mine").write_bytes(b"x")
    (sticky / "theirs").write_bytes(b"x")

    assert distrust(sticky / "mine") is None
    given_away(sticky / "theirs")
    assert distrust(sticky / "theirs") == f"{sticky / 'theirs'} belongs to another user"


def test_links_are_followed_and_what_they_lead_to_is_looked_at(tmp_path: Path) -> None:
    good, open_to_all = tmp_path / "good", tmp_path / "open"
    for folder in (good, open_to_all):
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
    (tmp_path / "to-good").symlink_to("good")
    (tmp_path / "to-open").symlink_to(open_to_all)
    (tmp_path / "up").symlink_to("good/../to-good")
    open_to_all.chmod(0o777)

    assert distrust(tmp_path / "to-good" / "file") is None
    assert distrust(tmp_path / "up" / "file") is None
    assert distrust(tmp_path / "to-open" / "file") == f"others can write to {open_to_all}"
    assert distrust(tmp_path / "to-good" / ".." / "open" / "file") == f"others can write to {open_to_all}"


def test_links_of_others_and_links_in_a_circle_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "good").mkdir()
    (tmp_path / "theirs").symlink_to("good")

    assert "leads nowhere" in str(distrust(tmp_path / "round"))
    given_away(tmp_path / "theirs")
    assert "belongs to somebody else" in str(distrust(tmp_path / "theirs"))


# Keys


def test_a_key_that_somebody_could_have_planted_is_refused(state: Path) -> None:
    make_private(state / "jobs")
    path = state / "jobs" / "20260101-120000-deadbeef.json"
    path.write_text(json.dumps({"storage": "file:///x", "key": "00" * 32}))
    path.chmod(0o600)
    state.chmod(0o777)

    with pytest.raises(ConfigError, match=f"is not trusted: others can write to {state}"):
        FunctionExecutor.attach("20260101-120000-deadbeef", compute="serial")


def test_a_key_is_a_file_that_nobody_else_may_read_and_no_link(state: Path, tmp_path: Path) -> None:
    make_private(state / "jobs")
    path = state / "jobs" / "20260101-120000-deadbeef.json"
    path.write_text(json.dumps({"storage": "file:///x", "key": "00" * 32}))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others have rights to"):
        FunctionExecutor.attach("20260101-120000-deadbeef", compute="serial")

    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot be read"):
        FunctionExecutor.attach("20260101-120000-deadbeef", compute="serial")


def test_no_key_is_left_where_others_can_write(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    state.chmod(0o777)

    with (
        FunctionExecutor("serial", f"file://{tmp_path}/store", durable=True) as executor,
        pytest.raises(ConfigError, match="set FANFOLD_STATE_DIR to a folder that is yours alone"),
    ):
        executor.map(abs, [1])

    assert not [path for path in state.rglob("*") if path.is_file()]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"storage": "file:///x"}', b'{"storage": 1, "key": "0"}', b'{"storage": "x", "key": "zz"}', b"\xff"],
)
def test_a_key_that_is_damaged_is_named(state: Path, content: bytes) -> None:
    make_private(state / "jobs")
    path = state / "jobs" / "20260101-120000-deadbeef.json"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(InputError, match="20260101-120000-deadbeef.json cannot be"):
        FunctionExecutor.attach("20260101-120000-deadbeef", compute="serial")


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "a/b", "", "\0", "\x1b[2J", "x" * 5000])
def test_a_name_that_no_job_has_leads_to_no_file(state: Path, job_id: str) -> None:
    with pytest.raises(InputError, match="no job") as caught:
        FunctionExecutor.attach(job_id, compute="serial")

    assert str(caught.value).isprintable()


def test_a_pipe_in_place_of_a_key_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    with pytest.raises(ConfigError, match="no file of this user"):
        read_private(tmp_path / "pipe", 100)


# Shared files


@pytest.mark.parametrize("planted", ["file", "link", "folder"])
def test_a_shared_file_that_somebody_could_have_planted_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    monkeypatch.setenv("FANFOLD_CACHE_DIR", str(cache))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    make_private(tmp_path / "temporary")
    make_private(cache / "app")
    elsewhere.write_bytes(b"planted")
    elsewhere.chmod(0o666)
    path = cache / "app" / "model"
    if planted == "link":
        path.symlink_to(elsewhere)
    else:
        path.write_bytes(b"planted")
        (path if planted == "file" else path.parent).chmod(0o777)

    made = shared_file("app/model", lambda file: file.write(b"true"))

    assert made.read_bytes() == b"true"
    assert made.is_relative_to(tmp_path / "temporary") == (planted == "folder")
    assert elsewhere.read_bytes() == b"planted"
