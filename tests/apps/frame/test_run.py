from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apps._frame.manifest import MANIFEST, read_manifest, status
from apps._frame.params import check_fields, setting, whole
from apps._frame.run import Run, new_run_path
from core import ConfigError, FanfoldError, open_storage
from core.errors import StorageUnavailable
from core.storage import Storage, owner

RESULTS = ("table.csv", "pictures/", "result.json")
numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    days: int = setting(5, whole(1), "a whole number of at least 1", "days", "N")
    rounds: int = setting(1, whole(1), "a whole number of at least 1", "rounds", "N", identity=False)

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.fixture(params=["folder", "memory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "runs" / "x")
    if request.param == "bucket":
        request.getfixturevalue("s3_server")
    return f"{'memory://' if request.param == 'memory' else 's3://fanfold/'}runs-{next(numbers)}/x"


def begin(place: str | Path, days: int = 5, app: str = "apps.x", **options: Any) -> Run:
    rounds = options.pop("rounds", 1)
    return Run(place, app, Params(days=days, rounds=rounds), **{"results": RESULTS, **options})


def finish(place: str | Path, content: bytes = b"1", **options: Any) -> None:
    with begin(place, **options) as run:
        run.publish({"table.csv": content, "pictures/a.png": [content], "result.json": b'{"days": 5}'})


def break_off(place: str | Path, *work: Callable[[Run], object], **options: Any) -> Run:
    """Do some work of a run that then fails."""
    run = begin(place, **options)
    with suppress(RuntimeError), run:
        for step in work:
            step(run)
        raise RuntimeError
    return run


def keys(place: str | Path) -> list[str]:
    return [info.key for info in open_storage(str(place)).list()]


def commit(run: Run) -> None:
    run.storage.put(".run/stages/count/0.out", b"1")


def test_a_finished_run_holds_its_results_and_its_manifest_alone(place: str) -> None:
    finish(place)

    assert keys(place) == ["manifest.json", "pictures/a.png", "result.json", "table.csv"]
    manifest = read_manifest(place)
    assert (manifest["app"], manifest["command"], manifest["params"]) == ("apps.x", "run", {"days": 5, "rounds": 1})
    assert {"fanfold", "python"} <= manifest["versions"].keys()


def test_a_finished_run_is_known_as_such_when_it_is_opened_again(place: str) -> None:
    finish(place)

    with begin(place) as run:
        assert (run.resumed, run.finished, run.figures()) == (True, True, {"days": 5})


def test_a_run_that_failed_before_anything_was_done_leaves_nothing(place: str, tmp_path: Path) -> None:
    run = break_off(place, lambda run: run.claim(["crops/a.png"]))

    assert keys(place) == []
    assert list(tmp_path.iterdir()) == []
    assert not run.kept


def test_a_run_that_failed_with_an_object_of_its_own_in_place_knows_it_again(place: str) -> None:
    run = break_off(place, lambda run: run.claim(["crops/a.png"]), lambda run: run.storage.put("crops/a.png", b"crop"))

    assert run.kept
    with begin(place) as again:
        again.claim(["crops/a.png"])
        assert again.owned() >= {"crops/a.png", "manifest.json"}


def test_a_run_whose_workers_may_still_write_keeps_its_claims(place: str) -> None:
    run = break_off(place, lambda run: run.claim(["crops/a.png"]), lambda run: run.keep_alive())
    run.storage.put("crops/a.png", b"late")

    assert run.kept
    with begin(place) as again:
        again.claim(["crops/a.png"])


def test_a_run_whose_input_is_refused_after_a_long_look_leaves_nothing(place: str, tmp_path: Path) -> None:
    run = break_off(place, lambda run: run.claim(["crops/a.png"]), lambda run: run.keep_alive(working=False))

    assert (keys(place), list(tmp_path.iterdir()), run.kept) == ([], [], False)


def test_nothing_is_owned_where_no_run_was(place: str) -> None:
    open_storage(place).put("crops/a.png", b"mine")

    with begin(place) as run:
        assert "crops/a.png" not in run.owned()


def test_a_failed_run_removes_no_folder_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()

    break_off(tmp_path / "kept" / "new" / "run")

    assert list((tmp_path / "kept").iterdir()) == []


def test_a_run_whose_storage_went_away_counts_as_kept(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> Any:
        raise StorageUnavailable("does not answer")

    run = break_off(place, lambda run: monkeypatch.setattr(run.storage, "list", away))

    assert run.kept


def test_a_second_ctrl_c_while_a_run_ends_does_not_say_that_nothing_is_kept(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run = begin(place)
    with suppress(KeyboardInterrupt), run:
        run.keep_alive()
        monkeypatch.setattr(run._renewal, "join", interrupted)
        raise KeyboardInterrupt

    assert run.kept


def test_a_run_that_failed_later_keeps_what_is_committed(place: str) -> None:
    run = break_off(place, commit)

    assert run.kept
    assert keys(place) == [".run/stages/count/0.out", "manifest.json"]
    with begin(place) as again:
        assert (again.resumed, again.finished) == (True, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"days": 6}, "^--days 6: run .* was begun with 5; choose another --output, or add --overwrite to start anew$"),
        ({"app": "apps.y"}, "holds a run of apps.x, not of apps.y; choose another --output"),
        ({"command": "option"}, "holds a run of run, not of option; choose another --output"),
        ({"inputs": {"a.csv": "2", "b.csv": "1"}}, "^input a.csv has changed since run .* was begun"),
        ({"inputs": {"a.csv": "1"}}, "^input b.csv is gone since run .* was begun"),
        ({"inputs": {"a.csv": "1", "b.csv": "1", "c.csv": "1"}}, "^input c.csv is new since run .* was begun"),
        ({"inputs": {f"{n}.csv": "1" for n in range(1001)}}, r"^input \(one of many\) is new since run"),
    ],
)
def test_a_run_that_was_begun_otherwise_is_refused_by_name(place: str, options: dict[str, Any], message: str) -> None:
    finish(place, inputs={"a.csv": "1", "b.csv": "1"})
    before = keys(place)

    with pytest.raises(ConfigError, match=message), begin(place, **options):
        pass

    assert keys(place) == before


def test_of_very_many_inputs_the_manifest_is_small_and_a_change_is_seen(place: str) -> None:
    inputs = {f"{number}.csv": "1" for number in range(5000)}
    finish(place, inputs=inputs)

    assert len(open_storage(place).get(MANIFEST)) < 2000
    with begin(place, inputs=inputs) as run:
        assert run.finished
    with pytest.raises(ConfigError, match=r"^input \(one of many\) has changed"):
        begin(place, inputs={**inputs, "7.csv": "2"}).__enter__()


def test_a_setting_that_decides_nothing_may_differ(place: str) -> None:
    finish(place)

    with begin(place, rounds=9) as run:
        assert run.finished


@pytest.mark.parametrize("name", ["table.csv", "pictures/mine.png", "result.json", "manifest.json"])
def test_a_foreign_file_is_named_and_nothing_written(place: str, name: str) -> None:
    open_storage(place).put(name, b"mine")

    shown = "pictures/" if name.startswith("pictures/") else name
    with pytest.raises(ConfigError, match=rf" has {shown}, which no run of apps\.x wrote and which this one would"):
        begin(place).__enter__()

    assert keys(place) == [name]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff", b"[" * 10_000, b'{"fanfold_run": 1}', b'{"fanfold_run": 1, "app": 3}']
)
def test_a_file_that_is_no_manifest_is_a_foreign_file(place: str, content: bytes) -> None:
    open_storage(place).put(MANIFEST, content)

    with pytest.raises(ConfigError, match=r"has manifest\.json, which no run of apps\.x wrote"):
        begin(place).__enter__()
    with pytest.raises(ConfigError, match="there is no run in "):
        read_manifest(place)


def test_a_file_that_appears_while_a_run_begins_is_not_replaced(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Run._take

    def take_and_be_overtaken(run: Run) -> None:
        take(run)
        run.storage.put(MANIFEST, b"mine")

    monkeypatch.setattr(Run, "_take", take_and_be_overtaken)

    with pytest.raises(ConfigError, match=r"has manifest\.json, which no run"):
        begin(place).__enter__()

    assert open_storage(place).get(MANIFEST) == b"mine"
    assert keys(place) == [MANIFEST]


def test_what_is_foreign_is_replaced_on_demand_and_the_rest_left(place: str) -> None:
    storage = open_storage(place)
    for name in ("table.csv", "manifest.json", "notes.txt"):
        storage.put(name, b"mine")

    finish(place, overwrite=True)

    assert storage.get("notes.txt") == b"mine"
    assert storage.get("table.csv") == b"1"


def test_a_run_started_anew_is_not_finished_until_it_is(place: str) -> None:
    finish(place)

    break_off(place, days=6, overwrite=True)

    assert status(place).state == "interrupted"
    assert open_storage(place).get("table.csv") == b"1"
    finish(place, b"2", days=6)
    assert open_storage(place).get("table.csv") == b"2"


def test_results_of_an_earlier_run_that_this_one_has_not_are_removed(place: str) -> None:
    finish(place)

    with begin(place, overwrite=True, results=("other.csv", "result.json")) as run:
        run.publish({"other.csv": b"2", "result.json": b"{}"})

    assert keys(place) == ["manifest.json", "other.csv", "result.json"]


def test_what_is_published_twice_has_no_picture_of_the_first_time(place: str) -> None:
    with begin(place) as run:
        run.publish({"pictures/old.png": b"1"})
        run.publish({"pictures/new.png": b"1", "result.json": b"{}"})

    assert keys(place) == ["manifest.json", "pictures/new.png", "result.json"]


def test_a_name_that_was_not_announced_is_an_error_of_the_application(place: str) -> None:
    with pytest.raises(ValueError, match=r"more\.csv is not among the results"), begin(place) as run:
        run.publish({"more.csv": b"1"})


@pytest.mark.parametrize("keep", [False, True])
def test_outputs_of_stages_go_with_the_last_result_unless_they_are_kept(place: str, keep: bool) -> None:
    with begin(place, keep_stages=keep) as run:
        commit(run)
        run.publish({"table.csv": b"1"})
        assert ".run/stages/count/0.out" in keys(place)
        run.publish({"result.json": b"{}"})

    assert (".run/stages/count/0.out" in keys(place)) == keep


def test_what_a_driver_killed_at_the_very_end_left_is_removed_by_the_next(place: str) -> None:
    finish(place)
    storage = open_storage(place)
    for key in (".run/stages/count/0.out", ".run/notes/ranges.json"):
        storage.put(key, b"1")

    with begin(place) as run:
        assert run.finished

    assert [key for key in keys(place) if key.startswith(".run/")] == []


def test_what_was_noted_when_the_run_was_begun_is_found_by_who_goes_on(place: str) -> None:
    break_off(place, lambda run: run.remembered("ranges", [[0, 5]]), commit)

    with begin(place) as run:
        assert run.remembered("ranges", [[0, 2], [2, 3]]) == [[0, 5]]


def test_a_driver_may_plan_for_longer_than_it_may_be_silent_later(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(owner, "time", SimpleNamespace(time=lambda: now))
    states = []
    with begin(place) as run:
        for pause in (200.0, 50.0, 65.0):
            now += pause
            states.append(status(place).state)
            run.check("1/2 count")

    assert states == ["running", "running", "interrupted"]


def test_objects_beside_the_results_are_claimed_and_known_again(place: str) -> None:
    crops = [f"crops/{number}.png" for number in range(50)]
    break_off(place, lambda run: run.claim(crops[:40]), lambda run: run.storage.put(crops[7], b"crop"), commit)

    with begin(place) as run:
        run.claim(crops)


def test_of_many_results_a_foreign_one_below_a_folder_is_found(place: str) -> None:
    open_storage(place).put("pictures/mine.png", b"mine")

    with pytest.raises(ConfigError, match="has pictures/, which no run"):
        begin(place, results=[*(f"{number}.csv" for number in range(20)), "pictures/", "result.json"]).__enter__()


def test_what_another_application_claimed_is_not_taken_for_ones_own(place: str) -> None:
    break_off(place, lambda run: run.claim(["crops/1.png"]), commit, app="apps.y")
    open_storage(place).put("crops/1.png", b"theirs")
    finish(place, overwrite=True)

    with pytest.raises(ConfigError, match=r"has crops/1\.png, which no run of apps\.x wrote"), begin(place) as run:
        run.claim(["crops/1.png"])


@pytest.mark.parametrize("count", [3, 40], ids=["looked for", "listed"])
def test_a_claim_on_a_foreign_object_names_it(place: str, count: int) -> None:
    open_storage(place).put("crops/1.png", b"mine")
    open_storage(place).put("crops/2.png", b"mine")

    with (
        pytest.raises(ConfigError, match=r"has crops/1\.png and 1 more, which no run of apps\.x wrote"),
        begin(place) as run,
    ):
        run.claim(f"crops/{number}.png" for number in range(count))

    assert keys(place) == ["crops/1.png", "crops/2.png"]


@pytest.mark.parametrize("content", [b"", b"3", b"[3, null]", b"{"])
def test_a_claim_that_nobody_can_have_written_claims_nothing(place: str, content: bytes) -> None:
    break_off(place, lambda run: run.claim(["crops/1.png"]), commit)
    storage = open_storage(place)
    storage.put(".run/claims/forged.json", content)
    storage.put("crops/2.png", b"mine")

    with pytest.raises(ConfigError, match=r"has crops/2\.png, which no run"), begin(place) as run:
        run.claim(["crops/1.png", "crops/2.png"])


@pytest.mark.parametrize("name", ["../up.png", "a//b.png", "/abs.png"])
def test_a_name_that_no_object_can_have_is_nobodys(tmp_path: Path, name: str) -> None:
    with begin(tmp_path / "run") as run:
        run.claim([name])


def test_who_comes_second_waits_until_the_first_has_ended(place: str) -> None:
    told, entered = threading.Event(), threading.Event()
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        told.set()

    def second() -> None:
        with begin(place, say=say) as run:
            assert run.finished
            entered.set()

    with begin(place) as run:
        run.check("1/2 count: 3 of 7")
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(60)
        assert not entered.is_set()
        run.publish({"result.json": b"{}"})
    thread.join()

    assert entered.is_set()
    assert len(said) == 1
    assert f"process {os.getpid()} on " in said[0]
    assert "now at 1/2 count: 3 of 7; waiting for it" in said[0]


def taken_over(place: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a run that takes over from whoever drives it, as if that were dead."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, "owner_lives", lambda name: False)
        return begin(place).__enter__()


def test_who_was_taken_for_dead_is_told_and_writes_no_result(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with begin(place) as sleeper:
        heir = taken_over(place, monkeypatch)

        with pytest.raises(FanfoldError, match="was taken over by process"):
            sleeper.publish({"result.json": b"{}"})

        assert "result.json" not in keys(place)
        heir.publish({"result.json": b"{}"})
        heir.__exit__(None, None, None)


def test_a_run_that_another_process_begins_at_the_same_moment_is_gone_on_with(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, begun = Run._there, []

    def overtaken(run: Run, names: Any) -> list[str]:
        if not begun:
            begun.append(True)
            break_off(place, commit)
        return there(run, names)

    monkeypatch.setattr(Run, "_there", overtaken)

    with begin(place) as run:
        assert run.resumed


def test_a_manifest_that_a_driver_with_another_clock_wrote_meanwhile_is_gone_on_with(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Run._write_manifest, []

    def overtaken(run: Run, **options: Any) -> None:
        if not written:
            written.append(True)
            write(run)
        write(run, **options)

    monkeypatch.setattr(Run, "_write_manifest", overtaken)

    with begin(place) as run:
        assert run.resumed


def test_who_takes_over_while_the_first_publishes_publishes_undisturbed(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(place) as sleeper:
        heir = taken_over(place, monkeypatch)
        monkeypatch.setattr(sleeper, "check", lambda note="": None)  # it had looked just before

        def meanwhile() -> Any:
            yield b"1"
            sleeper.publish({"pictures/a.png": b"1", "table.csv": b"11", "result.json": b'{"days": 5}'})
            yield b"1"

        heir.publish({"pictures/a.png": b"1", "table.csv": meanwhile(), "result.json": b'{"days": 5}'})
        heir.__exit__(None, None, None)

    assert keys(place) == ["manifest.json", "pictures/a.png", "result.json", "table.csv"]
    assert open_storage(place).get("table.csv") == b"11"


def test_who_was_taken_for_dead_while_it_publishes_is_told_or_done(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile() -> Any:
        yield b"1"
        heir = taken_over(place, monkeypatch)
        heir.publish({"table.csv": b"11", "result.json": b'{"days": 5}'})
        heir.__exit__(None, None, None)
        yield b"1"

    said = ""
    with begin(place) as sleeper:
        try:
            sleeper.publish({"pictures/a.png": b"1", "table.csv": meanwhile(), "result.json": b'{"days": 5}'})
        except FanfoldError as error:
            said = str(error)

    assert "was taken over" in said or not said
    assert {"manifest.json", "result.json", "table.csv"} <= set(keys(place)) <= {MANIFEST, "pictures/a.png", *RESULTS}
    assert open_storage(place).get("table.csv") == b"11"


def test_what_was_just_published_is_known_while_another_driver_replaces_it(place: str) -> None:
    with begin(place) as run:
        run.publish({"result.json": b'{"days": 5}'})
        run.storage.delete(["result.json"])

        assert run.figures() == {"days": 5}


def test_who_fails_after_it_was_taken_for_dead_leaves_the_run_of_the_other(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(KeyError), begin(place):
        heir = taken_over(place, monkeypatch)
        raise KeyError

    assert MANIFEST in keys(place)
    heir.publish({"result.json": b"{}"})
    heir.__exit__(None, None, None)


AT_ONCE = """
import multiprocessing, sys, time
from tests.apps.frame.test_run import finish

def drive(place, barrier, said, offset):
    sound = time.time
    time.time = lambda: sound() + offset
    for number in range(40):
        barrier.wait()
        try:
            finish(f"{place}/{number}")
        except Exception as error:
            said.put(str(error))
    said.put("")

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    barrier, said = fork.Barrier(2), fork.SimpleQueue()
    for offset in (0, 7200):
        fork.Process(target=drive, args=(sys.argv[1], barrier, said, offset)).start()
    ended = 0
    while ended < 2:
        if sentence := said.get():
            print(sentence)
        else:
            ended += 1
"""


def test_processes_whose_clocks_are_hours_apart_and_that_begin_at_once_make_one_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert all("was taken over" in sentence for sentence in done.stdout.splitlines()), done.stdout
    finished = [name for number in range(40) for name in ("table.csv", "pictures/a.png", "result.json")
                if (tmp_path / str(number) / name).is_file()]  # fmt: skip
    assert len(finished) == 3 * 40


def test_the_lease_is_renewed_while_a_stage_runs(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps._frame.run.RENEWAL", 0.01)

    with begin(place) as run:
        run.note = "1/2 count: 3 of 7"
        run.keep_alive()
        while status(place).note != run.note:
            threading.Event().wait(0.01)

    assert [key for key in keys(place) if "lease" in key] == []


FULL = """
import signal, sys
from tests.apps.frame.test_run import begin

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with begin(sys.argv[1]) as run:
    run.storage.put(".run/stages/count/0.out", b"1")
    run.publish({"table.csv": b"1", "pictures/a.png": [b"x" * 90_000, b"x" * 90_000], "result.json": b"{}"})
"""


def test_a_disk_that_fills_up_leaves_no_result_and_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", FULL, str(tmp_path / "run")]
    done = subprocess.run(command, preexec_fn=limit, env=environment, capture_output=True, text=True)

    assert "the results were not written: cannot " in done.stderr
    assert "File too large" in done.stderr
    assert keys(tmp_path / "run") == [".run/stages/count/0.out", "manifest.json"]
    finish(tmp_path / "run")


def test_an_earlier_result_stays_when_its_successor_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path)

    def broken() -> Any:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(FanfoldError, match="No space left"), begin(tmp_path) as run:
        run.publish({"table.csv": b"2", "result.json": broken()})

    assert (tmp_path / "table.csv").read_bytes() == b"1"
    assert (tmp_path / "result.json").read_bytes() == b'{"days": 5}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "pictures", "result.json", "table.csv"]


def test_a_file_in_the_way_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"/file.*; or choose another place with --output$"):
        begin(tmp_path / "file" / "run").__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(ConfigError, match=r"[Pp]ermission denied.*; or choose another place with --output$"):
        begin(tmp_path / "run").__enter__()


class Careless:
    """A storage that writes over an object although it was asked not to."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.address, self.shared = "s3://careless/run", True

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> Any:
        return self._storage.put(key, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def test_a_storage_that_does_not_keep_what_was_first_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    careless = Careless(open_storage("memory://careless"))
    monkeypatch.setattr("apps._frame.run.open_storage", lambda address: careless)

    with pytest.raises(ConfigError, match="cannot hold durable jobs or runs: it writes over an object"):
        begin("s3://careless/run").__enter__()


def test_folders_of_runs_differ() -> None:
    assert Path(new_run_path("runs")).parent == Path("runs")
    assert len({new_run_path("runs") for _ in range(20)}) > 15


def test_a_run_that_goes_on_with_other_releases_says_so(place: str) -> None:
    said: list[str] = []
    break_off(place, commit, versions={"numpy": "2.0"})

    with begin(place, versions={"numpy": "2.1"}, say=said.append):
        pass

    assert len(said) == 1
    assert "was begun with numpy 2.0 and goes on with 2.1; what was committed stays" in said[0]


def test_a_finished_run_that_is_extended_with_other_releases_says_so(place: str) -> None:
    said: list[str] = []
    finish(place, versions={"numpy": "2.0"})

    with begin(place, versions={"numpy": "2.1"}, say=said.append) as run:
        assert said == []
        run.reopen()

    assert len(said) == 1
    assert "was begun with numpy 2.0 and goes on with 2.1; what was committed stays" in said[0]


def test_a_manifest_that_was_cut_is_named_before_what_was_done_is_discarded(place: str) -> None:
    break_off(place, commit)
    storage = open_storage(place)
    cut = storage.get(MANIFEST)[:100]
    storage.put(MANIFEST, cut)

    with pytest.raises(ConfigError, match=r"manifest\.json is damaged: restore it, for --overwrite discards"):
        begin(place).__enter__()
    with pytest.raises(ConfigError, match=r"there is no run in .*: its manifest\.json is damaged, or none of a run"):
        read_manifest(place)
    assert storage.get(MANIFEST) == cut


def test_a_manifest_says_what_a_resumed_run_needs(place: str) -> None:
    finish(place, inputs={"a.csv": "1"}, versions={"numpy": "2.0"})

    manifest = json.loads(open_storage(place).get(MANIFEST))
    assert manifest["inputs"] == {"a.csv": "1"}
    assert manifest["versions"]["numpy"] == "2.0"
    assert len(manifest["params_hash"]) == 16
