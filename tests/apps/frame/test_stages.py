from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from apps._frame.run import Run
from apps._frame.stages import Stage, Stages, TaskOutput, outputs_left
from apps._frame.stored import BYTES, INLINE, Stored, commit, find_inputs
from core import FunctionExecutor, InputError, TaskError, open_storage
from tests.apps.frame.test_run import Params, begin

LARGE = INLINE + 1
numbers = itertools.count()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with begin(tmp_path / "run") as opened:
        yield opened


@pytest.fixture(scope="module")
def executor() -> Iterator[FunctionExecutor]:
    with FunctionExecutor("process?start=fork", workers=2) as started:
        yield started


@pytest.fixture
def serial() -> Iterator[FunctionExecutor]:
    with FunctionExecutor("serial") as started:
        yield started


def note(folder: Path, name: object) -> None:
    """Leave a mark that a task was run."""
    (folder / f"{name}-{os.getpid()}-{next(numbers)}").touch()


def marks(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def squares(folder: Path) -> Callable[[int], int]:
    def square(x: int) -> int:
        note(folder, x)
        return x * x

    return square


def test_outputs_are_in_the_order_of_the_tasks(run: Run, executor: FunctionExecutor) -> None:
    outputs = Stages(run, executor, ["square"]).run(Stage("square", [3, 1, 2], lambda x: {"is": x * x}))

    assert list(outputs.values()) == [{"is": 9}, {"is": 1}, {"is": 4}]
    assert [output.is_output for output in outputs] == [True] * 3


def test_a_task_that_is_committed_is_not_run_again(run: Run, executor: FunctionExecutor, marked: Path) -> None:
    fn = squares(marked)
    Stages(run, executor, ["square"]).run(Stage("square", [1, 2, 3], fn, version="1"))

    outputs = Stages(run, executor, ["square"]).run(Stage("square", [2, 3, 4, 1], fn, version="1"))

    assert list(outputs.values()) == [4, 9, 16, 1]
    assert marks(marked) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "other",
    [{"version": "2"}, {"params": Params(days=6)}, {"name": "square2"}],
    ids=["code", "parameters", "stage"],
)
def test_another_version_parameter_or_stage_is_another_output(
    run: Run, serial: FunctionExecutor, marked: Path, other: dict[str, Any]
) -> None:
    fn, names = squares(marked), ["square", "square2"]
    stage = {"name": "square", "tasks": [1], "fn": fn, "params": Params(), "version": "1"}
    Stages(run, serial, names).run(Stage(**stage))

    Stages(run, serial, names).run(Stage(**{**stage, **other}))

    assert marks(marked) == ["1", "1"]


def test_a_parameter_that_decides_nothing_changes_no_output(run: Run, serial: FunctionExecutor, marked: Path) -> None:
    for rounds in (1, 2):
        stage = Stage("square", [1], squares(marked), params=Params(rounds=rounds), version="1")
        Stages(run, serial, ["square"]).run(stage)

    assert marks(marked) == ["1"]


def test_parameters_reach_the_function_that_asks_for_them(run: Run, executor: FunctionExecutor) -> None:
    def times(x: int, params: Params) -> int:
        return x * params.days

    assert list(Stages(run, executor, ["t"]).run(Stage("t", [2], times, Params(days=7))).values()) == [14]


def test_a_large_output_goes_from_the_worker_to_storage_alone(run: Run, executor: FunctionExecutor) -> None:
    stage = Stage("large", [1, 2], lambda x: bytes([x]) * LARGE, codec=BYTES)

    outputs = Stages(run, executor, ["large"]).run(stage)
    rows = executor.stats().query("function == 'large'")
    again = Stages(run, executor, ["large"]).run(stage)

    assert [(output.size, output.data) for output in outputs] == [(LARGE, None)] * 2
    assert rows["bytes_out"].sum() > 2 * LARGE  # the worker's own, and next to nothing to the driver
    assert rows["bytes_out"].sum() < 2.1 * LARGE
    assert rows["requests"].sum() == 2 * 2
    assert list(again) == list(outputs)
    assert list(again.values()) == [b"\1" * LARGE, b"\2" * LARGE]


