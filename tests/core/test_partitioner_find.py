"""Which objects an address means."""

import itertools
import os
import re
from pathlib import Path

import pytest

from core.data.partition import find_objects
from core.errors import ConfigError, InputError
from core.storage.address import bucket_of, compile_pattern, join_address, split_address
from core.storage.base import open_storage

numbers = itertools.count()
KEYS = ["a.csv", "b.csv", "b.txt", "sub/c.csv", "sub/deep/d.csv", "sub/deep/x/e.csv", "sub2/c.csv", "year=2019/f.csv"]


@pytest.fixture(params=["file", "memory"])
def address(request, tmp_path):
    address = {"file": f"file://{tmp_path}/data", "memory": f"memory://find-{next(numbers)}"}[request.param]
    storage = open_storage(address)
    for key in KEYS:
        storage.put(key, key.encode())
    return address


def found(addresses, below=""):
    """Keys below the folder `below`, whichever storage's root they were found from."""
    return [f"{storage.address}/{info.key}".removeprefix(f"{below}/") for storage, info in find_objects(addresses)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.csv", ["a.csv"]),
        ("", KEYS),
        ("sub", ["sub/c.csv", "sub/deep/d.csv", "sub/deep/x/e.csv"]),
        ("sub/", ["sub/c.csv", "sub/deep/d.csv", "sub/deep/x/e.csv"]),
        ("year=2019/", ["year=2019/f.csv"]),
        ("year=*/", ["year=2019/f.csv"]),
        ("*.csv", ["a.csv", "b.csv"]),
        ("b.*", ["b.csv", "b.txt"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("[!a].csv", ["b.csv"]),
        ("*/*.csv", ["sub/c.csv", "sub2/c.csv", "year=2019/f.csv"]),
        ("sub/**/*.csv", ["sub/c.csv", "sub/deep/d.csv", "sub/deep/x/e.csv"]),
        ("sub/**", ["sub/c.csv", "sub/deep/d.csv", "sub/deep/x/e.csv"]),
        ("**/c.csv", ["sub/c.csv", "sub2/c.csv"]),
        ("s*/c.csv", ["sub/c.csv", "sub2/c.csv"]),
    ],
)
def test_an_address_means_an_object_a_folder_or_a_pattern(address, pattern, expected):
    assert found(f"{address}/{pattern}", address) == expected


@pytest.mark.parametrize("pattern", ["missing", "missing/", "*.parquet", "su", "a.csv/", "a.csv/x", "**/q"])
def test_an_address_that_means_nothing_is_an_error_that_names_it(address, pattern):
    with pytest.raises(InputError, match=re.escape(f"no object found at '{address}/{pattern}'")):
        found(f"{address}/{pattern}")


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no folder with objects"):
        found(tmp_path)


def test_addresses_mix_urls_paths_and_storages_and_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x.csv", "y.csv"):
        Path(name).write_bytes(b"1")
    memory = f"memory://find-{next(numbers)}"
    open_storage(memory).put("m/z.csv", b"1")

    mixed = found([Path("y.csv"), f"{memory}/m/", "*.csv", tmp_path / "x.csv"])

    here = f"file://{tmp_path}"
    assert mixed == [f"{here}/y.csv", f"{memory}/m/z.csv", f"{here}/x.csv", f"{here}/y.csv", f"{here}/x.csv"]


def test_one_missing_address_among_many_is_an_error_after_the_others_were_given(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    objects = find_objects([tmp_path / "x", tmp_path / "y"])

    assert next(objects)[1].key == "x"
    with pytest.raises(InputError, match=r"y'"):
        next(objects)


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path):
    (tmp_path / "a[1].csv").write_bytes(b"")
    (tmp_path / "a1.csv").write_bytes(b"")

    assert found(tmp_path / "a[1].csv", f"file://{tmp_path}") == ["a[1].csv"]


def test_a_pattern_in_the_last_segment_reads_no_folder_below(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.csv").write_bytes(b"")
    scandir, seen = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(os.path.basename(path.rstrip("/"))) or scandir(path))

    assert len(list(find_objects(tmp_path / "*.csv"))) == 1
    assert "sub" not in seen


def test_home_and_relative_paths_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    assert split_address("~/data/x.csv") == (f"file://{tmp_path}/data", "x.csv")
    assert split_address("data/../other/*.csv") == (f"file://{tmp_path}/other", "*.csv")
    assert split_address(".") == (f"file://{tmp_path}", "")
    assert split_address("./data/") == (f"file://{tmp_path}/data", "")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("file:///data/year=2019/*.csv", ("file:///data", "year=2019/*.csv")),
        ("file:///data/year=2019/month=1/", ("file:///data", "year=2019/month=1/")),
        ("file:///data/x/y.csv", ("file:///data/x", "y.csv")),
        ("file:///data/**/y.csv", ("file:///data", "**/y.csv")),
        ("file:///y.csv", ("file:///", "y.csv")),
        ("/data/x/", ("file:///data/x", "")),
        ("memory://name/prefix/*.csv", ("memory://name", "prefix/*.csv")),
        ("memory://name", ("memory://name", "")),
        ("s3://bucket/a/b/", ("s3://bucket", "a/b/")),
        ("cos://bucket/a//b", ("cos://bucket", "a//b")),
        ("https://host:8080/a/b?c=d", ("https://host:8080", "a/b?c=d")),
    ],
)
def test_an_address_splits_into_storage_and_pattern(address, expected):
    assert split_address(address) == expected


