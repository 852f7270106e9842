"""Credentials that are renewed while a process runs are used after one refusal, without a restart."""

import os

import pytest

from core import FunctionExecutor, open_storage
from core.errors import AccessDenied

READER = ("fanfold-reader", "fanfold-reader-secret")


@pytest.fixture
def identities(s3_server, tmp_path, monkeypatch):
    """Let the profile ``renewed`` be that of anybody: in a file, or with ``by_variables`` in the environment."""
    owner = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    file = tmp_path / "credentials"

    def become(name):
        key, secret = {"owner": owner, "reader": READER, "stranger": (owner[0], "wrong")}[name]
        file.write_text(f"[renewed]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.with_name("config").write_text("[profile renewed]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file.with_name("config")))
    become("owner")
    open_storage("s3://readable/credentials").put("there", b"content")
    return become


@pytest.fixture(params=["file", "environment"])
def address(request, proxy):
    """Return an address whose service no other test has asked, with the proxy that counts its requests."""
    profile = "&profile=renewed" if request.param == "file" else ""
    return f"s3://readable/credentials?endpoint={proxy.endpoint}{profile}"


def test_renewed_credentials_are_used_after_one_refusal(identities, address, proxy):
    identities("reader")
    storage = open_storage(address)
    for _ in range(3):  # the first by boto3, the others without
        assert storage.get("there") == b"content"
    with pytest.raises(AccessDenied):
        storage.put("new", b"1")
    identities("owner")
    proxy.seen.clear()

    storage.put("new", b"1")
    assert storage.get("new") == b"1"
    storage.delete(["new"])

    assert [method for method, _ in proxy.seen] == ["PUT", "PUT", "GET", "POST"]


READS = [
    lambda storage: storage.get("there"),
    lambda storage: storage.head("there"),
    lambda storage: list(storage.list()),
    lambda storage: storage.get_stream("there").read(),
]


@pytest.mark.parametrize("use", [*READS, lambda storage: storage.put("big", iter([bytes(9 << 20), b"1"]))])
def test_every_kind_of_request_finds_them(identities, address, use):
    storage = open_storage(address)
    identities("stranger")
    with pytest.raises(AccessDenied):
        use(storage)
    identities("owner")

    use(storage)


@pytest.mark.parametrize("use", READS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_token_that_expires_after_many_requests_is_replaced(identities, address, proxy, use, method):
    storage = open_storage(address)
    for _ in range(3):
        use(storage)
    identities("reader")
    proxy.spoil_first("403", method)
    proxy.seen.clear()

    use(storage)

    assert len(proxy.seen) == 1 + len(proxy.spoiled)
    if proxy.spoiled:
        with pytest.raises(AccessDenied):  # by whom it was replaced
            storage.put("new", b"1")


def test_what_is_denied_for_good_is_asked_for_once(identities, address, proxy):
    identities("reader")
    storage = open_storage(address)
    proxy.seen.clear()

    with pytest.raises(AccessDenied):
        storage.put("new", b"1")

    assert len(proxy.seen) == 1


def test_credentials_that_come_after_the_first_request_are_found(s3_server, identities, address, monkeypatch):
    identities("owner")
    found = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    open(os.environ["AWS_SHARED_CREDENTIALS_FILE"], "w").close()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    storage = open_storage(address)
    with pytest.raises(AccessDenied, match="there are no credentials"):
        storage.get("there")

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", found[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", found[1])
    identities("owner")

    assert storage.get("there") == b"content"


def test_a_client_lent_to_a_function_is_renewed_after_the_function_was_refused(identities, address):
    from botocore.exceptions import ClientError

    identities("reader")
    storage = open_storage(address)
    with pytest.raises(ClientError, match="AccessDenied"):
        storage.lent_client().put_object(Bucket="readable", Key="credentials/new", Body=b"1")
    identities("owner")

    storage.lent_client().put_object(Bucket="readable", Key="credentials/new", Body=b"1")
    storage.delete(["new"])


def test_workers_of_a_running_executor_find_them(identities, proxy):
    place = f"s3://readable/jobs?endpoint={proxy.endpoint}&profile=renewed"

    def write(number, storage):
        storage.put(f"{number}", b"1")
        return number

    identities("reader")
    with FunctionExecutor("process", storage=place, workers=2) as executor:
        with pytest.raises(AccessDenied):
            executor.map(write, [1]).results(60)
        identities("owner")
        assert executor.map(write, range(8)).results(60) == list(range(8))
    storage = open_storage(place)
    storage.delete([info.key for info in storage.list()])
