"""Archives as storage, and what is said where a store's package is missing."""

import os
import subprocess
import sys
import zipfile

import pytest

pytest.importorskip("fsspec", reason="needs fsspec: pip install '.[fsspec]'")

from core import Chunks, FunctionExecutor
from core.errors import AccessDenied, ConfigError, InputError, NotFound, ObjectChanged
from core.storage.address import split_address
from core.storage.base import open_storage


@pytest.fixture
def archive(tmp_path):
    return pack(
        tmp_path / "tables.zip", {"b.csv": "n\n3\n", "a.csv": "n\n1\n2\n", "deep/c.csv": "n\n4\n", "x.txt": "n"}
    )


def pack(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return f"zip://{path}"


def total(obj):
    return sum(int(line) for line in list(obj.lines())[1:])


def test_members_are_listed_in_order_and_read_by_range(archive):
    storage = open_storage(archive)

    assert [(info.key, info.size) for info in storage.list()] == [
        ("a.csv", 6),
        ("b.csv", 4),
        ("deep/c.csv", 4),
        ("x.txt", 1),
    ]
    assert [info.key for info in open_storage(f"{archive}/deep").list()] == ["c.csv"]
    assert storage.get("a.csv", 2, 4) == b"1\n"
    assert storage.get("a.csv", etag=storage.head("a.csv").etag) == b"n\n1\n2\n"


def test_a_map_runs_over_members_and_chunks_of_them(archive):
    with FunctionExecutor(workers=2) as executor:
        assert executor.map(total, f"{archive}/*.csv").results(60) == [3, 3]
        assert executor.map(total, f"{archive}/deep/").results(60) == [4]
        assert executor.map(total, f"{archive}/a.csv", chunks=Chunks(bytes=2, header_lines=1)).results(60) == [0, 1, 2]


def test_an_archive_that_is_packed_again_is_read_anew(archive):
    storage = open_storage(archive)
    before = storage.head("a.csv").etag
    path = archive.removeprefix("zip://")
    written = os.stat(path).st_mtime_ns

    pack(path, {"a.csv": "n\n7\n8\n"})
    os.utime(path, ns=(written + 1, written + 1))

    assert storage.get("a.csv") == b"n\n7\n8\n"
    with pytest.raises(ObjectChanged, match="a.csv"):
        storage.get("a.csv", etag=before)


def test_archives_are_read_only(archive):
    storage = open_storage(archive)

    with pytest.raises(AccessDenied, match="archives are read only"):
        storage.put("key", b"")
    with pytest.raises(AccessDenied, match="archives are read only"):
        storage.delete(["a.csv"])
    with FunctionExecutor(storage=archive, durable=True, workers=1) as executor, pytest.raises(AccessDenied):
        executor.map(total, [1])


def test_what_is_no_archive_is_told(tmp_path, archive):
    (tmp_path / "bad.zip").write_bytes(b"PK no")

    with pytest.raises(NotFound, match="no archive .*none.zip"):
        open_storage(f"zip://{tmp_path}/none.zip").get("a")
    with pytest.raises(InputError, match="bad.zip cannot be read"):
        list(open_storage(f"zip://{tmp_path}/bad.zip").list())
    with pytest.raises(NotFound, match="no object 'deep'"):
        open_storage(archive).head("deep")
    for address in ("zip://relative/a.zip", "zip:///etc/hosts"):
        with pytest.raises(ConfigError, match="names no archive"):
            open_storage(address)


def test_an_address_is_split_at_its_archive():
    assert split_address("zip:///data/a.zip/year=2019/*.csv") == ("zip:///data/a.zip", "year=2019/*.csv")
    assert split_address("zip:///data/A.ZIP") == ("zip:///data/A.ZIP", "")
    assert split_address("zip:///b.zip.old/a.zip/") == ("zip:///b.zip.old/a.zip", "")


@pytest.mark.parametrize(("address", "package"), [("gs://bucket", "gcsfs"), ("az://container", "adlfs")])
def test_a_missing_package_is_named(address, package):
    script = f"""
import sys
sys.modules[{package!r}] = None
from core import open_storage
try:
    open_storage({address!r})
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    scheme = address.partition("//")[0]
    assert said == f"MissingExtra {scheme}// needs {package}: pip install 'fanfold[fsspec]' {package}\n"