@pytest.mark.parametrize(
    ("address", "error"), [("", InputError), ("file://relative/x", ConfigError), ("s3:///key", ConfigError)]
)
def test_an_address_without_place_is_refused(address, error):
    with pytest.raises(error):
        split_address(address)


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no storage driver for gopher://.*file://.*memory://"):
        found("gopher://hole/x")


@pytest.mark.parametrize(
    ("address", "bucket"),
    [("file:///data/x", "/data/x"), ("file:///", "/"), ("memory://name/prefix", "name"), ("s3://bucket", "bucket")],
)
def test_bucket_is_what_users_call_the_place(address, bucket):
    assert bucket_of(address) == bucket


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*", ["a", "a.b"], [".a", "a/b", ""]),
        (".*", [".a"], ["a"]),
        ("a**", ["abc"], ["a/b"]),
        ("**", ["a", "a/b", ".a"], [""]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("[a-c]", ["a", "b"], ["d", "-"]),
        ("[!a-c]", ["d"], ["a", "/"]),
        ("[]]", ["]"], ["[", "x"]),
        ("[^a]", ["^", "a"], ["b"]),
        (r"[\d]", ["\\", "d"], ["1"]),
        ("[z", ["[z"], ["z"]),
        ("[a||b&&c~~]", ["|", "&", "~", "a"], ["d"]),
        ("a+b(c)$", ["a+b(c)$"], ["aab(c)"]),
        ("a\n?", ["a\nb"], ["a\n"]),
    ],
)
def test_patterns_match_as_in_a_shell(pattern, matching, other):
    match = compile_pattern(pattern).fullmatch

    assert [text for text in [*matching, *other] if match(text)] == matching


def test_a_reversed_range_in_a_pattern_is_refused():
    with pytest.raises(InputError, match=r"'\[z-a\]' is no pattern"):
        compile_pattern("[z-a]")


@pytest.mark.parametrize(
    "address", ["file:///data/x.csv", "memory://name/a/b", "s3://bucket/a/b.csv?endpoint=http://127.0.0.1:1"]
)
def test_an_address_that_was_split_is_joined_again(address):
    assert join_address(*split_address(address)) == address


def test_a_folder_of_an_address_with_options_is_found_without_a_slash_at_its_end(s3_server):
    address = f"s3://fanfold/find-options/sub?endpoint={s3_server.endpoint}"
    open_storage(address).put("deep/x.csv", b"1")

    assert [info.key for _, info in find_objects(address)] == ["find-options/sub/deep/x.csv"]
    with pytest.raises(InputError, match="no object found"):
        found(address.replace("sub", "missing"))
