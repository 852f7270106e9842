from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.face_align.dataset import find, natural, read
from apps.face_align.science.headers import BadImage
from core import InputError, open_storage

FILES = {"b.jpg": b"two", "a/c.PNG": b"three", "a.jpg": b"one " * 1000}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def read_all(source: str | Path) -> dict[str, bytes]:
    return {item.name: read(item, open_storage(item.root)) for item in find(str(source)).items}


def test_a_folder_gives_its_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, FILES | {"notes.txt": b"", "a/list.csv": b""})

    found = find(str(tmp_path))

    assert [item.name for item in found.items] == ["a.jpg", "a/c.PNG", "b.jpg"]
    assert found.left_out == {"other files": 2}
    assert read_all(f"{tmp_path}/") == FILES


def test_results_below_a_source_are_not_its_images(tmp_path: Path) -> None:
    write(tmp_path, FILES | {"faces/a.jpg": b"crop", "faces-of-mine/d.jpg": b"four"})

    found = find(str(tmp_path), f"file://{tmp_path}/faces")

    assert [item.name for item in found.items] == ["a.jpg", "a/c.PNG", "b.jpg", "faces-of-mine/d.jpg"]


def test_results_in_the_source_are_counted(tmp_path: Path) -> None:
    write(tmp_path, FILES | {"faces/a.jpg": b"crop", "faces/deep/b.jpg": b"crop"})

    found = find(str(tmp_path), f"file://{tmp_path}/faces")

    assert found.left_out == {"files of the output, which lies inside the source": 2}


@pytest.mark.parametrize("output", ["{0}", "{0}/"])
def test_an_output_that_is_the_source_is_refused(output: str, tmp_path: Path) -> None:
    write(tmp_path, FILES)

    with pytest.raises(InputError, match="the output is the source itself"):
        find(str(tmp_path), output.format(tmp_path))


def test_an_output_that_holds_the_source_leaves_it_whole(tmp_path: Path) -> None:
    write(tmp_path / "photographs", FILES)

    assert len(find(str(tmp_path / "photographs"), f"file://{tmp_path}").items) == len(FILES)


def test_an_output_is_found_in_the_source_behind_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real", FILES | {"faces/a.jpg": b"crop"})
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert len(find(str(tmp_path / "link"), f"file://{tmp_path}/real/faces").items) == len(FILES)


LEFT_OUT = {
    "._a.jpg": "AppleDouble files",
    "__MACOSX/a.jpg": "AppleDouble files",
    "__MACOSX/sub/._a.jpg": "AppleDouble files",
    "photo": "files without extension",
    "sub/IMG_1": "files without extension",
    ".DS_Store": "other files",
    "notes.md": "other files",
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_no_image_is_counted_by_what_it_is(name: str, tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": b"one", name: b"x"})

    found = find(str(tmp_path))

    assert found.left_out == {LEFT_OUT[name]: 1}
    assert [item.name for item in found.items] == ["a.jpg"]


def test_what_macos_adds_to_an_archive_is_no_image(tmp_path: Path) -> None:
    found = find(str(write_zip(tmp_path / "x.zip", {"a.jpg": b"one", "__MACOSX/._a.jpg": b"fork"})))

    assert [item.name for item in found.items] == ["a.jpg"]
    assert found.left_out == {"AppleDouble files": 1}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.CR2", "develop it"), ("a.nef", "develop it"), ("a.dng", "develop it"), ("a.psd", "export it"),
        ("a.jxl", "export it"), ("a.svg", "export it"), ("a.tar.gz", "unpack it"), ("a.7z", "unpack it"),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_read_is_named_with_what_to_do(name: str, remedy: str, tmp_path: Path) -> None:
    write(tmp_path, {"z.jpg": b"one", name: b"x"})

    item = find(str(tmp_path)).items[0]

    assert (item.name, item.status) == (name, "unsupported")
    assert remedy in item.fault


def test_links_to_nothing_are_counted(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": b"one"})
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")

    assert find(str(tmp_path)).left_out == {"links to nothing": 1}


def test_names_sort_as_people_count(tmp_path: Path) -> None:
    names = ["face2.jpg", "face10.jpg", "face010.jpg", "a/9/x.jpg", "a/10/x.jpg", "9" * 200 + ".jpg"]
    write(tmp_path, dict.fromkeys(names, b"1"))

    found = [item.name for item in find(str(tmp_path)).items]

    assert found == ["9" * 200 + ".jpg", "a/9/x.jpg", "a/10/x.jpg", "face2.jpg", "face010.jpg", "face10.jpg"]


@given(st.lists(st.text(alphabet="aB0129./", max_size=12)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural), key=natural) == sorted(reversed(names), key=natural)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("photos", "there is no file or folder {0}/photos; did you mean {0}/photographs?"),
        ("nothing-like-it", "there is no file or folder {0}/nothing-like-it"),
        ("batsh.zip", "did you mean {0}/batch.zip?"),
        ("photographs/aa.jpg", "did you mean {0}/photographs/a.jpg?"),
        ("empty", "no image found at {0}/empty: the folder is empty"),
        ("script", "{0}/script is no image, archive or list of images by its extension"),
        ("others", "no image found at {0}/others, only 1 files without extension, 2 other files; give a folder"),
        ("raw", "no image found at {0}/raw: a.nef: a camera's raw file cannot be read"),
    ],
)
def test_a_source_that_leads_nowhere_says_why(given: str, sentence: str, tmp_path: Path) -> None:
    write(tmp_path / "photographs", {"a.jpg": b"one"})
    write_zip(tmp_path / "batch.zip", {"a.jpg": b"one"})
    write(tmp_path, {"script": b"", "others/x": b"", "others/y.md": b"", "others/z.md": b"", "raw/a.nef": b""})
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputError) as caught:
        find(str(tmp_path / given))

    assert sentence.format(tmp_path) in str(caught.value)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_gives_its_images(packing: int, tmp_path: Path) -> None:
    assert read_all(write_zip(tmp_path / "batch.zip", FILES | {"notes.md": b""}, packing)) == FILES


