"""What every app's command line shares: flags of the executor and the output, logging, exit codes, last words."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from core import ConfigError, EventLog, FanfoldError, FunctionExecutor, InputError, ProgressBar, __version__
from core.fields import add_flags
from core.settings import ExecutorConfig

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

DRY_RUN = "print invocations, GB-seconds, requests and price; run nothing"

_EXECUTOR_SETTINGS = ("compute", "storage", "runtime", "notify", "workers", "memory", "timeout", "retries")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence on standard error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one sentence."""
        sentence = re.sub(r"^argument (\S+): ", r"\1: ", message)
        self.exit(WRONG_USE, f"{self.prog}: {sentence} (--help lists the flags)\n")


def add_common_flags(parser: argparse.ArgumentParser, *, resumable: bool = True) -> None:
    """Add the flags every app has: where it runs and what it says.

    With `resumable` unset, for a command of a few seconds, those of durable jobs and of dry runs are left out.
    """
    where = parser.add_argument_group("where it runs (defaults: FANFOLD_* variables, fanfold.toml, this machine)")
    add_flags(where, ExecutorConfig, _EXECUTOR_SETTINGS)
    if resumable:
        add_flags(where, ExecutorConfig, ["durable"])
        where.add_argument("--resume", metavar="JOB", help="take up a durable job again; repeat the flags it had")
    says = parser.add_argument_group("what it says")
    says.add_argument("--json", action="store_true", help="one JSON object on stdout, progress as JSON lines on stderr")
    if resumable:
        says.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    parser.set_defaults(**({} if resumable else {"resume": None}))
    says.add_argument("--config", metavar="FILE.toml", help="settings of the app, named like its flags; flags win")
    loud = says.add_mutually_exclusive_group()
    loud.add_argument("--quiet", action="store_true", help="no progress and no table")
    loud.add_argument("--verbose", action="store_true", help="log what happens; show tracebacks")
    says.add_argument("--version", action="version", version=f"%(prog)s, fanfold {__version__}")


def charge_rows(charged: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a dry run says of an executor's ``estimate``, as a dict: what is billed, and for how much."""
    used = [
        _counted(charged["invocations"], "invocation"),
        f"{charged['seconds']:,.4g} s",
        f"{charged['gb_seconds']:,.3g} GB-seconds",
        _counted(charged["requests"], "storage request"),
    ]
    return [("Billed", ", ".join(used)), ("Cost", charge_text(charged))]


def charge_text(charged: Mapping[str, Any]) -> str:
    """Return the price of an ``estimate``, whose it is, and of when."""
    if charged["cost"] is None:
        return f"unknown: the price of {charged['backend']} at this address is not in the table"
    amount = f"about ${charged['cost']:.2g}" if charged["cost"] else "nothing"
    if not charged["price_date"]:
        return f"{amount} on {charged['price']}"
    return f"{amount} by the list price of {charged['price_date']}, without free tier, of {charged['price']}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def add_output_flags(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the flags of an app that writes a folder of results."""
    group = parser.add_argument_group("where results go")
    group.add_argument("--output", metavar="DIR", help=f"folder of the results [{default}]")
    group.add_argument("--overwrite", action="store_true", help="replace an earlier run in that folder")


class Session:
    """One run of an app's command line: its executor's flags, and the durable job that Ctrl-C could leave behind."""

    def __init__(self, program: str, argv: Sequence[str]) -> None:
        self.program = program
        self.argv = list(argv)
        self.job_id = ""
        self.after_interrupt = "nothing was written"

    def executor(self, flags: argparse.Namespace) -> FunctionExecutor:
        """Open the executor that the flags ask for.

        Raises
        ------
        ConfigError
            A flag does not fit; the message names it.
        """
        given: dict[str, Any] = {name: getattr(flags, name) for name in _EXECUTOR_SETTINGS if name in flags}
        listeners: list[Any] = [self._note_job]
        if flags.json and not flags.quiet:
            listeners.append(EventLog(sys.stderr))
        elif not flags.quiet:
            listeners.append(ProgressBar())
        try:
            if flags.resume:
                self.job_id = flags.resume
                return FunctionExecutor.attach(flags.resume, listeners=listeners, **given)
            return FunctionExecutor(durable=True if "durable" in flags else None, listeners=listeners, **given)
        except ConfigError as error:
            raise ConfigError(re.sub(r"^argument: (\w+) = ", r"--\1 ", str(error))) from error

    def _note_job(self, event: Any) -> None:
        # Of several jobs of a run the first is the long one, which resuming takes up.
        self.job_id = self.job_id or event.job_id

    def resume_command(self) -> str:
        """Return the command that takes up the interrupted durable job."""
        import shlex

        kept = list(self.argv)
        if "--resume" in kept:
            del kept[kept.index("--resume") : kept.index("--resume") + 2]
        return shlex.join(["python", "-m", self.program, *kept, "--resume", self.job_id])


def run_app(program: str, body: Callable[[Session, Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run an app's command line and turn whatever ends it into an exit status and one sentence on standard error.

    Parameters
    ----------
    program : str
        The module that ``python -m`` runs.
    body : callable
        Parses the arguments and does the work; returns the exit status.
    argv : sequence of str, optional
        Arguments; the process's own unless given.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    session = Session(program, argv)
    verbose = "--verbose" in argv
    set_up_logging(verbose=verbose, quiet="--quiet" in argv)
    try:
        status = body(session, argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader of a pipe has seen enough; without this the interpreter complains once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return _interrupted(session)
    except (ConfigError, InputError) as error:
        return _say(session, str(error), WRONG_USE, verbose)
    except (FanfoldError, OSError, MemoryError) as error:
        return _say(session, _sentence(error), FAILED, verbose)
    except Exception as error:
        cause = f"unexpected {type(error).__name__}: {error}"
        return _say(session, cause if verbose else f"{cause}; run again with --verbose for details", FAILED, verbose)


def set_up_logging(*, verbose: bool, quiet: bool) -> None:
    """Send log records to standard error: warnings, everything of the product, or errors alone."""
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)  # some libraries set the levels of their own loggers lower
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[handler], force=True)


def _interrupted(session: Session) -> int:
    if session.job_id and ("--durable" in session.argv or "--resume" in session.argv):
        print(
            f"\n{session.program}: interrupted; what was finished is kept. Resume with:\n  {session.resume_command()}",
            file=sys.stderr,
        )
    else:
        print(f"\n{session.program}: interrupted; {session.after_interrupt}", file=sys.stderr)
    return INTERRUPTED


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and not isinstance(error, FanfoldError):
        where = f"{error.filename}: " if error.filename else ""
        return where + (error.strerror or str(error)).lower()
    if isinstance(error, MemoryError) and not isinstance(error, FanfoldError):
        return "out of memory; ask for less at once, or use a machine with more"
    return str(error) or type(error).__name__


def _say(session: Session, sentence: str, status: int, verbose: bool) -> int:
    if verbose:
        logging.getLogger(__name__).info("details", exc_info=True)
    try:
        print(f"{session.program}: {sentence}", file=sys.stderr)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EBADF):
            raise
    return status
