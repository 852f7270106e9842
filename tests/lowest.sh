#!/usr/bin/env bash
# The tests with the oldest release of every dependency that pyproject.toml admits, in an environment of its own.
# Arguments go to pytest: tests/lowest.sh tests/core
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 MPLBACKEND=Agg

"$(command -v python3.11 || command -v python3)" -m venv "$scratch/venv"
export PATH="$scratch/venv/bin:$PATH" VIRTUAL_ENV="$scratch/venv"
pip install --quiet uv
# Of what pyproject.toml names the oldest, of what that needs the newest: a user's environment is never older.
uv pip compile --quiet --resolution lowest-direct pyproject.toml --extra test --extra fast --extra oracles --extra remd --output-file "$scratch/lowest.txt"
uv pip install --quiet --requirement "$scratch/lowest.txt"
pip install --quiet --no-deps .
# For the emulator of cloud functions alone; its many dependencies are its command line's.
pip install --quiet --no-deps aws-sam-cli
sed -n 's/^\([^ #]*==.*\)/\1/p' "$scratch/lowest.txt" | column -c 120

python -m pytest -p no:cacheprovider -n 2 "$@"
