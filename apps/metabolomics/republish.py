"""The report command: the results of a finished annotation, made again from what its run keeps."""

from __future__ import annotations

from apps._frame import Session
from apps._frame.report import FOLDER
from apps.metabolomics.annotated import read_run
from apps.metabolomics.export_params import ReportParams
from apps.metabolomics.publishing import IMAGES, files


def report(session: Session, params: ReportParams) -> None:
    """Run the command.

    Raises
    ------
    InputError
        There is no finished run.
    """
    run = read_run(params.run)
    written = files(run)
    for name, content in written.items():
        run.storage.put(name, content)
    earlier = (info.key for folder in (FOLDER, IMAGES) for info in run.storage.list(folder))
    run.storage.delete([key for key in earlier if key not in written])
    found = {"run": params.run, "annotations": len(run.ions), "files": len(written)}
    session.show(found, f"{len(written):,} files of {len(run.ions):,} annotations in {params.run}")
