import collections
import functools
import os
import pathlib

import numpy as np
import pytest

from core import Chunks, ConfigError, FunctionExecutor, InputError


@pytest.fixture(scope="module", params=["serial", "process"])
def executor(request):
    with FunctionExecutor(request.param, workers=1 if request.param == "serial" else 2) as started:
        yield started


@pytest.fixture
def folder(tmp_path):
    files = {"a.csv": b"1,2\r\n3,4\r\n", "b.csv": b"5,6", "empty.csv": b"", "long.csv": b"x" * 50_000 + b"\ny"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path, files


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([3, 1, 2], [3, 1, 2]),
        ((3, 1), [3, 1]),
        (range(3), [0, 1, 2]),
        ({"b": 1, "a": 2}, ["b", "a"]),
        (collections.deque([1, 2]), [1, 2]),
        (np.array([1.5, 2.5]), [1.5, 2.5]),
        ([None, 0, "", False], [None, 0, "", False]),
    ],
)
def test_every_kind_of_collection_is_mapped_in_its_order(executor, data, expected):
    assert executor.map(lambda x: x, data).results(60) == expected


def test_items_of_a_list_are_what_they_were_when_it_was_mapped(executor):
    buffer, jobs = np.zeros(1000), []

    for number in range(20):
        buffer[:] = number
        jobs.append(executor.map(lambda row: float(row.sum()), [buffer, buffer]))

    assert [job.results(60) for job in jobs] == [[1000.0 * number] * 2 for number in range(20)]


def test_large_items_of_a_list_are_copied_up_to_a_limit_and_all_arrive(executor, monkeypatch):
    monkeypatch.setattr("core.data.generator.AHEAD_BYTES", 10_000)

    assert executor.map(len, [[0] * size for size in range(3000)]).results(60) == list(range(3000))


def test_rows_of_an_array_are_items(executor):
    assert [int(row.sum()) for row in executor.map(lambda row: row * 2, np.ones((3, 4))).results(60)] == [8, 8, 8]


def test_a_set_is_mapped(executor):
    assert sorted(executor.map(lambda x: x, {3, 1, 2}).results(60)) == [1, 2, 3]


def test_a_list_may_change_after_the_call(executor):
    data = [1, 2, 3]
    futures = executor.map(lambda x: x, data)
    data.clear()

    assert futures.results(60) == [1, 2, 3]


@pytest.mark.parametrize("data", [5, None, b"bytes", 2.5])
def test_what_cannot_be_iterated_is_refused(executor, data):
    with pytest.raises(InputError):
        executor.map(lambda x: x, data)


@pytest.mark.parametrize(
    "function",
    [abs, functools.partial(pow, 2), lambda x: -x, hash, type("Adder", (), {"__call__": lambda self, x: x + 1})()],
    ids=["builtin", "partial", "lambda", "slot", "object"],
)
def test_every_kind_of_callable_can_be_mapped(executor, function):
    assert executor.map(function, [1, 2, 3]).results(60) == [function(x) for x in (1, 2, 3)]


def test_a_closure_over_a_large_object_is_mapped(executor):
    table = np.arange(200_000)

    assert executor.map(lambda i: int(table[i]), [5, 199_999]).results(60) == [5, 199_999]


def test_chunks_of_what_is_no_object_are_refused(executor):
    with pytest.raises(ConfigError, match="chunks"):
        executor.map(lambda x: x, [1, 2], chunk_bytes=10)


def test_every_file_of_a_folder_is_one_task_and_no_empty_one_vanishes(executor, folder):
    path, files = folder

    read = executor.map(lambda obj: (os.path.basename(obj.key), obj.read()), str(path)).results(60)

    assert dict(read) == files
    assert [name for name, _ in read] == sorted(files)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 4096, 1 << 20])
def test_chunks_put_together_are_the_files_to_the_last_byte(executor, folder, chunk_bytes):
    path, files = folder

    read = executor.map(
        lambda obj: (os.path.basename(obj.key), obj.read()), [path / "a.csv", path / "b.csv", path / "empty.csv"],
        chunk_bytes=chunk_bytes,
    ).results(60)  # fmt: skip

    joined = collections.defaultdict(bytes)
    for name, content in read:
        joined[name] += content
    assert joined == {name: files[name] for name in ("a.csv", "b.csv", "empty.csv")}


