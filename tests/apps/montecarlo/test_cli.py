from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from core import open_storage
from tests.conftest import S3Server

Main = Callable[[Sequence[str]], tuple[int, str, str]]
CsvWriter = Callable[..., Path]

SMALL = ["--forecasts", "640", "--days", "20", "--compute", "serial"]
COMMAND = [sys.executable, "-m", "apps.montecarlo"]
FILES = {
    "manifest.json", "result.json", "forecasts.csv", "forecasts.xlsx", "fan.png", "histogram.png", "falls.png",
    "volatility.png", "report.html",
}  # fmt: skip


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a fresh folder, where runs without an output go."""
    monkeypatch.chdir(tmp_path)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"forecasts.parquet"}


def test_a_run_prints_its_table_and_fills_its_folder(main: Main, tmp_path: Path) -> None:
    status, out, err = main([*SMALL, "--output", str(tmp_path / "run")])

    assert (status, err) == (0, "")
    assert "Percentiles of the price" in out
    assert out.rstrip().splitlines()[-1].startswith(f"Report: {tmp_path}/run/report.html")
    assert names(tmp_path / "run") == FILES


def test_without_an_output_folder_each_run_has_its_own(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main([*SMALL, "--quiet"])[0] == main([*SMALL, "--quiet"])[0] == 0

    assert len(list((tmp_path / "montecarlo-runs").iterdir())) == 2


def test_json_is_one_object_on_stdout_and_the_same_in_the_folder(main: Main, tmp_path: Path) -> None:
    status, out, err = main([*SMALL, "--json", "--output", str(tmp_path)])

    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "result.json").read_text())
    assert all(json.loads(line)["event"] for line in err.splitlines())


def test_refining_is_labelled_in_the_result(main: Main, tmp_path: Path) -> None:
    rough = json.loads(main([*SMALL, "--json", "--output", str(tmp_path / "a")])[1])
    exact = json.loads(main([*SMALL, "--json", "--refine", "--output", str(tmp_path / "b")])[1])

    assert (rough["quantiles_exact"], exact["quantiles_exact"]) == (False, True)
    assert exact["quantiles"]["0.5"] == pytest.approx(rough["quantiles"]["0.5"], rel=1e-3)
    assert exact["fan"][-1]["quantiles"] == exact["quantiles"]
    assert exact["result_sha256"] == rough["result_sha256"]


def test_quiet_says_nothing(main: Main, tmp_path: Path) -> None:
    assert main([*SMALL, "--quiet", "--output", str(tmp_path)]) == (0, "", "")


def test_a_dry_run_writes_nothing(main: Main, tmp_path: Path) -> None:
    status, out, _ = main(["--forecasts", "1e8", "--dry-run", "--output", str(tmp_path / "run")])

    assert status == 0
    assert "108,000,000,000 daily steps" in out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_as_json_is_one_object(main: Main) -> None:
    figures = json.loads(main(["--dry-run", "--json"])[1])

    assert figures["path_steps"] == 108_000_000
    assert figures["charged"]["invocations"] == figures["invocations"] == figures["stages"][0]["tasks"]
    assert figures["charged_on_cloud_functions"]["price_source"].startswith("https://")


def test_a_dry_run_says_what_is_billed_and_by_which_price(main: Main) -> None:
    out = main(["--forecasts", "1e8", "--dry-run"])[1]

    assert re.search(r"^Billed +[\d,]+ invocations, [\d,.]+ s, [\d,.]+ GB-seconds, [\d,]+ storage", out, re.M)
    assert re.search(r"^Cost +nothing on your own machines$", out, re.M)
    assert re.search(
        r"^On functions +about \$\d\S* by the list price of \d{4}-\d\d, without free tier, of AWS", out, re.M
    )


def test_settings_come_from_a_file_and_flags_win(main: Main, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("forecasts = 128\ndays = 7\n")

    figures = json.loads(main(["--config", str(config), "--days", "9", "--dry-run", "--json"])[1])

    assert (figures["forecasts"], figures["days"]) == (128, 9)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--forecasts", "0"], "--forecasts 0: expected a whole number"),
        (["--days", "x"], "--days x: expected a whole number"),
        (["--model", "magic"], "--model magic: expected one of gbm"),
        (["--prices", "none.csv"], "none.csv: there is no such file"),
        (["--symbol", "ftse"], "--symbol ftse: no such packaged series"),
        (["--config", "none.toml"], "cannot read configuration file none.toml"),
        (["--workers", "0"], "--workers 0: expected a whole number of at least 1"),
        (["--memory", "lots"], "--memory lots: expected a size such as"),
        (["--timeout", "-3"], "--timeout"),
        (["--retries", "-1"], "--retries"),
        (["--compute", "abacus"], "abacus"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2_and_leaves_nothing(
    main: Main, tmp_path: Path, flags: list[str], message: str
) -> None:
    status, out, err = main([*SMALL, "--output", str(tmp_path / "run"), *flags])

    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_bad_price_is_named_with_file_line_and_column(main: Main, tmp_path: Path, write_csv: CsvWriter) -> None:
    path = write_csv(edits={7: "2020-01-06,-1"})

    status, _, err = main([*SMALL, "--prices", str(path), "--output", str(tmp_path / "run")])

    assert status == 2
    where = f"apps.montecarlo: {path}: line 7, column 'Close'"
    remedy = "correct it or remove the row; --model bachelier takes prices below zero"
    assert err == f"{where}: price -1 is not a positive number; {remedy}\n"
    assert not (tmp_path / "run").exists()


def test_the_same_command_again_shows_the_finished_run_and_another_is_refused(main: Main, tmp_path: Path) -> None:
    first = main([*SMALL, "--output", str(tmp_path), "--seed", "1", "--json"])
    before = (tmp_path / "result.json").read_bytes()

    again = main([*SMALL, "--output", str(tmp_path), "--seed", "1", "--json"])
    status, _, err = main([*SMALL, "--output", str(tmp_path), "--seed", "2"])

    assert again[:2] == first[:2]
    assert status == 2
    assert "--seed 2: run" in err
    assert (tmp_path / "result.json").read_bytes() == before
    assert main([*SMALL, "--output", str(tmp_path), "--seed", "2", "--overwrite"])[0] == 0
    assert json.loads((tmp_path / "result.json").read_text())["seed"] == 2


def test_a_run_whose_prices_have_changed_is_refused(main: Main, tmp_path: Path, write_csv: CsvWriter) -> None:
    flags = [*SMALL, "--prices", str(write_csv()), "--output", str(tmp_path / "run")]
    main(flags)
    write_csv(edits={40: "2020-02-08,77"})

    status, _, err = main(flags)

    assert status == 2
    assert "prices.csv (column Close) has changed" in err


def test_an_unwritable_folder_is_found_before_anything_is_computed(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("apps.montecarlo.stages.compute", lambda *_, **__: pytest.fail("it computed"))

    status, _, err = main([*SMALL, "--output", str(tmp_path / "file" / "run")])

    assert status == 2
    assert "choose another place with --output" in err


@pytest.mark.parametrize("name", ["forecasts.csv", "report.html", "fan.png"])
def test_a_file_of_the_users_own_is_never_replaced(main: Main, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")

    status, _, err = main([*SMALL, "--output", str(tmp_path)])

    assert status == 2
    assert f"has {name}, which no run of apps.montecarlo wrote" in err
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no limit on file size")
def test_a_write_that_fails_leaves_a_run_that_can_be_finished(tmp_path: Path, main: Main) -> None:
    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    flags = [*SMALL, "--output", str(tmp_path / "run")]
    done = subprocess.run([*COMMAND, *flags], preexec_fn=limit_files, capture_output=True, text=True)

    assert done.returncode == 1
    assert "the results were not written" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(tmp_path / "run") <= {"manifest.json", ".run"}
    assert main(flags)[0] == 0
    assert names(tmp_path / "run") == FILES


def interrupt_at_first_result(argv: list[str]) -> tuple[int, str]:
    def heed() -> None:  # what a shell starts in the background ignores the signal, and so do its children
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, *argv], **pipes, text=True, preexec_fn=heed) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if '"TaskDone"' in line:
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.read()
        return process.wait(), said


@pytest.mark.parametrize("again", ["the command it prints", "the same command with other workers"])
def test_a_run_that_was_interrupted_is_finished_by(again: str, tmp_path: Path, main: Main) -> None:
    small = ["--forecasts", "200000", "--days", "250", "--engine", "numpy", "--workers", "2", "--invocations", "20"]
    flags = [*small, "--json", "--output", str(tmp_path / "run")]
    status, said = interrupt_at_first_result(flags)
    assert status == 130
    printed = said.rstrip().splitlines()[-1].split()
    assert printed[:5] == ["python", "-m", "apps.montecarlo", "resume", str(tmp_path / "run")]

    commands = {
        "the command it prints": [*printed[1:], "--json"],
        "the same command with other workers": [*COMMAND[1:], *flags, "--workers", "3"],
    }
    resumed = subprocess.run([sys.executable, *commands[again]], capture_output=True, text=True, check=True)

    whole = json.loads(main([*small, "--json", "--output", str(tmp_path / "whole")])[1])
    assert json.loads(resumed.stdout)["result_sha256"] == whole["result_sha256"]
    assert json.loads(resumed.stdout)["tasks"] == 20
    assert resumed.stderr.count('"TaskDone"') <= 19


def test_status_of_a_finished_run_is_told(main: Main, tmp_path: Path) -> None:
    main([*SMALL, "--quiet", "--output", str(tmp_path)])

    status, out, _ = main(["status", str(tmp_path)])

    assert status == 0
    assert re.search(r"^State +finished$", out, re.M)


def test_a_reader_that_leaves_early_is_no_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{' '.join([*COMMAND, *SMALL])} --output {tmp_path}/run | true; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True,
    )  # fmt: skip

    assert done.stdout.strip() == "0"
    assert "Traceback" not in done.stderr


def test_help_needs_none_of_the_heavy_libraries() -> None:
    probe = (
        "import sys, contextlib, io\n"
        "from apps.montecarlo.__main__ import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    try: main(['--help'])\n"
        "    except SystemExit: pass\n"
        "assert 'examples:' in out.getvalue()\n"
        "print({'numpy', 'scipy', 'pandas', 'matplotlib', 'arch', 'numba'} & set(sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout == "set()\n"


def test_a_default_run_loads_neither_arch_nor_scipy_nor_pandas(tmp_path: Path) -> None:
    probe = (
        "import sys\n"
        "from apps.montecarlo.__main__ import main\n"
        f"assert main({[*SMALL, '--quiet', '--output', str(tmp_path / 'run')]!r}) == 0\n"
        "print({'scipy', 'pandas', 'arch', 'numba', 'matplotlib.pyplot'} & set(sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout == "set()\n"


def test_version_names_the_product(main: Main) -> None:
    status, out, _ = main(["--version"])

    assert status == 0
    assert "fanfold" in out


def test_backtest_reports_coverage_with_its_test(main: Main, in_tmp: None) -> None:
    status, out, _ = main(["backtest", "--compute", "serial", "--forecasts", "1000", "--json", "--quiet"])

    figures = json.loads(out)
    assert status == 0
    assert figures["windows"] == 191
    coverage = {row["nominal"]: row["observed"] for row in figures["coverage"]}
    assert 0.9 < coverage[0.9] < 1.0


def test_backtest_prints_a_table(main: Main, in_tmp: None) -> None:
    status, out, _ = main(["backtest", "--compute", "serial", "--forecasts", "200", "--horizon", "250"])

    assert status == 0
    assert "Kupiec p" in out


def test_backtest_that_cannot_fit_a_window_says_what_to_shorten(main: Main, in_tmp: None) -> None:
    status, _, err = main(["backtest", "--compute", "serial", "--window", "100"])

    assert status == 2
    assert "shorten --horizon or --min-history" in err


def test_option_prices_the_textbook_call(main: Main, in_tmp: None) -> None:
    status, out, _ = main(["option", "--compute", "serial", "--paths", "20000", "--steps", "1", "--json", "--quiet"])

    figures = json.loads(out)
    assert status == 0
    assert figures["black_scholes"] == pytest.approx(5.293398, abs=1e-6)
    assert abs(figures["price"] - 5.293398) < 4 * figures["standard_error"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_option_prices_do_not_depend_on_the_workers(main: Main, in_tmp: None, workers: str) -> None:
    flags = ["option", "--kind", "asian", "--paths", "20000", "--steps", "12", "--json", "--quiet"]
    serial = json.loads(main([*flags, "--compute", "serial"])[1])

    assert json.loads(main([*flags, "--workers", workers])[1])["result_sha256"] == serial["result_sha256"]


def test_an_option_with_dividends_agrees_with_the_closed_formula(main: Main, in_tmp: None) -> None:
    flags = [
        "option",
        "--dividend",
        "4%",
        "--steps",
        "1",
        "--paths",
        "20000",
        "--json",
        "--quiet",
        "--compute",
        "serial",
    ]

    figures = json.loads(main(flags)[1])

    assert abs(figures["price"] - figures["black_scholes"]) < 4 * figures["standard_error"]
    assert figures["black_scholes"] < 5.0


def test_option_text_names_price_error_and_contract(main: Main, in_tmp: None) -> None:
    flags = ["option", "--kind", "barrier", "--barrier", "130", "--barrier-type", "up-and-out", "--paths", "2000"]

    status, out, _ = main([*flags, "--compute", "serial"])

    assert status == 0
    assert "barrier call, spot 100, strike 110, up-and-out at 130" in out
    assert "(standard error)" in out


def test_a_run_in_a_bucket_leaves_its_results_there_and_its_status_is_known(main: Main, s3_server: S3Server) -> None:
    place = f"s3://fanfold/forecast?endpoint={s3_server.endpoint}"

    status, out, _ = main([*SMALL, "--json", "--output", place])
    state = json.loads(main(["status", place, "--json"])[1])["state"]
    again = main([*SMALL, "--json", "--output", place])

    storage = open_storage(place)
    assert (status, state) == (0, "finished")
    assert {info.key for info in storage.list()} - {"forecasts.parquet"} == FILES
    assert again[1] == out