def test_a_tar_gives_its_images(tmp_path: Path) -> None:
    assert (
        read_all(write_tar(tmp_path / "batch.tar", {f"./{name}": content for name, content in FILES.items()})) == FILES
    )


def test_archives_in_a_folder_are_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "s-000.tar", {"x.jpg": b"1", "x.cls": b"0"})
    write_zip(tmp_path / "s-001.zip", {"x.jpg": b"2"})
    write(tmp_path, {"x.jpg": b"3"})

    assert read_all(tmp_path) == {"s-000/x.jpg": b"1", "s-001/x.jpg": b"2", "x.jpg": b"3"}


def test_shards_are_named_by_a_range(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"s-{number:03d}.tar", {"x.jpg": b"%d" % number})

    assert read_all(tmp_path / "s-{000..001}.tar") == {"s-000/x.jpg": b"0", "s-001/x.jpg": b"1"}


def test_a_missing_shard_is_one_fault_among_the_others(tmp_path: Path) -> None:
    write_tar(tmp_path / "s-0.tar", {"x.jpg": b"0"})

    items = find(str(tmp_path / "s-{0..1}.tar")).items

    assert [(item.name, bool(item.fault)) for item in items] == [("s-0/x.jpg", False), ("s-1.tar", True)]


def test_a_list_names_keys_beside_it_and_addresses(tmp_path: Path) -> None:
    write(tmp_path, {"in/a.jpg": b"one", "in/d/b.jpg": b"two", "else/c.jpg": b"three", "in/not-listed.jpg": b""})
    addresses = f"# mine\na.jpg\n\nd/b.jpg\nfile://{tmp_path}/else/c.jpg\n"
    write(tmp_path, {"in/keys.txt": addresses.encode()})

    found = read_all(tmp_path / "in/keys.txt")

    assert found == {"a.jpg": b"one", "d/b.jpg": b"two", f"{str(tmp_path)[1:]}/else/c.jpg": b"three"}


def test_a_listed_key_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": b"one", "keys.lst": b"a.jpg\nb.jpg\n"})

    items = find(str(tmp_path / "keys.lst")).items

    assert [bool(item.fault) for item in items] == [False, True]
    with pytest.raises(BadImage, match=r"no object 'b\.jpg'"):
        read(items[1], open_storage(items[1].root))


def test_one_image_is_a_source(tmp_path: Path) -> None:
    assert read_all(write(tmp_path, FILES) / "a/c.PNG") == {"c.PNG": b"three"}


def test_a_damaged_archive_among_others_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, {"bad.zip": b"PK nonsense", "bad.tar": b"nonsense" * 200, "a.jpg": b"one"})

    items = find(str(tmp_path)).items

    assert [(item.name, item.fault[:15]) for item in items] == [
        ("a.jpg", ""),
        ("bad.tar", "damaged archive"),
        ("bad.zip", "damaged archive"),
    ]


def test_a_tar_cut_off_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "batch.tar", {f"{number}.jpg": bytes(2000) for number in range(5)})
    path.write_bytes(path.read_bytes()[:6200])

    items = find(str(path)).items

    assert [item.name for item in items if not item.fault][:2] == ["0.jpg", "1.jpg"]
    assert [item.name for item in items if item.fault] == ["2.jpg", "batch.tar"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_told_by_its_checksum(packing: int, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "batch.zip", {"a.jpg": bytes(range(256)) * 20}, packing)
    item = find(str(path)).items[0]
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    storage = open_storage(str(tmp_path))
    storage.put("batch.zip", bytes(content))
    changed = find(str(path)).items[0]

    with pytest.raises(BadImage, match="damaged in its archive"):
        read(changed, storage)
    with pytest.raises(InputError, match="changed while the job was reading it"):
        read(item, storage)


def test_a_tag_changes_with_the_content_alone(tmp_path: Path) -> None:
    tags = []
    for content in (b"one", b"one", b"two"):
        tags.append(find(str(write_zip(tmp_path / f"{len(tags)}.zip", {"a.jpg": content}))).items[0].etag)

    assert tags[0] == tags[1] != tags[2]


@pytest.mark.parametrize("name", ["batch.tar.gz", "batch.tgz"])
def test_a_compressed_tar_is_refused_with_the_remedy(name: str, tmp_path: Path) -> None:
    write_tar(tmp_path / name, FILES, "w:gz")

    with pytest.raises(InputError, match="unpack it, or make it a .zip or .tar"):
        find(str(tmp_path / name))


@pytest.mark.parametrize("files", [{}, {"notes.txt.md": b"text"}])
def test_a_source_without_images_is_an_error(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image found at"):
        find(str(write(tmp_path, files)))


def test_a_damaged_archive_alone_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"bad.zip": b"nonsense"})

    with pytest.raises(InputError, match="damaged archive"):
        find(str(tmp_path / "bad.zip"))
