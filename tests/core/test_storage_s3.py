"""The S3 driver's parts that need no server: addresses, order of listings, parts of uploads, import."""

import subprocess
import sys
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import open_storage
from core.errors import ConfigError, InputError
from core.storage import s3_upload
from core.storage.address import bucket_of, split_address
from core.storage.s3_client import Service, parse
from core.storage.s3_listing import Page, listed, walked
from core.types import MiB, ObjectInfo

SECRET = "sEcReT-0123456789"


@pytest.mark.parametrize(
    ("address", "service", "bucket", "prefix", "canonical"),
    [
        ("s3://data", Service("s3"), "data", "", "s3://data"),
        ("s3://data/", Service("s3"), "data", "", "s3://data"),
        ("s3://data/a/b/", Service("s3"), "data", "a/b/", "s3://data/a/b"),
        (
            "cos://data/a?region=eu-de&path_style=false",
            Service("cos", region="eu-de", path_style=False),
            "data",
            "a/",
            "cos://data/a?path_style=false&region=eu-de",
        ),
        (
            "s3://data?profile=p&endpoint=http://127.0.0.1:8333&anonymous=true",
            Service("s3", "http://127.0.0.1:8333", "p", anonymous=True),
            "data",
            "",
            "s3://data?anonymous=true&endpoint=http://127.0.0.1:8333&profile=p",
        ),
    ],
)
def test_addresses_say_which_service_bucket_and_prefix(address, service, bucket, prefix, canonical):
    assert parse(address) == (service, bucket, prefix, canonical)
    assert parse(canonical) == parse(address)
    assert open_storage(address).address == canonical


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3:///key",
        "s3://no bucket",
        "s3://data?colour=red",
        "s3://data?region=",
        "s3://data?region=a&region=b",
        "s3://data?anonymous=perhaps",
        "s3://data?endpoint=ftp://host",
        "s3://data?endpoint=host:8333",
    ],
)
def test_addresses_that_cannot_work_are_refused(address):
    with pytest.raises(ConfigError, match=r"bucket|option|endpoint"):
        open_storage(address)


@pytest.mark.parametrize(
    "address",
    [
        f"s3://key:{SECRET}@data/prefix",
        f"s3://data?secret_key={SECRET}",
        f"s3://data?region=eu&{SECRET}",
        f"s3://data?endpoint=http://key:{SECRET}@host",
        f"cos://data/a?apikey={SECRET}",
        f"cos://data/a?region=eu-de&access_key={SECRET}",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address):
    for use in (open_storage, lambda text: open_storage(split_address(text)[0])):
        with pytest.raises(ConfigError) as caught:
            use(address)
        assert SECRET not in str(caught.value)


def test_options_are_split_from_patterns_at_the_end_of_an_address():
    root = "s3://data?endpoint=http://127.0.0.1:8333&region=eu"

    assert split_address("s3://data/a?/[xy]?.csv?endpoint=http://127.0.0.1:8333&region=eu") == (root, "a?/[xy]?.csv")
    assert split_address("s3://data/what?.csv") == ("s3://data", "what?.csv")
    assert bucket_of(root) == "data"
    with pytest.raises(ConfigError, match="secret"):
        split_address(f"s3://data/a.csv?session_token={SECRET}")


def test_a_storage_shows_and_pickles_its_address_alone():
    import pickle

    storage = pickle.loads(pickle.dumps(open_storage("s3://data/a?region=eu")))

    assert storage.address == "s3://data/a?region=eu"


def test_keys_are_checked_before_anything_is_asked():
    storage = open_storage("s3://data?endpoint=http://127.0.0.1:9")

    with pytest.raises(InputError):
        storage.put("../key", b"")
    assert storage.requests == 0


def test_boto3_is_loaded_with_the_first_request_and_not_before():
    code = (
        "import sys, core; s = core.open_storage('s3://data/prefix'); s.address;"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


segments = st.sampled_from(["a", "a-", "a.b", "a!", "a0", "b", "A", "é", "a b", "000", "000.1"])
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)


def plain(names):
    """Return names of which none is a folder of another, as directories have them."""
    return {name for name in names if not any(other.startswith(f"{name}/") for other in names)}


def server(names, size, by_directory):
    """Return a listing function of a server that keeps `names`, with `size` entries a page."""

    def page_of(prefix, start_after, folders, token):
        found = {}
        for name in (name for name in names if name.startswith(prefix)):
            rest = name[len(prefix) :]
            if folders and "/" in rest:
                found[prefix + rest[: rest.index("/") + 1]] = None
            else:
                found[name] = ObjectInfo(name, 1, "")
        order = (lambda key: [*key.removesuffix("/").split("/")]) if by_directory else (lambda key: key)
        ordered = sorted(found, key=order)
        after = token if token is not None else start_after
        if after:
            ordered = ordered[bisect_right([order(key) for key in ordered], order(after)) :]
        page = ordered[:size]
        return Page(
            [found[key] for key in page if found[key]],
            [key for key in page if not found[key]],
            page[-1] if len(ordered) > size else None,
        )

    return page_of


@settings(max_examples=300)
@given(names=st.sets(paths, max_size=20).map(plain), prefix=st.just("") | paths, after=st.just("") | paths)
def test_a_server_that_lists_by_directory_is_put_in_the_order_of_keys(names, prefix, after):
    page_of = server(names, 3, by_directory=True)
    after = after if after >= prefix else ""

    found = [info.key for info in walked(page_of, prefix, after, True)]
    level = [info.key for info in walked(page_of, prefix, after, False)]

    expected = sorted(name for name in names if name.startswith(prefix) and name > after)
    assert found == expected
    assert level == [name for name in expected if "/" not in name[len(prefix) :]]


@given(names=st.sets(paths, max_size=20), size=st.integers(1, 4))
def test_a_listing_goes_on_over_all_pages(names, size):
    page_of = server(names, size, by_directory=False)

    found = [info.key for info in listed(page_of, page_of("", "", False, None), "", "", True)]

    assert found == sorted(names)


def test_a_listing_by_directory_asks_for_a_page_when_it_is_needed():
    asked = []
    page_of = server({f"k{number:02d}" for number in range(30)}, 10, by_directory=True)

    def counting(*args):
        asked.append(args)
        return page_of(*args)

    listing = walked(counting, "", "", True)

    assert next(listing).key == "k00"
    assert len(asked) == 1
    assert len(list(listing)) == 29
    assert len(asked) == 3


@given(sizes=st.lists(st.integers(0, 40), max_size=30), part=st.integers(1, 16))
def test_parts_have_the_size_of_their_number_and_hold_every_byte(sizes, part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_upload, "SMALLEST_PART", part)
        patch.setattr(s3_upload, "LARGEST_PART", 4 * part)
        patch.setattr(s3_upload, "DOUBLED_AFTER", 3)
        pieces = [bytes([number]) * size for number, size in enumerate(sizes)]

        parts = list(s3_upload.cut(iter(pieces)))

    assert b"".join(parts) == b"".join(pieces)
    assert all(len(each) == min(part << (number // 3), 4 * part) for number, each in enumerate(parts[:-1]))
    assert all(parts[1:])


def test_ten_thousand_parts_hold_more_than_a_quarter_of_a_terabyte():
    sizes = (
        min(s3_upload.SMALLEST_PART << (number // s3_upload.DOUBLED_AFTER), s3_upload.LARGEST_PART)
        for number in range(10_000)
    )

    assert sum(sizes) > (MiB << 18)