def test_outputs_are_items_of_the_next_stage_and_known_by_their_content(
    run: Run, executor: FunctionExecutor, marked: Path
) -> None:
    @dataclass(frozen=True)
    class Sum:
        parts: tuple[Stored, ...]

    def add(task: Sum) -> int:
        note(marked, "add")
        return sum(int(part.read()) for part in task.parts)

    stages = Stages(run, executor, ["parts", "add"])
    for version in "12":  # of the first stage, whose outputs stay the same
        parts = stages.run(Stage("parts", [1, 2], lambda x: x, version=version))
        total = stages.run(Stage("add", [Sum(tuple(parts))], add, version="1"))

    assert list(total.values()) == [3]
    assert marks(marked) == ["add"]


def test_the_first_failure_is_raised_and_what_was_done_is_kept(
    run: Run, executor: FunctionExecutor, marked: Path
) -> None:
    def work(x: int, params: bool) -> int:
        note(marked, x)
        if x == 2 and not (marked / "mended").exists():
            raise ValueError("two")
        return x

    stage = Stage("work", [1, 2, 3], work, params=True, version="1", options={"batch_size": 1})
    with pytest.raises(ValueError, match="two"):
        Stages(run, executor, ["work"]).run(stage)
    (marked / "mended").touch()

    assert list(Stages(run, executor, ["work"]).run(stage).values()) == [1, 2, 3]
    assert marks(marked).count("1") == 1


def test_a_driver_that_gives_up_leaves_no_task_that_goes_on(run: Run, executor: FunctionExecutor, marked: Path) -> None:
    def work(x: int) -> int:
        note(marked, x)
        while x:
            pass
        return x

    def give_up() -> None:
        while not marks(marked):
            pass
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(run, executor, ["work"]).run(Stage("work", [1], work), meanwhile=give_up)

    assert executor.call_async(pow, 2, 2).result(60) == 4
    assert executor.map(pow, [(2, 2)] * 4, batch_size=1).results(60) == [4] * 4


def test_a_stage_that_goes_on_names_the_tasks_that_ended_their_workers(run: Run, executor: FunctionExecutor) -> None:
    def work(x: int) -> int:
        return os._exit(3) if x == 2 else x  # type: ignore[return-value]

    options = {"batch_size": 1, "retries": 0}
    outputs = Stages(run, executor, ["work"]).run(Stage("work", [1, 2, 3], work, options=options), go_on=True)

    assert list(outputs.values()) == [1, 3]
    assert list(outputs.failures) == [1]
    assert isinstance(outputs.failures[1], TaskError)
    assert outputs[1] is None


def test_what_a_task_put_before_its_worker_died_is_there_for_the_next_attempt(
    run: Run, executor: FunctionExecutor
) -> None:
    def work(x: int, output: TaskOutput) -> dict[str, Any]:
        earlier = output.earlier()
        if not earlier:
            output.put("first.out", b"half")
            os._exit(3)
        return {"earlier": {name: data.decode() for name, data in earlier.items()}, "attempt": output.attempt}

    outputs = Stages(run, executor, ["work"]).run(Stage("work", [1], work))

    assert outputs.value(0) == {"earlier": {"first.out": "half"}, "attempt": 1}


def test_of_two_attempts_the_first_that_commits_wins(run: Run, serial: FunctionExecutor) -> None:
    def work(x: int, params: str) -> str:
        commit(open_storage(params), base, b'"first"')
        return "second"

    stage = Stage("work", [1], work, params=run.address)
    (base,) = stage.bases()

    assert Stages(run, serial, ["work"]).run(stage).value(0) == "first"


