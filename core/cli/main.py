"""The ``fanfold`` command: ``doctor``, ``jobs``, ``clean`` and ``runtime``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from core.cli.images import add_runtime_commands
from core.cli.text import Row, readable_age, readable_size, table
from core.errors import ConfigError, FanfoldError, InputError, NotFound, printable
from core.settings import default_storage, load_config, parse_duration
from core.version import __version__

if TYPE_CHECKING:
    from core.cli.doctor import Report
    from core.task.leases import JobInfo

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

_DEFAULT_AGE = "24h"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    0 done, 1 something failed or does not work, 2 wrong usage or configuration, 130 interrupted.
    """
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.command(arguments)
        sys.stdout.flush()
        return status
    except FanfoldError as error:
        print(f"fanfold: {error}", file=sys.stderr)
        return WRONG_USE if isinstance(error, ConfigError | InputError) else FAILED
    except KeyboardInterrupt:
        print("fanfold: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has seen enough; without this the interpreter complains once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fanfold",
        description="Fan out, fold: look after map-reduce jobs, and the images they run in.",
    )
    parser.add_argument("--version", action="version", version=f"fanfold {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    doctor = commands.add_parser(
        "doctor",
        help="what is installed, what is configured, and whether it works",
        description="Print versions, backends, storages and the effective configuration, and try what is configured. "
        "Exit status 1 if something configured does not work.",
    )
    doctor.add_argument("--compute", metavar="ADDRESS", help="try this backend instead of the configured one")
    doctor.set_defaults(command=_doctor)

    jobs = commands.add_parser(
        "jobs",
        help="list durable jobs",
        description="List the durable jobs in a storage. A job whose state is 'interrupted' can be taken up again "
        "with FunctionExecutor.attach(id).",
    )
    jobs.set_defaults(command=_jobs)

    clean = commands.add_parser(
        "clean",
        help="remove what dead jobs left in storage",
        description="Remove the data of jobs whose owner is gone: by default those whose lease ran out at least "
        f"{_DEFAULT_AGE} ago. A job that is running is never removed.",
    )
    clean.add_argument("job", nargs="*", help="remove these jobs, however old")
    which = clean.add_mutually_exclusive_group()
    which.add_argument(
        "--older-than",
        metavar="TIME",
        type=_duration,
        default=_DEFAULT_AGE,
        help="time since the lease ran out, such as 30m, 24h or 7d (default: %(default)s)",
    )
    which.add_argument("--all", action="store_true", help="every job whose owner is gone, however recently")
    clean.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    clean.set_defaults(command=_clean)

    for command in (doctor, jobs, clean):
        command.add_argument("--storage", metavar="ADDRESS", help="storage of the jobs, instead of the configured one")
        command.add_argument("--config", metavar="FILE", help="configuration file to read instead of the usual ones")
        command.add_argument("--json", action="store_true", help="print one JSON object")
    add_runtime_commands(commands)
    return parser


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30m, 24h or 7d") from None


def _doctor(arguments: argparse.Namespace) -> int:
    from core.cli.doctor import examine

    report = examine(arguments.config, compute=arguments.compute, storage=arguments.storage)
    print(json.dumps(asdict(report), indent=2) if arguments.json else _readable(report))
    return DONE if report.ok else FAILED


def _readable(report: Report) -> str:
    present: list[Row] = [(package.name, package.version) for package in report.packages if package.version]
    missing: list[Row] = [(row.name, row.install, row.adds) for row in report.packages if not row.version]
    settings: list[Row] = [
        (row.name, "-" if row.value is None else row.value, row.origin, row.doc) for row in report.settings
    ]
    checks: list[Row] = [("ok" if check.ok else "FAILED", check.name, check.detail) for check in report.checks]
    sections: list[tuple[str, list[Row]]] = [
        ("Software", [*present, ("system", report.system)]),
        ("Missing, and how to add it", missing),
        ("Backends and storages", [("compute", ", ".join(report.backends)), ("storage", ", ".join(report.storages))]),
        ("Configuration: setting, value, origin, meaning", settings),
        ("Warnings", [(text,) for text in report.warnings]),
        ("Tried just now", checks),
    ]
    return "\n\n".join(f"{title}\n{table(rows)}" for title, rows in sections if rows)


def _jobs(arguments: argparse.Namespace) -> int:
    address, jobs = _listed(arguments)
    now = time.time()
    if arguments.json:
        print(json.dumps({"storage": address, "jobs": [asdict(job) for job in jobs]}, indent=2))
    elif not jobs:
        print(f"no durable jobs in {address}")
    else:
        heads = ("JOB", "NAME", "AGE", "OWNER", "STATE", "LEASE", "DONE", "SIZE")
        print(table([heads, *(_row(job, now) for job in jobs)]))
    _name_problems(jobs)
    return DONE