def test_a_generator_of_addresses_is_read_as_objects_by_a_function_of_obj(executor, folder):
    path, files = folder

    read = executor.map(lambda obj: obj.read(), (path / name for name in ("a.csv", "b.csv"))).results(60)

    assert read == [files["a.csv"], files["b.csv"]]


def test_a_line_far_longer_than_its_chunk_stays_whole(executor, folder):
    path, files = folder

    read = executor.map(lambda obj: list(obj.lines()), str(path / "long.csv"), chunk_bytes=1000).results(60)

    assert [line for lines in read for line in lines] == [b"x" * 50_000 + b"\n", b"y"]


def test_patterns_paths_and_addresses_may_be_mixed(executor, folder):
    path, files = folder
    data = [str(path / "[ab].csv"), path / "empty.csv", f"file://{path}/long.csv"]

    assert executor.map(lambda obj: obj.read(), data).results(60) == list(files.values())


@pytest.mark.parametrize("name", ["missing.csv", "*.parquet", "missing/"])
def test_a_missing_path_is_named_before_anything_runs(executor, folder, name):
    path, _ = folder

    with pytest.raises(InputError, match=name.strip("*./").replace("/", "")):
        executor.map(lambda obj: obj.read(), str(path / name))


def test_a_missing_path_among_good_ones_is_named(executor, folder):
    path, _ = folder

    with pytest.raises(InputError, match=r"missing\.csv"):
        executor.map(lambda obj: obj.read(), [path / "a.csv", path / "missing.csv"]).results(60)


def test_header_lines_begin_every_chunk(executor, folder):
    path, _ = folder

    read = executor.map(lambda obj: obj.read(), str(path / "a.csv"), chunks=Chunks(bytes=5, header_lines=1)).results(60)

    assert all(part.startswith(b"1,2\r\n") for part in read)


def test_paths_are_plain_items_where_the_function_does_not_ask_for_objects(executor):
    assert executor.map(lambda path: path.name, [pathlib.Path("/a/b")]).results(60) == ["b"]


def test_a_builtin_gets_texts_as_they_are_though_its_parameter_is_called_obj(executor):
    assert executor.map(len, ["ab"]).results(60) == [2]


def test_submit_is_that_of_concurrent_futures_and_fills_nothing(executor):
    def f(x, task_id):
        return x, task_id

    assert executor.submit(lambda x, attempt=5: attempt, 1).result(60) == 5
    assert executor.submit(f, 5, 100).result(60) == (5, 100)
    assert executor.call_async(lambda obj: obj, "/no/such/file").result(60) == "/no/such/file"


def test_objects_reach_a_function_whose_parameter_obj_comes_last(executor, folder):
    path, files = folder

    read = executor.map(lambda prefix, obj: prefix + obj.read(), [path / "b.csv"], extra_args=[b"> "]).results(60)

    assert read == [b"> " + files["b.csv"]]


def test_a_function_of_objects_that_lacks_an_argument_is_refused_before_anything_runs(executor, folder):
    with pytest.raises(ConfigError, match="nothing gives threshold"):
        executor.map(lambda obj, threshold: obj.read(), str(folder[0]))


def test_chunks_are_given_in_one_way(executor, folder):
    address = str(folder[0] / "a.csv")

    assert executor.map(lambda obj: obj.read(), address, chunks=Chunks(count=2)).results(60) == [b"1,2\r\n", b"3,4\r\n"]
    with pytest.raises(ConfigError, match="short form"):
        executor.map(lambda obj: obj.read(), address, chunk_bytes=1, chunks=Chunks(count=2))
    with pytest.raises(ConfigError, match="Chunks"):
        executor.map(lambda obj: obj.read(), address, chunks=5)


def test_ten_thousand_small_tasks_travel_in_few_invocations():
    with FunctionExecutor("process", workers=2) as executor:
        assert executor.map(lambda x: x, range(10_000)).results(60) == list(range(10_000))
        assert executor.bill().invocations < 200