def test_a_driver_commits_what_its_workers_cannot_reach(
    run: Run, executor: FunctionExecutor, monkeypatch: pytest.MonkeyPatch, marked: Path
) -> None:
    class Item(NamedTuple):
        source: Stored
        number: int

    def work(task: Item, output: TaskOutput) -> dict[str, str]:
        note(marked, task.number)
        text = task.source.read().decode()
        return {"text": text, "beside": output.put("beside", b"large"), "data": str(task.source.data)}

    (marked.parent / "input").write_text("abc")
    (source,) = find_inputs(str(marked.parent / "input"))
    monkeypatch.setattr(FunctionExecutor, "reaches", lambda self, storage: False)
    stage = Stage("work", [Item(source, 1), Item(source, 2)], work, version="1")
    first = Stages(run, executor, ["work"]).run(stage)
    again = Stages(run, executor, ["work"]).run(stage)

    values = list(again.values())
    assert values == list(first.values())
    assert [value["text"] for value in values] == ["abc", "abc"]
    assert run.read(values[0]["beside"]) == b"large"
    assert values[0]["data"] == "b'abc'"
    assert marks(marked) == ["1", "2"]


def test_what_tasks_have_left_is_found_without_knowing_the_tasks(run: Run, serial: FunctionExecutor) -> None:
    def task(item: int, output: TaskOutput) -> bytes:
        output.put("0", b"part of %d" % item)
        if item == 3:
            raise ValueError
        return b"%d" % item * (LARGE if item == 2 else 1)

    stages = Stages(run, serial, ["x", "xx"])
    stages.run(Stage("xx", [9], lambda item: item))
    with pytest.raises(ValueError):  # noqa: PT011
        stages.run(Stage("x", [1, 2, 3], task, codec=BYTES))

    left = sorted(outputs_left(run.storage, "x"))

    assert left == [b"1", b"2" * LARGE, b"part of 3"]
    assert list(outputs_left(run.storage, "none")) == []


def test_the_driver_works_meanwhile(run: Run, serial: FunctionExecutor) -> None:
    seen: list[str] = []

    Stages(run, serial, ["a"]).run(Stage("a", [1], lambda x: x), meanwhile=lambda: seen.append("worked"))

    assert seen == ["worked"]


def test_progress_says_which_of_how_many_stages_it_is_and_what_is_done(run: Run, serial: FunctionExecutor) -> None:
    from contextlib import nullcontext

    told: list[tuple[str, int, int]] = []
    stages = Stages(run, serial, ["a", "b"], lambda *what: told.append(what) or nullcontext())
    stages.run(Stage("a", [1, 2], lambda x: x, version="1"))
    stages.run(Stage("b", [1, 2, 3], lambda x: x, version="1"))
    stages.run(Stage("b", [1, 2, 3, 4], lambda x: x, version="1"))

    assert told == [("1/2 a", 2, 0), ("2/2 b", 3, 0), ("2/2 b", 4, 3)]
    assert run.note == "2/2 b: 4 of 4"


def test_tasks_that_are_the_same_are_run_once_and_have_an_output_each(
    run: Run, executor: FunctionExecutor, marked: Path
) -> None:
    outputs = Stages(run, executor, ["square"]).run(Stage("square", [2, 3, 2, 2], squares(marked)))

    assert list(outputs.values()) == [4, 9, 4, 4]
    assert marks(marked) == ["2", "3"]


def test_a_task_that_fails_fails_wherever_it_stands(run: Run, executor: FunctionExecutor) -> None:
    def work(x: int) -> int:
        return os._exit(3) if x == 2 else x  # type: ignore[return-value]

    outputs = Stages(run, executor, ["work"]).run(Stage("work", [2, 1, 2], work, options={"retries": 0}), go_on=True)

    assert list(outputs.failures) == [0, 2]
    assert list(outputs.values()) == [1]


def test_parameters_that_are_the_functions_own_are_left_alone(run: Run, serial: FunctionExecutor) -> None:
    def work(params: int, output: str = "own") -> list[object]:
        return [params, output]

    assert Stages(run, serial, ["a"]).run(Stage("a", [1], work, params=5)).value(0) == [1, "own"]