def _name_problems(jobs: Iterable[JobInfo]) -> None:
    for job in jobs:
        if job.problem:
            print(f"fanfold: job {printable(job.job_id)}: {job.problem}", file=sys.stderr)


def _clean(arguments: argparse.Namespace) -> int:
    from core.storage.base import open_storage
    from core.task.leases import remove_job

    address, jobs = _listed(arguments)
    chosen = chosen_jobs(jobs, arguments.job, None if arguments.all else arguments.older_than, time.time())
    failed = 0
    if not arguments.dry_run and chosen:
        with closing(open_storage(address)) as storage:
            for job in list(chosen):
                try:
                    remove_job(storage, job.job_id)
                except FanfoldError as error:  # the others are to go all the same
                    print(f"fanfold: job {printable(job.job_id)} is not removed: {error}", file=sys.stderr)
                    chosen.remove(job)
                    failed = FAILED
    size = sum(job.bytes for job in chosen)
    if arguments.json:
        removed = [job.job_id for job in chosen]
        print(
            json.dumps({"storage": address, "removed": removed, "bytes": size, "dry_run": arguments.dry_run}, indent=2)
        )
        return failed
    for job in chosen:
        print(f"{printable(job.job_id)}  {printable(job.name)}  {readable_size(job.bytes)}")
    verb = "would remove" if arguments.dry_run else "removed"
    left = len(jobs) - len(chosen)
    print(f"{verb} {_counted(len(chosen))}, {readable_size(size)}; {_counted(left)} left in {address}")
    _name_problems(job for job in jobs if job not in chosen)
    return failed


def chosen_jobs(jobs: Iterable[JobInfo], ids: Sequence[str], older_than: float | None, now: float) -> list[JobInfo]:
    """Return the jobs that may and shall be removed.

    Parameters
    ----------
    jobs : iterable of JobInfo
        What is in the storage.
    ids : sequence of str
        Jobs to remove however old, whatever is wrong with them; if empty, every job whose lease ran out long enough
        ago, on which nobody looks on, and with which nothing is wrong: it may be no job at all.
    older_than : float, optional
        Seconds since the lease ran out; None for every job whose owner is known to be gone.
    now : float
        Seconds since the epoch.

    Raises
    ------
    InputError
        An id is unknown, its job is running, or somebody looks on.
    """
    known = {job.job_id: job for job in jobs}
    if not ids:
        quiet = [job for job in known.values() if job.state != "running" and not job.watchers and not job.problem]
        return [job for job in quiet if _is_left(job, older_than, now)]
    for job_id in ids:
        if job_id not in known:
            raise InputError(f"there is no job {job_id}; fanfold jobs lists those that are there")
        if known[job_id].state == "running":
            raise InputError(f"job {job_id} is being run by {known[job_id].owner}; stop that process first")
        if known[job_id].watchers:
            raise InputError(f"{known[job_id].watchers} other processes look on at job {job_id}; stop them first")
    return [known[job_id] for job_id in dict.fromkeys(ids)]


def _is_left(job: JobInfo, older_than: float | None, now: float) -> bool:
    if older_than is None:
        # The results of a finished job may still be read by its driver, as long as that renews the lease.
        return job.state == "interrupted" or job.lease_expires <= now
    return job.lease_expires + older_than <= now


def _listed(arguments: argparse.Namespace) -> tuple[str, list[JobInfo]]:
    from core.storage.base import open_storage
    from core.task.leases import list_jobs

    address = load_config(arguments.config, storage=arguments.storage).storage or default_storage()
    with closing(open_storage(address)) as storage:
        try:
            jobs = list(list_jobs(storage))
        except NotFound:
            jobs = []
    return address, sorted(jobs, key=lambda job: job.created)


def _holds(job: JobInfo, now: float) -> bool:
    return job.state != "interrupted" and job.lease_expires > now


def _row(job: JobInfo, now: float) -> Row:
    lease = f"alive, {readable_age(job.lease_expires - now)} left" if _holds(job, now) else "dead"
    done = f"{job.done}/{job.tasks}"
    return (
        job.job_id,
        job.name,
        readable_age(now - job.created),
        job.owner,
        job.state,
        lease,
        done,
        readable_size(job.bytes),
    )


def _counted(jobs: int) -> str:
    return f"{jobs} job" if jobs == 1 else f"{jobs} jobs"
