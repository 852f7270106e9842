"""The command line that every application has: commands, flags of the executor, exit status, last words."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from apps._frame.interrupts import deferred_interrupts, forget_unhandled_interrupt
from apps._frame.params import EXECUTION, MISSING, Common, add_flags, build, read_file, setting, text
from apps._frame.session import Session, resume_command
from apps._frame.tables import counted, facts_text, for_terminal, json_text
from core import ConfigError, FanfoldError, InputError, __version__
from core.fields import leaves, parse_settings
from core.settings import ExecutorConfig

if TYPE_CHECKING:
    from apps._frame.plan import Plan

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

_BARE_FLAG = re.compile(r"--[a-z][\w-]*")
_NEGATIVE = re.compile(r"-(?:[.,]?\d|[A-Z])")

CLOSE = 0.75
"""How alike an unknown flag and a known one are, of 1, for the known one to be suggested; judged by trial."""

STATUS = "exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of an application.

    Parameters
    ----------
    name : str
    params : type
        The frozen dataclass of its parameters.
    run : callable or str
        Gets a `Session` and the parameters; returns an exit status, or None for done. As ``module:name`` it is
        imported when it is run, so that ``--help`` and a wrong flag cost no heavy import.
    plan : callable or str, optional
        Gets the same and returns a `Plan`; with it the command has ``--dry-run``.
    about, examples : str
        What ``--help`` says before and after the flags.
    output : str
        Folder in which runs get a fresh folder each where ``--output`` is not given; empty for a command that keeps no
        run, and so has neither ``--output`` nor ``--overwrite``.
    presets : mapping
        Settings that have a name, by flag and name, as a TOML file has them: with ``{"preset": {"talk": {...}}}`` there
        is ``--preset talk``. What a file or a flag says wins over them.
    needs : callable, optional
        Called before ``run`` or ``plan`` is imported; raises a ``ConfigError`` that says how to get what is missing.
    """

    name: str
    params: type[Any]
    run: Callable[..., int | None] | str
    plan: Callable[..., Plan] | str | None = None
    about: str = ""
    examples: str = ""
    output: str = ""
    presets: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    needs: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParams:
    """Of ``status`` and ``resume``: which run."""

    run: str = setting(
        MISSING, text, "the folder or prefix of a run", "folder or prefix of the run", "RUN", positional=True
    )


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, raised."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse arguments; behind a flag a minus with a digit or a capital (``-10%``, ``-H2O``) is its value."""
        joined: list[str] = []
        for each in args:
            if joined and _BARE_FLAG.fullmatch(joined[-1]) and _NEGATIVE.match(each):
                joined[-1] += f"={each}"
            else:
                joined.append(each)
        return super().parse_args(joined, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as a ``ConfigError``."""
        sentence = re.sub(r"^argument (\S+): ", r"\1: ", message)
        raise ConfigError(f"{sentence} ({self._nearest(message)}--help lists the flags)")

    def _nearest(self, message: str) -> str:
        from difflib import get_close_matches

        unknown = re.match(r"unrecognized arguments:.*?(--[\w-]+)", message)
        close = get_close_matches(unknown[1], self._option_string_actions, 1, CLOSE) if unknown else []
        return f"is it {close[0]}? " if close else ""


class App:
    """An application's command line.

    ::

        APP = App("apps.words", [Command("run", Params, "apps.words.stages:run", output="words-runs")])

        if __name__ == "__main__":
            sys.exit(APP.main())

    Parameters
    ----------
    name : str
        The module that ``python -m`` runs.
    commands : sequence of Command
        The first is the default one, which needs no name. If any keeps runs, ``resume RUN`` and ``status RUN`` come
        with them.
    """

    def __init__(self, name: str, commands: Sequence[Command]) -> None:
        self.name = name
        self.default = commands[0]
        self.commands = {command.name: command for command in commands}
        if any(command.output for command in commands):
            self.commands.setdefault("resume", Command("resume", RunParams, _no_run, about=_RESUME))
            self.commands.setdefault("status", Command("status", RunParams, _status, about=_STATUS))

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line and turn whatever ends it into an exit status and one sentence on standard error.

        Parameters
        ----------
        argv : sequence of str, optional
            Arguments; the process's own unless given.

        Returns
        -------
        int
            0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
        """
        argv = sys.argv[1:] if argv is None else list(argv)
        set_up_logging(verbose="--verbose" in argv, quiet="--quiet" in argv)
        session: Session | None = None
        failed = True
        try:
            session = self.session(argv)
            set_up_logging(verbose=session.common.verbose, quiet=session.common.quiet)
            try:
                status = _run(self.commands[session.command], session)
                failed = False
            finally:
                session.close(failed)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            # The reader of a pipe has seen enough; without this the interpreter complains once more while it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except KeyboardInterrupt:
            forget_unhandled_interrupt()
            words = "nothing was written" if session is None else session.last_words()
            print(file=sys.stderr)  # the terminal has shown ^C
            return self._end(f"interrupted; {words}", INTERRUPTED, session, argv)
        except Exception as error:
            return self._failed(error, session, argv)

    def session(self, argv: Sequence[str]) -> Session:
        """Return what arguments ask for.

        Raises
        ------
        ConfigError
            An argument, a file or a value does not fit.
        """
        named = bool(argv) and argv[0] in self.commands
        command, rest = (self.commands[argv[0]], list(argv[1:])) if named else (self.default, list(argv))
        if command.run is _no_run and rest and (not rest[0].startswith("-") or not {"-h", "--help"} & set(rest)):
            return self._resumed(rest)
        try:
            return self._parsed(command, rest)
        except ConfigError as error:
            misplaced = next((word for word in rest if word in self.commands), None)
            if "unrecognized arguments" in str(error) and misplaced is not None:
                raise ConfigError(f"command {misplaced} comes first: python -m {self.name} {misplaced} ...") from None
            raise

    def _resumed(self, words: list[str]) -> Session:
        from apps._frame.manifest import MANIFEST, read_manifest

        address = words[0] if not words[0].startswith("-") else self._run_among(words)
        rest = list(words)
        rest.remove(address)
        manifest = read_manifest(address)
        command = self.commands.get(manifest["command"])
        if manifest["app"] != self.name or command is None:
            raise ConfigError(f"{address} holds a run of {manifest['app']} {manifest['command']}, not of {self.name}")
        below = parse_settings(command.params, manifest["params"], f"{address}/{MANIFEST}")
        return self._parsed(command, rest, below, {"output": address})

    def _run_among(self, words: Sequence[str]) -> str:
        """Return which run arguments name that begin with flags, by the flags of the commands that keep runs."""
        wrong: list[ConfigError] = []
        for command in self.commands.values():
            if command.output:
                parser = self.parser(command)
                parser.add_argument("RUN")
                try:
                    return str(parser.parse_args(words).RUN)
                except ConfigError as error:
                    wrong.append(error)
        if "arguments are required: RUN" in str(wrong[0]):
            raise ConfigError(
                "RUN is missing: resume needs the folder or prefix of a run, as in resume RUN --workers 4"
            )
        raise wrong[0]

    def _parsed(
        self,
        command: Command,
        argv: Sequence[str],
        below: Mapping[str, Any] | None = None,
        common: Mapping[str, Any] | None = None,
    ) -> Session:
        given = vars(self.parser(command).parse_args(argv))
        file = given.pop("config", None)
        for flag, presets in command.presets.items():
            if (name := given.pop(flag, None)) is not None:
                if name not in presets:
                    raise ConfigError(f"--{flag} {name}: expected one of {', '.join(presets)}")
                below = merged(below or {}, parse_settings(command.params, presets[name], f"--{flag} {name}"))
        execution: dict[str, Any] = {}
        if file is not None:
            found = read_file(command.params, file)
            below, common = merged(below or {}, found.params), {**found.common, **(common or {})}
            execution = found.execution
        params = build(command.params, given, None, below)
        said = build(Common, given, None, common)
        chosen = {name: given[name] for name in EXECUTION if name in given}
        return Session(self.name, command.name, params, said, {**execution, **chosen}, command.output)

    def parser(self, command: Command) -> argparse.ArgumentParser:
        """Return the parser of one command."""
        words = [self.name] if command is self.default else [self.name, command.name]
        places = [f"[{leaf.flag}]" for leaf in leaves(command.params) if leaf.row.metadata["positional"]]
        parser = Parser(
            prog=f"python -m {' '.join(words)}",
            usage=" ".join(["%(prog)s", *places, "[flags]"]),
            description=command.about,
            epilog="\n\n".join(filter(None, [command.examples.rstrip(), self._others(command), STATUS])),
        )
        common = [
            *(["output", "overwrite"] if command.output else []),
            *(["dry_run"] if command.plan else []),
            *("json", "quiet", "verbose"),
        ]
        taken = {
            f"--{name.replace('_', '-')}" for name in (*Common.__dataclass_fields__, *EXECUTION, "config", "version")
        }
        add_flags(parser.add_argument_group("parameters"), command.params, taken=taken)
        if command.output:
            where = parser.add_argument_group(f"where results go (default: {command.output}/<time>-<id>)")
            add_flags(where, Common, common[:2])
        if command.run is not _status:
            runs = parser.add_argument_group(
                "where it runs (defaults: FANFOLD_* variables, fanfold.toml, this machine)"
            )
            add_flags(runs, ExecutorConfig, EXECUTION)
        says = parser.add_argument_group("what it says")
        add_flags(says, Common, common[2:] if command.output else common)
        for flag, presets in command.presets.items():
            about = f"one of {', '.join(presets)}: settings that have a name; files and flags win"
            says.add_argument(f"--{flag}", metavar="NAME", default=argparse.SUPPRESS, help=about)
        says.add_argument(
            "--config", metavar="FILE.toml", default=argparse.SUPPRESS,
            help="parameters named like the flags, in tables where those are, and [execution]; flags win",
        )  # fmt: skip
        says.add_argument("--version", action="version", version=f"{self.name}, fanfold {__version__}")
        return parser

    def _others(self, command: Command) -> str:
        others = [each for each in self.commands.values() if each is not command]
        if command is not self.default or not others:
            return ""
        longest = max(len(each.name) for each in others)
        lines = [f"  {each.name.ljust(longest)}  {each.about.strip().partition(chr(10))[0]}" for each in others]
        return "\n".join([f"other commands (python -m {self.name} COMMAND --help):", *lines])

    def _failed(self, error: Exception, session: Session | None, argv: Sequence[str]) -> int:
        verbose = "--verbose" in argv if session is None else session.common.verbose
        status, sentence = WRONG_USE, str(error)
        if not isinstance(error, ConfigError | InputError):
            status, sentence = FAILED, _sentence(error, verbose)
            if session is not None and session.current is not None and session.current.kept:
                sentence = f"{sentence}\n{session.last_words()}"
        if verbose:
            logging.getLogger(__name__).info("details", exc_info=error)
        return self._end(sentence, status, session, argv)

    def _end(self, sentence: str, status: int, session: Session | None, argv: Sequence[str]) -> int:
        """Say how it ended to people, and to a program if it has not been told anything yet."""
        try:
            if ("--json" in argv if session is None else session.json) and not (session and session.shown):
                print(json_text({"error": sentence, "status": status}), flush=True)
            print(f"{self.name}: {for_terminal(sentence)}", file=sys.stderr)
        except OSError as closed:
            if closed.errno not in (errno.EPIPE, errno.EBADF):
                raise
        return status


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings over others, table by table."""
    found = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = merged(found[name], value) if both else value
    return found


def _run(command: Command, session: Session) -> int:
    if command.needs is not None:
        command.needs()
    if session.common.dry_run and command.plan is not None:
        from apps._frame.plan import plan_figures, plan_text

        plan: Plan = _loaded(command.plan)(session, session.params)
        session.show(plan_figures(plan, session.executor), lambda figures: plan_text(plan, figures))
        return DONE
    return _loaded(command.run)(session, session.params) or DONE


def _loaded(target: Callable[..., Any] | str) -> Callable[..., Any]:
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    with deferred_interrupts():
        loaded: Callable[..., Any] = getattr(import_module(module), name)
    return loaded


_RESUME = """\
Take up a run that was stopped, by whomever and wherever it was begun.

Parameters are those of the run; flags of its command may stand beside RUN, for the executor and for whatever
does not decide what is computed. What is committed is not done again.
"""
_STATUS = """\
Say how far a run is: live, killed or finished, from any machine that reaches its storage.
"""


def _no_run(session: Session, params: RunParams) -> NoReturn:
    raise AssertionError("a run that is resumed is run by its own command")


def _status(session: Session, params: RunParams) -> None:
    from apps._frame.manifest import status

    found = status(params.run)
    drives = {"running": "driven by", "interrupted": "last driven by"}
    rows = [("Run", found.address), ("Command", f"{found.app} {found.command}"), ("Begun", found.created)]
    rows.append(("State", found.state))
    if found.state in drives and found.holder:
        rows.append((drives[found.state].capitalize(), found.holder))
    if found.note:
        rows.append(("Last said", found.note))
    rows += [(f"Stage {name}", f"{counted(count, 'output')} committed") for name, count in found.stages.items()]
    if found.state == "interrupted":
        rows.append(("Resume with", resume_command(session.app, params.run)))
    session.show(asdict(found), facts_text(rows))


def set_up_logging(*, verbose: bool, quiet: bool) -> None:
    """Send log records to standard error: warnings, everything of the product, or errors alone."""
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)  # some libraries set the levels of their own loggers lower
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[handler], force=True)


def _sentence(error: BaseException, verbose: bool) -> str:
    if isinstance(error, FanfoldError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return where + (error.strerror or str(error)).lower()
    if isinstance(error, MemoryError):
        return "out of memory; ask for less at once, or use a machine with more"
    cause = f"unexpected {type(error).__name__}: {error}"
    return cause if verbose else f"{cause}; run again with --verbose for details"
