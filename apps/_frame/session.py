"""What a command is run with: its executor, its run, and what it says to whom."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from apps._frame.params import Common
from apps._frame.tables import counted, for_terminal, json_text
from core import ConfigError, EventLog, FunctionExecutor, ProgressBar

if TYPE_CHECKING:
    from apps._frame.run import Run
    from apps._frame.stages import Stages


class Session:
    """What a command is run with.

    Attributes
    ----------
    app, command : str
        The application's module, and the name of the command.
    params : dataclass
        Its parameters.
    common : Common
        What it was told besides; `execution` are the executor's settings that were given.
    json, quiet : bool
        Whether a program reads what is said, or nobody does.
    output : str
        Address of the run, as given or fresh.
    """

    def __init__(
        self, app: str, command: str, params: Any, common: Common, execution: Mapping[str, Any], parent: str = ""
    ) -> None:
        self.app, self.command, self.params = app, command, params
        self.common, self.execution = common, dict(execution)
        self.json, self.quiet = common.json, common.quiet
        self.current: Run | None = None
        self.shown = False
        self._output, self._parent = common.output, parent
        self._executor: FunctionExecutor | None = None
        self._bar = None if common.json or common.quiet else ProgressBar()

    @property
    def output(self) -> str:
        """Address of the run."""
        if self._output is None:
            from apps._frame.run import new_run_path

            self._output = new_run_path(self._parent)
        return self._output

    @output.setter
    def output(self, address: str) -> None:
        self._output = address

    @property
    def executor(self) -> FunctionExecutor:
        """The executor that flags, file and environment ask for; opened when it is first asked for.

        Raises
        ------
        ConfigError
            A setting does not fit; the message names it.
        """
        if self._executor is None:
            listener = EventLog(sys.stderr) if self.json and not self.quiet else self._bar
            listeners = [] if listener is None else [listener]
            try:
                self._executor = FunctionExecutor(listeners=listeners, **self.execution)
            except ConfigError as error:
                raise ConfigError(re.sub(r"^argument: (\w+) = ", r"--\1 ", str(error))) from error
        return self._executor

    def open_run(
        self,
        results: Sequence[str],
        *,
        inputs: Mapping[str, str] | None = None,
        versions: Mapping[str, str] | None = None,
        keeps: Sequence[str] = (),
        keep_stages: bool = False,
    ) -> Run:
        """Return the run of this command, to be entered; see `Run`."""
        from apps._frame.run import Run

        self.current = Run(
            self.output,
            self.app,
            self.params,
            command=self.command,
            inputs=inputs,
            results=results,
            versions=versions,
            keeps=keeps,
            overwrite=self.common.overwrite,
            keep_stages=keep_stages,
            say=self.tell,
        )
        return self.current

    def stages(self, run: Run, names: Sequence[str]) -> Stages:
        """Return the stages of a run, in order, with one bar over all; see `Stages`."""
        from apps._frame.stages import Stages

        return Stages(run, self.executor, names, self.together)

    def together(self, label: str, total: int, done: int = 0) -> AbstractContextManager[None]:
        """Return a context in which all jobs have one progress bar, over `total` tasks of which some are done."""
        if self.json and not self.quiet:
            begun = {"event": "StageBegun", "time": time.time(), "name": label, "tasks": total, "done": done}
            print(json_text(begun), file=sys.stderr, flush=True)
        return nullcontext() if self._bar is None else self._bar.together(label, total, done)

    def say(self, words: str) -> None:
        """Print for people; nothing where a program reads or nobody does."""
        if not (self.json or self.quiet):
            print(for_terminal(words))

    def tell(self, sentence: str) -> None:
        """Print a sentence on standard error, whoever reads."""
        print(f"{self.app}: {for_terminal(sentence)}", file=sys.stderr)

    def show(self, figures: Mapping[str, Any], as_text: Callable[[Any], str] | str) -> None:
        """Print what came out: with ``--json`` one JSON object, else what `as_text` makes of it for people."""
        if self.json:
            print(json_text(figures))
        elif not self.quiet:
            print(for_terminal(as_text if isinstance(as_text, str) else as_text(figures)))
        self.shown = True
        if self.current is not None and self.current.shows_earlier and not self.quiet:
            self.tell(self.current.shows_earlier)

    def show_bill(self) -> None:
        """Print what the executor's jobs have cost, if anything."""
        bill = self.executor.bill()
        if bill.cost:
            used = f"{counted(bill.invocations, 'invocation')}, {bill.gb_seconds:,.3g} GB-seconds"
            listed = f", by the list price of {bill.price_date}" if bill.price_date else ""
            self.say(f"Billed: about ${bill.cost:.2g} for {used}{listed}")

    def close(self, failed: bool) -> None:
        """Release the executor's workers; what it keeps in storage goes if all went well."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=failed)
            if not failed:
                self._executor.clean()

    def last_words(self) -> str:
        """Return the command that takes the run up again, on a line of its own, or that nothing is left of it."""
        if self.current is None or not self.current.kept:
            return "nothing was written"
        return (
            f"what was finished is kept. Resume with:\n  {resume_command(self.app, self.current.given, self.execution)}"
        )


def resume_command(app: str, address: str, execution: Mapping[str, Any] | None = None) -> str:
    """Return the command that takes up a run, with the settings of the executor that were given."""
    pairs = ((f"--{name}", str(value)) for name, value in (execution or {}).items())
    return shlex.join(["python", "-m", app, "resume", address, *(word for pair in pairs for word in pair)])
