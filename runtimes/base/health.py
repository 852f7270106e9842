"""The health check of every image: a service must answer; any other worker is well while it runs."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

TIMEOUT = 4.0
"""Seconds to answer; less than the check may take."""

SERVICES = (b"http", b"openwhisk")


def main() -> int:
    """Return 0 if the container is well, else 1."""
    command = Path("/proc/1/cmdline").read_bytes().split(b"\0")
    if b"core.worker.entry" not in command or not any(service in command for service in SERVICES):
        return 0
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8080")), timeout=TIMEOUT)
        connection.request("GET", "/health")
        return 0 if connection.getresponse().status < 500 else 1
    except (OSError, http.client.HTTPException):
        return 1


if __name__ == "__main__":
    sys.exit(main())
