"""``python -m apps.face_align``: arguments to parameters, run, exit code."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from apps import _cli
from apps.face_align.params import Params
from core.fields import add_flags, build

PROGRAM = "apps.face_align"
RUNS = "face-align-runs"

DESCRIPTION = """\
Find the largest face of each image, bring its landmarks to fixed places, and write the crop under
the image's own name. Crops are pixel for pixel those of openface's AlignDlib. Without SOURCE it runs
on a small demonstration batch made from photographs that scikit-image ships.

SOURCE is a folder or bucket prefix (s3://bucket/prefix), a .zip or .tar, WebDataset shards
(shards-{000..099}.tar, or a folder of them), a text file of keys or addresses, or one image.

The packaged landmark models were trained on the iBUG 300-W faces, whose licence excludes commercial
use; --landmark-model names another.
"""
EXAMPLES = """\
examples:
  python -m apps.face_align photos --output faces
  python -m apps.face_align s3://bucket/lfw/test/images --output s3://bucket/output
  python -m apps.face_align group-photos.zip --output faces --select all --format png --size 112
  python -m apps.face_align photos --output faces --dry-run

A run that was stopped goes on when the same command is given again; one that is done aligns only
what has changed since.

exit status: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = _cli.Parser(
        prog=f"python -m {PROGRAM}", usage="%(prog)s [SOURCE] [flags]", description=DESCRIPTION, epilog=EXAMPLES
    )
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="the images; a demonstration batch unless given")
    add_flags(parser.add_argument_group("how to align"), Params)
    group = parser.add_argument_group("where results go")
    group.add_argument("--output", metavar="ADDRESS", help=f"folder or bucket prefix [{RUNS}/<time>-<id>]")
    group.add_argument("--overwrite", action="store_true", help="align again what an earlier run has done")
    _cli.add_common_flags(parser, resumable=False)
    parser.add_argument("--dry-run", action="store_true", help=_cli.DRY_RUN)
    return parser


def body(session: _cli.Session, argv: Sequence[str]) -> int:
    """Run the command."""
    started = time.perf_counter()
    flags = parser().parse_args(argv)
    params = build(Params, vars(flags), flags.config)
    session.after_interrupt = "the batches that were finished are kept; the same command goes on from there"

    from apps._output import new_run_path
    from apps.face_align.packages import check_installed

    check_installed()  # before what follows imports OpenCV
    from apps.face_align import job, report

    run_folder = new_run_path(RUNS)
    source, output = flags.source, flags.output or str(run_folder / "faces" if flags.source is None else run_folder)
    if source is None:
        from apps.face_align.demo import write_demonstration

        source = str(run_folder / "photographs")
        write_demonstration(Path(source))
    with session.executor(flags) as executor:
        planned = job.plan(source, output, params, executor, overwrite=flags.overwrite)
        if flags.dry_run:
            _show(report.plan_object(planned, executor), report.plan_text, flags)
            return _cli.DONE
        result = job.run(planned, executor, started=started)
        figures = report.publish(result)
    _show(figures, report.terminal, flags)
    if not (flags.json or flags.quiet):
        place = figures["destination"].removeprefix("file://")
        print(f"\nReport: {place}/report.html (beside it: manifest, contact sheet)")
    unwritten = job.failed_writes(result)
    if unwritten:
        print(f"{PROGRAM}: {unwritten} crops could not be written; the report says why", file=sys.stderr)
    return _cli.FAILED if unwritten else _cli.DONE


def _show(figures: dict[str, Any], as_text: Callable[[dict[str, Any]], str], flags: argparse.Namespace) -> None:
    if flags.json:
        print(json.dumps(figures))
    elif not flags.quiet:
        print(as_text(figures))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return _cli.run_app(PROGRAM, body, argv)


if __name__ == "__main__":
    sys.exit(main())
