import subprocess
import sys
from pathlib import Path


def test_one_command_measures_an_infrastructure_and_prints_a_table():
    command = [sys.executable, "-m", "benchmarks.backends", "--ours", "--sites", "processes", "http"]

    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)

    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if " fanfold " in line]
    assert [row[:2] for row in rows] == [["processes", "fanfold process"], ["HTTP service", "fanfold http"]]
    for _, _, cold, *rest in rows:
        assert cold.endswith(" s")
        assert all(cell.endswith(" us") for cell in rest), rest
