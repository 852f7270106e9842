"""``python -m apps.montecarlo``: arguments to parameters, run, exit code."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from apps import _cli
from apps.montecarlo.params import Params
from core.fields import add_flags, build

PROGRAM = "apps.montecarlo"
RUNS = "montecarlo-runs"

DESCRIPTION = """\
Forecast a price by Monte Carlo simulation: percentile fan, value at risk, expected shortfall,
touch probabilities and drawdowns, each with its standard error. Without flags it forecasts the
S&P 500 from the daily prices of 1999-2018 that come with it.

other commands (each has its own --help):
  python -m apps.montecarlo backtest   did past prices fall into the intervals forecast for them?
  python -m apps.montecarlo option     price European, Asian, barrier and American options
"""
EXAMPLES = """\
examples:
  python -m apps.montecarlo --forecasts 100000
  python -m apps.montecarlo --prices my.csv:Close --model gjr-garch --days 250 --touch=+25%,-10%
  python -m apps.montecarlo --symbol sp500,wti --weights 0.7,0.3 --confidence 0.975
  python -m apps.montecarlo --forecasts 1e8 --dry-run

exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted
"""


def forecast_parser() -> argparse.ArgumentParser:
    """Return the parser of the forecast command."""
    parser = _cli.Parser(
        prog=f"python -m {PROGRAM}", usage="%(prog)s [flags]", description=DESCRIPTION, epilog=EXAMPLES
    )
    add_flags(parser.add_argument_group("what to forecast"), Params)
    _cli.add_output_flags(parser, f"{RUNS}/<time>-<id>")
    _cli.add_common_flags(parser)
    return parser


def forecast(session: _cli.Session, argv: Sequence[str]) -> int:
    """Run the forecast command."""
    started = time.perf_counter()
    flags = forecast_parser().parse_args(argv)
    params = build(Params, vars(flags), flags.config)

    from apps._output import RunFolder, new_run_path
    from apps.montecarlo import job, planning, report
    from apps.montecarlo.figures import result_object
    from apps.montecarlo.preparation import prepare

    with session.executor(flags) as executor:
        if flags.dry_run:
            _show(planning.dry_run(prepare(params), executor), planning.as_text, flags)
            return _cli.DONE
        with RunFolder(flags.output or new_run_path(RUNS), overwrite=flags.overwrite) as folder:
            prepared = prepare(params)
            if flags.resume:
                done, rest = executor.wait(return_when="ALWAYS")
                result = job.collect(prepared, [*done, *rest], executor.workers, started)
            else:
                result = job.run(prepared, executor, started=started, meanwhile=report.warm_up)
            if params.refine:
                result = job.refined(result, executor, started)
            figures = result_object(result)
            folder.publish(report.run_files(result, figures))
        executor.clean()
    _show(figures, report.terminal, flags)
    if not (flags.json or flags.quiet):
        print(f"\nReport: {folder.path / 'report.html'} (beside it: result.json, forecasts, pictures)")
    return _cli.DONE


def backtest(session: _cli.Session, argv: Sequence[str]) -> int:
    """Run the backtest command."""
    from apps.montecarlo import backtest_job, backtest_report

    kind = backtest_job.BacktestParams
    return _small_command("backtest", backtest_job, backtest_report, kind, session, argv)


def option(session: _cli.Session, argv: Sequence[str]) -> int:
    """Run the option command."""
    from apps.montecarlo import option_job, option_report

    return _small_command("option", option_job, option_report, option_job.OptionParams, session, argv)


def _small_command(
    name: str, command: Any, report: Any, kind: type[Any], session: _cli.Session, argv: Sequence[str]
) -> int:
    """Run a command that prints its figures, and writes them where it is told to."""
    from apps._output import RunFolder

    parser = _cli.Parser(prog=f"python -m {PROGRAM} {name}", usage="%(prog)s [flags]", description=command.DESCRIPTION)
    add_flags(parser.add_argument_group("parameters"), kind)
    _cli.add_output_flags(parser, "none")
    _cli.add_common_flags(parser, resumable=False)
    flags = parser.parse_args(argv)
    params = build(kind, vars(flags), flags.config)
    with session.executor(flags) as executor, ExitStack() as stack:
        folder = stack.enter_context(RunFolder(flags.output, overwrite=flags.overwrite)) if flags.output else None
        figures = command.run(params, executor)
        if folder:
            folder.publish(report.run_files(figures, params))
    _show(figures, report.as_text, flags)
    return _cli.DONE


def _show(figures: dict[str, Any], as_text: Callable[[dict[str, Any]], str], flags: argparse.Namespace) -> None:
    if flags.json:
        print(json.dumps(figures))
    elif not flags.quiet:
        print(as_text(figures))


COMMANDS = {"backtest": backtest, "option": option}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    command = COMMANDS.get(arguments[0], forecast) if arguments else forecast

    def body(session: _cli.Session, given: Sequence[str]) -> int:
        return command(session, given if command is forecast else given[1:])

    return _cli.run_app(PROGRAM, body, arguments)


if __name__ == "__main__":
    sys.exit(main())
