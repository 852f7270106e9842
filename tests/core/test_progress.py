from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from core.errors import ConfigError, InputError, MissingExtra
from core.events.listeners import EventLog, ProgressBar, timeline
from core.types import BatchInvoked, Event, JobCreated, JobDone, TaskDone, TaskFailed, TaskRetried, TaskStats

GiB = 1 << 30


def stats(task_id: int, *, started: float = 100.0, worker: str = "worker-0", attempts: int = 1) -> TaskStats:
    return TaskStats(
        task_id, started, 2.0, 1.5, worker, attempts, peak_rss=GiB // 2, bytes_in=10 * task_id, bytes_out=1
    )


def done(task_id: int, job: str = "job") -> TaskDone:
    return TaskDone(job, 1.0, stats(task_id))


def last_line(text: str) -> str:
    return text.replace("\n", "\r").rstrip("\r").split("\r")[-1].strip()


class TestProgressBar:
    def test_is_off_where_nobody_watches_and_loads_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        out = io.StringIO()
        bar = ProgressBar(file=out)

        bar(JobCreated("job", 0.0, "square", 1))
        bar(done(0))
        bar(JobDone("job", 2.0, 1, 0, 0))

        assert out.getvalue() == ""

    def test_ends_full_with_name_and_count(self) -> None:
        out = io.StringIO()
        bar = ProgressBar(show=True, file=out)

        bar(JobCreated("job", 0.0, "square", 2))
        bar(done(0))
        bar(done(1))
        bar(JobDone("job", 2.0, 2, 0, 0))

        assert last_line(out.getvalue()).startswith("square: 100%")
        assert "2/2" in last_line(out.getvalue())

    def test_counts_failures_and_retries(self) -> None:
        out = io.StringIO()
        bar = ProgressBar(show=True, file=out)

        bar(JobCreated("job", 0.0, "square", 2))
        bar(TaskRetried("job", 0.0, 1, 1, "died"))
        bar(TaskFailed("job", 0.0, 1, 3, "ValueError"))
        bar(done(0))
        bar(JobDone("job", 2.0, 2, 1, 0))

        assert "2/2" in last_line(out.getvalue())
        assert "failed=1, retried=1" in last_line(out.getvalue())

    def test_total_of_a_stream_grows_with_what_was_submitted_not_with_repetitions(self) -> None:
        out = io.StringIO()
        bar = ProgressBar(show=True, file=out)

        bar(JobCreated("job", 0.0, "stream", None))
        bar(BatchInvoked("job", 0.0, 0, (0, 1)))
        bar(BatchInvoked("job", 0.0, 1, (2,)))
        bar(BatchInvoked("job", 0.0, 2, (0, 1)))
        for task in range(3):
            bar(done(task))
        bar(JobDone("job", 2.0, 3, 0, 0))

        assert "3/3" in last_line(out.getvalue())

    def test_jobs_have_a_bar_each(self) -> None:
        out = io.StringIO()
        bar = ProgressBar(show=True, file=out)

        bar(JobCreated("a", 0.0, "first", 4))
        bar(JobCreated("b", 0.0, "second", 8))
        bar(done(0, "b"))
        bar(JobDone("b", 2.0, 8, 0, 7))
        bar(done(0, "a"))
        bar.close()

        assert "1/4" in out.getvalue()
        assert "1/8" in out.getvalue()

    def test_jobs_that_begin_together_share_a_bar_and_what_comes_late_is_no_harm(self) -> None:
        out = io.StringIO()
        bar = ProgressBar(show=True, file=out)

        with bar.together("2/7 centroids", 5, done=2):
            for job in ("a", "b"):
                bar(JobCreated(job, 0.0, "square", 1))
                bar(done(0, job))
            bar(JobDone("a", 2.0, 1, 0, 0))
        shown = last_line(out.getvalue())
        bar(JobDone("b", 2.0, 1, 0, 0))
        bar(JobCreated("c", 0.0, "alone", 3))
        bar.close()

        assert shown.startswith("2/7 centroids:  80%")
        assert "4/5" in shown
        assert "square" not in out.getvalue()
        assert "alone" in last_line(out.getvalue())

    def test_nothing_is_drawn_together_where_nobody_watches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        out = io.StringIO()

        with ProgressBar(file=out).together("2/7 centroids", 5):
            pass

        assert out.getvalue() == ""

    def test_events_of_an_unknown_job_are_ignored(self) -> None:
        out = io.StringIO()

        ProgressBar(show=True, file=out)(done(0, "never created"))

        assert out.getvalue() == ""


