"""One annotation in this process, and what it took with its workers: a JSON object on the last line."""

from __future__ import annotations

import json
import resource
import sys
from contextlib import redirect_stdout
from io import StringIO

from apps.metabolomics.__main__ import APP


def main() -> None:
    said = StringIO()
    with redirect_stdout(said):
        status = APP.main(sys.argv[1:])
    found = json.loads(said.getvalue())
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    answer = {
        "cpu": sum(each.ru_utime + each.ru_stime for each in used),
        "peaks": found.get("peaks", 0),
        "ions": found.get("ions", {}).get("ions", 0) if status == 0 else 0,
    }
    print(json.dumps(answer | ({"error": found.get("error", "failed")} if status else {})))


if __name__ == "__main__":
    main()
