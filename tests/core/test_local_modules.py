"""Which modules are the user's own."""

import importlib
import sys

import pytest

from core.serialization.modules import is_local


@pytest.fixture
def imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write_and_import(path, name):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
        return importlib.import_module(name)

    yield write_and_import
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def installed(tmp_path):
    folder = tmp_path / "vendored_science-1.0.dist-info"
    folder.mkdir()
    folder.joinpath("RECORD").write_text(
        "vendored_science/__init__.py,sha256=x,0\nvendored_one.py,sha256=x,0\nvendored_science-1.0.dist-info/RECORD,,\n"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("vendored_science/__init__.py", "vendored_science"),
        ("vendored_science/deep/inner.py", "vendored_science.deep.inner"),
        ("vendored_one.py", "vendored_one"),
    ],
)
def test_what_an_installer_has_put_into_a_folder_of_its_own_is_not(imported, installed, path, name):
    assert not is_local(imported(path, name))


@pytest.mark.parametrize(("path", "name"), [("own_beside.py", "own_beside"), ("own_pack/sub.py", "own_pack.sub")])
def test_what_stands_beside_it_is(imported, installed, path, name):
    assert is_local(imported(path, name))
