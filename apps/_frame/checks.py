"""The table of a ``validate`` command: what was checked against what, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from apps._frame.session import Session
from apps._frame.tables import TextTable


@dataclass(frozen=True, slots=True)
class Check:
    """A line of the table: what was checked against what, what was expected and found, and whether they agree."""

    what: str
    against: str
    expected: str
    found: str
    agrees: bool


def show_checks(session: Session, subject: str, checks: Sequence[Check]) -> int:
    """Show what a command has checked on its backend; returns its exit status, 1 if anything differs."""
    failed = sum(not each.agrees for each in checks)
    compute = session.executor.config.compute
    rows = [[each.what, each.against, each.expected, each.found, "ok" if each.agrees else "DIFFERS"] for each in checks]
    header = ["checked", "against", "expected", "found", ""]
    table = TextTable(f"{subject} on {compute}", header, rows, left=header).text()
    last = f"{failed} of {len(checks)} checks failed" if failed else f"All {len(checks)} checks passed"
    figures = {"compute": compute, "failed": failed, "checks": [asdict(each) for each in checks]}
    session.show(figures, f"{table}\n\n{last}.")
    return 1 if failed else 0
