"""What those who write to the storage, sit on the network or give input cannot do; docs/threat-model.md names these."""

from __future__ import annotations

import base64
import csv
import http.client
import io
import json
import os
import pickle
import re
import socket
import stat
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import FunctionExecutor, serialization
from core.errors import IntegrityError, MemoryLimitExceeded
from core.task import keys, messages
from core.task.protocol import Invocation
from core.worker.agent import Agent
from tests.servers.http import TOKEN, HttpWorker

ASKED = Invocation(0, "job", b"", "", [0], 0)


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Return the path of what an `Evil` leaves behind."""
    return tmp_path / "unpickled"


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent("agent")
    try:
        yield agent
    finally:
        agent.close()


# Who writes to the storage of jobs


def spilled(place: str, folder: Path, key: bytes) -> bytes:
    return messages.encode({"kind": "spilled", "address": f"file://{folder}", "place": place, "key": key.hex()})


@pytest.mark.parametrize("signed_for", [None, "job/j/m/another"])
def test_a_message_that_somebody_replaced_in_storage_is_not_opened(
    signed_for: str | None, agent: Agent, tmp_path: Path, trace: Path
) -> None:
    place, key = keys.message("j", "nonce"), os.urandom(32)
    evil = messages.encode({"kind": "run"}, [pickle.dumps(Evil(trace))])
    path = tmp_path / "store" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(evil if signed_for is None else serialization.sign(key, signed_for, evil))

    reply = messages.read_reply(agent.answer(spilled(place, tmp_path / "store", key)), ASKED)

    assert reply.failure.kind == "IntegrityError"  # type: ignore[union-attr]
    assert not trace.exists()


def test_a_forged_word_of_a_loss_ends_no_task_and_is_never_unpickled(
    tmp_path: Path, trace: Path, lambda_async_site: dict[str, Any]
) -> None:
    store = tmp_path / "store"
    go = tmp_path / "go"

    def wait(item: int, go: str = str(go)) -> int:
        import time

        while not os.path.exists(go):
            time.sleep(0.01)
        return item

    with FunctionExecutor(lambda_async_site["compute"], f"file://{store}", workers=1) as executor:
        futures = executor.map(wait, [1], batch_size=1)
        forged = store / keys.loss(futures.job_id, 0, None, 0)
        forged.parent.mkdir(parents=True, exist_ok=True)
        forged.write_bytes(pickle.dumps(Evil(trace)))
        go.touch()

        error = futures[0].exception(60)

    assert error is None or isinstance(error, IntegrityError)  # as the forgery or the result is seen first
    assert not trace.exists()


def test_files_of_keys_are_for_their_owner_alone_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANFOLD_STATE_DIR", str(tmp_path / "state"))
    before = os.umask(0)
    try:
        with FunctionExecutor("serial", f"file://{tmp_path}/store", durable=True) as executor:
            executor.map(abs, [-1]).results()
            files = [path for path in (tmp_path / "state" / "jobs").rglob("*") if path.is_file()]
            modes = {stat.S_IMODE(path.stat().st_mode) for path in files}
            folder = stat.S_IMODE((tmp_path / "state" / "jobs").stat().st_mode)
    finally:
        os.umask(before)

    assert files
    assert (modes, folder) == ({0o600}, 0o700)


# Who sits on the network


@pytest.fixture(scope="module")
def worker() -> Iterator[HttpWorker]:
    worker = HttpWorker(slots=1)
    worker.start()
    yield worker
    worker.stop()


@pytest.mark.parametrize("path", ["/", "/run", "/init", "/health"])
def test_a_pickle_from_whoever_has_no_token_is_never_opened(path: str, worker: HttpWorker, trace: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=20)
    evil = messages.encode({"kind": "run", "has_call": True}, [pickle.dumps(Evil(trace))])

    connection.request("POST", path, evil, {"Authorization": f"Bearer {TOKEN}x"})

    assert connection.getresponse().status == 401
    assert not trace.exists()


def test_a_body_without_a_length_is_refused_and_the_worker_goes_on(worker: HttpWorker) -> None:
    head = f"POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as endless:
        endless.sendall(head.encode())

        assert endless.recv(100).startswith(b"HTTP/1.1 411 ")
    assert is_healthy(worker)


def test_a_caller_that_says_nothing_more_keeps_no_worker(worker: HttpWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", TOKEN)
    head = f"POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\nhalf"
    with socket.create_connection(("127.0.0.1", worker.port)) as silent:
        silent.sendall(head.encode())

        with FunctionExecutor(worker.url, workers=1) as executor:
            assert executor.call_async(abs, -1).result(60) == 1


def is_healthy(worker: HttpWorker) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=20)
    connection.request("GET", "/health")
    return connection.getresponse().status == 200


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"\x02\x00\x00\x00{}",
        (4).to_bytes(4, "little") + b"null",
        (200_000).to_bytes(4, "little") + b"[" * 200_000,
        messages.encode({"kind": "spilled"}),
        messages.encode({"kind": "run", "versions": []}),
    ],
)
def test_bytes_that_are_no_request_are_refused_in_a_sentence_and_the_agent_goes_on(
    message: bytes, agent: Agent
) -> None:
    for _ in range(2):
        reply = messages.read_reply(agent.answer(message), ASKED)

        assert (type(reply).__name__, reply.reason) == ("BatchLost", "unavailable")  # type: ignore[union-attr]


# Who gives input


def test_a_line_without_end_costs_its_own_task_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with open(path, "wb") as file:
        file.write(b"1\n" * 100)
        file.write(b"9" * (300 << 20))
        file.write(b"\n" + b"1\n" * 100)

    def lines(obj: Any) -> int:
        return sum(1 for _ in obj.lines())

    with FunctionExecutor(workers=1, memory="200MB", retries=0) as executor:
        futures = executor.map(lines, str(path), chunk_bytes=100 << 20)
        found = [future.exception(120) or future.result() for future in futures]

    assert sum(isinstance(each, MemoryLimitExceeded) for each in found) == 1
    assert sum(each for each in found if isinstance(each, int)) == 100


def archive(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def photograph() -> bytes:
    pytest.importorskip("dlib", reason="needs dlib: pip install '.[faces]'")
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV: pip install '.[faces]'")
    from apps.face_align import demo

    return bytes(cv2.imencode(".png", demo.portrait())[1])


def statuses(destination: Path) -> dict[str, str]:
    rows = csv.DictReader(io.StringIO((destination / "manifest.csv").read_text("utf-8")))
    return {row["key"]: row["status"] for row in rows}


def test_names_in_an_archive_lead_to_no_file_outside_the_destination(photograph: bytes, tmp_path: Path) -> None:
    from apps.face_align import align

    inside = tmp_path / "results" / "crops"
    names = ["../up.png", "a/../../over.png", f"{tmp_path}/absolute.png", "a//double.png", "..\\dos.png", "well.png"]
    source = archive(tmp_path / "faces.zip", dict.fromkeys(names, photograph))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}

    with FunctionExecutor("serial") as executor:
        align(source, inside, executor=executor)

    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(inside) for path in written)
    found = statuses(inside)
    assert found["well.png"] == "ok"
    assert {found[name] for name in names[:4]} == {"write_error"}


def test_a_member_that_unpacks_without_end_is_told_and_not_held_in_memory(
    photograph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.face_align import dataset
    from apps.face_align.science.headers import BadImage
    from core import open_storage

    monkeypatch.setattr(dataset, "MAX_BYTES", 2_000_000)
    path = archive(tmp_path / "bomb.zip", {"bomb.png": bytes(200_000_000)}, zipfile.ZIP_DEFLATED)
    (item,) = dataset.find(str(path)).items
    storage = open_storage(str(tmp_path))
    tracemalloc.start()
    try:
        with pytest.raises(BadImage, match="unpacked, are more than") as caught:
            dataset.read(item, storage)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.status == "too_large"
    assert peak < 10_000_000


def test_a_format_that_only_the_decoder_knows_is_not_unpacked(photograph: bytes) -> None:
    from apps.face_align.science.headers import BadImage
    from apps.face_align.science.images import decode

    width, height = 64, 8  # Radiance RGBE; run-length coded, 40 MB of it can stand for 3 GB of pixels
    row = bytes([2, 2, 0, width]) + 4 * bytes([128 + width, 1])
    content = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + row * height

    with pytest.raises(BadImage, match="known format") as caught:
        decode(content)

    assert caught.value.status == "decode_error"


def test_an_image_named_like_a_file_of_the_run_harms_neither_it_nor_the_next(photograph: bytes, tmp_path: Path) -> None:
    from apps.face_align import align

    names = [".run/stages/align/a.png", ".run/lease/a.png", ".run/new/a.png", "report-files/a.png"]
    source = archive(tmp_path / "faces.zip", dict.fromkeys([*names, "b.png"], photograph))
    with FunctionExecutor("serial") as executor:
        align(source, tmp_path / "crops", executor=executor)
        align(source, tmp_path / "crops", executor=executor)

    assert statuses(tmp_path / "crops") == dict.fromkeys(names, "write_error") | {"b.png": "ok"}
    assert not list((tmp_path / "crops" / ".run").rglob("*.png"))


def test_a_name_is_text_and_no_markup_in_the_report(photograph: bytes, tmp_path: Path) -> None:
    from apps.face_align import align

    name = "<img src=x onerror=alert(1)>.png"
    source = archive(tmp_path / "faces.zip", {name: b"no image", "b.png": photograph})
    with FunctionExecutor("serial") as executor:
        align(source, tmp_path / "crops", executor=executor)

    page = (tmp_path / "crops" / "report.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


# What is written down


def test_no_token_or_key_is_in_events_logs_or_errors(
    worker: HttpWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", TOKEN)
    monkeypatch.setenv("FANFOLD_LOG", str(tmp_path / "events.jsonl"))
    monkeypatch.setenv("FANFOLD_STATE_DIR", str(tmp_path / "state"))
    said = io.StringIO()
    caplog.set_level(0)
    with FunctionExecutor(worker.url, f"file://{tmp_path}/store", workers=1, durable=True, retries=0) as executor:
        futures = executor.map(lambda x: 1 / x, [0, 1], batch_size=1)
        said.write(repr(futures[0].exception(60)) + str(futures[0].exception()))
        key = json.loads(next((tmp_path / "state" / "jobs").iterdir()).read_text())["key"]
        stored = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())

    written = caplog.text + said.getvalue() + (tmp_path / "events.jsonl").read_text()
    secrets = (TOKEN, key, base64.b64encode(bytes.fromhex(key)).decode())
    assert [secret for secret in secrets if secret in written] == []
    assert bytes.fromhex(key) not in stored
    assert TOKEN.encode() not in stored


def test_every_test_that_the_page_names_is_there() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "threat-model.md").read_text("utf-8")
    file, named, absent = "", 0, []
    for match in re.finditer(r"`([\w/]+\.py|threats)?(?:::(test_\w+))?`", page):
        file = {"threats": "integration/test_threats.py"}.get(match[1], match[1]) or file
        if match[1] or match[2]:
            named += 1
            if f"def {match[2] or 'test_'}" not in (root / "tests" / file).read_text("utf-8"):
                absent.append(match[0])

    assert named > 40
    assert absent == []
