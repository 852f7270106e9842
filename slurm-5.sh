#!/bin/sh
. /tmp/pytest-of-root/pytest-1124/home0/state/slurm/vm:1090:3726454:fanfold-1beb64b1/exports
exec /tmp/w/venv/bin/python -P -m core.worker.entry job /tmp/pytest-of-root/pytest-1124/home0/state/slurm/vm:1090:3726454:fanfold-1beb64b1/0/"$SLURM_ARRAY_TASK_ID" 1
