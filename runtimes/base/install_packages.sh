#!/bin/sh
# Installs a runtime's own pins into the environment that is shipped, which has no pip, without what no task needs; the
# environment that fills it does not stay.
# Argument: the pins.
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
python3 -m venv /opt/build
/opt/build/bin/pip --python /opt/fanfold/bin/python install --no-deps --requirement "$1"
find /opt/fanfold -type d -name tests -prune -exec rm -r {} +
# pyarrow's network service is a fifth of it.
find /opt/fanfold -name 'libarrow_flight.*' -delete
sh "$(dirname "$0")/check_pins.sh" /opt/build/bin/pip /opt/fanfold
rm -r /opt/build