class FullDisk(io.StringIO):
    """Takes `room` characters, then fails as a full disk does."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, text: str) -> int:
        if self.tell() + len(text) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(text)


@pytest.fixture
def full_device() -> Path:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("this system has no /dev/full")
    return device


class TestEventLog:
    def test_writes_one_object_an_event_at_once(self, tmp_path: Path) -> None:
        file = tmp_path / "events.jsonl"
        log = EventLog(file)

        log(JobCreated("job", 12.5, "square", 1))
        log(TaskDone("job", 13.5, stats(0)))

        first, second = (json.loads(line) for line in file.read_text().splitlines())
        log.close()
        assert first == {"event": "JobCreated", "job_id": "job", "time": 12.5, "name": "square", "tasks": 1}
        assert (second["event"], second["time"], second["stats"]["worker"]) == ("TaskDone", 13.5, "worker-0")

    def test_appends_to_what_is_there(self, tmp_path: Path) -> None:
        file = tmp_path / "events.jsonl"
        for number in range(2):
            with EventLog(str(file)) as log:
                log(Event("job", float(number)))

        assert [json.loads(line)["time"] for line in file.read_text().splitlines()] == [0.0, 1.0]

    def test_a_stream_is_written_to_and_left_open(self) -> None:
        stream = io.StringIO()

        with EventLog(stream) as log:
            log(Event("job", 1.0))

        assert json.loads(stream.getvalue())["event"] == "Event"
        assert not stream.closed

    def test_nothing_is_written_after_close(self, tmp_path: Path) -> None:
        file = tmp_path / "events.jsonl"
        log = EventLog(file)

        log.close()
        log(Event("job", 1.0))

        assert file.read_bytes() == b""

    def test_a_folder_that_is_missing_is_a_config_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot write the event log .*events\.jsonl: No such file"):
            EventLog(tmp_path / "absent" / "events.jsonl")

    def test_a_full_disk_is_one_warning_and_the_end_of_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        stream = FullDisk(room=100)
        log = EventLog(stream)

        with caplog.at_level(logging.WARNING):
            for number in range(100):
                log(Event("job", float(number)))

        assert [record.getMessage() for record in caplog.records] == [
            "the event log ends here: [Errno 28] No space left on device"
        ]
        assert len([json.loads(line) for line in stream.getvalue().splitlines()]) == 2

    def test_a_full_device_does_not_stop_the_job(self, full_device: Path, caplog: pytest.LogCaptureFixture) -> None:
        log = EventLog(full_device)

        log(Event("job", 1.0))
        log(Event("job", 2.0))
        log.close()

        assert caplog.text.count("No space left on device") == 1

    def test_a_line_cut_short_is_taken_back(self, tmp_path: Path) -> None:
        file = tmp_path / "events.jsonl"
        log = EventLog(file)
        log(Event("job", 1.0))
        log._file = CutShort(file)

        log(Event("job", 2.0))

        assert [json.loads(line)["time"] for line in file.read_text().splitlines()] == [1.0]


class CutShort(io.FileIO):
    """Writes five bytes, then fails."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "ab")
        self.calls = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.calls += 1
        if self.calls > 1:
            raise OSError(28, "No space left on device")
        return super().write(data[:5])


class TestTimeline:
    def test_draws_a_row_a_worker(self, tmp_path: Path) -> None:
        rows = [stats(n, started=100.0 + n, worker=f"worker-{n % 12}") for n in range(24)]

        timeline(rows, tmp_path / "t.svg")

        text = (tmp_path / "t.svg").read_text()
        assert [text.index(f"<!-- worker-{n} -->") for n in range(12)] == sorted(
            text.index(f"<!-- worker-{n} -->") for n in range(12)
        )
        assert "<!-- 24 tasks on 12 workers in 25 s -->" in text

    def test_repeated_tasks_are_told_apart(self, tmp_path: Path) -> None:
        timeline([stats(0), stats(1, started=103.0, attempts=2)], tmp_path / "again.svg")
        timeline([stats(0), stats(1, started=103.0)], tmp_path / "once.svg")

        assert "1 tried more than once" in (tmp_path / "again.svg").read_text()
        assert "tried more than once" not in (tmp_path / "once.svg").read_text()

    def test_a_picture_shows_the_tasks_in_colour(self, tmp_path: Path) -> None:
        from matplotlib.image import imread

        timeline([stats(0)], tmp_path / "t.png")

        pixels = imread(tmp_path / "t.png")[..., :3]
        blue = (pixels[..., 2] - pixels[..., 0] > 0.3).mean()
        assert 0.05 < blue < 0.5

    def test_many_workers_do_not_make_the_picture_endless(self, tmp_path: Path) -> None:
        from matplotlib.image import imread

        timeline([stats(n, worker=f"worker-{n}") for n in range(1000)], tmp_path / "t.png")

        assert imread(tmp_path / "t.png").shape[0] < 1200

    def test_leaves_the_interactive_plotting_state_alone(self, tmp_path: Path) -> None:
        import matplotlib.pyplot

        timeline([stats(0)], tmp_path / "t.png")

        assert matplotlib.pyplot.get_fignums() == []

    def test_no_task_is_an_input_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no task has finished"):
            timeline([], tmp_path / "t.png")

    @pytest.mark.parametrize("name", ["absent/t.png", "t.wrong"])
    def test_a_path_that_cannot_be_written_is_a_config_error(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigError, match="cannot write the timeline"):
            timeline([stats(0)], tmp_path / name)

    def test_without_matplotlib_says_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

        with pytest.raises(MissingExtra, match="pip install matplotlib"):
            timeline([stats(0)], tmp_path / "t.png")
