#!/bin/sh
# Ends a build whose packages do not fit together, which nothing says before one of them is imported: pins are installed
# without looking at what they need, and numpy may be that of the client instead of the pinned one.
# Arguments: pip; the environment that was filled.
set -eu
pip=$1 filled=$2
clash=$("$pip" --python "$filled/bin/python" check 2>&1 | grep -e ' but you have ' | grep -v -e '^fanfold ' | tr '\n' ' ')
[ -z "$clash" ] || {
    echo "fanfold: this client's software clashes with pinned packages: ${clash}- install a numpy here that they take" >&2
    exit 1
}
