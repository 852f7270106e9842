import pytest

from core import FunctionExecutor
from core.types import JobDone, TaskDone, TaskSpeculated


def straggle(x, attempt):
    while x == 7 and attempt == 0:
        pass
    return x, attempt


@pytest.mark.parametrize("durable", [False, True], ids=["direct", "durable"])
def test_a_straggler_is_overtaken_by_its_copy_and_its_result_comes_once(durable, tmp_path):
    heard = []
    settings = {"speculation": True, "listeners": [heard.append], "durable": durable, "storage": f"file://{tmp_path}"}
    with FunctionExecutor("process", workers=2, **settings) as executor:
        results = executor.map(straggle, range(12), batch_size=1).results(60)

    assert results == [(x, int(x == 7)) for x in range(12)]
    assert [event.task_id for event in heard if type(event) is TaskSpeculated] == [7]
    assert sorted(event.stats.task_id for event in heard if type(event) is TaskDone) == list(range(12))
    assert heard[-1] == JobDone(heard[-1].job_id, heard[-1].time, 12, 0, 0)


def test_at_most_a_tenth_of_a_job_gets_copies(tmp_path):
    heard = []
    gate = tmp_path / "gate"

    def run(x, attempt):
        while x >= 18 and attempt == 0 and not gate.exists():
            pass
        if attempt:
            gate.touch()
        return x

    with FunctionExecutor("process", workers=4, speculation=True, listeners=[heard.append]) as executor:
        assert executor.map(run, range(21), batch_size=1).results(60) == list(range(21))

    assert 1 <= len([event for event in heard if type(event) is TaskSpeculated]) <= 2


def test_no_copies_are_made_unless_asked_for_on_one_machine(tmp_path):
    heard = []

    def run(x, attempt):
        end = __import__("time").monotonic() + (0.3 if x == 11 else 0)
        while __import__("time").monotonic() < end:
            pass
        return attempt

    with FunctionExecutor("process", workers=2, listeners=[heard.append]) as executor:
        assert executor.map(run, range(12), batch_size=1).results(60) == [0] * 12

    assert not [event for event in heard if type(event) is TaskSpeculated]
