"""Requests that go past boto3 are those that boto3 makes."""

import datetime
import io
from types import SimpleNamespace

import pytest

from core import open_storage
from core.storage.s3_route import route_of

pytest.importorskip("boto3", reason="needs boto3: pip install '.[s3]'")

NOW = datetime.datetime(2026, 11, 23, 23, 59, 58, tzinfo=datetime.UTC)
KEYS = ("key", "a b/c+d~e", "ü/\U0001f4c8", "a//b", "q?x=1&y=2#z", "%41%2f", "';,:@!$()*=[]", "a\\b", "-._~/.a")
STYLES = {
    "path": "s3://data?endpoint=http://127.0.0.1:9",
    "path over TLS": "s3://data?endpoint=https://Store.example:443&region=eu-de",
    "virtual": "s3://data?region=eu-west-1",
    "virtual in the first region": "s3://data?region=us-east-1",
    "virtual at an endpoint": "s3://data?endpoint=http://store.example:8080&path_style=false",
    "dots in the name": "s3://da.ta?region=eu-west-1",
    "endpoint with a path": "s3://data?endpoint=http://store.example/s3",
    "anonymous": "s3://data?region=eu-west-1&anonymous=true",
}
REQUESTS = {
    "GET": {},
    "GET of a part": {"Range": "bytes=3-9", "IfMatch": '"0123"'},
    "HEAD": {},
    "PUT": {"Body": b"content", "ChecksumCRC32": "qgd2Tg=="},
    "PUT of nothing": {"Body": b"", "ChecksumCRC32": "AAAAAA=="},
    "PUT if absent": {"Body": b"1", "ChecksumCRC32": "g9oX", "IfNoneMatch": "*", "Metadata": {"fanfold-put": "ab12"}},
}

UNSIGNED_HEADERS = ("user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "content-length")


@pytest.fixture(params=["", "session-token/+="], ids=["key pair", "session token"])
def identity(request, monkeypatch):
    """Credentials whose client no other test has, and a clock that stands still."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    if request.param:
        monkeypatch.setenv("AWS_SESSION_TOKEN", request.param)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: NOW)
    from core.storage import s3_client

    s3_client.connection.cache_clear()
    yield SimpleNamespace(access_key="AKIDEXAMPLE", secret_key="wJalrXUtnFEMI/K7MDENG", token=request.param or None)
    s3_client.connection.cache_clear()


class Raw(io.BytesIO):
    """What boto3 reads answers from."""

    def stream(self, *_):
        return iter(())


@pytest.mark.parametrize("style", STYLES)
def test_requests_are_byte_by_byte_those_that_boto3_signs(identity, style):
    from botocore.awsrequest import AWSResponse

    storage, sent = open_storage(STYLES[style]), []

    def answer(request, **_):
        sent.append(request)
        return AWSResponse(request.url, 200, {}, Raw())

    client = storage.client
    client.meta.events.register("before-send.s3", answer)
    credentials = None if style == "anonymous" else identity
    for kind, given in REQUESTS.items():
        method, options = kind.partition(" ")[0], {"Bucket": storage.bucket, **given}
        if (storage.bucket, method) not in storage.direct._routes:
            getattr(storage.direct, f"{method.lower()}_object")(Key="first", **options)
        route = storage.direct._routes[storage.bucket, method]
        for key in KEYS:
            getattr(client, f"{method.lower()}_object")(Key=key, **options)

            path, headers = route.request(method, {**options, "Key": key}, credentials, NOW.timestamp())

            place = sent[-1].url.partition("://")[2]
            assert headers.pop("host") == place[: place.index("/")].lower().removesuffix(":443")
            assert path == place[place.index("/") :]
            theirs = {name.lower(): text(value) for name, value in sent[-1].headers.items()}
            assert headers.pop("user-agent").startswith("fanfold Boto3/")
            assert headers == {name: value for name, value in theirs.items() if name not in UNSIGNED_HEADERS}


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def noted(url="http://store.example/data/key", version="s3v4", **signing):
    context = {"client_region": "eu-de", "signing": signing, "checksum": None}
    return route_of("key", url, {}, context, version)


def test_a_bucket_is_signed_for_in_the_region_that_boto3_found():
    assert noted().region == "eu-de"
    assert noted(region="eu-west-1").region == "eu-west-1"


@pytest.mark.parametrize(
    "unusual",
    [
        {"version": "s3"},
        {"version": "s3v4a"},
        {"version": "v4-s3express"},
        {"signing_name": "s3-outposts"},
        {"url": "http://store.example/data/key?versionId=1"},
        {"url": "http://store.example/data/other"},
        {"url": "http://name:word@store.example/data/key"},
    ],
)
def test_what_is_signed_or_addressed_in_another_way_is_left_to_boto3(unusual):
    assert noted() is not None
    assert noted(**unusual) is None


def test_where_there_is_a_proxy_all_is_left_to_boto3(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert noted() is None

    monkeypatch.setenv("no_proxy", "store.example")
    assert noted() is not None
