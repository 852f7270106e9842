from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from apps import _cli
from core import ConfigError, FanfoldError, InputError, TaskError


def failing(error: BaseException) -> Callable[..., int]:
    def body(*_: object) -> int:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ConfigError("--days is wrong"), 2, "--days is wrong"),
        (InputError("a.csv: line 3 is wrong"), 2, "a.csv: line 3 is wrong"),
        (TaskError("task 3 failed"), 1, "task 3 failed"),
        (FanfoldError("cannot write"), 1, "cannot write"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 1, "/data/x: no space left on device"),
        (MemoryError(), 1, "out of memory; ask for less at once, or use a machine with more"),
        (ZeroDivisionError("oops"), 1, "unexpected ZeroDivisionError: oops; run again with --verbose for details"),
    ],
    ids=repr,
)
def test_every_error_is_one_sentence_with_its_status(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, sentence: str
) -> None:
    assert _cli.run_app("apps.x", failing(error), []) == status

    assert capsys.readouterr() == ("", f"apps.x: {sentence}\n")


def test_verbose_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    _cli.run_app("apps.x", failing(ZeroDivisionError("oops")), ["--verbose"])

    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "apps.x: unexpected ZeroDivisionError: oops"


def test_an_interrupt_is_130_and_says_that_nothing_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.run_app("apps.x", failing(KeyboardInterrupt()), []) == 130

    assert "interrupted; nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--durable", "--title", "a b"], ["--durable", "--title", "a b", "--resume", "old"]])
def test_an_interrupted_durable_run_prints_its_resume_command(
    capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    def body(session: _cli.Session, _: object) -> int:
        session.job_id = "job-7"
        raise KeyboardInterrupt

    assert _cli.run_app("apps.x", body, argv) == 130

    assert "  python -m apps.x --durable --title 'a b' --resume job-7\n" in capsys.readouterr().err


def test_the_body_gives_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.run_app("apps.x", lambda *_: 1, []) == 1


def test_wrong_flags_are_one_sentence_that_points_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    parser = _cli.Parser(prog="apps.x")
    _cli.add_common_flags(parser)

    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--workers"])

    assert end.value.code == 2
    assert capsys.readouterr().err == "apps.x: --workers: expected one argument (--help lists the flags)\n"


def test_flags_are_not_abbreviated() -> None:
    parser = _cli.Parser(prog="apps.x")
    _cli.add_common_flags(parser)

    with pytest.raises(SystemExit):
        parser.parse_args(["--dura"])


def test_commands_of_a_few_seconds_offer_no_resuming() -> None:
    parser = _cli.Parser(prog="apps.x")
    _cli.add_common_flags(parser, resumable=False)

    assert "--resume" not in parser.format_help()
    assert parser.parse_args([]).resume is None


def test_flags_reach_the_executor() -> None:
    parser = _cli.Parser(prog="apps.x")
    _cli.add_common_flags(parser)
    flags = parser.parse_args(
        ["--compute", "serial", "--memory", "512MB", "--timeout", "5m", "--retries", "0", "--quiet"]
        + ["--runtime", "fanfold-base:1"]
    )

    with _cli.Session("apps.x", []).executor(flags) as executor:
        assert (executor.config.compute, executor.config.memory) == ("serial", 512_000_000)
        assert (executor.config.timeout, executor.config.retries.retries) == (300.0, 0)
        assert executor.config.runtime == "fanfold-base:1"


def test_the_session_knows_the_job_it_started() -> None:
    parser = _cli.Parser(prog="apps.x")
    _cli.add_common_flags(parser)
    session = _cli.Session("apps.x", [])

    with session.executor(parser.parse_args(["--compute", "serial", "--quiet"])) as executor:
        futures = executor.map(abs, [-1])
        futures.results()

    assert session.job_id == futures.job_id