@pytest.mark.parametrize("size", [1, LARGE])
def test_an_output_that_has_changed_since_is_damaged(run: Run, serial: FunctionExecutor, size: int) -> None:
    outputs = Stages(run, serial, ["a"]).run(Stage("a", [1], lambda x: b"x" * size, codec=BYTES))
    kept = Stored(run.address, outputs[0].key, outputs[0].size, outputs[0].tag)

    run.storage.put(kept.key, b"y" * size)

    with pytest.raises(InputError, match=rf"{kept.key} is damaged: its content has changed; delete it, and resume"):
        kept.read()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"key": 1}'])
def test_a_reference_that_no_task_wrote_is_damaged(run: Run, serial: FunctionExecutor, content: bytes) -> None:
    stage = Stage("a", [1], lambda x: x)
    run.storage.put(f"{stage.bases()[0]}.ref", content)

    with pytest.raises(InputError, match=r"\.ref is damaged; delete it, and resume the run"):
        Stages(run, serial, ["a"]).run(stage)


@pytest.mark.parametrize("value", [{1: 2}, [{"a": {2.5: 1}}], ({None: 1},)])
def test_a_value_whose_keys_json_would_turn_into_text_is_refused(
    run: Run, serial: FunctionExecutor, value: object
) -> None:
    with pytest.raises(TypeError, match=r"is no text, as JSON wants it; give the stage a codec of its own"):
        Stages(run, serial, ["a"]).run(Stage("a", [1], lambda x: value))


def test_a_value_comes_back_to_the_bit(run: Run, serial: FunctionExecutor) -> None:
    value = {"a": [0.1 + 0.2, 1e-320, float("inf"), 2**70, None, True], "caf\udce9": "\ud800"}

    assert Stages(run, serial, ["a"]).run(Stage("a", [1], lambda x: value)).value(0) == value


def test_an_input_that_changes_before_it_is_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    (source,) = find_inputs(str(tmp_path / "a"))
    (tmp_path / "a").write_text("abcd")

    with pytest.raises(InputError, match="changed while the job was reading it"):
        source.read()


def test_inputs_are_an_object_or_all_below_a_folder_but_hidden_ones(tmp_path: Path) -> None:
    for name in ("a/1", "a/b/2", "a/.hidden", "a/.run/3", "ab/4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    assert [source.key for source in find_inputs(str(tmp_path / "a"))] == ["a/1", "a/b/2"]
    assert [source.url for source in find_inputs(f"{tmp_path}/a/1")] == [f"file://{tmp_path}/a/1"]
    with pytest.raises(InputError, match=f"there is no object at {tmp_path}/c; check the address"):
        find_inputs(f"{tmp_path}/c")


@pytest.mark.parametrize(
    ("run", "left"), [("a/b", ["a/1"]), ("a", ["a/1", "a/b/2"]), (".", ["a/1", "a/b/2"]), ("ab", ["a/1", "a/b/2"])]
)
def test_what_a_run_within_its_source_holds_is_no_input(tmp_path: Path, run: str, left: list[str]) -> None:
    for name in ("a/1", "a/b/2", "ab/4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    found = [find_inputs(source, leave_out=str(tmp_path / run)) for source in (f"{tmp_path}/a", f"{tmp_path}/a/")]

    assert [[one.url.removeprefix(f"file://{tmp_path}/") for one in inputs] for inputs in found] == [left, left]


def test_everything_works_in_the_memory_of_this_process(serial: FunctionExecutor) -> None:
    with begin(f"memory://stages-{next(numbers)}") as run:
        outputs = Stages(run, serial, ["a"]).run(Stage("a", [1, 2], lambda x: b"x" * LARGE * x, codec=BYTES))

        assert [len(value) for value in outputs.values()] == [LARGE, 2 * LARGE]
