"""An application whose tasks wait once so many outputs are committed: whenever it is killed then, it is half-way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROCESS = "process?start=fork"
"""Workers of other kinds would not wait."""


def start_held(
    module: str, count: Path, most: int, *arguments: str, cwd: Path, environment: Mapping[str, str] = os.environ
) -> subprocess.Popen[str]:
    """Start a module's ``APP``, which goes no further than `most` committed outputs; a file counts them in bytes."""
    hold_after(count, most)
    flags = ("--compute", PROCESS, "--workers", "2", "--quiet")
    command = [sys.executable, "-m", "tests.servers.held", module, str(count), *arguments, *flags]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env={**environment, "PYTHONPATH": str(ROOT)}, **pipes)


def hold_after(count: Path, most: int) -> None:
    """Let an application go on until so many outputs are committed."""
    count.with_name("most.new").write_text(str(most))
    count.with_name("most.new").rename(count.with_name("most"))


def kill_held(driver: subprocess.Popen[str], count: Path, most: int) -> None:
    """Kill an application when it waits."""
    await_count(driver, count, most)
    driver.kill()
    driver.communicate()


def await_count(driver: subprocess.Popen[str], count: Path, most: int) -> None:
    """Wait until so many outputs are committed; that the application ends before is the test's failure."""
    deadline = time.monotonic() + 120
    while counted(count) < most:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline, f"{counted(count)} outputs of {most} in two minutes"
        time.sleep(0.01)


def counted(count: Path) -> int:
    """Return how many outputs have been committed."""
    return count.stat().st_size if count.exists() else 0


def main(module: str, place: str, *arguments: str) -> int:
    """Run an application; returns its exit status."""
    from apps._frame import stages

    commit, count = stages.commit, Path(place)

    def held(*given: Any) -> Any:
        while counted(count) >= int(count.with_name("most").read_text()):
            time.sleep(0.01)
        done = commit(*given)
        with open(count, "ab") as file:
            file.write(b".")
        return done

    stages.commit = held
    return int(import_module(module).APP.main(list(arguments)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
